#!/bin/sh
# std::mdspan, std::float16_t and std::bfloat16_t as sources of views, with whichever compiler at hand has them: GCC 13 has the
# last two, mdspan is in libc++ 17 (clang++ -stdlib=libc++) and GCC 16. A machine without such a compiler skips this.
. "$(dirname "$0")/common.sh"
work_in std23
: >all
seen=
for compiler in "$CXX" g++ g++-16 g++-15 g++-14 g++-13 clang++ clang++-21 clang++-20 clang++-19 clang++-18 clang++-17; do
  command -v "$compiler" >/dev/null 2>&1 || continue
  identity=$("$compiler" --version | head -n 1)
  case $seen in *"[$identity]"*) continue ;; esac
  seen="${seen}[$identity]"
  for library in '' -stdlib=libc++; do
    # shellcheck disable=SC2086 # empty, or a flag
    echo '#include <cstddef>' | "$compiler" -std=c++2b $library -x c++ -fsyntax-only - 2>/dev/null || continue
    # shellcheck disable=SC2086
    "$compiler" -std=c++2b $library -Wall -Wextra -pedantic -Werror -Wconversion -I"$BN2D_STAGE/include" \
      "$BN2D_SOURCE/tests/packaging/consumer/std23.cpp" -L"$BN2D_STAGE/$BN2D_LIBDIR" -lbn2d -o program
    LD_LIBRARY_PATH=$BN2D_STAGE/$BN2D_LIBDIR ./program >has || fail "$compiler $library: $(cat has)"
    echo "$compiler $library: $(paste -s -d ' ' has)"
    cat has >>all
  done
done
[ -s all ] || skip 'no compiler with std::mdspan or std::float16_t'
for type in mdspan float16_t bfloat16_t; do
  grep -qx "$type" all || echo "no compiler here has std::$type"
done
