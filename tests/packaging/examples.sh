#!/bin/sh
# Builds capi/examples as a project of its own against the install tree.
. "$(dirname "$0")/common.sh"
work_in examples

"$CMAKE" -S "$BN2D_SOURCE/capi/examples" -B . -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$BN2D_STAGE"
"$CMAKE" --build .
