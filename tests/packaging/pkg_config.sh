#!/bin/sh
# The same program by hand: pkg-config and a C99 compiler. Also through dlopen, and from a compiler that only sees the header.
. "$(dirname "$0")/common.sh"
need pkg-config
work_in pkg_config

strict='-std=c99 -Wall -Wextra -pedantic -Werror'
# shellcheck disable=SC2046,SC2086 # lists of words
"$CC" $strict "$BN2D_SOURCE/tests/packaging/consumer/consumer.c" $(bn2d_pkg_config --cflags --libs) -o consumer
version=$(LD_LIBRARY_PATH=$BN2D_STAGE/$BN2D_LIBDIR ./consumer)
[ "$version" = "$(bn2d_pkg_config --modversion)" ] || fail "the library is $version, bn2d.pc says otherwise"

# shellcheck disable=SC2046 # a list of words
"$CC" -std=c99 -Wall -Wextra -Werror "$BN2D_SOURCE/tests/packaging/consumer/plugin.c" $(bn2d_pkg_config --cflags) -ldl -o plugin
./plugin "$BN2D_STAGE/$BN2D_LIBDIR/libbn2d.so.1"

for file in bn2d-api.json bn2d.cdef; do
  [ -e "$(bn2d_pkg_config --variable=pkgdatadir)/$file" ] || fail "pkgdatadir of bn2d.pc has no $file"
done
