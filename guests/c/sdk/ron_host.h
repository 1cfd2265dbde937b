// What `ron.c` asks of the host, with lengths instead of NULs.
//
// `ron_wasm.c` has it from the real host and `ron_testing.c` from one that a test sets up. SDKs of
// other languages whose strings have no NUL stand on this header too. The rules of `ron.h` for
// memory and text hold here.
#ifndef RON_HOST_H
#define RON_HOST_H

#include "ron.h"

#ifdef __cplusplus
extern "C" {
#endif

ron_error *ron_host_publish(ron_bytes topic, ron_bytes payload, uint32_t *accepted);
ron_error *ron_host_request(ron_bytes topic, ron_bytes payload, uint32_t timeout_ms,
                            ron_bytes *answer);
ron_error *ron_host_subscribe(ron_bytes filter);
ron_error *ron_host_unsubscribe(ron_bytes filter);

ron_error *ron_host_timer_after(ron_bytes name, uint64_t delay_ms);
ron_error *ron_host_timer_every(ron_bytes name, uint64_t period_ms);
void ron_host_timer_cancel(ron_bytes name);

// Whether there is such a key.
bool ron_host_config_get(ron_bytes key, ron_bytes *value);
ron_pairs ron_host_config_entries(void);
uint64_t ron_host_config_version(void);

// `detail.data` is NULL for none.
void ron_host_health(ron_status status, ron_bytes detail);
ron_instance ron_host_identity(void);

typedef struct ron_host_pair {
    ron_bytes name;
    ron_bytes value;
} ron_host_pair;

// Never holds `pairs`; changes them, since bytes that are no UTF-8 are replaced in place.
void ron_host_log(ron_level level, ron_bytes message, ron_host_pair *pairs, size_t len);
void ron_host_metrics_add(ron_bytes name, ron_host_pair *pairs, size_t len, uint64_t delta);
void ron_host_metrics_set(ron_bytes name, ron_host_pair *pairs, size_t len, double value);
void ron_host_metrics_observe(ron_bytes name, ron_host_pair *pairs, size_t len, double value);

// Ends the instance after a record with the text, and the place if `file` is not NULL.
RON_NORETURN void ron_host_panic(const char *file, int line, ron_bytes message);

// The rest is in `ron.c`, for both hosts.

// An error with a copy of `detail`.
ron_error *ron_error_new(ron_error_kind kind, uint64_t limit, ron_bytes detail);

// Frees all that belongs to the call that is over.
void ron_free_all(void);

// As `ron_alloc`, or NULL for want of memory.
void *ron_try_alloc(size_t size);

// Whether the bytes are UTF-8.
bool ron_is_utf8(ron_bytes bytes);

// The bytes, or a copy in which what is no UTF-8 reads U+FFFD.
ron_bytes ron_as_utf8(ron_bytes bytes);

#ifdef __cplusplus
}
#endif

#endif
