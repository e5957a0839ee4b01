#!/bin/sh
# The programs that README.md shows are those in capi/examples (without their licence line); they compile strictly and run.
. "$(dirname "$0")/common.sh"
need pkg-config
work_in quickstart

# shown FILE LANGUAGE: README.md's block of that name, which must be the file.
shown() {
  marked "$1" "$2" "$BN2D_SOURCE/README.md"
  sed '1 { /SPDX/ d; }' "$BN2D_SOURCE/capi/examples/$1" | diff - "$1" ||
    fail "README.md shows another program than capi/examples/$1"
}

strict='-Wall -Wextra -pedantic -Werror'
shown quickstart.c c
# shellcheck disable=SC2046,SC2086 # lists of words
"$CC" -std=c99 $strict quickstart.c $(bn2d_pkg_config --cflags --libs) -lm -o quickstart_c
LD_LIBRARY_PATH=$BN2D_STAGE/$BN2D_LIBDIR ./quickstart_c

shown quickstart.cpp cpp
# shellcheck disable=SC2046,SC2086 # lists of words
"$CXX" -std=c++17 $strict quickstart.cpp $(bn2d_pkg_config --cflags --libs) -o quickstart_cpp
LD_LIBRARY_PATH=$BN2D_STAGE/$BN2D_LIBDIR ./quickstart_cpp

# Loaded, not linked. An error, here no library, is told.
shown plugin.c c
# shellcheck disable=SC2046,SC2086 # lists of words
"$CC" -std=c99 -O2 $strict plugin.c $(bn2d_pkg_config --cflags) -ldl -o plugin
./plugin "$BN2D_STAGE/$BN2D_LIBDIR/libbn2d.so.1"
if ./plugin ./no_library.so 2>error; then fail "plugin.c loads what does not exist"; fi
grep no_library error
if ./plugin libc.so.6 2>error; then fail "plugin.c takes any library"; fi
grep bn2d_get_api error
