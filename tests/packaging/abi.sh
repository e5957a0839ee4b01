#!/bin/sh
# The ABI against the one that was released: new functions are welcome, everything else is a break.
. "$(dirname "$0")/common.sh"
[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || skip "the saved ABI is that of Linux on x86_64"
need abidiff abidw

saved=$BN2D_SOURCE/capi/abi/bn2d-1.0.abi
if [ ! -e "$saved" ]; then
  [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail "no ${saved#"$BN2D_SOURCE/"}; cmake/save_abi.sh makes it"
  skip "no ${saved#"$BN2D_SOURCE/"}"
fi
work_in abi
sh "$BN2D_SOURCE/cmake/save_abi.sh" "$BN2D_LIBRARY" "$work/present.abi"
abidiff --no-added-syms --suppressions "$BN2D_SOURCE/capi/abi/growth.abignore" "$saved" present.abi

# The slots of the table, in order: the old ones come first.
slots() { awk "/<class-decl name='bn2d_api' .*size-in-bits/ { on = 1 } on" "$1" | sed -n "s/.*<var-decl name='\([a-z0-9_]*\)'.*/\1/p; /<.class-decl>/q"; }
slots "$saved" >saved_slots
slots present.abi | head -n "$(wc -l <saved_slots)" | diff saved_slots - || fail "the table bn2d_api has changed: < as released, > now"
