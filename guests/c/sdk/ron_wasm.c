// The contract `ron:kernel@1.0.0` as the canonical ABI has it: what the host calls, what it is
// asked, and how both lie in memory.
//
// Written by hand rather than generated, because a generator's code returns each string and list
// as memory that the author must free, copies payloads, and has names of its own in every
// backtrace. The contract is frozen, and the types of all functions here are checked against it
// when the component is made; `tests/conformance` holds the layouts.
#ifdef __wasm__

#include "ron_host.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Strings and lists lie in memory as `ron_bytes` do, and pairs of strings as `ron_host_pair`.
typedef ron_bytes span;
typedef ron_host_pair span_pair;
_Static_assert(sizeof(span) == 8 && sizeof(span_pair) == 16, "");

#define IMPORT(interface, name)                                                                    \
    __attribute__((import_module("ron:kernel/" interface "@1.0.0"), import_name(name)))

// ------------------------------------------------------------------------- results

// result<T, bus-error>; its payload is 8-aligned for the u64 of `payload-too-large`.
typedef struct bus_result {
    uint8_t is_err;
    _Alignas(8) union {
        uint32_t accepted;
        span answer;
        struct {
            uint8_t kind;
            _Alignas(8) union {
                uint64_t limit;
                span text;
            };
        } err;
    };
} bus_result;
_Static_assert(sizeof(bus_result) == 24, "");

// option<string>
typedef struct optional {
    uint8_t is_some;
    span text;
} optional;
_Static_assert(sizeof(optional) == 12, "");

// What an export returned; there is one call at a time. The fields are laid over each other.
typedef struct answer {
    uint8_t is_err;
    union {
        span err_text; // result<_, string>
        struct {                 // result<option<list<u8>>, failure>
            _Alignas(4) uint8_t tag; // Of the option, or of the failure.
            span bytes;
        };
        struct { // result<state, string>
            uint32_t schema;
            span state;
        };
    };
} answer;
_Static_assert(sizeof(answer) == 16, "");

static answer answered;

// Empty lists come without memory.
static ron_bytes bytes_of(span s) { return s.len ? s : (ron_bytes){"", 0}; }

// The host rejects any pointer outside of memory, even that of nothing: Zig's empty slices have
// such ones.
static span span_of(ron_bytes bytes) { return bytes.len ? bytes : (span){NULL, 0}; }

static span text_of(ron_bytes bytes) { return span_of(ron_as_utf8(bytes)); }

static ron_error *bus_error(const bus_result *result) {
    // In the order of `bus-error`.
    static const ron_error_kind kinds[] = {
        RON_DENIED,  RON_INVALID_TOPIC, RON_PAYLOAD_TOO_LARGE, RON_OVERLOADED,
        RON_TIMEOUT, RON_NO_RESPONDER,  RON_FAILED,            RON_OTHER,
    };
    if (!result->is_err) return RON_OK;
    ron_error_kind kind = kinds[result->err.kind & 7];
    switch (kind) {
    case RON_PAYLOAD_TOO_LARGE: return ron_error_new(kind, result->err.limit, (ron_bytes){"", 0});
    case RON_DENIED:
    case RON_INVALID_TOPIC:
    case RON_FAILED:
    case RON_OTHER: {
        ron_bytes text = bytes_of(result->err.text);
        ron_error *error = ron_error_new(kind, 0, text);
        if (text.len) ron_free(text.data);
        return error;
    }
    default: return ron_error_new(kind, 0, (ron_bytes){"", 0});
    }
}

// ----------------------------------------------------------------- memory from the host

// Called by the host for each string and list that it passes, so all of it belongs to the call.
// No other import may be called in here, so there is nothing to say when there is no memory; the
// host saw what it refused.
__attribute__((export_name("cabi_realloc"))) void *ron_export_realloc(void *old, size_t old_size,
                                                                      size_t align, size_t size);
void *ron_export_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)align; // Never more than 8, and all blocks are aligned to 16.
    if (size == SIZE_MAX) __builtin_trap();
    char *memory = ron_try_alloc(size + 1);
    if (!memory) __builtin_trap();
    memory[size] = 0;
    if (old_size) {
        memcpy(memory, old, old_size < size ? old_size : size);
        ron_free(old);
    }
    return memory;
}

// ----------------------------------------------------------------------- bus and timers

IMPORT("bus", "publish")
void import_publish(const char *, size_t, const char *, size_t, bus_result *);
IMPORT("bus", "request")
void import_request(const char *, size_t, const char *, size_t, uint32_t, bus_result *);
IMPORT("bus", "subscribe") void import_subscribe(const char *, size_t, bus_result *);
IMPORT("bus", "unsubscribe") void import_unsubscribe(const char *, size_t, bus_result *);
IMPORT("timer", "after") void import_after(const char *, size_t, uint64_t, bus_result *);
IMPORT("timer", "every") void import_every(const char *, size_t, uint64_t, bus_result *);
IMPORT("timer", "cancel") void import_cancel(const char *, size_t);

// result<_, bus-error> has no payload of its own, but the error is where it is in the others.
ron_error *ron_host_publish(ron_bytes topic, ron_bytes payload, uint32_t *accepted) {
    bus_result result;
    span to = text_of(topic), from = span_of(payload);
    import_publish(to.data, to.len, from.data, from.len, &result);
    if (!result.is_err) *accepted = result.accepted;
    return bus_error(&result);
}

ron_error *ron_host_request(ron_bytes topic, ron_bytes payload, uint32_t timeout_ms,
                            ron_bytes *answer) {
    bus_result result;
    span to = text_of(topic), from = span_of(payload);
    import_request(to.data, to.len, from.data, from.len, timeout_ms, &result);
    if (!result.is_err) *answer = bytes_of(result.answer);
    return bus_error(&result);
}

ron_error *ron_host_subscribe(ron_bytes filter) {
    bus_result result;
    span text = text_of(filter);
    import_subscribe(text.data, text.len, &result);
    return bus_error(&result);
}

ron_error *ron_host_unsubscribe(ron_bytes filter) {
    bus_result result;
    span text = text_of(filter);
    import_unsubscribe(text.data, text.len, &result);
    return bus_error(&result);
}

ron_error *ron_host_timer_after(ron_bytes name, uint64_t delay_ms) {
    bus_result result;
    span text = text_of(name);
    import_after(text.data, text.len, delay_ms, &result);
    return bus_error(&result);
}

ron_error *ron_host_timer_every(ron_bytes name, uint64_t period_ms) {
    bus_result result;
    span text = text_of(name);
    import_every(text.data, text.len, period_ms, &result);
    return bus_error(&result);
}

void ron_host_timer_cancel(ron_bytes name) {
    span text = text_of(name);
    import_cancel(text.data, text.len);
}

// ------------------------------------------------- configuration, health, identity

IMPORT("config", "get") void import_config_get(const char *, size_t, optional *);
IMPORT("config", "entries") void import_config_entries(span *);
IMPORT("config", "version") uint64_t import_config_version(void);
IMPORT("health", "report") void import_report(uint32_t, uint32_t, const char *, size_t);

typedef struct instance {
    span service;
    uint64_t generation;
    uint32_t replica;
} instance;
_Static_assert(sizeof(instance) == 24, "");
IMPORT("identity", "get") void import_identity(instance *);

bool ron_host_config_get(ron_bytes key, ron_bytes *value) {
    optional result;
    span text = text_of(key);
    import_config_get(text.data, text.len, &result);
    if (result.is_some) *value = bytes_of(result.text);
    return result.is_some;
}

ron_pairs ron_host_config_entries(void) {
    span list;
    import_config_entries(&list);
    const span_pair *entries = (const span_pair *)list.data;
    ron_pair *pairs = ron_alloc(list.len * sizeof *pairs);
    for (size_t i = 0; i < list.len; i++) {
        pairs[i] = (ron_pair){bytes_of(entries[i].name).data, bytes_of(entries[i].value).data};
    }
    return (ron_pairs){pairs, list.len};
}

uint64_t ron_host_config_version(void) { return import_config_version(); }

void ron_host_health(ron_status status, ron_bytes detail) {
    span text = detail.data ? text_of(detail) : (span){NULL, 0};
    import_report(status, detail.data != NULL, text.data, text.len);
}

ron_instance ron_host_identity(void) {
    instance self;
    import_identity(&self);
    return (ron_instance){bytes_of(self.service).data, self.generation, self.replica};
}

// ------------------------------------------------------------------- log and metrics

IMPORT("log", "write")
void import_log(uint32_t, const char *, size_t, const span_pair *, size_t);
IMPORT("metrics", "add")
void import_add(const char *, size_t, const span_pair *, size_t, uint64_t);
IMPORT("metrics", "set")
void import_set(const char *, size_t, const span_pair *, size_t, double);
IMPORT("metrics", "observe")
void import_observe(const char *, size_t, const span_pair *, size_t, double);

static const span_pair *pairs_of(ron_host_pair *pairs, size_t len) {
    for (size_t i = 0; i < len; i++) {
        pairs[i] = (span_pair){text_of(pairs[i].name), text_of(pairs[i].value)};
    }
    return len ? pairs : NULL;
}

void ron_host_log(ron_level level, ron_bytes message, ron_host_pair *pairs, size_t len) {
    span text = text_of(message);
    import_log(level, text.data, text.len, pairs_of(pairs, len), len);
}

void ron_host_metrics_add(ron_bytes name, ron_host_pair *pairs, size_t len, uint64_t delta) {
    span text = text_of(name);
    import_add(text.data, text.len, pairs_of(pairs, len), len, delta);
}

void ron_host_metrics_set(ron_bytes name, ron_host_pair *pairs, size_t len, double value) {
    span text = text_of(name);
    import_set(text.data, text.len, pairs_of(pairs, len), len, value);
}

void ron_host_metrics_observe(ron_bytes name, ron_host_pair *pairs, size_t len, double value) {
    span text = text_of(name);
    import_observe(text.data, text.len, pairs_of(pairs, len), len, value);
}

// ------------------------------------------------------------------------- crashes

// The decimal digits of `number`, at the end of `digits`.
static char *decimal(size_t number, char digits[11]) {
    char *at = digits + 10;
    *at = 0;
    do *--at = (char)('0' + number % 10);
    while (number /= 10);
    return at;
}

// A crash may come from anywhere, so nothing here asks for memory unless it must.
RON_NORETURN static void give_up(const char *kind, const char *file, int line, ron_bytes message) {
    static char place[512];
    ron_host_pair fields[2] = {{{"ron.panic", 9}, ron_text(kind)}};
    size_t len = 1;
    if (file) {
        char digits[11];
        place[0] = 0;
        strncat(place, file, sizeof place - sizeof digits - 1);
        strcat(strcat(place, ":"), decimal((size_t)line, digits));
        fields[len++] = (ron_host_pair){{"location", 8}, ron_text(place)};
    }
    fflush(stdout);
    ron_host_log(RON_ERROR, message, fields, len);
    __builtin_trap();
}

void ron_host_panic(const char *file, int line, ron_bytes message) {
    give_up("true", file, line, message);
}

void ron_out_of_memory(size_t size) {
    static char text[64] = "memory allocation failed";
    if (size) {
        char digits[11];
        strcpy(text, "memory allocation of ");
        strcat(strcat(text, decimal(size, digits)), " bytes failed");
    }
    give_up("out-of-memory", NULL, 0, ron_text(text));
}

// These two stand in for the C library's, which trap without a word to the log.

RON_NORETURN void __assert_fail(const char *condition, const char *file, int line,
                                const char *function) {
    (void)function;
    ron_assertion_failed(file, line, condition);
}

RON_NORETURN void abort(void) { give_up("true", NULL, 0, ron_text("abort() was called")); }

// In Wasm memory begins at address 0, so a write through NULL succeeds. The first bytes are the far
// end of the stack, which nothing but such a write, or a stack that is all but full, ever changes.
__attribute__((no_sanitize("undefined"))) static void check_null(void) {
    const uint64_t *null = NULL;
    // Hides from the compiler what it would take for undefined behaviour.
    __asm__("" : "+r"(null));
    uint64_t all = 0;
    for (int i = 0; i < 16; i++) all |= null[i];
    if (all) {
        give_up("true", NULL, 0,
                ron_text("memory near address 0 was written: through a NULL pointer, "
                         "or by a stack that is full"));
    }
}

// ------------------------------------------------------------------ what the host calls

#define EXPORT(interface, name) RON_EXPORT("ron:kernel/" interface "@1.0.0#" name)
#define EXPORT_POST(interface, name) RON_EXPORT("cabi_post_ron:kernel/" interface "@1.0.0#" name)

// result<_, string>
static void *answer_unit(const ron_error *error) {
    check_null();
    answered.is_err = error != RON_OK;
    if (error) {
        answered.err_text = text_of(ron_text(ron_error_text(error)));
    }
    return &answered;
}

// The host has copied what an export returned.
void ron_call_over(void *result) {
    (void)result;
    ron_free_all();
}

EXPORT("lifecycle", "start") void *ron_export_start(void);
void *ron_export_start(void) {
    // The host shows a record a line. Buffered as a file, they would come late, or never.
    setvbuf(stdout, NULL, _IOLBF, 0);
    return answer_unit(ron_start());
}
EXPORT_POST("lifecycle", "start") void ron_export_started(void *result);
void ron_export_started(void *result) { ron_call_over(result); }

EXPORT("lifecycle", "on-message")
void *ron_export_on_message(uint64_t id, const char *topic, size_t topic_len, const char *payload,
                            size_t payload_len, const char *source, size_t source_len,
                            uint32_t attempt, uint32_t wants_reply);
void *ron_export_on_message(uint64_t id, const char *topic, size_t topic_len, const char *payload,
                            size_t payload_len, const char *source, size_t source_len,
                            uint32_t attempt, uint32_t wants_reply) {
    ron_message message = {
        .id = id,
        .topic = bytes_of((span){topic, topic_len}).data,
        .payload = bytes_of((span){payload, payload_len}),
        .source = bytes_of((span){source, source_len}).data,
        .attempt = attempt,
        .wants_reply = wants_reply != 0,
    };
    ron_reply reply = {0};
    ron_error *error = ron_on_message(&message, &reply);
    check_null();
    answered.is_err = error != RON_OK;
    if (error) {
        answered.tag = !ron_error_is_retry(error); // retry, reject
        answered.bytes = text_of(ron_text(ron_error_text(error)));
    } else {
        answered.tag = reply.is_set;
        answered.bytes = span_of(reply.bytes);
    }
    return &answered;
}
EXPORT_POST("lifecycle", "on-message") void ron_export_message_over(void *result);
void ron_export_message_over(void *result) { ron_call_over(result); }

// kernel-event, its cases' payloads laid over each other: a service's name or a version, then what
// is left of `health-changed` or `service-crashed`.
EXPORT("lifecycle", "on-event")
void ron_export_on_event(uint32_t kind, uint64_t first, size_t service_len, uint32_t label,
                         size_t label_len, const char *message, size_t message_len);
void ron_export_on_event(uint32_t kind, uint64_t first, size_t service_len, uint32_t label,
                         size_t label_len, const char *message, size_t message_len) {
    ron_event event = {.kind = (ron_event_kind)kind, .service = "", .label = "", .message = ""};
    const char *service = (const char *)(uintptr_t)first;
    switch (event.kind) {
    case RON_EVENT_HEALTH:
        event.service = bytes_of((span){service, service_len}).data;
        event.ok = label != 0;
        break;
    case RON_EVENT_CONFIG_UPDATED: event.version = first; break;
    case RON_EVENT_SERVICE_CRASHED:
        event.service = bytes_of((span){service, service_len}).data;
        event.label = bytes_of((span){(const char *)(uintptr_t)label, label_len}).data;
        event.message = bytes_of((span){message, message_len}).data;
        break;
    case RON_EVENT_SHUTDOWN: break;
    }
    ron_on_event(&event);
    check_null();
    ron_free_all();
}

EXPORT("lifecycle", "stop") void ron_export_stop(void);
void ron_export_stop(void) {
    ron_stop();
    check_null();
    fflush(stdout);
    ron_free_all();
}

// ------------------------------------------------------------------ handover and batches

// Called by what RON_HANDOVER expands to. Weak references, because only a service with that macro
// defines the two.
__attribute__((weak)) ron_error *ron_save(ron_bytes *state);
__attribute__((weak)) ron_error *ron_restore(uint32_t schema, ron_bytes state);

void *ron_call_save(uint32_t schema) {
    ron_bytes state = {"", 0};
    ron_error *error = ron_save(&state);
    if (error) return answer_unit(error);
    check_null();
    answered.is_err = false;
    answered.schema = schema;
    answered.state = span_of(state);
    return &answered;
}

void *ron_call_restore(uint32_t schema, const char *data, size_t len) {
    return answer_unit(ron_restore(schema, bytes_of((span){data, len})));
}

typedef struct entry {
    uint64_t id;
    uint32_t topic;
    uint32_t source;
    uint32_t offset;
    uint32_t length;
    uint32_t attempt;
    uint8_t wants_reply;
} entry;
_Static_assert(sizeof(entry) == 32, "");

// tuple<u32, outcome>
typedef struct indexed_outcome {
    uint32_t index;
    _Alignas(4) uint8_t is_failed;
    union {
        span reply;
        struct {
            _Alignas(4) uint8_t tag; // retry, reject
            span text;
        };
    };
} indexed_outcome;
_Static_assert(sizeof(indexed_outcome) == 20, "");

void *ron_call_on_batch(const void *names, size_t names_len, const void *entries, size_t len,
                        const char *payloads, size_t payloads_len) {
    static span list;
    const span *name = names;
    const entry *from = entries;
    (void)names_len;
    // Each payload gets the NUL that those of single messages have. They are copied once, together.
    char *copies = ron_alloc(payloads_len + len + 1);
    ron_message *messages = ron_alloc(len * sizeof *messages);
    ron_outcome *outcomes = ron_alloc(len * sizeof *outcomes);
    memset(outcomes, 0, len * sizeof *outcomes);
    for (size_t i = 0; i < len; i++) {
        memcpy(copies, payloads + from[i].offset, from[i].length);
        copies[from[i].length] = 0;
        messages[i] = (ron_message){
            .id = from[i].id,
            .topic = bytes_of(name[from[i].topic]).data,
            .payload = {copies, from[i].length},
            .source = bytes_of(name[from[i].source]).data,
            .attempt = from[i].attempt,
            .wants_reply = from[i].wants_reply != 0,
        };
        copies += from[i].length + 1;
    }
    ron_on_batch(messages, len, outcomes);
    check_null();

    indexed_outcome *news = ron_alloc(len * sizeof *news);
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        const ron_error *error = outcomes[i].error;
        const ron_reply *reply = &outcomes[i].reply;
        if (!error && !reply->is_set) continue;
        indexed_outcome *new = &news[count++];
        new->index = (uint32_t)i;
        new->is_failed = error != NULL;
        if (error) {
            new->tag = !ron_error_is_retry(error);
            new->text = text_of(ron_text(ron_error_text(error)));
        } else {
            new->reply = span_of(reply->bytes);
        }
    }
    list = (span){(const char *)news, count};
    return &list;
}

#endif
