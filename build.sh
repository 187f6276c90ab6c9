#!/bin/sh
# Builds worker-orcd: compiles nob.c, the build written in C (with tests/build), when it changed, and hands it
# the command line.
# ./build.sh help says what there is.
set -eu

NOB_CALLER_FOLDER=$PWD
CDPATH= cd "$(dirname "$0")"

find_compiler() {
    if [ -n "${CC:-}" ]; then set -- "$CC"; else set -- cc gcc clang; fi
    for candidate; do
        # CC may hold arguments ("ccache gcc"): its first word is the program.
        if command -v "${candidate%% *}" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "build.sh: no C compiler found (looked for: $*);" \
        "install one (Debian: apt install gcc libc6-dev) or name one in CC" >&2
    exit 1
}

CC=$(find_compiler)
key="$(cat nob.c tests/build/*.c | cksum) $CC"
mkdir -p build
if [ ! -x build/nob ] || [ "$(cat build/nob.key 2>/dev/null)" != "$key" ]; then
    # Word splitting is meant: CC may hold arguments.
    $CC -std=c17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wconversion -Wshadow -o "build/nob.$$" nob.c
    mv "build/nob.$$" build/nob
    echo "$key" >"build/nob.key.$$"
    mv "build/nob.key.$$" build/nob.key
fi

export CC NOB_CALLER_FOLDER
exec build/nob "$@"
