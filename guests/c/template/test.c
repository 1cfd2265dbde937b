// What `sh test.sh` runs: the service with a host of the SDK's own, without Wasm.

#include "sdk/ron_testing.h"

#include <stdio.h>

static void greets(void) {
    ron_testing_begin();
    RON_ASSERT(ron_start() == RON_OK);

    ron_reply reply;
    RON_ASSERT(ron_testing_deliver("{{name}}.greet", ron_text("Ada"), &reply) == RON_OK);
    RON_ASSERT(ron_equal(reply.bytes, ron_text("Hello, Ada!")));
    RON_ASSERT(ron_testing_metric("greetings_total") == 1);
}

static void greets_as_configured(void) {
    ron_testing_begin();
    ron_testing_config("greeting", "Good day");
    RON_ASSERT(ron_start() == RON_OK);

    ron_reply reply;
    RON_ASSERT(ron_testing_deliver("{{name}}.greet", ron_text("Ada"), &reply) == RON_OK);
    RON_ASSERT(ron_equal(reply.bytes, ron_text("Good day, Ada!")));
}

static void rejects_what_is_no_text(void) {
    ron_testing_begin();
    RON_ASSERT(ron_start() == RON_OK);

    ron_reply reply;
    ron_error *error = ron_testing_deliver("{{name}}.greet", ron_text("\xff"), &reply);
    RON_ASSERT(error && error->kind == RON_REJECT);
}

int main(void) {
    greets();
    greets_as_configured();
    rejects_what_is_no_text();
    puts("3 passed, 0 failed");
}
