//! Write a service for ron-host in Zig.
//!
//!     const ron = @import("ron");
//!
//!     const Self = @This();
//!     greeted: u64 = 0,
//!
//!     pub fn start() !Self {
//!         try ron.subscribe("hello.greet");
//!         return .{};
//!     }
//!
//!     pub fn message(self: *Self, m: ron.Message) !?[]const u8 {
//!         self.greeted += 1;
//!         return ron.print("Hello, {s}!", .{m.payload});
//!     }
//!
//! The file is the service: its fields are the state that `start` returns. It may have these too:
//!
//!     pub fn event(self: *Self, e: ron.Event) void
//!     pub fn stop(self: *Self) void
//!
//!     pub const schema = 1; // State that outlives a hot swap; world `stateful-service`.
//!     pub fn save(self: *Self) ![]const u8
//!     pub fn restore(self: *Self, saved_schema: u32, state: []const u8) !void
//!
//!     pub fn batch(self: *Self, b: ron.Batch) void // Messages by the batch; world `bulk-service`.
//!
//! Slices that come from here, and memory of `allocator`, belong to the call: they live until the
//! host's call is over and its answer sent, and are freed then. What is kept longer is allocated
//! elsewhere, `std.heap.c_allocator` for one.
//!
//! Over the C functions of `ron.h`, which has the meaning of everything. Text that is passed in
//! should be UTF-8; bytes that are not reach the host as U+FFFD, except in payloads.

const std = @import("std");
const builtin = @import("builtin");

// ------------------------------------------------------------------------ errors

/// Why a call failed. `errorText` has the whole story of the newest one.
///
/// A handler that returns one has not handled its message. `Retry`, `Overloaded`, `Timeout` and
/// `NoResponder` have it delivered again, up to the service's `max_deliveries`; any other error,
/// of yours too, sends it to the service's dead letters.
pub const Error = error{
    /// Configuration grants this service no such topic.
    Denied,
    /// Not a topic, or not a filter.
    InvalidTopic,
    /// `payloadLimit` has the limit.
    PayloadTooLarge,
    /// A mailbox is full, or this service publishes too fast.
    Overloaded,
    /// No answer came in time.
    Timeout,
    /// Nobody subscribes to the topic, or nobody who does answers.
    NoResponder,
    /// The service that was asked failed to handle the request.
    Failed,
    /// Something that this version of the SDK has no name for.
    Other,
    /// A value of the configuration is not what was expected.
    InvalidConfig,
    /// See `retry`.
    Retry,
    /// See `reject`.
    Reject,
};

/// Has the message delivered again: `return ron.retry("{d} orders are open", .{n})`.
pub fn retry(comptime format: []const u8, args: anytype) Error {
    return raise(c.ron_error_new(.retry, 0, bytes(print(format, args))));
}

/// Sends the message to the dead letters.
pub fn reject(comptime format: []const u8, args: anytype) Error {
    return raise(c.ron_error_new(.reject, 0, bytes(print(format, args))));
}

/// `e` for a person, on one line: with what the host or `retry` and `reject` said, where `e` is
/// the newest error of this call.
pub fn errorText(e: anyerror) []const u8 {
    const known = newest orelse return @errorName(e);
    if (errorOf(known.kind) != e) return @errorName(e);
    return std.mem.span(c.ron_error_text(known));
}

/// What the host said of the newest error, without what its name says; empty for nothing.
pub fn errorDetail() []const u8 {
    return if (newest) |known| std.mem.span(known.detail) else "";
}

/// Bytes that a payload may have, after `error.PayloadTooLarge`.
pub fn payloadLimit() u64 {
    return if (newest) |known| known.limit else 0;
}

var newest: ?*const c.Error = null;

fn errorOf(kind: c.Kind) Error {
    return switch (kind) {
        .denied => error.Denied,
        .invalid_topic => error.InvalidTopic,
        .payload_too_large => error.PayloadTooLarge,
        .overloaded => error.Overloaded,
        .timeout => error.Timeout,
        .no_responder => error.NoResponder,
        .failed => error.Failed,
        .invalid_config => error.InvalidConfig,
        .retry => error.Retry,
        .reject => error.Reject,
        .other, _ => error.Other,
    };
}

fn raise(failure: *const c.Error) Error {
    newest = failure;
    return errorOf(failure.kind);
}

fn check(failure: ?*const c.Error) Error!void {
    if (failure) |known| return raise(known);
}

/// What the host is told of an error that a handler returned.
fn settle(e: anyerror) *const c.Error {
    if (newest) |known| if (errorOf(known.kind) == e) return known;
    return c.ron_error_new(.reject, 0, bytes(@errorName(e)));
}

// ------------------------------------------------------------------------ memory

/// Memory that belongs to the call.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = alloc,
    .resize = std.mem.Allocator.noResize,
    .remap = std.mem.Allocator.noRemap,
    .free = free,
} };

fn alloc(_: *anyopaque, len: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
    if (alignment.toByteUnits() > 16) return null;
    return @ptrCast(c.ron_try_alloc(len));
}

fn free(_: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
    c.ron_free(memory.ptr);
}

/// Text that belongs to the call. Want of memory ends the instance.
pub fn print(comptime format: []const u8, args: anytype) []const u8 {
    return std.fmt.allocPrint(allocator, format, args) catch outOfMemory(0);
}

/// Gives up because there is no memory; the host then says `memory-limit`. `size` in bytes, or 0.
pub fn outOfMemory(size: usize) noreturn {
    c.ron_out_of_memory(size);
}

fn bytes(slice: []const u8) c.Bytes {
    return .{ .data = slice.ptr, .len = slice.len };
}

// ----------------------------------------------------------- messages and events

/// A message that a subscription or a timer brought. It lives until the call is over.
pub const Message = struct {
    /// Unique in this host for as long as it runs; the same on redelivery.
    id: u64,
    /// The topic it was published to.
    topic: []const u8,
    /// What was published: any bytes.
    payload: []const u8,
    /// The service that published it, or the host's own name for a bridge.
    source: []const u8,
    /// 1 on first delivery, then 2, 3, ...
    attempt: u32,
    /// Whether the publisher waits for an answer.
    wants_reply: bool,

    /// The payload, where it is UTF-8.
    pub fn text(self: Message) ?[]const u8 {
        return if (std.unicode.utf8ValidateSlice(self.payload)) self.payload else null;
    }

    /// The name of the timer that fired, where one brought this message.
    pub fn timer(self: Message) ?[]const u8 {
        return std.mem.cutPrefix(u8, self.topic, "ron.timer.");
    }

    fn of(m: *const c.Message) Message {
        return .{
            .id = m.id,
            .topic = std.mem.span(m.topic),
            .payload = m.payload.slice(),
            .source = std.mem.span(m.source),
            .attempt = m.attempt,
            .wants_reply = m.wants_reply,
        };
    }
};

/// Something that the kernel announced to every service. It lives until the call is over.
pub const Event = union(enum) {
    /// A service became able or unable to do its work.
    health: struct { service: []const u8, ok: bool },
    /// The version of the configuration that is now in force.
    config_updated: u64,
    /// A service stopped running when it should not have. Labels are stable names, `deadline`,
    /// `memory-limit`, `panic`, ...; new ones may appear.
    service_crashed: struct { service: []const u8, label: []const u8, message: []const u8 },
    /// The host is about to stop every service.
    shutdown,
};

/// Several messages, in the order of the mailbox.
pub const Batch = struct {
    messages: []const c.Message,
    outcomes: [*]c.Outcome,

    /// How many messages there are.
    pub fn len(self: Batch) usize {
        return self.messages.len;
    }

    /// The message of that number, from 0.
    pub fn at(self: Batch, index: usize) Message {
        return .of(&self.messages[index]);
    }

    /// Says what became of a message. One of which nothing is said was handled, without an answer.
    pub fn set(self: Batch, index: usize, outcome: anyerror!?[]const u8) void {
        self.outcomes[index] = .{ .failure = null, .reply = .{ .is_set = false, .bytes = undefined } };
        if (outcome) |reply| self.outcomes[index].reply = .of(reply) else |e| {
            self.outcomes[index].failure = settle(e);
        }
    }

    /// Handles each message as `message` of `service` does. An error settles its own message alone.
    pub fn each(self: Batch, service: anytype) void {
        for (0..self.len()) |index| {
            newest = null;
            self.set(index, service.message(self.at(index)));
        }
    }
};

// --------------------------------------------------------------- bus and timers

/// Publishes to every subscribed service, and never blocks. Returns how many mailboxes accepted
/// the message.
pub fn publish(topic: []const u8, payload: []const u8) Error!u32 {
    var accepted: u32 = 0;
    try check(c.ron_host_publish(bytes(topic), bytes(payload), &accepted));
    return accepted;
}

/// Publishes, and waits at most `timeout_ms` milliseconds for the first answer. The wait counts
/// towards this service's own handler deadline.
pub fn request(topic: []const u8, payload: []const u8, timeout_ms: u32) Error![]const u8 {
    var answer: c.Bytes = undefined;
    try check(c.ron_host_request(bytes(topic), bytes(payload), timeout_ms, &answer));
    return answer.slice();
}

/// Has matching messages delivered to `message`. Repeating a filter changes nothing. After a hot
/// swap only the subscriptions made again by `start` remain.
pub fn subscribe(filter: []const u8) Error!void {
    try check(c.ron_host_subscribe(bytes(filter)));
}

/// Ends a subscription. One that does not exist is no error.
pub fn unsubscribe(filter: []const u8) Error!void {
    try check(c.ron_host_unsubscribe(bytes(filter)));
}

/// A timer that fires is delivered to `message` without a payload; `Message.timer` tells its name,
/// which is one token of a topic. One set again under its name replaces the earlier.
pub const timer = struct {
    /// Fires once, after `delay_ms` milliseconds.
    pub fn after(name: []const u8, delay_ms: u64) Error!void {
        try check(c.ron_host_timer_after(bytes(name), delay_ms));
    }

    /// Fires every `period_ms` milliseconds. A tick that finds its predecessor still queued is
    /// dropped.
    pub fn every(name: []const u8, period_ms: u64) Error!void {
        try check(c.ron_host_timer_every(bytes(name), period_ms));
    }

    /// Ends a timer. One that does not exist is no error.
    pub fn cancel(name: []const u8) void {
        c.ron_host_timer_cancel(bytes(name));
    }
};

// -------------------------------------- configuration, health, identity, metrics

/// This service's own table of the configuration, `[service.NAME.config]`. A call reads the newest
/// values in force.
pub const config = struct {
    /// The value of `key`: a string as it stands, any other TOML value as its JSON text.
    pub fn get(key: []const u8) ?[]const u8 {
        var value: c.Bytes = undefined;
        return if (c.ron_host_config_get(bytes(key), &value)) value.slice() else null;
    }

    /// The value of `key` as an integer, a float or a `bool`, or null where the key is absent:
    /// `const retries = try ron.config.parse(u32, "retries") orelse 3`.
    pub fn parse(comptime T: type, key: []const u8) Error!?T {
        const text = get(key) orelse return null;
        const value: ?T = switch (@typeInfo(T)) {
            .int => std.fmt.parseInt(T, text, 10) catch null,
            .float => std.fmt.parseFloat(T, text) catch null,
            .bool => if (std.mem.eql(u8, text, "true")) true else if (std.mem.eql(u8, text, "false")) false else null,
            else => @compileError("no value of the configuration is a " ++ @typeName(T)),
        };
        if (value) |found| return found;
        const why = print("config `{s}`: expected {s}, found `{s}`", .{ key, @typeName(T), text });
        return raise(c.ron_error_new(.invalid_config, 0, bytes(why)));
    }

    /// A key and its value.
    pub const Entry = struct { key: []const u8, value: []const u8 };

    /// All keys and their values, in no order that may be relied on.
    pub fn entries() []Entry {
        const pairs = c.ron_host_config_entries();
        const list = allocator.alloc(Entry, pairs.len) catch outOfMemory(pairs.len * @sizeOf(Entry));
        for (list, pairs.data) |*entry, pair| {
            entry.* = .{ .key = std.mem.span(pair.name), .value = std.mem.span(pair.value) };
        }
        return list;
    }

    /// Monotonic; grows by at least one with each applied change.
    pub fn version() u64 {
        return c.ron_host_config_version();
    }
};

/// What this service says of itself. The host adds what it sees: a service that is down,
/// restarting or past a deadline is not ready, whatever it says.
pub const health = struct {
    pub const Status = enum(c_uint) { ok, degraded, failing };

    /// All is well. A service that says nothing is taken to be.
    pub fn ok() void {
        report(.ok, null);
    }

    /// Works, with less than usual: ready, and shown as degraded.
    pub fn degraded(detail: []const u8) void {
        report(.degraded, detail);
    }

    /// Cannot do its work: not ready. The service is not restarted for it.
    pub fn failing(detail: []const u8) void {
        report(.failing, detail);
    }

    /// Any of the three.
    pub fn report(status: Status, detail: ?[]const u8) void {
        const text: c.Bytes = if (detail) |known| bytes(known) else .{ .data = null, .len = 0 };
        c.ron_host_health(@intFromEnum(status), text);
    }
};

/// One running instance of a service.
pub const Instance = struct {
    /// Its name in the configuration.
    service: []const u8,
    /// Grows with each restart and each hot swap of the service.
    generation: u64,
    /// Which of the service's replicas, from 0.
    replica: u32,
};

/// Who this instance is.
pub fn identity() Instance {
    const self = c.ron_host_identity();
    return .{ .service = std.mem.span(self.service), .generation = self.generation, .replica = self.replica };
}

/// A label of a metric, a field of a log record.
pub const Pair = struct { []const u8, []const u8 };

fn hostPairs(pairs: []const Pair) []c.HostPair {
    const list = allocator.alloc(c.HostPair, pairs.len) catch outOfMemory(pairs.len * @sizeOf(c.HostPair));
    for (list, pairs) |*to, from| to.* = .{ .name = bytes(from[0]), .value = bytes(from[1]) };
    return list;
}

/// This service's own metrics, which the host exposes at `/metrics` with a `service` label.
pub const metrics = struct {
    /// Adds to a counter: `ron.metrics.add("orders_total", &.{.{ "region", "eu" }}, 1)`.
    pub fn add(name: []const u8, labels: []const Pair, delta: u64) void {
        const pairs = hostPairs(labels);
        defer allocator.free(pairs);
        c.ron_host_metrics_add(bytes(name), pairs.ptr, pairs.len, delta);
    }

    /// Sets a gauge.
    pub fn set(name: []const u8, labels: []const Pair, value: f64) void {
        const pairs = hostPairs(labels);
        defer allocator.free(pairs);
        c.ron_host_metrics_set(bytes(name), pairs.ptr, pairs.len, value);
    }

    /// Observes a value in a histogram; seconds for times.
    pub fn observe(name: []const u8, labels: []const Pair, value: f64) void {
        const pairs = hostPairs(labels);
        defer allocator.free(pairs);
        c.ron_host_metrics_observe(bytes(name), pairs.ptr, pairs.len, value);
    }
};

// ----------------------------------------------------------------------- the log

/// `std.log` reaches the host too, at every level, with its scope as the field `scope`.
pub const log = struct {
    pub const Level = enum(c_uint) { trace, debug, info, warn, @"error" };

    /// Writes a record: `ron.log.write(.info, &.{.{ "sku", sku }}, "{d} left", .{3})`.
    pub fn write(level: Level, fields: []const Pair, comptime format: []const u8, args: anytype) void {
        const text = print(format, args);
        defer allocator.free(text);
        const pairs = hostPairs(fields);
        defer allocator.free(pairs);
        c.ron_host_log(@intFromEnum(level), bytes(text), pairs.ptr, pairs.len);
    }
};

/// For `std.Options.logFn`.
pub fn logFn(
    comptime level: std.log.Level,
    comptime scope: @EnumLiteral(),
    comptime format: []const u8,
    args: anytype,
) void {
    const fields: []const Pair = if (scope == .default) &.{} else &.{.{ "scope", @tagName(scope) }};
    log.write(switch (level) {
        .debug => .debug,
        .info => .info,
        .warn => .warn,
        .err => .@"error",
    }, fields, format, args);
}

/// For `std.debug.FullPanic`: the host logs the text and finds the place in the trap's backtrace.
pub fn panicked(text: []const u8, _: ?usize) noreturn {
    c.ron_host_panic(null, 0, bytes(text));
}

// ------------------------------------------------------------- what the host calls

/// Makes `Service` what the C functions of the contract call; `root.zig` does that.
pub fn Exports(comptime Service: type) type {
    return struct {
        var state: ?Service = null;

        fn start() callconv(.c) ?*const c.Error {
            newest = null;
            state = Service.start() catch |e| return settle(e);
            return null;
        }

        fn message(m: *const c.Message, reply: *c.Reply) callconv(.c) ?*const c.Error {
            newest = null;
            reply.* = .of(state.?.message(.of(m)) catch |e| return settle(e));
            return null;
        }

        fn event(e: *const c.Event) callconv(.c) void {
            newest = null;
            state.?.event(switch (e.kind) {
                0 => .{ .health = .{ .service = std.mem.span(e.service), .ok = e.ok } },
                1 => .{ .config_updated = e.version },
                2 => .{ .service_crashed = .{
                    .service = std.mem.span(e.service),
                    .label = std.mem.span(e.label),
                    .message = std.mem.span(e.message),
                } },
                else => .shutdown,
            });
        }

        fn stop() callconv(.c) void {
            newest = null;
            if (state) |*service| service.stop();
        }

        fn save(to: *c.Bytes) callconv(.c) ?*const c.Error {
            newest = null;
            to.* = bytes(state.?.save() catch |e| return settle(e));
            return null;
        }

        fn restore(schema: u32, from: c.Bytes) callconv(.c) ?*const c.Error {
            newest = null;
            state.?.restore(schema, from.slice()) catch |e| return settle(e);
            return null;
        }

        fn batch(messages: [*]const c.Message, len: usize, outcomes: [*]c.Outcome) callconv(.c) void {
            newest = null;
            state.?.batch(.{ .messages = messages[0..len], .outcomes = outcomes });
        }

        fn callSave() callconv(.c) ?*anyopaque {
            return c.ron_call_save(Service.schema);
        }

        fn callRestore(from: u32, data: [*]const u8, len: usize) callconv(.c) ?*anyopaque {
            return c.ron_call_restore(from, data, len);
        }

        fn callBatch(
            names: *const anyopaque,
            names_len: usize,
            entries: *const anyopaque,
            len: usize,
            payloads: [*]const u8,
            payloads_len: usize,
        ) callconv(.c) ?*anyopaque {
            return c.ron_call_on_batch(names, names_len, entries, len, payloads, payloads_len);
        }

        fn callOver(result: ?*anyopaque) callconv(.c) void {
            c.ron_call_over(result);
        }

        comptime {
            @export(&start, .{ .name = "ron_start" });
            @export(&message, .{ .name = "ron_on_message" });
            if (@hasDecl(Service, "event")) @export(&event, .{ .name = "ron_on_event" });
            if (@hasDecl(Service, "stop")) @export(&stop, .{ .name = "ron_stop" });
            if (@hasDecl(Service, "save")) {
                @export(&save, .{ .name = "ron_save" });
                @export(&restore, .{ .name = "ron_restore" });
            }
            if (@hasDecl(Service, "batch")) @export(&batch, .{ .name = "ron_on_batch" });
            if (builtin.target.cpu.arch.isWasm()) {
                // As RON_HANDOVER and RON_BULK of `ron.h`.
                if (@hasDecl(Service, "save")) {
                    const handover = "ron:kernel/handover@1.0.0#";
                    @export(&callSave, .{ .name = handover ++ "save" });
                    @export(&callRestore, .{ .name = handover ++ "restore" });
                    @export(&callOver, .{ .name = "cabi_post_" ++ handover ++ "save" });
                    @export(&callOver, .{ .name = "cabi_post_" ++ handover ++ "restore" });
                }
                if (@hasDecl(Service, "batch")) {
                    const bulk = "ron:kernel/bulk@1.0.0#on-batch";
                    @export(&callBatch, .{ .name = bulk });
                    @export(&callOver, .{ .name = "cabi_post_" ++ bulk });
                }
            }
        }
    };
}

/// A host for unit tests, which run without Wasm.
///
///     const host = ron.testing.begin(@This());
///     host.config("greeting", "Hello");
///     try host.start();
///     try std.testing.expectEqualStrings("Hello, Ada!", (try host.deliver("hello.greet", "Ada")).?);
///
/// All slices live until the next `begin`. See `ron_testing.h` for what it does.
pub const testing = struct {
    /// A new host, which knows nothing, for the service.
    pub fn begin(comptime Service: type) Host(Service) {
        c.ron_testing_begin();
        newest = null;
        Exports(Service).state = null;
        return .{};
    }

    pub const Published = struct { topic: []const u8, payload: []const u8 };

    pub fn Host(comptime Service: type) type {
        return struct {
            const Self = @This();

            /// Sets a value of the configuration, or takes it away with null.
            pub fn config(_: Self, key: [:0]const u8, value: ?[:0]const u8) void {
                c.ron_testing_config(key, if (value) |text| text.ptr else null);
            }

            /// Starts the service.
            pub fn start(_: Self) Error!void {
                try check(Exports(Service).start());
            }

            /// The service, once started.
            pub fn service(_: Self) *Service {
                return &Exports(Service).state.?;
            }

            /// Delivers a message, if the service has subscribed to its topic or set its timer;
            /// `error.NoResponder` otherwise. Returns the answer.
            pub fn deliver(_: Self, topic: [:0]const u8, payload: []const u8) Error!?[]const u8 {
                var reply: c.Reply = undefined;
                try check(c.ron_testing_deliver(topic, bytes(payload), &reply));
                return if (reply.is_set) reply.bytes.slice() else null;
            }

            /// What requests to `topic` are answered with from now on.
            pub fn answer(_: Self, topic: [:0]const u8, with: []const u8) void {
                c.ron_testing_answer(topic, bytes(with));
            }

            /// How many messages were published or requested.
            pub fn publishedCount(_: Self) usize {
                return c.ron_testing_published_count();
            }

            /// The one of that number, from 0.
            pub fn published(_: Self, index: usize) Published {
                const found = c.ron_testing_published(index);
                return .{ .topic = std.mem.span(found.topic), .payload = found.payload.slice() };
            }

            /// The milliseconds of a timer, or 0 where there is none.
            pub fn timer(_: Self, name: [:0]const u8) u64 {
                return c.ron_testing_timer(name);
            }

            /// The value of a metric, over all its labels.
            pub fn metric(_: Self, name: [:0]const u8) f64 {
                return c.ron_testing_metric(name);
            }
        };
    }
};

/// `ron.h` and `ron_host.h` as Zig sees them.
const c = struct {
    const Kind = enum(c_uint) {
        denied = 1,
        invalid_topic,
        payload_too_large,
        overloaded,
        timeout,
        no_responder,
        failed,
        other,
        invalid_config,
        retry,
        reject,
        _,
    };
    const Error = extern struct { kind: Kind, limit: u64, detail: [*:0]const u8 };
    const Bytes = extern struct {
        data: ?[*]const u8,
        len: usize,

        fn slice(self: Bytes) []const u8 {
            return if (self.data) |data| data[0..self.len] else "";
        }
    };
    const Message = extern struct {
        id: u64,
        topic: [*:0]const u8,
        payload: Bytes,
        source: [*:0]const u8,
        attempt: u32,
        wants_reply: bool,
    };
    const Reply = extern struct {
        is_set: bool,
        bytes: Bytes,

        fn of(reply: ?[]const u8) Reply {
            return .{ .is_set = reply != null, .bytes = bytes(reply orelse "") };
        }
    };
    const Outcome = extern struct { failure: ?*const c.Error, reply: Reply };
    const Event = extern struct {
        kind: c_uint,
        service: [*:0]const u8,
        ok: bool,
        version: u64,
        label: [*:0]const u8,
        message: [*:0]const u8,
    };
    const Pair = extern struct { name: [*:0]const u8, value: [*:0]const u8 };
    const Pairs = extern struct { data: [*]const c.Pair, len: usize };
    const HostPair = extern struct { name: Bytes, value: Bytes };
    const Instance = extern struct { service: [*:0]const u8, generation: u64, replica: u32 };
    const Published = extern struct { topic: [*:0]const u8, payload: Bytes };

    extern fn ron_try_alloc(size: usize) ?*anyopaque;
    extern fn ron_free(memory: ?*const anyopaque) void;
    extern fn ron_error_new(kind: Kind, limit: u64, detail: Bytes) *const c.Error;
    extern fn ron_error_text(failure: *const c.Error) [*:0]const u8;
    extern fn ron_out_of_memory(size: usize) noreturn;

    extern fn ron_host_publish(topic: Bytes, payload: Bytes, accepted: *u32) ?*const c.Error;
    extern fn ron_host_request(topic: Bytes, payload: Bytes, timeout_ms: u32, answer: *Bytes) ?*const c.Error;
    extern fn ron_host_subscribe(filter: Bytes) ?*const c.Error;
    extern fn ron_host_unsubscribe(filter: Bytes) ?*const c.Error;
    extern fn ron_host_timer_after(name: Bytes, delay_ms: u64) ?*const c.Error;
    extern fn ron_host_timer_every(name: Bytes, period_ms: u64) ?*const c.Error;
    extern fn ron_host_timer_cancel(name: Bytes) void;
    extern fn ron_host_config_get(key: Bytes, value: *Bytes) bool;
    extern fn ron_host_config_entries() Pairs;
    extern fn ron_host_config_version() u64;
    extern fn ron_host_health(status: c_uint, detail: Bytes) void;
    extern fn ron_host_identity() c.Instance;
    extern fn ron_host_log(level: c_uint, message: Bytes, pairs: [*]HostPair, len: usize) void;
    extern fn ron_host_metrics_add(name: Bytes, pairs: [*]HostPair, len: usize, delta: u64) void;
    extern fn ron_host_metrics_set(name: Bytes, pairs: [*]HostPair, len: usize, value: f64) void;
    extern fn ron_host_metrics_observe(name: Bytes, pairs: [*]HostPair, len: usize, value: f64) void;
    extern fn ron_host_panic(file: ?[*:0]const u8, line: c_int, message: Bytes) noreturn;

    extern fn ron_call_save(schema: u32) ?*anyopaque;
    extern fn ron_call_restore(schema: u32, data: [*]const u8, len: usize) ?*anyopaque;
    extern fn ron_call_on_batch(names: *const anyopaque, names_len: usize, entries: *const anyopaque, len: usize, payloads: [*]const u8, payloads_len: usize) ?*anyopaque;
    extern fn ron_call_over(result: ?*anyopaque) void;

    extern fn ron_testing_begin() void;
    extern fn ron_testing_config(key: [*:0]const u8, value: ?[*:0]const u8) void;
    extern fn ron_testing_deliver(topic: [*:0]const u8, payload: Bytes, reply: *Reply) ?*const c.Error;
    extern fn ron_testing_answer(topic: [*:0]const u8, answer: Bytes) void;
    extern fn ron_testing_published_count() usize;
    extern fn ron_testing_published(index: usize) Published;
    extern fn ron_testing_timer(name: [*:0]const u8) u64;
    extern fn ron_testing_metric(name: [*:0]const u8) f64;
};
