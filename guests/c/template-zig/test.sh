# Runs the tests in service.zig on this machine, without Wasm.
set -eu
.venv/bin/python-zig test -lc --dep ron -Mroot=service.zig \
    -cflags -std=c23 -- sdk/ron.c sdk/ron_testing.c -Mron=sdk/ron.zig --cache-dir .zig-cache
