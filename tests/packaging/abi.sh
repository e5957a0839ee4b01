#!/bin/sh
# The ABI against the one that was released: new functions are welcome, everything else is a break.
. "$(dirname "$0")/common.sh"
[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || skip "the saved ABI is that of Linux on x86_64"
need abidiff abidw

work_in abi
check() { # SAVED LIBRARY TABLE
  saved=$BN2D_SOURCE/capi/abi/$1
  if [ ! -e "$saved" ]; then
    [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail "no capi/abi/$1; cmake/save_abi.sh makes it"
    skip "no capi/abi/$1"
  fi
  sh "$BN2D_SOURCE/cmake/save_abi.sh" "$2" "$work/$1"
  # abidiff compares files of one format: libabigail 3 writes version 3, and the saved one has 2.
  if [ "$(format "$saved")" != "$(format "$1")" ]; then
    [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail "abidw writes format $(format "$1"), capi/abi has $(format "$saved")"
    skip "abidw writes format $(format "$1"), the saved ABI has $(format "$saved")"
  fi
  abidiff --no-added-syms --suppressions "$BN2D_SOURCE/capi/abi/growth.abignore" "$saved" "$1"

  # The slots of the table, in order: the old ones come first.
  slots "$3" "$saved" >saved_slots
  slots "$3" "$1" | head -n "$(wc -l <saved_slots)" | diff saved_slots - || fail "the table $3 has changed: < as released, > now"
}
format() { sed -n "s/.*<abi-corpus [^>]*version='\([0-9]*\).*/\1/p; 1q" "$1"; }
slots() {
  awk "/<class-decl name='$1' .*size-in-bits/ { on = 1 } on" "$2" | sed -n "s/.*<var-decl name='\([a-z0-9_]*\)'.*/\1/p; /<.class-decl>/q"
}
check bn2d-1.0.abi "$BN2D_LIBRARY" bn2d_api
for name in $BN2D_ABOVE; do
  check "bn2d_$name-1.2.abi" "$(dirname "$BN2D_LIBRARY")/libbn2d_$name.so.1" "bn2d_${name}_api"
done
