// Every behaviour of the contract, asked for by messages to `do.>`.

#include "ron.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

using std::string;
using std::string_view;

static string_view word(bool truth) { return truth ? "true" : "false"; }

// The text before and after its first blank.
static std::pair<string, string> cut(string_view text) {
    auto blank = text.find(' ');
    if (blank == text.npos) return {string(text), ""};
    return {string(text.substr(0, blank)), string(text.substr(blank + 1))};
}

static std::uint64_t number(const string &text) { return std::strtoull(text.c_str(), nullptr, 10); }

static ron::reply told(const ron::error &error) {
    static constexpr std::array kinds{
        "",        "denied",       "invalid-topic", "payload-too-large", "overloaded",
        "timeout", "no-responder", "failed",        "other",
    };
    string text = string("error ") + kinds[error.kind];
    if (error.kind == RON_PAYLOAD_TOO_LARGE) return text + " " + std::to_string(error.limit);
    return error.detail.empty() ? text : text + " " + error.detail;
}

static ron::reply done(const ron::result<> &result) {
    return result ? ron::reply("done") : told(result.error());
}

static ron::reply published(string_view topic, string_view body) {
    auto accepted = ron::publish(topic, body);
    return accepted ? ron::reply(std::to_string(*accepted)) : told(accepted.error());
}

struct conformance {
    std::uint64_t counter = 0;

    static ron::result<conformance> start() {
        if (auto fail = ron::config::get("fail_start")) return ron::reject(*fail);
        RON_TRY(ron::subscribe("do.>"));
        ron::log::info("conformance: started");
        return conformance{};
    }

    using handler = ron::result<ron::reply> (conformance::*)(const ron::message &);
    static const std::map<string_view, handler> handlers;

    ron::result<ron::reply> message(const ron::message &message) {
        if (auto timer = message.timer()) {
            RON_TRY(ron::publish("seen.timer", *timer));
            return ron::reply::none();
        }
        auto handler = handlers.find(message.topic);
        if (handler == handlers.end()) {
            return ron::reject("unknown topic " + string(message.topic));
        }
        return (this->*handler->second)(message);
    }

    void event(const ron::event &event) {
        string text = "shutdown";
        if (event.kind == RON_EVENT_HEALTH) {
            text = string("health ") + event.service + " " + string(word(event.ok));
        } else if (event.kind == RON_EVENT_CONFIG_UPDATED) {
            text = "config-updated " + std::to_string(event.version);
        } else if (event.kind == RON_EVENT_SERVICE_CRASHED) {
            text = string("service-crashed ") + event.service + " " + event.label + " " +
                   event.message;
        }
        (void)ron::publish("seen.event", text);
    }

    void stop() { (void)ron::publish("seen.stop", ""); }

    static constexpr std::uint32_t schema = 1;

    ron::result<string> save() {
        if (auto fail = ron::config::get("fail_save")) return ron::reject(*fail);
        return std::to_string(counter);
    }

    ron::result<> restore(std::uint32_t from, string_view state) {
        if (from != schema) return ron::reject("schema " + std::to_string(from));
        auto [end, code] = std::from_chars(state.begin(), state.end(), counter);
        if (code != std::errc() || end != state.end()) return ron::reject("not a number");
        return {};
    }

    ron::outcomes batch(ron::batch messages) {
        ron::metrics::add("batched_total", {{"kind", "test"}}, messages.size());
        return ron::each(messages, [this](const ron::message &one) { return message(one); });
    }

    // ---------------------------------------------------------------- messages

    using answer = ron::result<ron::reply>;

    answer echo(const ron::message &message) { return message.payload; }

    answer silent(const ron::message &) { return ron::reply::none(); }

    answer about(const ron::message &m) {
        return std::to_string(m.id) + " " + string(m.topic) + " " + string(m.source) + " " +
               std::to_string(m.attempt) + " " + string(word(m.wants_reply)) + " " +
               std::to_string(m.payload.size());
    }

    answer retry(const ron::message &message) {
        if (message.attempt == 1) return ron::retry("once more");
        return std::to_string(message.attempt);
    }

    answer reject(const ron::message &) { return ron::reject("never"); }

    answer crash(const ron::message &) { ron::panic("told to crash"); }

    answer spin(const ron::message &) {
        for (volatile bool on = true; on;) {
        }
        return ron::reply::none();
    }

    answer grow(const ron::message &) {
        std::vector<std::unique_ptr<char[]>> all;
        for (;;) all.push_back(std::make_unique<char[]>(1 << 20));
    }

    answer publish(const ron::message &message) {
        auto [topic, body] = cut(message.payload);
        return published(topic, body);
    }

    answer publish_size(const ron::message &message) {
        auto [topic, size] = cut(message.payload);
        return published(topic, string(number(size), '\0'));
    }

    answer request(const ron::message &message) {
        auto [topic, rest] = cut(message.payload);
        auto [millis, body] = cut(rest);
        auto answer = ron::request(topic, body, std::chrono::milliseconds(number(millis)));
        return answer ? ron::reply(*std::move(answer)) : told(answer.error());
    }

    answer subscribe(const ron::message &message) { return done(ron::subscribe(message.payload)); }

    answer unsubscribe(const ron::message &message) {
        return done(ron::unsubscribe(message.payload));
    }

    answer config(const ron::message &message) {
        auto value = ron::config::get(message.payload);
        return value ? "= " + *value : string("none");
    }

    answer config_all(const ron::message &) {
        auto entries = ron::config::entries();
        std::ranges::sort(entries);
        string lines;
        for (const auto &[key, value] : entries) {
            lines += (lines.empty() ? "" : "\n") + key + "=" + value;
        }
        return lines;
    }

    answer config_version(const ron::message &) { return std::to_string(ron::config::version()); }

    answer identity(const ron::message &) {
        auto self = ron::identity();
        return self.service + " " + std::to_string(self.generation) + " " +
               std::to_string(self.replica);
    }

    answer health(const ron::message &message) {
        auto [status, detail] = cut(message.payload);
        auto as = status == "ok"         ? RON_STATUS_OK
                  : status == "degraded" ? RON_STATUS_DEGRADED
                                         : RON_STATUS_FAILING;
        ron::health::report(as, detail.empty() ? std::nullopt : std::optional(detail));
        return "done";
    }

    answer log(const ron::message &message) {
        static constexpr std::array names{"trace", "debug", "info", "warn", "error"};
        auto [level, text] = cut(message.payload);
        auto found = std::ranges::find(names, level);
        if (found == names.end()) return ron::reject("no such level: " + level);
        ron::log::write(static_cast<ron_level>(found - names.begin()), text,
                        {{"answer", "42"}, {"word", "größe"}});
        return "done";
    }

    answer add(const ron::message &message) {
        auto [name, delta] = cut(message.payload);
        ron::metrics::add(name, {{"kind", "test"}}, number(delta));
        return "done";
    }

    answer set(const ron::message &message) {
        auto [name, value] = cut(message.payload);
        ron::metrics::set(name, {{"kind", "test"}}, std::strtod(value.c_str(), nullptr));
        return "done";
    }

    answer observe(const ron::message &message) {
        auto [name, value] = cut(message.payload);
        ron::metrics::observe(name, {{"kind", "test"}}, std::strtod(value.c_str(), nullptr));
        return "done";
    }

    answer after(const ron::message &message) {
        auto [name, millis] = cut(message.payload);
        return done(ron::timer::after(name, std::chrono::milliseconds(number(millis))));
    }

    answer every(const ron::message &message) {
        auto [name, millis] = cut(message.payload);
        return done(ron::timer::every(name, std::chrono::milliseconds(number(millis))));
    }

    answer cancel(const ron::message &message) {
        ron::timer::cancel(message.payload);
        return "done";
    }

    answer next(const ron::message &) { return std::to_string(++counter); }

    answer put(const ron::message &message) {
        counter = number(string(message.payload));
        return "done";
    }

    answer item(const ron::message &message) {
        RON_TRY(ron::publish("seen.item", message.payload));
        if (message.payload.ends_with('9')) return ron::reject("ninth");
        return ron::reply::none();
    }
};

const std::map<string_view, conformance::handler> conformance::handlers{
    {"do.echo", &conformance::echo},
    {"do.silent", &conformance::silent},
    {"do.message", &conformance::about},
    {"do.retry", &conformance::retry},
    {"do.reject", &conformance::reject},
    {"do.crash", &conformance::crash},
    {"do.spin", &conformance::spin},
    {"do.grow", &conformance::grow},
    {"do.publish", &conformance::publish},
    {"do.publish-size", &conformance::publish_size},
    {"do.request", &conformance::request},
    {"do.subscribe", &conformance::subscribe},
    {"do.unsubscribe", &conformance::unsubscribe},
    {"do.config", &conformance::config},
    {"do.config-all", &conformance::config_all},
    {"do.config-version", &conformance::config_version},
    {"do.identity", &conformance::identity},
    {"do.health", &conformance::health},
    {"do.log", &conformance::log},
    {"do.add", &conformance::add},
    {"do.set", &conformance::set},
    {"do.observe", &conformance::observe},
    {"do.after", &conformance::after},
    {"do.every", &conformance::every},
    {"do.cancel", &conformance::cancel},
    {"do.next", &conformance::next},
    {"do.put", &conformance::put},
    {"do.item", &conformance::item},
};

RON_SERVICE(conformance);
RON_SERVICE_HANDOVER(conformance);
RON_SERVICE_BULK(conformance);
