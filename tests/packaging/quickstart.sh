#!/bin/sh
# The program that README.md shows is the one in capi/examples (without its licence line); it compiles as strict C99 and runs.
. "$(dirname "$0")/common.sh"
need pkg-config
work_in quickstart

# The ```c block after the line <!-- quickstart.c -->.
awk '
  $0 == "<!-- quickstart.c -->" { found = 1; next }
  found && !inside && $0 == "```c" { inside = 1; next }
  inside && $0 == "```" { exit }
  inside { print }
' "$BN2D_SOURCE/README.md" >readme.c
[ -s readme.c ] || fail "README.md shows no quickstart.c"
sed '1 { /SPDX/ d; }' "$BN2D_SOURCE/capi/examples/quickstart.c" | diff - readme.c || fail "README.md shows another program than capi/examples/quickstart.c"

# shellcheck disable=SC2046 # a list of words
"$CC" -std=c99 -Wall -Wextra -pedantic -Werror readme.c $(bn2d_pkg_config --cflags --libs) -lm -o quickstart
LD_LIBRARY_PATH=$BN2D_STAGE/$BN2D_LIBDIR ./quickstart
