//! The root of the program: joins the author's file, the module `service`, to the host.

const std = @import("std");
const ron = @import("ron");
const service = @import("service");

pub const panic = std.debug.FullPanic(ron.panicked);

pub const std_options: std.Options = .{ .logFn = ron.logFn, .log_level = .debug };

comptime {
    _ = ron.Exports(service);
}
