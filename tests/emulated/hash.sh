#!/bin/sh
# hash.sh BN2D_HASH TARGET TARGET: two SIMD targets give the same bits. Skipped where the build or the processor lacks one.
. "$(dirname "$0")/../packaging/common.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for target in "$2" "$3"; do
  BN2D_SIMD=$target "$1" >"$work/$target" || fail "the hashes of $target: $(tail -n 3 "$work/$target")"
  grep -qx "target $target" "$work/$target" || skip "no target $target here"
  grep '^case' "$work/$target" >"$work/$target.cases" || fail "no cases of $target"
done
diff "$work/$2.cases" "$work/$3.cases" || fail "other bits on $2 (<) than on $3 (>)"
