// The part of the SDK that is the same on every host: memory, errors, text.

#include "ron_host.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RON_WEAK __attribute__((weak))

// ------------------------------------------------------------------------- memory

// What belongs to a call is a list of blocks: each can be freed early, and a message of 1 MiB is
// given back to `malloc` as a whole, which an arena of pages could not do.
typedef struct block {
    struct block *next;
    struct block **link; // What points to this block.
    _Alignas(16) char memory[];
} block;

static block *blocks;

void *ron_try_alloc(size_t size) {
    if (size > SIZE_MAX - sizeof(block)) return NULL;
    block *b = malloc(sizeof(block) + size);
    if (!b) return NULL;
    b->next = blocks;
    b->link = &blocks;
    if (blocks) blocks->link = &b->next;
    blocks = b;
    return b->memory;
}

void *ron_alloc(size_t size) {
    void *memory = ron_try_alloc(size);
    if (!memory) ron_out_of_memory(size);
    return memory;
}

void ron_free(const void *memory) {
    if (!memory) return;
    block *b = (block *)((uintptr_t)memory - offsetof(block, memory));
    *b->link = b->next;
    if (b->next) b->next->link = b->link;
    free(b);
}

void ron_free_all(void) {
    while (blocks) ron_free(blocks->memory);
}

static ron_bytes copy(ron_bytes bytes) {
    char *data = ron_alloc(bytes.len + 1);
    if (bytes.len) memcpy(data, bytes.data, bytes.len);
    data[bytes.len] = 0;
    return (ron_bytes){data, bytes.len};
}

// --------------------------------------------------------------------------- text

ron_bytes ron_text(const char *text) { return (ron_bytes){text, strlen(text)}; }

bool ron_equal(ron_bytes a, ron_bytes b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static ron_bytes format_list(const char *format, va_list list) {
    va_list again;
    va_copy(again, list);
    int len = vsnprintf(NULL, 0, format, list);
    // Only a conversion of wide characters can fail, or a text of more than 2 GiB.
    if (len < 0) {
        va_end(again);
        return copy(ron_text(format));
    }
    char *data = ron_alloc((size_t)len + 1);
    vsnprintf(data, (size_t)len + 1, format, again);
    va_end(again);
    return (ron_bytes){data, (size_t)len};
}

#define FORMAT_INTO(bytes, format)                                                                 \
    do {                                                                                           \
        va_list list;                                                                              \
        va_start(list, format);                                                                    \
        bytes = format_list(format, list);                                                         \
        va_end(list);                                                                              \
    } while (0)

ron_bytes ron_format(const char *format, ...) {
    ron_bytes text;
    FORMAT_INTO(text, format);
    return text;
}

// The length of the character at the start of `s`, or 0 where there is none. As in the Unicode
// standard's table 3-7: no longer form than needed, no surrogates, nothing above U+10FFFF.
static size_t character(const unsigned char *s, size_t len) {
    if (s[0] < 0x80) return 1;
    size_t want = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || want > len) return 0;
    unsigned char low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < want; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
    }
    return want;
}

bool ron_is_utf8(ron_bytes bytes) {
    const unsigned char *s = (const unsigned char *)bytes.data;
    for (size_t i = 0, step; i < bytes.len; i += step) {
        if (!(step = character(s + i, bytes.len - i))) return false;
    }
    return true;
}

ron_bytes ron_as_utf8(ron_bytes bytes) {
    if (ron_is_utf8(bytes)) return bytes;
    const unsigned char *s = (const unsigned char *)bytes.data;
    char *data = ron_alloc(bytes.len * 3 + 1);
    size_t len = 0;
    for (size_t i = 0; i < bytes.len;) {
        size_t step = character(s + i, bytes.len - i);
        memcpy(data + len, step ? bytes.data + i : "\xEF\xBF\xBD", step ? step : 3);
        len += step ? step : 3;
        i += step ? step : 1;
    }
    data[len] = 0;
    return (ron_bytes){data, len};
}

// ------------------------------------------------------------------------- errors

ron_error *ron_error_new(ron_error_kind kind, uint64_t limit, ron_bytes detail) {
    // One block, so that `ron_free` frees all of it.
    ron_error *error = ron_alloc(sizeof *error + detail.len + 1);
    char *text = (char *)(error + 1);
    if (detail.len) memcpy(text, detail.data, detail.len);
    text[detail.len] = 0;
    *error = (ron_error){kind, limit, text};
    return error;
}

static ron_error *formatted_error(ron_error_kind kind, ron_bytes text) {
    ron_error *error = ron_error_new(kind, 0, text);
    ron_free(text.data);
    return error;
}

ron_error *ron_retry(const char *format, ...) {
    ron_bytes text;
    FORMAT_INTO(text, format);
    return formatted_error(RON_RETRY, text);
}

ron_error *ron_reject(const char *format, ...) {
    ron_bytes text;
    FORMAT_INTO(text, format);
    return formatted_error(RON_REJECT, text);
}

bool ron_error_is_retry(const ron_error *error) {
    switch (error->kind) {
    case RON_RETRY:
    case RON_OVERLOADED:
    case RON_TIMEOUT:
    case RON_NO_RESPONDER: return true;
    default: return false;
    }
}

static const char *joined(const char *before, const char *detail) {
    size_t first = strlen(before), second = strlen(detail);
    char *text = ron_alloc(first + second + 1);
    memcpy(text, before, first);
    memcpy(text + first, detail, second + 1);
    return text;
}

// The decimal digits of `number`, in what `digits` has room for; `printf` would bring 15 KB along.
static char *decimal(uint64_t number, char digits[21]) {
    char *at = digits + 20;
    *at = 0;
    do *--at = (char)('0' + number % 10);
    while (number /= 10);
    return at;
}

const char *ron_error_text(const ron_error *error) {
    char digits[21];
    switch (error->kind) {
    case RON_DENIED: return joined("denied: ", error->detail);
    case RON_INVALID_TOPIC: return joined("invalid topic: ", error->detail);
    case RON_PAYLOAD_TOO_LARGE:
        return joined(joined("the payload is larger than ", decimal(error->limit, digits)),
                      " bytes");
    case RON_OVERLOADED: return "a mailbox is full, or this service publishes too fast";
    case RON_TIMEOUT: return "no answer came in time";
    case RON_NO_RESPONDER: return "nobody answers this topic";
    case RON_FAILED: return joined("the service that was asked failed: ", error->detail);
    default: return error->detail;
    }
}

// ----------------------------------------------------------- messages and answers

const char *ron_message_text(const ron_message *message) {
    ron_bytes payload = message->payload;
    if (!ron_is_utf8(payload) || memchr(payload.data, 0, payload.len)) return NULL;
    return payload.data;
}

const char *ron_message_timer(const ron_message *message) {
    static const char prefix[] = "ron.timer.";
    size_t len = sizeof prefix - 1;
    return strncmp(message->topic, prefix, len) == 0 ? message->topic + len : NULL;
}

ron_error *ron_reply_borrowed(ron_reply *reply, ron_bytes bytes) {
    *reply = (ron_reply){true, bytes};
    return RON_OK;
}

ron_error *ron_reply_bytes(ron_reply *reply, ron_bytes bytes) {
    return ron_reply_borrowed(reply, copy(bytes));
}

ron_error *ron_reply_text(ron_reply *reply, const char *text) {
    return ron_reply_bytes(reply, ron_text(text));
}

ron_error *ron_reply_format(ron_reply *reply, const char *format, ...) {
    ron_bytes text;
    FORMAT_INTO(text, format);
    return ron_reply_borrowed(reply, text);
}

void ron_each(const ron_message *messages, size_t len, ron_outcome *outcomes) {
    for (size_t i = 0; i < len; i++) {
        outcomes[i].error = ron_on_message(&messages[i], &outcomes[i].reply);
    }
}

// ------------------------------------------------- what a service may leave undefined

RON_WEAK ron_error *ron_on_message(const ron_message *message, ron_reply *reply) {
    (void)message, (void)reply;
    return RON_OK;
}

RON_WEAK void ron_on_event(const ron_event *event) { (void)event; }

RON_WEAK void ron_stop(void) {}

RON_WEAK void ron_on_batch(const ron_message *messages, size_t len, ron_outcome *outcomes) {
    ron_each(messages, len, outcomes);
}

// ----------------------------------------------------------------- bus and timers

ron_error *ron_publish(const char *topic, ron_bytes payload, uint32_t *accepted) {
    uint32_t unused;
    return ron_host_publish(ron_text(topic), payload, accepted ? accepted : &unused);
}

ron_error *ron_request(const char *topic, ron_bytes payload, uint32_t timeout_ms,
                       ron_bytes *answer) {
    return ron_host_request(ron_text(topic), payload, timeout_ms, answer);
}

ron_error *ron_subscribe(const char *filter) { return ron_host_subscribe(ron_text(filter)); }

ron_error *ron_unsubscribe(const char *filter) { return ron_host_unsubscribe(ron_text(filter)); }

ron_error *ron_timer_after(const char *name, uint64_t delay_ms) {
    return ron_host_timer_after(ron_text(name), delay_ms);
}

ron_error *ron_timer_every(const char *name, uint64_t period_ms) {
    return ron_host_timer_every(ron_text(name), period_ms);
}

void ron_timer_cancel(const char *name) { ron_host_timer_cancel(ron_text(name)); }

// ------------------------------------------------------------------ configuration

const char *ron_config_get(const char *key) {
    ron_bytes value;
    return ron_host_config_get(ron_text(key), &value) ? value.data : NULL;
}

ron_pairs ron_config_entries(void) { return ron_host_config_entries(); }

uint64_t ron_config_version(void) { return ron_host_config_version(); }

static ron_error *unexpected(const char *key, const char *expected, const char *value) {
    const char *text = joined(joined(joined("config `", key), "`: expected "), expected);
    text = joined(joined(joined(text, ", found `"), value), "`");
    return ron_error_new(RON_INVALID_CONFIG, 0, ron_text(text));
}

// Digits alone: `strtoull` takes blanks, signs and more besides.
static bool parse_u64(const char *text, uint64_t *value) {
    uint64_t number = 0;
    if (!*text) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        if (__builtin_mul_overflow(number, 10, &number)) return false;
        if (__builtin_add_overflow(number, (uint64_t)(*text - '0'), &number)) return false;
    }
    *value = number;
    return true;
}

ron_error *ron_config_u64(const char *key, uint64_t fallback, uint64_t *value) {
    const char *text = ron_config_get(key);
    if (!text) *value = fallback;
    else if (!parse_u64(text, value)) return unexpected(key, "a whole number from 0", text);
    return RON_OK;
}

ron_error *ron_config_i64(const char *key, int64_t fallback, int64_t *value) {
    const char *text = ron_config_get(key);
    *value = fallback;
    if (!text) return RON_OK;
    bool negative = *text == '-';
    uint64_t number;
    if (!parse_u64(text + negative, &number) || number > (uint64_t)INT64_MAX + negative) {
        return unexpected(key, "a whole number", text);
    }
    *value = (int64_t)(negative ? 0 - number : number);
    return RON_OK;
}

ron_error *ron_config_f64(const char *key, double fallback, double *value) {
    const char *text = ron_config_get(key);
    *value = fallback;
    if (!text) return RON_OK;
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || *text <= ' ') return unexpected(key, "a number", text);
    *value = number;
    return RON_OK;
}

ron_error *ron_config_bool(const char *key, bool fallback, bool *value) {
    const char *text = ron_config_get(key);
    if (!text) *value = fallback;
    else if (strcmp(text, "true") == 0) *value = true;
    else if (strcmp(text, "false") == 0) *value = false;
    else return unexpected(key, "true or false", text);
    return RON_OK;
}

// ---------------------------------------------------- health, identity, log, metrics

void ron_health(ron_status status, const char *detail) {
    ron_host_health(status, detail ? ron_text(detail) : (ron_bytes){NULL, 0});
}

ron_instance ron_identity(void) { return ron_host_identity(); }

static ron_host_pair *host_pairs(ron_pairs pairs) {
    ron_host_pair *list = ron_alloc(pairs.len * sizeof *list);
    for (size_t i = 0; i < pairs.len; i++) {
        list[i] = (ron_host_pair){ron_text(pairs.data[i].name), ron_text(pairs.data[i].value)};
    }
    return list;
}

static void log_text(ron_level level, ron_pairs fields, ron_bytes text) {
    ron_host_pair *pairs = host_pairs(fields);
    ron_host_log(level, text, pairs, fields.len);
    ron_free(pairs);
    ron_free(text.data);
}

void ron_log(ron_level level, const char *format, ...) {
    ron_bytes text;
    FORMAT_INTO(text, format);
    log_text(level, (ron_pairs){NULL, 0}, text);
}

void ron_log_with(ron_level level, ron_pairs fields, const char *format, ...) {
    ron_bytes text;
    FORMAT_INTO(text, format);
    log_text(level, fields, text);
}

void ron_metrics_add(const char *name, ron_pairs labels, uint64_t delta) {
    ron_host_pair *pairs = host_pairs(labels);
    ron_host_metrics_add(ron_text(name), pairs, labels.len, delta);
    ron_free(pairs);
}

void ron_metrics_set(const char *name, ron_pairs labels, double value) {
    ron_host_pair *pairs = host_pairs(labels);
    ron_host_metrics_set(ron_text(name), pairs, labels.len, value);
    ron_free(pairs);
}

void ron_metrics_observe(const char *name, ron_pairs labels, double value) {
    ron_host_pair *pairs = host_pairs(labels);
    ron_host_metrics_observe(ron_text(name), pairs, labels.len, value);
    ron_free(pairs);
}

// ------------------------------------------------------------------------ crashes

void ron_panic_at(const char *file, int line, const char *format, ...) {
    ron_bytes text;
    FORMAT_INTO(text, format);
    ron_host_panic(file, line, text);
}

void ron_assertion_failed(const char *file, int line, const char *condition) {
    // In static memory: that a pointer is NULL for want of memory is much asserted.
    static char text[512] = "assertion failed: ";
    strncat(text, condition, sizeof text - strlen(text) - 1);
    ron_host_panic(file, line, ron_text(text));
}
