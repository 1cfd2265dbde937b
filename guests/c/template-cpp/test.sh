# Runs test.cpp on this machine, without Wasm. Undefined behaviour is told with its line.
set -eu
.venv/bin/python-zig build-exe -lc -lc++ -O Debug \
    -cflags -std=c23 -Wall -Wextra -- sdk/*.c \
    -cflags -std=c++23 -fno-exceptions -Wall -Wextra -- service.cpp test.cpp \
    --cache-dir .zig-cache -femit-bin=.zig-cache/test
.zig-cache/test
