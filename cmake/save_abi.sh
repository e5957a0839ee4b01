#!/bin/sh
# Writes the ABI of a built library as text: sh cmake/save_abi.sh [LIBRARY [FILE]]
# Without arguments: what the test packaging.abi compares with, to be made anew at a release.
set -eu
here=$(dirname "$0")/..
library=${1:-$here/build/libbn2d.so}
file=${2:-$here/capi/abi/bn2d-1.0.abi}

# The types of the header only, and nothing of the machine at hand: the same file wherever it is made.
abidw --exported-interfaces-only --headers-dir "$here/include" --drop-private-types --no-show-locs --no-corpus-path \
  --no-comp-dir-path --no-elf-needed "$library" >"$file.new"
sed "s|^\(  <abi-instr .* path='\)[^']*/capi/|\1capi/|" "$file.new" >"$file"
rm "$file.new"
echo "wrote $file"
