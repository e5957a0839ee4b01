#!/bin/sh
# The library as other people build it. Each build treats warnings as errors and passes the tests of the C ABI, the loaders
# and the binary. Ten minutes each on two cores, so it runs on request, not in ctest:
#
#   sh tests/builds/run.sh                 all of them
#   sh tests/builds/run.sh native lto      some
#
# BN2D_BUILD_DIR names another folder than build; the builds are in its folder "builds".
set -eu
cd "$(dirname "$0")/../.."
folder=${BN2D_BUILD_DIR:-build}/builds
jobs=$(getconf _NPROCESSORS_ONLN)

options_of() {
  case $1 in
    gcc) echo '-DCMAKE_CXX_COMPILER=g++ -DCMAKE_C_COMPILER=gcc' ;;
    clang) echo "-DCMAKE_CXX_COMPILER=${CLANGXX:-clang++-14} -DCMAKE_C_COMPILER=${CLANG:-clang-14}" ;;
    native) echo '-DCMAKE_CXX_FLAGS=-march=native' ;;
    debug) echo '-DCMAKE_BUILD_TYPE=Debug' ;;
    unity) echo '-DCMAKE_UNITY_BUILD=ON' ;;
    lto) echo '-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON' ;;
    *) return 1 ;;
  esac
}

[ $# -gt 0 ] || set -- gcc clang native debug unity lto
for name in "$@"; do
  options_of "$name" >/dev/null || {
    echo "no build is called $name" >&2
    exit 2
  }
done
failed=
for name in "$@"; do
  echo "==== $name: $(options_of "$name")"
  # shellcheck disable=SC2046 # a list of words
  if cmake -S . -B "$folder/$name" -DBN2D_WERROR=ON -DBN2D_DEVELOPER_MODE=ON $(options_of "$name") &&
    cmake --build "$folder/$name" --parallel "$jobs" &&
    ctest --test-dir "$folder/$name" --output-on-failure --no-label-summary --parallel "$jobs" -L 'core|capi|cpp|ffi|packaging' \
      -E 'digits|format|shell|subproject|debian'; then
    continue
  fi
  failed="$failed $name"
done
[ -z "$failed" ] || {
  echo "these builds failed:$failed" >&2
  exit 1
}
echo "all held: $*"
