// Write a service for ron-host in C++23, without exceptions.
//
//     #include "sdk/ron.hpp"
//
//     struct hello {
//         static ron::result<hello> start() {
//             RON_TRY(ron::subscribe("hello.greet"));
//             return hello{};
//         }
//
//         ron::result<ron::reply> message(const ron::message &message) {
//             return "Hello, " + std::string(message.payload) + "!";
//         }
//     };
//
//     RON_SERVICE(hello);
//
// A wrapper of `ron.h`, which has the meaning of everything; what differs is said here. Values
// own what they hold, except `message` and `event`: those live until the call is over.
#ifndef RON_HPP
#define RON_HPP

#include <algorithm>
#include <charconv>
#include <chrono>
#include <concepts>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <expected>
#include <initializer_list>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ron_host.h"

// Evaluates to the value of a `ron::result`, or returns from this function with its error.
#undef RON_TRY
#define RON_TRY(...)                                                                               \
    __extension__({                                                                                \
        auto ron_try_result = (__VA_ARGS__);                                                       \
        if (!ron_try_result) return std::unexpected(std::move(ron_try_result).error());            \
        ron::detail::value(std::move(ron_try_result));                                             \
    })

namespace ron {

// Why something failed: see `ron_error` and `ron_error_kind`.
struct error {
    ron_error_kind kind;
    std::uint64_t limit = 0; // Bytes, with RON_PAYLOAD_TOO_LARGE.
    std::string detail;

    // For a person, on one line.
    std::string text() const {
        ron_error self{kind, limit, detail.c_str()};
        return ron_error_text(&self);
    }
};

template <class T = void> using result = std::expected<T, error>;

// Has the message delivered again.
inline std::unexpected<error> retry(std::string why) {
    return std::unexpected(error{RON_RETRY, 0, std::move(why)});
}

// Sends the message to the dead letters.
inline std::unexpected<error> reject(std::string why) {
    return std::unexpected(error{RON_REJECT, 0, std::move(why)});
}

// Ends the instance; the host logs the text with the place of the call.
[[noreturn]] inline void
panic(std::string_view text, std::source_location at = std::source_location::current()) {
    ron_host_panic(at.file_name(), static_cast<int>(at.line()), {text.data(), text.size()});
}

namespace detail {

inline ron_bytes bytes(std::string_view text) { return {text.data() ? text.data() : "", text.size()}; }

inline std::string_view view(ron_bytes bytes) { return {bytes.data, bytes.len}; }

// Unlike `operator*` it may be ignored.
template <class T> T value(result<T> &&from) {
    if constexpr (!std::is_void_v<T>) return *std::move(from);
}

inline error owned(ron_error *from) {
    error copy{from->kind, from->limit, from->detail};
    ron_free(from);
    return copy;
}

inline result<> checked(ron_error *error) {
    if (error) return std::unexpected(owned(error));
    return {};
}

inline ron_error *lent(const error &error) {
    return ron_error_new(error.kind, error.limit, bytes(error.detail));
}

} // namespace detail

// ----------------------------------------------------------------- messages, events

struct message {
    std::uint64_t id;         // Unique in this host for as long as it runs; the same on redelivery.
    std::string_view topic;   // The topic it was published to.
    std::string_view payload; // What was published: any bytes.
    std::string_view source;  // The service that published it, or the host's name for a bridge.
    std::uint32_t attempt;    // 1 on first delivery, then 2, 3, ...
    bool wants_reply;         // Whether the publisher waits for an answer.

    // The payload, where it is UTF-8.
    std::optional<std::string_view> text() const {
        if (!ron_is_utf8(detail::bytes(payload))) return std::nullopt;
        return payload;
    }

    // The name of the timer that fired, where one brought this message.
    std::optional<std::string_view> timer() const {
        constexpr std::string_view prefix = "ron.timer.";
        if (!topic.starts_with(prefix)) return std::nullopt;
        return topic.substr(prefix.size());
    }

    message(const ron_message &from)
        : id(from.id), topic(from.topic), payload(detail::view(from.payload)), source(from.source),
          attempt(from.attempt), wants_reply(from.wants_reply) {}
};

// What a handled message is answered with: text, bytes, or nothing.
class reply {
  public:
    reply(std::string bytes) : bytes_(std::move(bytes)) {}
    reply(std::string_view bytes) : bytes_(bytes) {}
    reply(const char *text) : bytes_(text) {}

    // No answer: handled, and this service does not answer such messages.
    static reply none() { return reply(); }

    const std::optional<std::string> &bytes() const { return bytes_; }

  private:
    reply() = default;
    std::optional<std::string> bytes_;
};

using event = ron_event;

// ------------------------------------------------------------------- bus and timers

// Returns how many mailboxes accepted the message.
inline result<std::uint32_t> publish(std::string_view topic, std::string_view payload) {
    std::uint32_t accepted = 0;
    ron_error *error = ron_host_publish(detail::bytes(topic), detail::bytes(payload), &accepted);
    if (error) return std::unexpected(detail::owned(error));
    return accepted;
}

namespace detail {

// Whole milliseconds, rounded up so that a short time is not none at all.
template <class Rep, class Period> std::uint64_t millis(std::chrono::duration<Rep, Period> time) {
    auto whole = std::chrono::ceil<std::chrono::milliseconds>(time).count();
    return whole < 0 ? 0 : static_cast<std::uint64_t>(whole);
}

} // namespace detail

// Publishes, and waits at most `timeout` for the first answer.
template <class Rep, class Period>
result<std::string> request(std::string_view topic, std::string_view payload,
                            std::chrono::duration<Rep, Period> timeout) {
    constexpr std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
    std::uint64_t millis = std::min(detail::millis(timeout), most);
    ron_bytes answer;
    ron_error *error = ron_host_request(detail::bytes(topic), detail::bytes(payload),
                                        static_cast<std::uint32_t>(millis), &answer);
    if (error) return std::unexpected(detail::owned(error));
    std::string copy(detail::view(answer));
    if (answer.len) ron_free(answer.data);
    return copy;
}

inline result<> subscribe(std::string_view filter) {
    return detail::checked(ron_host_subscribe(detail::bytes(filter)));
}

inline result<> unsubscribe(std::string_view filter) {
    return detail::checked(ron_host_unsubscribe(detail::bytes(filter)));
}

namespace timer {

template <class Rep, class Period>
result<> after(std::string_view name, std::chrono::duration<Rep, Period> delay) {
    return detail::checked(ron_host_timer_after(detail::bytes(name), detail::millis(delay)));
}

template <class Rep, class Period>
result<> every(std::string_view name, std::chrono::duration<Rep, Period> period) {
    return detail::checked(ron_host_timer_every(detail::bytes(name), detail::millis(period)));
}

inline void cancel(std::string_view name) { ron_host_timer_cancel(detail::bytes(name)); }

} // namespace timer

// -------------------------------------------------------------------- configuration

namespace config {

inline std::optional<std::string> get(std::string_view key) {
    ron_bytes value;
    if (!ron_host_config_get(detail::bytes(key), &value)) return std::nullopt;
    return std::string(detail::view(value));
}

// The value of `key` as a number or a `bool`, or nothing where the key is absent:
// `RON_TRY(ron::config::parse<int>("retries")).value_or(3)`.
template <class T>
    requires std::is_arithmetic_v<T>
result<std::optional<T>> parse(std::string_view key) {
    auto text = get(key);
    if (!text) return std::optional<T>();
    const char *expected = "a number";
    T value{};
    if constexpr (std::same_as<T, bool>) {
        expected = "true or false";
        value = *text == "true";
        if (value || *text == "false") return value;
    } else {
        auto [end, code] = std::from_chars(text->data(), text->data() + text->size(), value);
        if (code == std::errc() && end == text->data() + text->size()) return value;
        if constexpr (std::integral<T>) {
            expected = std::is_signed_v<T> ? "a whole number" : "a whole number from 0";
        }
    }
    std::string why = "config `" + std::string(key) + "`: expected " + expected;
    return std::unexpected(error{RON_INVALID_CONFIG, 0, why + ", found `" + *text + "`"});
}

// All keys and their values.
inline std::vector<std::pair<std::string, std::string>> entries() {
    ron_pairs pairs = ron_host_config_entries();
    std::vector<std::pair<std::string, std::string>> copies;
    for (const ron_pair &pair : std::span(pairs.data, pairs.len)) {
        copies.emplace_back(pair.name, pair.value);
    }
    return copies;
}

inline std::uint64_t version() { return ron_host_config_version(); }

} // namespace config

// ------------------------------------------------------ health, identity, log, metrics

namespace health {

inline void report(ron_status status, std::optional<std::string_view> why = {}) {
    ron_host_health(status, why ? detail::bytes(*why) : ron_bytes{nullptr, 0});
}
inline void ok() { report(RON_STATUS_OK); }
inline void degraded(std::string_view why) { report(RON_STATUS_DEGRADED, why); }
inline void failing(std::string_view why) { report(RON_STATUS_FAILING, why); }

} // namespace health

struct instance {
    std::string service;
    std::uint64_t generation;
    std::uint32_t replica;
};

inline instance identity() {
    ron_instance self = ron_host_identity();
    return {self.service, self.generation, self.replica};
}

// Fields of a log record, labels of a metric: `{{"region", "eu"}, {"sku", sku}}`.
using pairs = std::initializer_list<std::pair<std::string_view, std::string_view>>;

namespace detail {

// The pairs as the host takes them.
struct host_pairs {
    std::vector<ron_host_pair> list;

    host_pairs(pairs from) {
        list.reserve(from.size());
        for (auto [name, value] : from) list.push_back({bytes(name), bytes(value)});
    }
};

} // namespace detail

namespace log {

inline void write(ron_level level, std::string_view text, pairs fields = {}) {
    auto list = detail::host_pairs(fields).list;
    ron_host_log(level, detail::bytes(text), list.data(), list.size());
}

inline void trace(std::string_view text, pairs fields = {}) { write(RON_TRACE, text, fields); }
inline void debug(std::string_view text, pairs fields = {}) { write(RON_DEBUG, text, fields); }
inline void info(std::string_view text, pairs fields = {}) { write(RON_INFO, text, fields); }
inline void warn(std::string_view text, pairs fields = {}) { write(RON_WARN, text, fields); }
inline void error(std::string_view text, pairs fields = {}) { write(RON_ERROR, text, fields); }

} // namespace log

namespace metrics {

inline void add(std::string_view name, pairs labels, std::uint64_t delta) {
    auto list = detail::host_pairs(labels).list;
    ron_host_metrics_add(detail::bytes(name), list.data(), list.size(), delta);
}

inline void set(std::string_view name, pairs labels, double value) {
    auto list = detail::host_pairs(labels).list;
    ron_host_metrics_set(detail::bytes(name), list.data(), list.size(), value);
}

inline void observe(std::string_view name, pairs labels, double value) {
    auto list = detail::host_pairs(labels).list;
    ron_host_metrics_observe(detail::bytes(name), list.data(), list.size(), value);
}

} // namespace metrics

// ------------------------------------------------------------------------- batches

// Several messages, in the order of the mailbox.
using batch = std::span<const ron_message>;

// What became of each message of a batch, at its index.
using outcomes = std::vector<result<reply>>;

// Handles each message with `handle`. An error settles its own message alone.
template <class Handle> outcomes each(batch messages, Handle handle) {
    outcomes all;
    all.reserve(messages.size());
    for (const ron_message &one : messages) all.push_back(handle(message(one)));
    return all;
}

// --------------------------------------------------- from the service to the C functions

namespace detail {

template <class Service> std::optional<Service> &slot() {
    static std::optional<Service> service;
    return service;
}

inline ron_error *settle(const result<reply> &from, ron_reply *to) {
    if (!from) return lent(from.error());
    if (from->bytes()) ron_reply_bytes(to, bytes(*from->bytes()));
    return RON_OK;
}

template <class Service> ron_error *start() {
    // What `new` was asked for is not told.
    std::set_new_handler([] { ron_out_of_memory(0); });
    result<Service> service = Service::start();
    if (!service) return lent(service.error());
    slot<Service>().emplace(*std::move(service));
    return RON_OK;
}

template <class Service> ron_error *on_message(const ron_message *from, ron_reply *to) {
    return settle(slot<Service>()->message(message(*from)), to);
}

template <class Service> void on_event(const ron_event *event) {
    if constexpr (requires { &Service::event; }) slot<Service>()->event(*event);
}

template <class Service> void stop() {
    if constexpr (requires { &Service::stop; }) slot<Service>()->stop();
    slot<Service>().reset();
}

template <class Service> ron_error *save(ron_bytes *to) {
    result<std::string> state = slot<Service>()->save();
    if (!state) return lent(state.error());
    ron_reply copy;
    ron_reply_bytes(&copy, bytes(*state));
    *to = copy.bytes;
    return RON_OK;
}

template <class Service> ron_error *restore(std::uint32_t schema, ron_bytes state) {
    result<> restored = slot<Service>()->restore(schema, view(state));
    return restored ? RON_OK : lent(restored.error());
}

template <class Service>
void on_batch(const ron_message *messages, std::size_t len, ron_outcome *to) {
    outcomes all = slot<Service>()->batch(batch(messages, len));
    for (std::size_t i = 0; i < len && i < all.size(); i++) {
        to[i].error = settle(all[i], &to[i].reply);
    }
}

} // namespace detail
} // namespace ron

#ifdef __wasm__
// What the C++ library says before it aborts, which the host would see as lines on stderr.
namespace std {
inline namespace __1 {
__attribute__((weak, used, noreturn)) void __libcpp_verbose_abort(const char *format, ...) noexcept {
    char text[512];
    va_list list;
    va_start(list, format);
    int len = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (len < 0) text[0] = 0;
    // The place before that is the library's own.
    const char *from = strstr(text, "libc++ ");
    ron_host_panic(nullptr, 0, ron_text(from ? from : text));
}
} // namespace __1
} // namespace std
#endif

// Makes the program a component that runs `type`. It has
//
//     static ron::result<type> start();
//     ron::result<ron::reply> message(const ron::message &);
//
// and may have `void event(const ron::event &)` and `void stop()`. Once in a program.
#define RON_SERVICE(type)                                                                          \
    extern "C" ron_error *ron_start(void) { return ron::detail::start<type>(); }                   \
    extern "C" ron_error *ron_on_message(const ron_message *from, ron_reply *to) {                 \
        return ron::detail::on_message<type>(from, to);                                            \
    }                                                                                              \
    extern "C" void ron_on_event(const ron_event *event) { ron::detail::on_event<type>(event); }   \
    extern "C" void ron_stop(void) { ron::detail::stop<type>(); }                                  \
    RON_SEMICOLON

// State that outlives a hot swap, as `RON_HANDOVER` in C. `type` has
//
//     static constexpr std::uint32_t schema = 1;
//     ron::result<std::string> save();
//     ron::result<> restore(std::uint32_t schema, std::string_view state);
#define RON_SERVICE_HANDOVER(type)                                                                 \
    extern "C" ron_error *ron_save(ron_bytes *state) { return ron::detail::save<type>(state); }    \
    extern "C" ron_error *ron_restore(std::uint32_t schema, ron_bytes state) {                     \
        return ron::detail::restore<type>(schema, state);                                          \
    }                                                                                              \
    RON_HANDOVER(type::schema)

// Messages by the batch, as `RON_BULK` in C. `type` has
//
//     ron::outcomes batch(ron::batch messages);
#define RON_SERVICE_BULK(type)                                                                     \
    extern "C" void ron_on_batch(const ron_message *messages, std::size_t len,                     \
                                 ron_outcome *outcomes) {                                          \
        ron::detail::on_batch<type>(messages, len, outcomes);                                      \
    }                                                                                              \
    RON_BULK()

#endif
