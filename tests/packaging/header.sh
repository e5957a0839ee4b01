#!/bin/sh
# Each public header compiles alone, without a warning, in every language that we promise.
. "$(dirname "$0")/common.sh"
work_in header

try() {
  compiler=$1
  language=$2
  standard=$3
  header=$4
  echo "$header as $standard"
  printf '#include <bn2d/%s>\n' "$header" |
    "$compiler" -x "$language" -std="$standard" -Wall -Wextra -pedantic -Werror -I"$BN2D_STAGE/include" -fsyntax-only -
}

for standard in c99 c11 c17; do try "$CC" c $standard bn2d.h; done
for standard in c++11 c++17 c++20; do try "$CXX" c++ $standard bn2d.h; done
if [ -e "$BN2D_SOURCE/include/bn2d/bn2d.hpp" ]; then
  for standard in c++17 c++20; do try "$CXX" c++ $standard bn2d.hpp; done
fi

# In C, nothing but these two: a binding generator reads the header without a system behind it.
if grep '^ *# *include' "$BN2D_SOURCE/include/bn2d/bn2d.h" | grep -vE '<(stddef|stdint)\.h>'; then
  fail "bn2d.h includes more than <stddef.h> and <stdint.h>"
fi
