// {{name}}: greets whoever asks, and counts how often.

#include "sdk/ron.h"

static uint64_t greeted;

ron_error *ron_start(void) {
    RON_TRY(ron_subscribe("{{name}}.greet"));
    ron_log(RON_INFO, "ready to greet");
    return RON_OK;
}

ron_error *ron_on_message(const ron_message *message, ron_reply *reply) {
    const char *who = ron_message_text(message);
    if (!who) return ron_reject("a name is text");

    const char *greeting = ron_config_get("greeting");
    if (!greeting) greeting = "Hello";

    greeted += 1;
    ron_metrics_add("greetings_total", RON_NONE, 1);
    return ron_reply_format(reply, "%s, %s!", greeting, who);
}
