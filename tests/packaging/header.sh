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
for standard in c++17 c++20; do try "$CXX" c++ $standard bn2d.hpp; done
for standard in c++17 c++20; do
  for header in state.hpp fold.hpp; do try "$CXX" c++ "$standard" "$header"; done
done
for header in state.h fold.h; do
  for standard in c99 c17; do try "$CC" c "$standard" "$header"; done
  for standard in c++11 c++20; do try "$CXX" c++ "$standard" "$header"; done
done

# In C, nothing but these two: a binding generator reads the header without a system behind it.
if grep '^ *# *include' "$BN2D_SOURCE/include/bn2d/bn2d.h" | grep -vE '<(stddef|stdint)\.h>'; then
  fail "bn2d.h includes more than <stddef.h> and <stdint.h>"
fi

# The program in C++: each compiler at hand, each standard, with exceptions and without, linked and loaded. Its second
# file is of the other kind, so that two definitions of one function would meet.
library=$BN2D_STAGE/$BN2D_LIBDIR
consumer=$BN2D_SOURCE/tests/packaging/consumer/consumer.cpp
strict='-Wall -Wextra -pedantic -Werror -Wconversion -Wsign-conversion -Wshadow'
compile() { # COMPILER STANDARD OUTPUT FLAGS...
  compiler=$1 standard=$2 output=$3
  shift 3
  # shellcheck disable=SC2086 # lists of words
  "$compiler" -std="$standard" $strict -I"$BN2D_STAGE/include" -c "$consumer" -o "$output" "$@"
}
seen=
for compiler in "$CXX" g++ clang++ clang++-14; do
  command -v "$compiler" >/dev/null 2>&1 || continue
  identity=$("$compiler" --version | head -n 1)
  case $seen in *"[$identity]"*) continue ;; esac
  seen="${seen}[$identity]"
  compile "$compiler" c++17 second_throws.o -DSECOND_FILE
  compile "$compiler" c++17 second_returns.o -DSECOND_FILE -fno-exceptions
  for standard in c++17 c++20 c++2b; do
    echo "bn2d.hpp: $identity, $standard"
    compile "$compiler" "$standard" throws.o
    compile "$compiler" "$standard" returns.o -fno-exceptions -fno-rtti
    compile "$compiler" "$standard" loaded.o -DLOADED
    compile "$compiler" "$standard" loaded_returns.o -DLOADED -DBN2D_NO_EXCEPTIONS
    "$compiler" throws.o second_returns.o -L"$library" -lbn2d -o throws
    "$compiler" returns.o second_throws.o -L"$library" -lbn2d -o returns
    "$compiler" loaded.o second_returns.o -ldl -o loaded # not -lbn2d
    "$compiler" loaded_returns.o second_throws.o -ldl -o loaded_returns
    for program in throws returns; do LD_LIBRARY_PATH=$library "./$program"; done
    for program in loaded loaded_returns; do "./$program" "$library/libbn2d.so.1"; done
  done
done
