#!/bin/sh
# The sources are as clang-format 14 writes them (other versions differ in detail).
. "$(dirname "$0")/common.sh"

for tool in clang-format-14 clang-format none; do
  if "$tool" --version 2>/dev/null | grep -q 'version 14\.'; then break; fi
done
[ "$tool" != none ] || lacks "clang-format 14"

cd "$BN2D_SOURCE"
status=0
# Folder by folder: the build folder may lie inside the checkout.
for file in $(find include src capi tests bench -name '*.h' -o -name '*.hpp' -o -name '*.cc' -o -name '*.cpp' -o -name '*.c' | LC_ALL=C sort); do
  "$tool" "$file" | cmp -s - "$file" && continue
  echo "to be formatted: $tool -i $file" >&2
  status=1
done
exit $status
