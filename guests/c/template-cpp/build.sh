# Builds the component; `ron-host build` and `ron-host dev` run it. Add your own files after
# service.cpp.
set -eu

# Warnings are errors, because zig shows no others. `assert` stays on. Paths in crash reports begin
# at this directory.
flags="-Wall -Wextra -Wno-unused-parameter -Werror -UNDEBUG
    -gline-tables-only -ffile-prefix-map=$(pwd -P)="

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
.venv/bin/python-zig build-exe -target wasm32-wasi -mexec-model=reactor -lc -lc++ --stack 131072 \
    -O ReleaseSmall -fstrip --dep service -Mroot \
    -fno-strip -cflags $flags $checks -std=c23 -- sdk/*.c \
    -cflags $flags $checks $cxxflags -- service.cpp -Mservice \
    --cache-dir .zig-cache -femit-bin=.zig-cache/core.wasm

"${RON_HOST:-ron-host}" componentize .zig-cache/core.wasm -o {{name}}.wasm
