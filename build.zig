//! Builds the helper library (bun:ffi) and the preload library (LD_PRELOAD) from cshim/.
//!
//!   zig build                       zig-out/lib, optimised
//!   zig build -Doptimize=Debug      the same with UBSan: undefined behaviour ends the program
//!   zig build -Dtarget=TRIPLE       for another machine
const std = @import("std");

const Library = struct {
    name: []const u8,
    root: []const u8,
    sources: []const []const u8,
    exports: ?[]const u8 = null, // a version script
};

const libraries = [_]Library{
    .{ .name = "socketbox", .root = "cshim", .sources = &.{
        "about.c",    "accept.c", "descriptor.c", "epoll.c", "handoff.c",
        "identity.c", "listen.c", "signal.c",     "spawn.c",
    } },
    .{ .name = "socketbox-preload", .root = "cshim/preload", .exports = "cshim/preload/exports.map", .sources = &.{
        "accept.c",    "calls.c",       "carry.c",   "connection.c", "decide.c",
        "directory.c", "environment.c", "follow.c",  "hints.c",      "listener.c",
        "options.c",   "place.c",       "prepare.c", "present.c",    "proc.c",
        "real.c",      "receive.c",     "swap.c",    "watch.c",      "wrappers.c",
    } },
};

const flags = [_][]const u8{ "-std=c11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden" };

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.option(std.builtin.OptimizeMode, "optimize", "Debug, or ReleaseFast (default)") orelse .ReleaseFast;
    for (libraries) |library| {
        const module = b.createModule(.{
            .target = target,
            .optimize = optimize,
            .link_libc = true,
            .pic = true,
            .strip = optimize != .Debug,
            .sanitize_c = if (optimize == .Debug) .trap else .off,
        });
        module.addCSourceFiles(.{ .root = b.path(library.root), .files = library.sources, .flags = &flags });
        const artifact = b.addLibrary(.{ .name = library.name, .linkage = .dynamic, .root_module = module });
        if (library.exports) |script| artifact.setVersionScript(b.path(script));
        b.installArtifact(artifact);
    }
}
