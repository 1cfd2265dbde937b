# Runs the tests in service.zig on this machine, without Wasm.
set -eu
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$PWD/.zig-cache/global}"
.venv/bin/python -m ziglang test -lc --dep ron -Mroot=service.zig \
    -cflags -std=c23 -- sdk/ron.c sdk/ron_testing.c -Mron=sdk/ron.zig --cache-dir .zig-cache
