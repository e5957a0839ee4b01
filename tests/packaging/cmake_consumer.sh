#!/bin/sh
# A stranger's CMake project, in C alone, finds the package, builds and runs.
. "$(dirname "$0")/common.sh"
work_in cmake_consumer

"$CMAKE" -S "$BN2D_SOURCE/tests/packaging/consumer" -B build -DCMAKE_C_COMPILER="$CC" -DCMAKE_PREFIX_PATH="$BN2D_STAGE" \
  -DCONSUMER_ABOVE="$(echo "$BN2D_ABOVE" | tr ' ' ';')" -DCMAKE_DISABLE_FIND_PACKAGE_TBB=ON -DCMAKE_DISABLE_FIND_PACKAGE_hwy=ON
"$CMAKE" --build build
./build/consumer
for name in $BN2D_ABOVE; do "./build/$name" || fail "libbn2d_$name has no table"; done
