//! Every behaviour of the contract, asked for by messages to `do.>`.

const std = @import("std");
const ron = @import("ron");

const Self = @This();

counter: u64 = 0,

pub fn start() !Self {
    if (ron.config.get("fail_start")) |why| return ron.reject("{s}", .{why});
    try ron.subscribe("do.>");
    std.log.info("conformance: started", .{});
    return .{};
}

pub fn message(self: *Self, m: ron.Message) !?[]const u8 {
    if (m.timer()) |timer| {
        _ = try ron.publish("seen.timer", timer);
        return null;
    }
    const topic = std.mem.cutPrefix(u8, m.topic, "do.") orelse "";
    const what = std.meta.stringToEnum(Do, topic) orelse
        return ron.reject("unknown topic {s}", .{m.topic});
    const first, const rest = cut(m.payload);
    switch (what) {
        .echo => return m.payload,
        .silent => return null,
        .message => return ron.print("{d} {s} {s} {d} {} {d}", .{
            m.id, m.topic, m.source, m.attempt, m.wants_reply, m.payload.len,
        }),
        .retry => {
            if (m.attempt == 1) return ron.retry("once more", .{});
            return ron.print("{d}", .{m.attempt});
        },
        .reject => return ron.reject("never", .{}),
        .crash => @panic("told to crash"),
        .spin => while (true) std.mem.doNotOptimizeAway(self),
        .grow => while (true) {
            const block = ron.allocator.alloc(u8, 1 << 20) catch ron.outOfMemory(1 << 20);
            std.mem.doNotOptimizeAway(block.ptr);
        },
        .publish => return count(ron.publish(first, rest)),
        .@"publish-size" => {
            const zeros = ron.allocator.alloc(u8, @intCast(number(rest))) catch ron.outOfMemory(@intCast(number(rest)));
            @memset(zeros, 0);
            return count(ron.publish(first, zeros));
        },
        .request => {
            const millis, const body = cut(rest);
            return ron.request(first, body, @intCast(number(millis))) catch |e| told(e);
        },
        .subscribe => return done(ron.subscribe(m.payload)),
        .unsubscribe => return done(ron.unsubscribe(m.payload)),
        .config => {
            const value = ron.config.get(m.payload) orelse return "none";
            return ron.print("= {s}", .{value});
        },
        .@"config-all" => {
            const entries = ron.config.entries();
            std.mem.sort(ron.config.Entry, entries, {}, byKey);
            var lines: []const u8 = "";
            for (entries, 0..) |entry, i| {
                lines = ron.print("{s}{s}{s}={s}", .{ lines, if (i > 0) "\n" else "", entry.key, entry.value });
            }
            return lines;
        },
        .@"config-version" => return ron.print("{d}", .{ron.config.version()}),
        .identity => {
            const me = ron.identity();
            return ron.print("{s} {d} {d}", .{ me.service, me.generation, me.replica });
        },
        .health => {
            const status = std.meta.stringToEnum(ron.health.Status, first) orelse
                return ron.reject("no such status: {s}", .{first});
            ron.health.report(status, if (rest.len > 0) rest else null);
            return "done";
        },
        .log => {
            const level = std.meta.stringToEnum(ron.log.Level, first) orelse
                return ron.reject("no such level: {s}", .{first});
            ron.log.write(level, &.{ .{ "answer", "42" }, .{ "word", "größe" } }, "{s}", .{rest});
            return "done";
        },
        .add => ron.metrics.add(first, &.{.{ "kind", "test" }}, number(rest)),
        .set => ron.metrics.set(first, &.{.{ "kind", "test" }}, try std.fmt.parseFloat(f64, rest)),
        .observe => ron.metrics.observe(first, &.{.{ "kind", "test" }}, try std.fmt.parseFloat(f64, rest)),
        .after => return done(ron.timer.after(first, number(rest))),
        .every => return done(ron.timer.every(first, number(rest))),
        .cancel => ron.timer.cancel(m.payload),
        .next => {
            self.counter += 1;
            return ron.print("{d}", .{self.counter});
        },
        .put => self.counter = number(m.payload),
        .item => {
            _ = try ron.publish("seen.item", m.payload);
            if (std.mem.endsWith(u8, m.payload, "9")) return ron.reject("ninth", .{});
            return null;
        },
    }
    return "done";
}

const Do = enum {
    echo,
    silent,
    message,
    retry,
    reject,
    crash,
    spin,
    grow,
    publish,
    @"publish-size",
    request,
    subscribe,
    unsubscribe,
    config,
    @"config-all",
    @"config-version",
    identity,
    health,
    log,
    add,
    set,
    observe,
    after,
    every,
    cancel,
    next,
    put,
    item,
};

/// The text before and after its first blank.
fn cut(text: []const u8) struct { []const u8, []const u8 } {
    return std.mem.cutScalar(u8, text, ' ') orelse .{ text, "" };
}

fn number(text: []const u8) u64 {
    return std.fmt.parseInt(u64, text, 10) catch 0;
}

fn byKey(_: void, a: ron.config.Entry, b: ron.config.Entry) bool {
    return std.mem.lessThan(u8, a.key, b.key);
}

/// A bus error in the contract's own words.
fn told(e: ron.Error) []const u8 {
    const kind = switch (e) {
        error.Denied => "denied",
        error.InvalidTopic => "invalid-topic",
        error.PayloadTooLarge => return ron.print("error payload-too-large {d}", .{ron.payloadLimit()}),
        error.Overloaded => "overloaded",
        error.Timeout => "timeout",
        error.NoResponder => "no-responder",
        error.Failed => "failed",
        else => "other",
    };
    const detail = ron.errorDetail();
    return ron.print("error {s}{s}{s}", .{ kind, if (detail.len > 0) " " else "", detail });
}

fn done(result: ron.Error!void) []const u8 {
    result catch |e| return told(e);
    return "done";
}

fn count(result: ron.Error!u32) []const u8 {
    return ron.print("{d}", .{result catch |e| return told(e)});
}

pub fn event(_: *Self, e: ron.Event) void {
    const text = switch (e) {
        .health => |h| ron.print("health {s} {}", .{ h.service, h.ok }),
        .config_updated => |version| ron.print("config-updated {d}", .{version}),
        .service_crashed => |s| ron.print("service-crashed {s} {s} {s}", .{ s.service, s.label, s.message }),
        .shutdown => "shutdown",
    };
    _ = ron.publish("seen.event", text) catch {};
}

pub fn stop(_: *Self) void {
    _ = ron.publish("seen.stop", "") catch {};
}

pub const schema = 1;

pub fn save(self: *Self) ![]const u8 {
    if (ron.config.get("fail_save")) |why| return ron.reject("{s}", .{why});
    return ron.print("{d}", .{self.counter});
}

pub fn restore(self: *Self, from: u32, state: []const u8) !void {
    if (from != schema) return ron.reject("schema {d}", .{from});
    self.counter = std.fmt.parseInt(u64, state, 10) catch return ron.reject("not a number", .{});
}

pub fn batch(self: *Self, b: ron.Batch) void {
    ron.metrics.add("batched_total", &.{.{ "kind", "test" }}, b.len());
    b.each(self);
}
