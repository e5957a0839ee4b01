#!/bin/sh
# The same program by hand: pkg-config and a C99 compiler.
. "$(dirname "$0")/common.sh"
need pkg-config
work_in pkg_config

strict='-std=c99 -Wall -Wextra -pedantic -Werror'
# shellcheck disable=SC2046,SC2086 # lists of words
"$CC" $strict "$BN2D_SOURCE/tests/packaging/consumer/consumer.c" $(bn2d_pkg_config --cflags --libs) -o consumer
version=$(LD_LIBRARY_PATH=$BN2D_STAGE/$BN2D_LIBDIR ./consumer)
[ "$version" = "$(bn2d_pkg_config --modversion)" ] || fail "the library is $version, bn2d.pc says otherwise"

# --static asks for nothing that a user of the shared library lacks; with an rpath the program runs as it is.
# shellcheck disable=SC2046,SC2086 # lists of words
"$CC" $strict "$BN2D_SOURCE/tests/packaging/consumer/consumer.c" $(bn2d_pkg_config --static --cflags --libs) \
  "-Wl,-rpath,$(bn2d_pkg_config --variable=libdir)" -o with_rpath
./with_rpath

for file in bn2d-api.json bn2d.cdef; do
  [ -e "$(bn2d_pkg_config --variable=pkgdatadir)/$file" ] || fail "pkgdatadir of bn2d.pc has no $file"
done

# The libraries above, each by its own name.
for name in $BN2D_ABOVE; do
  printf '#include <bn2d/%s.h>\nint main(void) { return bn2d_%s_get_api(1) == 0; }\n' "$name" "$name" >"$name.c"
  # shellcheck disable=SC2046,SC2086 # lists of words
  "$CC" $strict "$name.c" $(PKG_CONFIG_PATH='' PKG_CONFIG_LIBDIR="$BN2D_STAGE/$BN2D_LIBDIR/pkgconfig" pkg-config \
    --cflags --libs "bn2d_$name") -o "$name"
  LD_LIBRARY_PATH=$BN2D_STAGE/$BN2D_LIBDIR "./$name" || fail "libbn2d_$name has no table"
done
