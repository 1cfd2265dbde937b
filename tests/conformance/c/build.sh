# Builds the component of one language, with the flags that guests/c's templates explain:
# sh build.sh c|cpp|zig
set -eu
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$PWD/.zig-cache/global}"
core=.zig-cache/$1.core.wasm
flags="-Isdk -Wall -Wextra -Wno-unused-parameter -Werror -UNDEBUG -gline-tables-only"
place="-ffile-prefix-map=$(pwd -P)="
checks="-fsanitize=undefined -fsanitize-minimal-runtime -fno-sanitize-recover=all
    -mllvm -enable-tail-merge=0"
cxxflags="-std=c++23 -fno-exceptions -fno-rtti
    -U_LIBCPP_HARDENING_MODE -D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_FAST
    -U_LIBCPP_ASSERTION_SEMANTIC_DEFAULT
    -D_LIBCPP_ASSERTION_SEMANTIC_DEFAULT=_LIBCPP_ASSERTION_SEMANTIC_ENFORCE"

build() {
    .venv/bin/python -m ziglang build-exe -target wasm32-wasi -mexec-model=reactor -lc \
        --stack 131072 "$@" --cache-dir .zig-cache -femit-bin=$core
}

"${RON_HOST:-ron-host}" sdk --lang c sdk
case $1 in
c)
    build -O ReleaseSmall -fstrip --dep service -Mroot \
        -fno-strip -cflags -std=c23 $flags $checks "$place" -- sdk/*.c conformance.c -Mservice
    ;;
cpp)
    build -lc++ -O ReleaseSmall -fstrip --dep service -Mroot \
        -fno-strip -cflags $flags $checks "$place" -std=c23 -- sdk/*.c \
        -cflags $flags $checks "$place" $cxxflags -- conformance.cpp -Mservice
    ;;
zig)
    build -rdynamic -O ReleaseSafe -fstrip --dep ron --dep service -Mroot=sdk/root.zig \
        -O ReleaseSafe -fno-strip --dep ron -Mservice=conformance.zig \
        -O ReleaseSmall -fno-strip -cflags -std=c23 -gline-tables-only "$place" -- \
        sdk/ron.c sdk/ron_wasm.c -Mron=sdk/ron.zig
    ;;
esac
"${RON_HOST:-ron-host}" componentize $core -o conformance-$1.wasm
