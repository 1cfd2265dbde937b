# Builds the component; `ron-host build` and `ron-host dev` run it. It compiles every *.cpp of
# this directory but the tests.
set -eu

# The C library as it was compiled stays in this project. What projects share is compiled anew
# whenever another one's compiler built last.
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$PWD/.zig-cache/global}"

# test.cpp and test_*.cpp are the tests.
set --
for file in *.cpp; do
    case $file in
    test.cpp | test_*.cpp) ;;
    *) set -- "$@" "$file" ;;
    esac
done

# Warnings are errors, because zig shows no others. `assert` stays on. Paths in crash reports begin
# at this directory.
flags="-Wall -Wextra -Wno-unused-parameter -Werror -UNDEBUG -gline-tables-only"
place="-ffile-prefix-map=$(pwd -P)="

# The library checks its own use too, an index into a vector for one.
cxxflags="-std=c++23 -fno-exceptions -fno-rtti
    -U_LIBCPP_HARDENING_MODE -D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_FAST
    -U_LIBCPP_ASSERTION_SEMANTIC_DEFAULT
    -D_LIBCPP_ASSERTION_SEMANTIC_DEFAULT=_LIBCPP_ASSERTION_SEMANTIC_ENFORCE"

# Undefined behaviour, such as the use of a null pointer, ends the instance: Wasm itself lets most
# of it pass. The last flag has each check keep its own line.
checks="-fsanitize=undefined -fsanitize-minimal-runtime -fno-sanitize-recover=all
    -mllvm -enable-tail-merge=0"

# `-Mroot` is empty and stripped, which takes names and lines from the libraries; `-Mservice`, your
# files, keeps them for crash reports. The SDK's files come first, because they have an `abort` of
# their own. The stack is 128 KiB.
.venv/bin/python -m ziglang build-exe -target wasm32-wasi -mexec-model=reactor -lc -lc++ \
    --stack 131072 -O ReleaseSmall -fstrip --dep service -Mroot \
    -fno-strip -cflags $flags $checks "$place" -std=c23 -- sdk/*.c \
    -cflags $flags $checks "$place" $cxxflags -- "$@" -Mservice \
    --cache-dir .zig-cache -femit-bin=.zig-cache/core.wasm

"${RON_HOST:-ron-host}" componentize .zig-cache/core.wasm -o {{name}}.wasm
