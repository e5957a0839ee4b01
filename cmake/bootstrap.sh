#!/bin/sh
# From a bare Debian or Ubuntu (12, 24.04 or newer) to a library that runs:
#
#   sh cmake/bootstrap.sh demo          builds, installs into build/install, runs the example capi/examples/digits.c
#   sh cmake/bootstrap.sh test          builds, installs likewise, runs all tests
#   sh cmake/bootstrap.sh bench [...]   builds and runs the benchmark; further arguments are the benchmark's
#
# Installs the packages that are missing (as root, or with sudo) and says which and why. From the environment:
#   BN2D_BUILD_DIR     another build folder than build
#   BN2D_REQUIRE_ALL   1: no test may be skipped for want of a tool, and warnings are errors (what .ci/run sets)
set -eu

job=${1:-}
case $job in
  demo | test | bench) shift ;;
  *)
    echo "usage: sh cmake/bootstrap.sh demo | test | bench [arguments]" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."
build=${BN2D_BUILD_DIR:-build}
require_all=${BN2D_REQUIRE_ALL:-0}

say() { echo "bn2d: $*"; }
fail() {
  say "$*" >&2
  exit 1
}

# ---------------------------------------------------------------------------------------------------------- packages

# missing, optional: names of packages; missing_why: a line on each
missing=
missing_why=
optional=

# Is one of these there, as a package or as a command?
have() {
  for candidate in "$@"; do
    if dpkg-query -W -f '${db:Status-Status}\n' "$candidate" 2>/dev/null | grep -qx installed; then return 0; fi
    if command -v "$candidate" >/dev/null 2>&1; then return 0; fi
  done
  return 1
}
# package NAME WHY [WHAT DOES AS WELL...]
package() {
  name=$1 why=$2
  shift 2
  if have "$name" "$@"; then return; fi
  missing="$missing $name"
  missing_why="$missing_why$(printf '\n  %-24s %s' "$name" "$why")"
}
# What makes more possible, where the distribution has it.
optional_package() {
  if have "$@"; then return; fi
  optional="$optional $1"
}

package g++ 'compiler' c++
package cmake 'builds, installs and runs tests'
package make 'drives the compiler on all cores'
package pkg-config 'finds libraries'
package libtbb-dev 'oneTBB: loops on all cores'
package libhwy-dev 'Highway: SIMD instructions of the CPU at hand'
if [ "$job" != bench ]; then
  package libopenblas-serial-dev 'OpenBLAS: folding, and layers of the example' libopenblas-pthread-dev libopenblas-openmp-dev
  package nlohmann-json3-dev 'nlohmann-json: state files'
fi
if [ "$job" = test ]; then
  package catch2 'test framework'
  package python3 'a foreign language that calls the library'
  package abigail-tools 'compares the ABI with the saved one' abidiff
  optional_package libdlpack-dev
  if [ "$require_all" = 1 ]; then
    package clang 'a second opinion on undefined behaviour' clang++
    optional_package libclang-rt-14-dev # the runtime of its sanitizers, which clang only recommends
    package python3-venv 'the Python package in an environment of its own'
    package openmpi-bin 'runs the test of bn2d/mpi.h on several processes' mpirun
    package libopenmpi-dev 'compiles it' mpicc
    package doxygen 'the manual from the headers'
    optional_package shellcheck
    optional_package python3-dev # what bn2d.torch compiles, where python3 is Debian's
    optional_package python3-cffi
    optional_package clang-format-14
    # The languages of capi/ that are lightest to install (about 110 MB); Go and Java are tested where they are.
    package luajit 'a language with a binding'
    package ruby 'a language with a binding'
    package gfortran 'a language with a binding'
    package mono-mcs 'a language with a binding: the C# compiler' mcs
    package mono-runtime 'a language with a binding: runs C#' mono
    package rustc 'a language with a binding'
    package nodejs 'a language with a binding' node
    [ -e /usr/include/node/node_api.h ] || package libnode-dev 'headers of Node.js'
  fi
fi
if [ "$job" = bench ]; then
  package nlohmann-json3-dev 'JSON report of the benchmark'
  optional_package libdnnl-dev
  optional_package libtorch-dev
fi

# The way to root: nothing for root himself, sudo, or "none".
sudo=
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    sudo=none
  elif [ -t 0 ]; then
    sudo=sudo
  elif sudo -n true 2>/dev/null; then
    sudo='sudo -n'
  else
    sudo=none # it wants a password, and nobody is there to type it
  fi
fi

# A machine that has just started may be updating itself: wait for the lock.
apt() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null; }
known() { apt-get -s --no-install-recommends install "$@" >/dev/null 2>&1; }
refreshed=no
refresh() {
  if [ $refreshed = yes ]; then return; fi
  refreshed=yes
  # Another source of the machine may fail to answer; whether that matters shows when packages are installed.
  apt update || say 'the list of packages could not be refreshed completely'
}
install_packages() {
  known "$@" || refresh
  # The list may name versions that are gone by now: then once more with a new list.
  apt install -y --no-install-recommends "$@" || { [ $refreshed = no ] && refresh && apt install -y --no-install-recommends "$@"; }
}

if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    say "this needs the following, by the names of Debian's packages:$missing_why" >&2
    fail 'there is no apt-get to install it; please do so yourself and build by hand (README.md, "Build by hand")'
  fi
  if [ "$sudo" = none ]; then
    say "this needs the following packages:$missing_why" >&2
    fail "they cannot be installed without root or sudo; please ask for: apt-get install$missing"
  fi
  say "installing what is missing:$missing_why"
  # shellcheck disable=SC2086 # a list of words
  install_packages $missing || fail "these packages could not be installed:$missing"
fi
for name in $optional; do
  if [ "$sudo" != none ] && command -v apt-get >/dev/null 2>&1; then
    say "installing what is useful, but not needed: $name"
    if install_packages "$name"; then continue; fi
  fi
  say "going on without $name"
done

# ------------------------------------------------------------------------------------------------------------- build

jobs=$(getconf _NPROCESSORS_ONLN)
set_options() { options="$options $*"; }
options='-DCMAKE_BUILD_TYPE=Release'
# A compiler that is newer than this source may warn of more: no reason to stop a user.
if [ "$require_all" = 1 ]; then set_options -DBN2D_WERROR=ON; else set_options -DBN2D_WERROR=OFF; fi
case $job in
  test) set_options -DBN2D_DEVELOPER_MODE=ON ;;
  # Needs no test framework; but where tests have been built, they stay.
  *) [ -e "$build/CMakeCache.txt" ] || set_options -DBN2D_DEVELOPER_MODE=OFF ;;
esac
if [ "$job" = bench ] || { [ "$job" = test ] && [ "$require_all" = 1 ]; }; then set_options -DBN2D_BENCHMARKS=ON; fi

say "building in $build"
# shellcheck disable=SC2086 # a list of words
cmake -S . -B "$build" $options
cmake --build "$build" --parallel "$jobs"
cmake --install "$build" --prefix "$build/install" --strip >/dev/null
say "installed into $build/install"

case $job in
  demo)
    cmake -S capi/examples -B "$build/examples" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$(cd "$build/install" && pwd)"
    cmake --build "$build/examples" --parallel "$jobs"
    say 'running the example capi/examples/digits.c'
    "$build/examples/digits" "$@"
    ;;
  test) ctest --test-dir "$build" --output-on-failure --no-label-summary --no-tests=error --parallel "$jobs" "$@" ;;
  bench) "$build/bench/bn2d_bench" "$@" ;;
esac
