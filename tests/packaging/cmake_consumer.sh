#!/bin/sh
# A stranger's CMake project, in C alone, finds the package, builds and runs.
. "$(dirname "$0")/common.sh"
work_in cmake_consumer

"$CMAKE" -S "$BN2D_SOURCE/tests/packaging/consumer" -B build -DCMAKE_C_COMPILER="$CC" -DCMAKE_PREFIX_PATH="$BN2D_STAGE" \
  -DCMAKE_DISABLE_FIND_PACKAGE_TBB=ON -DCMAKE_DISABLE_FIND_PACKAGE_hwy=ON
"$CMAKE" --build build
./build/consumer
