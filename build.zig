//! Builds the helper library (bun:ffi) and the preload library (LD_PRELOAD) from cshim/.
//!
//!   zig build                       zig-out/lib, optimised: for this machine's processor, glibc 2.17 or newer; and
//!                                   libsocketbox-preload-musl.so beside it, for programs that run on musl
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
        "about.c",               "accept.c",  "confine.c",  "connect.c", "descriptor.c",
        "epoll.c",               "handoff.c", "identity.c", "listen.c",  "program.c",
        "relay.c",               "signal.c",  "spawn.c",    "splice.c",  "preload/decide.c",
        "preload/environment.c",
    } },
    .{ .name = "socketbox-preload", .root = "cshim/preload", .exports = "cshim/preload/exports.map", .sources = &.{
        "accept.c",    "calls.c",       "carry.c",   "connection.c", "decide.c",
        "directory.c", "environment.c", "follow.c",  "hints.c",      "keep.c",
        "listener.c",  "options.c",     "place.c",   "prepare.c",    "present.c",
        "proc.c",      "real.c",        "receive.c", "swap.c",       "turn.c",
        "watch.c",     "wrappers.c",
    } },
};

const preload = libraries[1];
const oldest_glibc: std.SemanticVersion = .{ .major = 2, .minor = 17, .patch = 0 };
const flags = [_][]const u8{ "-std=c11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden" };

pub fn build(b: *std.Build) void {
    const optimize = b.option(std.builtin.OptimizeMode, "optimize", "Debug, or ReleaseFast (default)") orelse .ReleaseFast;
    const query = b.standardTargetOptionsQueryOnly(.{ .default_target = .{ .abi = .gnu, .glibc_version = oldest_glibc } });
    const target = b.resolveTargetQuery(query);
    for (libraries) |library| add(b, library, library.name, target, optimize);
    if (target.result.abi == .gnu) {
        const musl = b.resolveTargetQuery(.{ .cpu_arch = target.result.cpu.arch, .os_tag = .linux, .abi = .musl });
        add(b, preload, preload.name ++ "-musl", musl, optimize);
    }
}

fn add(b: *std.Build, library: Library, name: []const u8, target: std.Build.ResolvedTarget, optimize: std.builtin.OptimizeMode) void {
    const module = b.createModule(.{
        .target = target,
        .optimize = optimize,
        .link_libc = true,
        .pic = true,
        .strip = optimize != .Debug,
        .sanitize_c = if (optimize == .Debug) .trap else .off,
    });
    // musl's CMSG_NXTHDR compares a signed number with an unsigned one.
    const more: []const []const u8 = if (target.result.abi.isMusl()) &.{"-Wno-sign-compare"} else &.{};
    const all = std.mem.concat(b.allocator, []const u8, &.{ &flags, more }) catch @panic("out of memory");
    module.addCSourceFiles(.{ .root = b.path(library.root), .files = library.sources, .flags = all });
    const artifact = b.addLibrary(.{ .name = name, .linkage = .dynamic, .root_module = module });
    if (library.exports) |script| artifact.setVersionScript(b.path(script));
    b.installArtifact(artifact);
}
