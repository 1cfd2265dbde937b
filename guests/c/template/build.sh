# Builds the component; `ron-host build` and `ron-host dev` run it. It compiles every *.c of
# this directory but the tests.
set -eu

# The C library as it was compiled stays in this project. What projects share is compiled anew
# whenever another one's compiler built last.
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$PWD/.zig-cache/global}"

# test.c and test_*.c are the tests.
set --
for file in *.c; do
    case $file in
    test.c | test_*.c) ;;
    *) set -- "$@" "$file" ;;
    esac
done

# Warnings are errors, because zig shows no others; they find a misspelt `ron_on_message` too.
# `assert` stays on. Paths in crash reports begin at this directory.
cflags="-std=c23 -Wall -Wextra -Wno-unused-parameter -Wmissing-prototypes -Werror -UNDEBUG
    -gline-tables-only"
place="-ffile-prefix-map=$(pwd -P)="

# Undefined behaviour, such as the use of a NULL pointer, ends the instance: Wasm itself lets most
# of it pass. The last flag has each check keep its own line.
checks="-fsanitize=undefined -fsanitize-minimal-runtime -fno-sanitize-recover=all
    -mllvm -enable-tail-merge=0"

# `-Mroot` is empty and stripped, which takes names and lines from the C library; `-Mservice`, your
# files, keeps them for crash reports. The stack is 128 KiB.
.venv/bin/python -m ziglang build-exe -target wasm32-wasi -mexec-model=reactor -lc \
    --stack 131072 -O ReleaseSmall -fstrip --dep service -Mroot \
    -fno-strip -cflags $cflags $checks "$place" -- sdk/*.c "$@" -Mservice \
    --cache-dir .zig-cache -femit-bin=.zig-cache/core.wasm

"${RON_HOST:-ron-host}" componentize .zig-cache/core.wasm -o {{name}}.wasm
