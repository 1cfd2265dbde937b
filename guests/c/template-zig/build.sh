# Builds the component; `ron-host build` and `ron-host dev` run it.
set -eu

# The C library as it was compiled stays in this project. What projects share is compiled anew
# whenever another one's compiler built last.
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$PWD/.zig-cache/global}"

# The SDK's root is stripped, which takes names and lines from the libraries; your file keeps them
# for crash reports, and its safety checks. The stack is 128 KiB.
.venv/bin/python -m ziglang build-exe -target wasm32-wasi -mexec-model=reactor -rdynamic -lc \
    --stack 131072 -O ReleaseSafe -fstrip --dep ron --dep service -Mroot=sdk/root.zig \
    -O ReleaseSafe -fno-strip --dep ron -Mservice=service.zig \
    -O ReleaseSmall -fno-strip -cflags -std=c23 -gline-tables-only "-ffile-prefix-map=$(pwd -P)=" -- \
    sdk/ron.c sdk/ron_wasm.c -Mron=sdk/ron.zig \
    --cache-dir .zig-cache -femit-bin=.zig-cache/core.wasm

"${RON_HOST:-ron-host}" componentize .zig-cache/core.wasm -o {{name}}.wasm
