// A host for unit tests, which run without Wasm: compile your service and `sdk/*.c` for your own
// machine, with a `main` that looks like this.
//
//     #include "sdk/ron_testing.h"
//
//     int main(void) {
//         ron_testing_begin();
//         ron_testing_config("greeting", "Hello");
//         RON_ASSERT(ron_start() == RON_OK);
//         ron_reply reply;
//         RON_ASSERT(ron_testing_deliver("hello.greet", ron_text("Ada"), &reply) == RON_OK);
//         RON_ASSERT(ron_equal(reply.bytes, ron_text("Hello, Ada!")));
//     }
//
// What `ron_testing_...` returns lives until the next `ron_testing_begin`, and so does all that
// otherwise belongs to a call. A panic, and a failed RON_ASSERT, say where they are and abort.
#ifndef RON_TESTING_H
#define RON_TESTING_H

#include "ron.h"

#ifdef __cplusplus
extern "C" {
#endif

// A new host, which knows nothing. The static variables of your service are as they were.
void ron_testing_begin(void);

// Sets a value of the configuration, or takes it away with NULL. Raises the version.
void ron_testing_config(const char *key, const char *value);

// Delivers a message as the host would: the service must have subscribed to its topic or, for
// `ron.timer.NAME`, have set that timer; RON_NO_RESPONDER otherwise. It is a first attempt from the
// service `test` that wants an answer; call `ron_on_message` yourself for any other.
ron_error *ron_testing_deliver(const char *topic, ron_bytes payload, ron_reply *reply);

// What requests to `topic` are answered with from now on. Others end in RON_NO_RESPONDER.
void ron_testing_answer(const char *topic, ron_bytes answer);

// How calls to publish or request `topic` fail from now on.
void ron_testing_fail(const char *topic, ron_error_kind kind, const char *detail);

typedef struct ron_testing_message {
    const char *topic;
    ron_bytes payload;
} ron_testing_message;

// What was published or requested, in order. Published messages reach no service, and are accepted
// by one mailbox.
size_t ron_testing_published_count(void);

// The message of that number, from 0; a number without a message ends the test.
ron_testing_message ron_testing_published(size_t index);

// Whether there is such a subscription, by its filter.
bool ron_testing_is_subscribed(const char *filter);

// The milliseconds of a timer, or 0 where there is none.
uint64_t ron_testing_timer(const char *name);

// The value of a counter or gauge, or the sum of what a histogram observed, over all its labels;
// 0 where there is none.
double ron_testing_metric(const char *name);

// The log records so far, a line each: `INFO ready sku=a1`.
const char *ron_testing_log(void);

// What the service last said of its health.
ron_status ron_testing_health(void);

#ifdef __cplusplus
}
#endif

#endif
