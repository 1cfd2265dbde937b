// Write a service for ron-host in C.
//
//     #include "sdk/ron.h"
//
//     ron_error *ron_start(void) {
//         return ron_subscribe("hello.greet");
//     }
//
//     ron_error *ron_on_message(const ron_message *message, ron_reply *reply) {
//         return ron_reply_format(reply, "Hello, %s!", message->payload.data);
//     }
//
// The service is what you define of `ron_start`, `ron_on_message`, `ron_on_event`
// and `ron_stop`. The host calls them one at a time, so there is nothing to lock;
// what is kept between calls is kept in static variables.
//
// Memory: whatever a function here returns belongs to the call. It lives until the
// host's call (`ron_start`, `ron_on_message`, ...) is over and its answer sent, and
// is freed then. Free nothing, and copy what you keep. What you pass in stays yours,
// and is not needed any more when the function returns. Where something else holds,
// it is said. No function here returns memory that is NULL for want of memory: that
// ends the instance, as `ron_out_of_memory` does.
//
// Text: what comes from the host is UTF-8 and ends with a NUL. What you pass in should
// be UTF-8; bytes that are not reach the host as U+FFFD, except in payloads.
#ifndef RON_H
#define RON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define RON_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define RON_USE_RESULT __attribute__((warn_unused_result))
#define RON_NORETURN __attribute__((noreturn, cold))
#else
#define RON_PRINTF(text, first)
#define RON_USE_RESULT
#define RON_NORETURN
#endif

#ifdef __cplusplus
extern "C" {
#endif

// ---------------------------------------------------------------------- bytes

// Bytes that belong to somebody else. What this SDK returns as `ron_bytes` has a NUL
// after its last byte, which `len` does not count, so text can be read as a string.
typedef struct ron_bytes {
    const char *data;
    size_t len;
} ron_bytes;

// A string as bytes, without its NUL. Owns nothing: it lives as long as `text`.
ron_bytes ron_text(const char *text);

// Text made as `printf` makes it. Lives until the call is over.
ron_bytes ron_format(const char *format, ...) RON_PRINTF(1, 2);

// Whether two runs of bytes are the same.
bool ron_equal(ron_bytes a, ron_bytes b);

// For `printf("%.*s", RON_ARG(bytes))`.
#define RON_ARG(bytes) ((int)(bytes).len), ((bytes).data)

// Memory that lives until the call is over; never NULL, aligned for every type.
void *ron_alloc(size_t size);

// Frees what a function here returned, before the call is over. Needed only in a loop
// that would hold too much otherwise. NULL is allowed. Not for messages, their batches,
// events, or what has been replied.
void ron_free(const void *memory);

// --------------------------------------------------------------------- errors

typedef enum ron_error_kind {
    RON_DENIED = 1,        // Configuration grants this service no such topic.
    RON_INVALID_TOPIC,     // Not a topic, or not a filter; the text says which rule it breaks.
    RON_PAYLOAD_TOO_LARGE, // More than `limit` bytes.
    RON_OVERLOADED,        // A mailbox is full, or this service publishes too fast.
    RON_TIMEOUT,           // No answer came in time.
    RON_NO_RESPONDER,      // Nobody subscribes to the topic, or nobody who does answers.
    RON_FAILED,            // The service that was asked failed to handle the request.
    RON_OTHER,             // Something that this version of the SDK has no name for.
    RON_INVALID_CONFIG,    // A value of the configuration is not what was expected.
    RON_RETRY,             // `ron_retry`
    RON_REJECT,            // `ron_reject`
} ron_error_kind;

// Why something failed. Functions that can fail return one, or RON_OK.
//
// A handler that returns one has not handled its message: after RON_RETRY, and bus errors
// that pass with time (RON_OVERLOADED, RON_TIMEOUT, RON_NO_RESPONDER), it is delivered
// again, up to the service's `max_deliveries`; after any other it goes to the service's
// dead letters. From `ron_start`, `ron_save` and `ron_restore` the text alone counts.
typedef struct ron_error {
    ron_error_kind kind;
    uint64_t limit;     // Bytes, with RON_PAYLOAD_TOO_LARGE; 0 otherwise.
    const char *detail; // What the host says, without what the kind says; "" for none.
} ron_error;

// No error.
#define RON_OK ((ron_error *)0)

// Returns from this function with the error of `expression`, if there is one.
#define RON_TRY(expression)                                                                        \
    do {                                                                                           \
        ron_error *ron_try_error = (expression);                                                   \
        if (ron_try_error) return ron_try_error;                                                   \
    } while (0)

// An error that has the message delivered again, with its reason as `printf` makes it.
ron_error *ron_retry(const char *format, ...) RON_PRINTF(1, 2) RON_USE_RESULT;

// An error that sends the message to the dead letters, with its reason as `printf` makes it.
ron_error *ron_reject(const char *format, ...) RON_PRINTF(1, 2) RON_USE_RESULT;

// Whether the same call may succeed later, and a handler that returns it is tried again.
bool ron_error_is_retry(const ron_error *error);

// The error for a person, on one line: `invalid topic: token 2 is empty`.
const char *ron_error_text(const ron_error *error);

// ------------------------------------------------------- messages and answers

// A message that a subscription or a timer brought. All of it lives until the call is over.
typedef struct ron_message {
    uint64_t id;       // Unique in this host for as long as it runs; the same on redelivery.
    const char *topic; // The topic it was published to.
    ron_bytes payload; // What was published.
    const char *source; // The service that published it, or the host's own name for a bridge.
    uint32_t attempt;   // 1 on first delivery, then 2, 3, ...
    bool wants_reply;   // Whether the publisher waits for an answer.
} ron_message;

// The payload as a string, or NULL where it is no UTF-8 or has a NUL in it.
const char *ron_message_text(const ron_message *message);

// The name of the timer that fired, or NULL where none brought this message.
const char *ron_message_timer(const ron_message *message);

// What a handled message is answered with. A handler that sets none does not answer: when
// nobody who was asked does, the publisher that waits gets RON_NO_RESPONDER. An empty answer
// is one too. Of several the last stands; with an error none is sent.
typedef struct ron_reply {
    bool is_set;
    ron_bytes bytes;
} ron_reply;

// Each of these returns RON_OK, so that a handler can end with it: `return ron_reply_text(...)`.

// Answers with a copy of `text`.
ron_error *ron_reply_text(ron_reply *reply, const char *text);

// Answers with a copy of `bytes`.
ron_error *ron_reply_bytes(ron_reply *reply, ron_bytes bytes);

// Answers with text made as `printf` makes it.
ron_error *ron_reply_format(ron_reply *reply, const char *format, ...) RON_PRINTF(2, 3);

// Answers with `bytes` themselves, without a copy. They must live until the call is over: those
// of the message and of this SDK's functions do, static ones do, those on the stack do not.
ron_error *ron_reply_borrowed(ron_reply *reply, ron_bytes bytes);

// ------------------------------------------------------------------ announced

typedef enum ron_event_kind {
    RON_EVENT_HEALTH,          // A service became able or unable to do its work.
    RON_EVENT_CONFIG_UPDATED,  // New values are in force.
    RON_EVENT_SERVICE_CRASHED, // A service stopped running when it should not have.
    RON_EVENT_SHUTDOWN,        // The host is about to stop every service.
} ron_event_kind;

// Something that the kernel announced to every service. Lives until the call is over. Strings
// are never NULL, and empty where the kind has none.
typedef struct ron_event {
    ron_event_kind kind;
    const char *service; // HEALTH, SERVICE_CRASHED: which.
    bool ok;             // HEALTH: whether it is ready now.
    uint64_t version;    // CONFIG_UPDATED: the version of the configuration.
    // SERVICE_CRASHED: a stable name, `trap-unreachable`, `deadline`, `memory-limit`, `panic`, ...
    // New ones may appear.
    const char *label;
    const char *message; // SERVICE_CRASHED: what a person should read.
} ron_event;

// ------------------------------------------------------------ what you define

// Starts the service: subscribes and sets timers. Called once in each new instance, before any
// message. After an error the instance is discarded and the service's restart policy decides.
ron_error *ron_start(void);

// Handles a message. Without a definition of yours every message is settled without an answer.
ron_error *ron_on_message(const ron_message *message, ron_reply *reply);

// Hears what the kernel announced. Lossy: a service that falls behind misses the oldest events.
// Without a definition of yours nothing happens.
void ron_on_event(const ron_event *event);

// The last call: finish within the stop deadline. Not called after a crash. Without a definition
// of yours nothing happens.
void ron_stop(void);

// ------------------------------------------------------------------------ bus

// A topic is dot-separated tokens of `A-Z a-z 0-9 _ -`, at most 16 tokens and 255 bytes:
// `orders.eu.created`. A filter may put `*` for one token and `>` for all that follow.
// Topics that begin with `ron.` are the host's.

// Publishes to every subscribed service, and never blocks. Unless it is NULL, `accepted` is set
// to how many mailboxes accepted the message.
ron_error *ron_publish(const char *topic, ron_bytes payload, uint32_t *accepted) RON_USE_RESULT;

// Publishes, and waits at most `timeout_ms` milliseconds for the first answer, which lives until
// the call is over. The wait counts towards this service's own handler deadline.
ron_error *ron_request(const char *topic, ron_bytes payload, uint32_t timeout_ms,
                       ron_bytes *answer) RON_USE_RESULT;

// Has matching messages delivered to `ron_on_message`. Repeating a filter changes nothing.
// Subscriptions belong to the service and survive a restart; after a hot swap only those made
// again by `ron_start` remain.
ron_error *ron_subscribe(const char *filter) RON_USE_RESULT;

// Ends a subscription. One that does not exist is no error.
ron_error *ron_unsubscribe(const char *filter) RON_USE_RESULT;

// --------------------------------------------------------------------- timers

// A timer that fires is delivered to `ron_on_message` without a payload; `ron_message_timer`
// tells its name, which is one token of a topic. One set again under its name replaces the
// earlier. Timers end with the instance that set them, so set them in `ron_start`.

// Fires once, after `delay_ms` milliseconds.
ron_error *ron_timer_after(const char *name, uint64_t delay_ms) RON_USE_RESULT;

// Fires every `period_ms` milliseconds. A tick that finds its predecessor still queued is dropped.
ron_error *ron_timer_every(const char *name, uint64_t period_ms) RON_USE_RESULT;

// Ends a timer. One that does not exist is no error.
void ron_timer_cancel(const char *name);

// ------------------------------------------------------------- names and values

typedef struct ron_pair {
    const char *name;
    const char *value;
} ron_pair;

typedef struct ron_pairs {
    const ron_pair *data;
    size_t len;
} ron_pairs;

#ifndef __cplusplus
// Fields of a log record, labels of a metric: `RON_PAIRS({"region", "eu"}, {"sku", sku})`.
#define RON_PAIRS(...)                                                                             \
    ((ron_pairs){(const ron_pair[]){__VA_ARGS__},                                                  \
                 sizeof((const ron_pair[]){__VA_ARGS__}) / sizeof(ron_pair)})
// No fields, no labels.
#define RON_NONE ((ron_pairs){NULL, 0})
#endif

// --------------------------------------------------------------- configuration

// This service's own table of the configuration, `[service.NAME.config]`. A call reads the newest
// values in force; RON_EVENT_CONFIG_UPDATED tells when they change.

// The value of `key`, or NULL: a string as it stands, any other TOML value as its JSON text.
const char *ron_config_get(const char *key);

// These set `value` to the value of `key`, or to `fallback` where the key is absent. A value that
// is no such number, or neither `true` nor `false`, is a RON_INVALID_CONFIG.
ron_error *ron_config_u64(const char *key, uint64_t fallback, uint64_t *value) RON_USE_RESULT;
ron_error *ron_config_i64(const char *key, int64_t fallback, int64_t *value) RON_USE_RESULT;
ron_error *ron_config_f64(const char *key, double fallback, double *value) RON_USE_RESULT;
ron_error *ron_config_bool(const char *key, bool fallback, bool *value) RON_USE_RESULT;

// All keys and their values, in no order that may be relied on.
ron_pairs ron_config_entries(void);

// Monotonic; grows by at least one with each applied change.
uint64_t ron_config_version(void);

// --------------------------------------------------------------------- health

// What this service says of itself. The host adds what it sees: a service that is down, restarting
// or past a deadline is not ready, whatever it says. `detail` may be NULL.

typedef enum ron_status {
    RON_STATUS_OK,
    RON_STATUS_DEGRADED, // Works, with less than usual: ready, and shown as degraded.
    RON_STATUS_FAILING,  // Cannot do its work: not ready. It is not restarted for it.
} ron_status;

// A service that says nothing is taken to be RON_STATUS_OK.
void ron_health(ron_status status, const char *detail);

// ------------------------------------------------------------------- identity

typedef struct ron_instance {
    const char *service; // Its name in the configuration.
    uint64_t generation; // Grows with each restart and each hot swap of the service.
    uint32_t replica;    // Which of the service's replicas, from 0.
} ron_instance;

// Who this instance is.
ron_instance ron_identity(void);

// ------------------------------------------------------------------------ log

// Every level reaches the host, which filters them. Lines on stdout and stderr are records too.

typedef enum ron_level {
    RON_TRACE,
    RON_DEBUG,
    RON_INFO,
    RON_WARN,
    RON_ERROR,
} ron_level;

// Writes a record, with text as `printf` makes it.
void ron_log(ron_level level, const char *format, ...) RON_PRINTF(2, 3);

// Writes a record with fields: `ron_log_with(RON_INFO, RON_PAIRS({"sku", sku}), "%d left", 3)`.
void ron_log_with(ron_level level, ron_pairs fields, const char *format, ...) RON_PRINTF(3, 4);

// -------------------------------------------------------------------- metrics

// The host exposes them at `/metrics` with a `service` label. Names follow Prometheus. Past the
// service's limit of series a value goes to the series whose labels all read `other`.

// Adds to a counter.
void ron_metrics_add(const char *name, ron_pairs labels, uint64_t delta);

// Sets a gauge.
void ron_metrics_set(const char *name, ron_pairs labels, double value);

// Observes a value in a histogram; seconds for times.
void ron_metrics_observe(const char *name, ron_pairs labels, double value);

// -------------------------------------------------------------------- crashes

// These end the instance: the host logs the text with this file and line, starts a new instance
// and delivers the message again, up to the service's `max_deliveries`. So do `abort()`, a failed
// `assert()`, and whatever else traps.

// Gives up, with text as `printf` makes it.
#define ron_panic(...) ron_panic_at(__FILE__, __LINE__, __VA_ARGS__)

// Gives up unless `condition` holds. Unlike `assert` it is there whatever the build.
#define RON_ASSERT(condition)                                                                      \
    ((condition) ? (void)0 : ron_assertion_failed(__FILE__, __LINE__, #condition))

// Gives up because there is no memory; the host says `memory-limit`. For when your own
// `malloc(size)` returned NULL. 0 for a size that is not known.
RON_NORETURN void ron_out_of_memory(size_t size);

RON_NORETURN void ron_panic_at(const char *file, int line, const char *format, ...)
    RON_PRINTF(3, 4);
RON_NORETURN void ron_assertion_failed(const char *file, int line, const char *condition);

// ------------------------------------------- optional: state that outlives a hot swap

// Put `RON_HANDOVER(1)` in one of your files, after this header, and define these two. 1 is your own
// number for the layout of the state: raise it when the layout changes.

// Sets `state`, at most 1 MiB unless configuration says more; it must live until the call is over,
// as with `ron_reply_borrowed`. Called on the old instance, when its last message is done.
ron_error *ron_save(ron_bytes *state);

// Takes over the state that a version of this service saved as `schema`. Called on the new
// instance, after `ron_start` and before any message. An error keeps the old instance.
ron_error *ron_restore(uint32_t schema, ron_bytes state);

// ------------------------------------------------ optional: messages by the batch

// For services that handle very many small messages. Put `RON_BULK()` in one of your files, after
// this header. The host then calls `ron_on_batch` when several messages wait, and `ron_on_message`
// when one does.

// What became of one message of a batch. All zero: handled, no answer.
typedef struct ron_outcome {
    ron_error *error;
    ron_reply reply;
} ron_outcome;

// Handles `len` messages, in the order of the mailbox, and sets `outcomes[i]` for `messages[i]`.
// A crash costs no message: all of them are delivered again, one at a time, so that the one at
// fault is found. Without a definition of yours it is `ron_each`.
void ron_on_batch(const ron_message *messages, size_t len, ron_outcome *outcomes);

// Handles each message as `ron_on_message` does. An error settles its own message alone.
void ron_each(const ron_message *messages, size_t len, ron_outcome *outcomes);

#ifdef __cplusplus
#define RON_C extern "C"
#else
#define RON_C
#endif
#ifdef __wasm__
#define RON_EXPORT(name) __attribute__((export_name(name)))
#define RON_HANDOVER(schema)                                                                       \
    RON_C RON_EXPORT("ron:kernel/handover@1.0.0#save") void *ron_export_save(void);                \
    RON_C RON_EXPORT("ron:kernel/handover@1.0.0#restore")                                          \
    void *ron_export_restore(uint32_t from, const char *data, size_t len);                         \
    RON_C RON_EXPORT("cabi_post_ron:kernel/handover@1.0.0#save")                                   \
    void ron_export_saved(void *result);                                                           \
    RON_C RON_EXPORT("cabi_post_ron:kernel/handover@1.0.0#restore")                                \
    void ron_export_restored(void *result);                                                        \
    void *ron_export_save(void) { return ron_call_save(schema); }                                  \
    void *ron_export_restore(uint32_t from, const char *data, size_t len) {                        \
        return ron_call_restore(from, data, len);                                                  \
    }                                                                                              \
    void ron_export_saved(void *result) { ron_call_over(result); }                                 \
    void ron_export_restored(void *result) { ron_call_over(result); }                              \
    RON_SEMICOLON
#define RON_BULK()                                                                                 \
    RON_C RON_EXPORT("ron:kernel/bulk@1.0.0#on-batch")                                             \
    void *ron_export_on_batch(const void *names, size_t names_len, const void *entries,            \
                              size_t len, const char *payloads, size_t payloads_len);              \
    RON_C RON_EXPORT("cabi_post_ron:kernel/bulk@1.0.0#on-batch")                                   \
    void ron_export_batch_over(void *result);                                                      \
    void *ron_export_on_batch(const void *names, size_t names_len, const void *entries,            \
                              size_t len, const char *payloads, size_t payloads_len) {             \
        return ron_call_on_batch(names, names_len, entries, len, payloads, payloads_len);          \
    }                                                                                              \
    void ron_export_batch_over(void *result) { ron_call_over(result); }                            \
    RON_SEMICOLON
// What those two expand to calls of.
void *ron_call_save(uint32_t schema);
void *ron_call_restore(uint32_t schema, const char *data, size_t len);
void *ron_call_on_batch(const void *names, size_t names_len, const void *entries, size_t len,
                        const char *payloads, size_t payloads_len);
void ron_call_over(void *result);
#else
#define RON_HANDOVER(schema) RON_SEMICOLON
#define RON_BULK() RON_SEMICOLON
#endif
// Takes the semicolon after a macro, which may not stand alone.
#define RON_SEMICOLON RON_C struct ron_instance ron_identity(void)

#ifdef __cplusplus
}
#endif

#endif
