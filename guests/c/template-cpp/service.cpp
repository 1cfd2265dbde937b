// {{name}}: greets whoever asks, and counts how often.

#include "sdk/ron.hpp"

#include <string>

struct service {
    std::uint64_t greeted = 0;

    static ron::result<service> start() {
        RON_TRY(ron::subscribe("{{name}}.greet"));
        ron::log::info("ready to greet");
        return service{};
    }

    ron::result<ron::reply> message(const ron::message &message) {
        auto who = message.text();
        if (!who) return ron::reject("a name is text");

        greeted += 1;
        ron::metrics::add("greetings_total", {}, 1);
        std::string greeting = ron::config::get("greeting").value_or("Hello");
        return greeting + ", " + std::string(*who) + "!";
    }
};

RON_SERVICE(service);
