#!/bin/sh
# A 32-bit build ends at once, with one line that says why.
. "$(dirname "$0")/common.sh"
work_in narrow

echo 'int main(void) { return 0; }' >main.c
if ! "$CC" -m32 -c main.c 2>/dev/null; then
  [ "$(uname -m)" = x86_64 ] || skip 'not a processor with -m32'
  lacks "32-bit code of $CC"
fi
# Without a 32-bit C library nothing links, which the look at the compiler then must not try.
if "$CMAKE" -S "$BN2D_SOURCE" -B build -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_C_FLAGS=-m32 \
  -DCMAKE_CXX_FLAGS=-m32 -DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY >log 2>&1; then
  fail "a 32-bit build was configured"
fi
grep -q 'needs a 64-bit target, this compiler makes 32-bit code' log || fail "no clear line: $(cat log)"
[ "$(grep -c 'CMake Error' log)" = 1 ] || fail "more than one error: $(cat log)"
