# Runs test.c on this machine, without Wasm. Undefined behaviour is told with its line.
set -eu
mkdir -p .zig-cache
.venv/bin/python-zig cc -std=c23 -Wall -Wextra -Wno-unused-parameter -g sdk/*.c service.c test.c -o .zig-cache/test
.zig-cache/test
