// Every behaviour of the contract, asked for by messages to `do.>`.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ron.h"

static uint64_t counter;

// Cuts `text` at its first blank and returns what follows, or "" where nothing does.
static char *cut(char *text) {
    char *blank = strchr(text, ' ');
    if (!blank) return text + strlen(text);
    *blank = 0;
    return blank + 1;
}

static uint64_t number(const char *text) { return strtoull(text, NULL, 10); }

static ron_error *done(ron_reply *reply, const ron_error *error) {
    // In the order of `ron_error_kind`, which begins with 1.
    static const char *const kinds[] = {
        "",        "denied",       "invalid-topic", "payload-too-large", "overloaded",
        "timeout", "no-responder", "failed",        "other",
    };
    if (!error) return ron_reply_text(reply, "done");
    const char *kind = kinds[error->kind];
    if (error->kind == RON_PAYLOAD_TOO_LARGE) {
        return ron_reply_format(reply, "error %s %" PRIu64, kind, error->limit);
    }
    if (!*error->detail) return ron_reply_format(reply, "error %s", kind);
    return ron_reply_format(reply, "error %s %s", kind, error->detail);
}

// ------------------------------------------------------------------------ messages

typedef ron_error *handler(const ron_message *message, char *text, ron_reply *reply);

static ron_error *do_echo(const ron_message *message, char *text, ron_reply *reply) {
    (void)text;
    return ron_reply_borrowed(reply, message->payload);
}

static ron_error *do_silent(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text, (void)reply;
    return RON_OK;
}

static ron_error *do_message(const ron_message *message, char *text, ron_reply *reply) {
    (void)text;
    return ron_reply_format(reply, "%" PRIu64 " %s %s %" PRIu32 " %s %zu", message->id,
                            message->topic, message->source, message->attempt,
                            message->wants_reply ? "true" : "false", message->payload.len);
}

static ron_error *do_retry(const ron_message *message, char *text, ron_reply *reply) {
    (void)text;
    if (message->attempt == 1) return ron_retry("once more");
    return ron_reply_format(reply, "%" PRIu32, message->attempt);
}

static ron_error *do_reject(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text, (void)reply;
    return ron_reject("never");
}

static ron_error *do_crash(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text, (void)reply;
    ron_panic("told to crash");
}

static ron_error *do_spin(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text, (void)reply;
    for (volatile bool on = true; on;) {
    }
    return RON_OK;
}

static ron_error *do_grow(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text, (void)reply;
    for (;;) *(volatile char *)ron_alloc(1 << 20) = 1;
}

static ron_error *publish(const char *topic, ron_bytes body, ron_reply *reply) {
    uint32_t accepted;
    ron_error *error = ron_publish(topic, body, &accepted);
    if (error) return done(reply, error);
    return ron_reply_format(reply, "%" PRIu32, accepted);
}

static ron_error *do_publish(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    const char *body = cut(text);
    return publish(text, ron_text(body), reply);
}

static ron_error *do_publish_size(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    size_t size = (size_t)number(cut(text));
    char *zeros = calloc(size + 1, 1);
    if (!zeros) ron_out_of_memory(size);
    ron_error *error = publish(text, (ron_bytes){zeros, size}, reply);
    free(zeros);
    return error;
}

static ron_error *do_request(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    char *millis = cut(text);
    const char *body = cut(millis);
    ron_bytes answer;
    ron_error *error = ron_request(text, ron_text(body), (uint32_t)number(millis), &answer);
    return error ? done(reply, error) : ron_reply_borrowed(reply, answer);
}

static ron_error *do_subscribe(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    return done(reply, ron_subscribe(text));
}

static ron_error *do_unsubscribe(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    return done(reply, ron_unsubscribe(text));
}

static ron_error *do_config(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    const char *value = ron_config_get(text);
    return value ? ron_reply_format(reply, "= %s", value) : ron_reply_text(reply, "none");
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ron_pair *)a)->name, ((const ron_pair *)b)->name);
}

static ron_error *do_config_all(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text;
    ron_pairs entries = ron_config_entries();
    ron_pair *sorted = ron_alloc(entries.len * sizeof *sorted);
    memcpy(sorted, entries.data, entries.len * sizeof *sorted);
    qsort(sorted, entries.len, sizeof *sorted, by_name);
    ron_bytes lines = {"", 0};
    for (size_t i = 0; i < entries.len; i++) {
        lines = ron_format("%s%s%s=%s", lines.data, i ? "\n" : "", sorted[i].name, sorted[i].value);
    }
    return ron_reply_bytes(reply, lines);
}

static ron_error *do_config_version(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text;
    return ron_reply_format(reply, "%" PRIu64, ron_config_version());
}

static ron_error *do_identity(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text;
    ron_instance self = ron_identity();
    return ron_reply_format(reply, "%s %" PRIu64 " %" PRIu32, self.service, self.generation,
                            self.replica);
}

static ron_error *do_health(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    const char *detail = cut(text);
    ron_status status = strcmp(text, "ok") == 0         ? RON_STATUS_OK
                        : strcmp(text, "degraded") == 0 ? RON_STATUS_DEGRADED
                                                        : RON_STATUS_FAILING;
    ron_health(status, *detail ? detail : NULL);
    return done(reply, RON_OK);
}

static ron_error *do_log(const ron_message *message, char *text, ron_reply *reply) {
    static const char *const names[] = {"trace", "debug", "info", "warn", "error"};
    (void)message;
    const char *words = cut(text);
    for (int level = RON_TRACE; level <= RON_ERROR; level++) {
        if (strcmp(text, names[level]) != 0) continue;
        ron_log_with((ron_level)level, RON_PAIRS({"answer", "42"}, {"word", "größe"}), "%s", words);
        return done(reply, RON_OK);
    }
    return ron_reject("no such level: %s", text);
}

static ron_error *do_add(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    uint64_t delta = number(cut(text));
    ron_metrics_add(text, RON_PAIRS({"kind", "test"}), delta);
    return done(reply, RON_OK);
}

static ron_error *do_set(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    double value = strtod(cut(text), NULL);
    ron_metrics_set(text, RON_PAIRS({"kind", "test"}), value);
    return done(reply, RON_OK);
}

static ron_error *do_observe(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    double value = strtod(cut(text), NULL);
    ron_metrics_observe(text, RON_PAIRS({"kind", "test"}), value);
    return done(reply, RON_OK);
}

static ron_error *do_after(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    uint64_t millis = number(cut(text));
    return done(reply, ron_timer_after(text, millis));
}

static ron_error *do_every(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    uint64_t millis = number(cut(text));
    return done(reply, ron_timer_every(text, millis));
}

static ron_error *do_cancel(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    ron_timer_cancel(text);
    return done(reply, RON_OK);
}

static ron_error *do_next(const ron_message *message, char *text, ron_reply *reply) {
    (void)message, (void)text;
    return ron_reply_format(reply, "%" PRIu64, ++counter);
}

static ron_error *do_put(const ron_message *message, char *text, ron_reply *reply) {
    (void)message;
    counter = number(text);
    return done(reply, RON_OK);
}

static ron_error *do_item(const ron_message *message, char *text, ron_reply *reply) {
    (void)reply;
    RON_TRY(ron_publish("seen.item", message->payload, NULL));
    size_t len = strlen(text);
    return len && text[len - 1] == '9' ? ron_reject("ninth") : RON_OK;
}

static const struct {
    const char *topic;
    handler *handle;
} handlers[] = {
    {"do.echo", do_echo},
    {"do.silent", do_silent},
    {"do.message", do_message},
    {"do.retry", do_retry},
    {"do.reject", do_reject},
    {"do.crash", do_crash},
    {"do.spin", do_spin},
    {"do.grow", do_grow},
    {"do.publish", do_publish},
    {"do.publish-size", do_publish_size},
    {"do.request", do_request},
    {"do.subscribe", do_subscribe},
    {"do.unsubscribe", do_unsubscribe},
    {"do.config", do_config},
    {"do.config-all", do_config_all},
    {"do.config-version", do_config_version},
    {"do.identity", do_identity},
    {"do.health", do_health},
    {"do.log", do_log},
    {"do.add", do_add},
    {"do.set", do_set},
    {"do.observe", do_observe},
    {"do.after", do_after},
    {"do.every", do_every},
    {"do.cancel", do_cancel},
    {"do.next", do_next},
    {"do.put", do_put},
    {"do.item", do_item},
};

ron_error *ron_on_message(const ron_message *message, ron_reply *reply) {
    const char *timer = ron_message_timer(message);
    if (timer) return ron_publish("seen.timer", ron_text(timer), NULL);
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        if (strcmp(message->topic, handlers[i].topic) != 0) continue;
        // A copy, which handlers cut up.
        ron_bytes text = ron_format("%s", message->payload.data);
        return handlers[i].handle(message, (char *)text.data, reply);
    }
    return ron_reject("unknown topic %s", message->topic);
}

// ----------------------------------------------------------------- all other calls

ron_error *ron_start(void) {
    const char *fail = ron_config_get("fail_start");
    if (fail) return ron_reject("%s", fail);
    RON_TRY(ron_subscribe("do.>"));
    ron_log(RON_INFO, "conformance: started");
    return RON_OK;
}

void ron_on_event(const ron_event *event) {
    ron_bytes text = {"", 0};
    switch (event->kind) {
    case RON_EVENT_HEALTH:
        text = ron_format("health %s %s", event->service, event->ok ? "true" : "false");
        break;
    case RON_EVENT_CONFIG_UPDATED:
        text = ron_format("config-updated %" PRIu64, event->version);
        break;
    case RON_EVENT_SERVICE_CRASHED:
        text = ron_format("service-crashed %s %s %s", event->service, event->label, event->message);
        break;
    case RON_EVENT_SHUTDOWN: text = ron_text("shutdown"); break;
    }
    (void)ron_publish("seen.event", text, NULL);
}

void ron_stop(void) { (void)ron_publish("seen.stop", ron_text(""), NULL); }

RON_HANDOVER(1);

ron_error *ron_save(ron_bytes *state) {
    const char *fail = ron_config_get("fail_save");
    if (fail) return ron_reject("%s", fail);
    *state = ron_format("%" PRIu64, counter);
    return RON_OK;
}

ron_error *ron_restore(uint32_t schema, ron_bytes state) {
    if (schema != 1) return ron_reject("schema %" PRIu32, schema);
    char *end;
    uint64_t restored = strtoull(state.data, &end, 10);
    if (*state.data < '0' || *state.data > '9' || *end) return ron_reject("not a number");
    counter = restored;
    return RON_OK;
}

RON_BULK();

void ron_on_batch(const ron_message *messages, size_t len, ron_outcome *outcomes) {
    ron_metrics_add("batched_total", RON_PAIRS({"kind", "test"}), len);
    ron_each(messages, len, outcomes);
}
