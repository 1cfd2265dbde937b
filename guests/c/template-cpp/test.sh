# Runs test.cpp on this machine, without Wasm. Undefined behaviour is told with its line.
set -eu
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$PWD/.zig-cache/global}"
.venv/bin/python -m ziglang build-exe -lc -lc++ -O Debug \
    -cflags -std=c23 -Wall -Wextra -- sdk/*.c \
    -cflags -std=c++23 -fno-exceptions -Wall -Wextra -- *.cpp \
    --cache-dir .zig-cache -femit-bin=.zig-cache/test
.zig-cache/test
