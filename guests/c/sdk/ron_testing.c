// The host that a test sets up: see `ron_testing.h`.
#ifndef __wasm__

#include "ron_testing.h"

#include "ron_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Everything is a list of names with what they stand for. A test has few of each, so a search
// from the end is all it takes, and the newest stands.
typedef struct item {
    struct item *before;
    const char *name;
    ron_bytes bytes;
    uint64_t number;
    double value;
    ron_error_kind kind;
} item;

static struct {
    item *config, *answers, *subscriptions, *timers, *published, *metrics;
    uint64_t version;
    size_t published_count;
    ron_status health;
    ron_bytes log;
} host;

static ron_bytes kept(ron_bytes bytes) {
    char *data = ron_alloc(bytes.len + 1);
    if (bytes.len) memcpy(data, bytes.data, bytes.len);
    data[bytes.len] = 0;
    return (ron_bytes){data, bytes.len};
}

static item *find(item *list, const char *name) {
    while (list && strcmp(list->name, name) != 0) list = list->before;
    return list;
}

static item *add(item **list, ron_bytes name) {
    item *new = ron_alloc(sizeof *new);
    *new = (item){.before = *list, .name = kept(name).data};
    return *list = new;
}

static void take(item **list, const char *name) {
    while (*list) {
        if (strcmp((*list)->name, name) == 0) *list = (*list)->before;
        else list = &(*list)->before;
    }
}

static bool matches(const char *filter, const char *topic) {
    for (;;) {
        size_t want = strcspn(filter, "."), have = strcspn(topic, ".");
        if (strcmp(filter, ">") == 0) return true;
        bool any = want == 1 && *filter == '*';
        if (!any && (want != have || memcmp(filter, topic, want) != 0)) return false;
        if (!filter[want] || !topic[have]) return !filter[want] && !topic[have];
        filter += want + 1, topic += have + 1;
    }
}

// --------------------------------------------------------------- what a test calls

void ron_testing_begin(void) {
    ron_free_all();
    memset(&host, 0, sizeof host);
    host.log = (ron_bytes){"", 0};
}

void ron_testing_config(const char *key, const char *value) {
    take(&host.config, key);
    if (value) add(&host.config, ron_text(key))->bytes = kept(ron_text(value));
    host.version++;
}

ron_error *ron_testing_deliver(const char *topic, ron_bytes payload, ron_reply *reply) {
    static uint64_t id;
    ron_message message = {
        .id = ++id,
        .topic = kept(ron_text(topic)).data,
        .payload = kept(payload),
        .source = "test",
        .attempt = 1,
        .wants_reply = true,
    };
    const char *timer = ron_message_timer(&message);
    bool wanted = timer && find(host.timers, timer);
    for (item *s = host.subscriptions; s && !timer; s = s->before) {
        wanted = wanted || matches(s->name, topic);
    }
    *reply = (ron_reply){0};
    if (!wanted) return ron_error_new(RON_NO_RESPONDER, 0, (ron_bytes){"", 0});
    return ron_on_message(&message, reply);
}

void ron_testing_answer(const char *topic, ron_bytes answer) {
    add(&host.answers, ron_text(topic))->bytes = kept(answer);
}

void ron_testing_fail(const char *topic, ron_error_kind kind, const char *detail) {
    item *answer = add(&host.answers, ron_text(topic));
    answer->kind = kind;
    answer->bytes = kept(ron_text(detail));
}

size_t ron_testing_published_count(void) { return host.published_count; }

ron_testing_message ron_testing_published(size_t index) {
    if (index >= host.published_count) {
        ron_panic("there is no message %zu: %zu were published", index, host.published_count);
    }
    item *at = host.published;
    for (size_t i = host.published_count - 1; i > index; i--) at = at->before;
    return (ron_testing_message){at->name, at->bytes};
}

bool ron_testing_is_subscribed(const char *filter) { return find(host.subscriptions, filter); }

uint64_t ron_testing_timer(const char *name) {
    item *timer = find(host.timers, name);
    return timer ? timer->number : 0;
}

double ron_testing_metric(const char *name) {
    item *metric = find(host.metrics, name);
    return metric ? metric->value : 0;
}

const char *ron_testing_log(void) { return host.log.data; }

ron_status ron_testing_health(void) { return host.health; }

// ------------------------------------------------------------- what the service asks

static ron_error *publish(ron_bytes topic, ron_bytes payload) {
    item *message = add(&host.published, topic);
    message->bytes = kept(payload);
    host.published_count++;
    item *answer = find(host.answers, message->name);
    if (!answer || !answer->kind) return RON_OK;
    return ron_error_new(answer->kind, 0, answer->bytes);
}

ron_error *ron_host_publish(ron_bytes topic, ron_bytes payload, uint32_t *accepted) {
    *accepted = 1;
    return publish(topic, payload);
}

ron_error *ron_host_request(ron_bytes topic, ron_bytes payload, uint32_t timeout_ms,
                            ron_bytes *answer) {
    (void)timeout_ms;
    RON_TRY(publish(topic, payload));
    item *found = find(host.answers, host.published->name);
    if (!found) return ron_error_new(RON_NO_RESPONDER, 0, (ron_bytes){"", 0});
    *answer = kept(found->bytes);
    return RON_OK;
}

ron_error *ron_host_subscribe(ron_bytes filter) {
    add(&host.subscriptions, filter);
    return RON_OK;
}

ron_error *ron_host_unsubscribe(ron_bytes filter) {
    take(&host.subscriptions, kept(filter).data);
    return RON_OK;
}

ron_error *ron_host_timer_after(ron_bytes name, uint64_t delay_ms) {
    add(&host.timers, name)->number = delay_ms;
    return RON_OK;
}

ron_error *ron_host_timer_every(ron_bytes name, uint64_t period_ms) {
    return ron_host_timer_after(name, period_ms);
}

void ron_host_timer_cancel(ron_bytes name) { take(&host.timers, kept(name).data); }

bool ron_host_config_get(ron_bytes key, ron_bytes *value) {
    item *found = find(host.config, kept(key).data);
    if (found) *value = found->bytes;
    return found;
}

ron_pairs ron_host_config_entries(void) {
    size_t len = 0;
    for (item *i = host.config; i; i = i->before) len++;
    ron_pair *pairs = ron_alloc(len * sizeof *pairs);
    ron_pair *pair = pairs;
    for (item *i = host.config; i; i = i->before) *pair++ = (ron_pair){i->name, i->bytes.data};
    return (ron_pairs){pairs, len};
}

uint64_t ron_host_config_version(void) { return host.version; }

void ron_host_health(ron_status status, ron_bytes detail) {
    (void)detail;
    host.health = status;
}

ron_instance ron_host_identity(void) { return (ron_instance){"test", 1, 0}; }

void ron_host_log(ron_level level, ron_bytes message, ron_host_pair *pairs, size_t len) {
    static const char *const levels[] = {"TRACE", "DEBUG", "INFO", "WARN", "ERROR"};
    host.log = ron_format("%s%s %.*s", host.log.data, levels[level], RON_ARG(message));
    for (size_t i = 0; i < len; i++) {
        host.log = ron_format("%s %.*s=%.*s", host.log.data, RON_ARG(pairs[i].name),
                              RON_ARG(pairs[i].value));
    }
    host.log = ron_format("%s\n", host.log.data);
}

static double *metric(ron_bytes name) {
    item *found = find(host.metrics, kept(name).data);
    return &(found ? found : add(&host.metrics, name))->value;
}

void ron_host_metrics_add(ron_bytes name, ron_host_pair *pairs, size_t len, uint64_t delta) {
    (void)pairs, (void)len;
    *metric(name) += (double)delta;
}

void ron_host_metrics_set(ron_bytes name, ron_host_pair *pairs, size_t len, double value) {
    (void)pairs, (void)len;
    *metric(name) = value;
}

void ron_host_metrics_observe(ron_bytes name, ron_host_pair *pairs, size_t len, double value) {
    (void)pairs, (void)len;
    *metric(name) += value;
}

void ron_host_panic(const char *file, int line, ron_bytes message) {
    fflush(stdout);
    if (file) fprintf(stderr, "%s:%d: ", file, line);
    fprintf(stderr, "%.*s\n", RON_ARG(message));
    abort();
}

void ron_out_of_memory(size_t size) {
    ron_host_panic(NULL, 0, ron_format("memory allocation of %zu bytes failed", size));
}

#endif
