// What `sh test.sh` runs: the service with a host of the SDK's own, without Wasm.

#include "sdk/ron_testing.h"

#include <cstdio>
#include <string_view>

static std::string_view view(ron_reply reply) { return {reply.bytes.data, reply.bytes.len}; }

static void greets() {
    ron_testing_begin();
    RON_ASSERT(ron_start() == RON_OK);

    ron_reply reply;
    RON_ASSERT(ron_testing_deliver("{{name}}.greet", ron_text("Ada"), &reply) == RON_OK);
    RON_ASSERT(view(reply) == "Hello, Ada!");
    RON_ASSERT(ron_testing_metric("greetings_total") == 1);
}

static void greets_as_configured() {
    ron_testing_begin();
    ron_testing_config("greeting", "Good day");
    RON_ASSERT(ron_start() == RON_OK);

    ron_reply reply;
    RON_ASSERT(ron_testing_deliver("{{name}}.greet", ron_text("Ada"), &reply) == RON_OK);
    RON_ASSERT(view(reply) == "Good day, Ada!");
}

static void rejects_what_is_no_text() {
    ron_testing_begin();
    RON_ASSERT(ron_start() == RON_OK);

    ron_reply reply;
    ron_error *error = ron_testing_deliver("{{name}}.greet", ron_text("\xff"), &reply);
    RON_ASSERT(error && error->kind == RON_REJECT);
}

int main() {
    greets();
    greets_as_configured();
    rejects_what_is_no_text();
    std::puts("3 passed, 0 failed");
}
