//! {{name}}: greets whoever asks, and counts how often.

const std = @import("std");
const ron = @import("ron");

const Self = @This();

greeted: u64 = 0,

pub fn start() !Self {
    try ron.subscribe("{{name}}.greet");
    std.log.info("ready to greet", .{});
    return .{};
}

pub fn message(self: *Self, m: ron.Message) !?[]const u8 {
    const who = m.text() orelse return ron.reject("a name is text", .{});
    const greeting = ron.config.get("greeting") orelse "Hello";
    self.greeted += 1;
    ron.metrics.add("greetings_total", &.{}, 1);
    return ron.print("{s}, {s}!", .{ greeting, who });
}

test "greets" {
    const host = ron.testing.begin(Self);
    try host.start();
    try std.testing.expectEqualStrings("Hello, Ada!", (try host.deliver("{{name}}.greet", "Ada")).?);
    try std.testing.expectEqual(1, host.metric("greetings_total"));
}

test "greets as configured" {
    const host = ron.testing.begin(Self);
    host.config("greeting", "Good day");
    try host.start();
    try std.testing.expectEqualStrings("Good day, Ada!", (try host.deliver("{{name}}.greet", "Ada")).?);
}

test "rejects what is no text" {
    const host = ron.testing.begin(Self);
    try host.start();
    try std.testing.expectError(error.Reject, host.deliver("{{name}}.greet", "\xff"));
}
