# Runs test.c on this machine, without Wasm. Undefined behaviour is told with its line.
set -eu
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$PWD/.zig-cache/global}"
mkdir -p .zig-cache
.venv/bin/python -m ziglang cc -std=c23 -Wall -Wextra -Wno-unused-parameter -g sdk/*.c *.c -o .zig-cache/test
.zig-cache/test
