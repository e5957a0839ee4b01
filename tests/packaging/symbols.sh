#!/bin/sh
# The library exports the functions of capi/functions.inc and bn2d_get_api, each under its version, and nothing else.
. "$(dirname "$0")/common.sh"
need nm
work_in symbols

{
  sed -n 's/^BN2D_FUNCTION("\([0-9.]*\)", \([a-z0-9_]*\)).*/bn2d_\2@@BN2D_\1/p' "$BN2D_SOURCE/capi/functions.inc"
  echo 'bn2d_get_api@@BN2D_1.0'
} | LC_ALL=C sort >expected
# Type A is a version itself, T a function; any other kind of symbol shows in the comparison.
nm -D --defined-only "$BN2D_LIBRARY" |
  awk '$2 == "A" && $3 ~ /^BN2D_[0-9.]+$/ { next } { print ($2 == "T" ? "" : $2 " ") $3 }' | LC_ALL=C sort >exported
diff expected exported || fail "< is in capi/functions.inc alone, > in the library alone"
echo "$(wc -l <exported) symbols"

# The header declares the same functions.
sed -n 's/^BN2D_API .*\(bn2d_[a-z0-9_]*\)(.*/\1/p' "$BN2D_SOURCE/include/bn2d/bn2d.h" | LC_ALL=C sort >declared
sed 's/@.*//' expected | diff - declared || fail "< is in capi/functions.inc alone, > in bn2d.h alone"
