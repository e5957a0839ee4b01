#!/bin/sh
# The tests of torch with the compiled extension, in the environment that wheel.sh has made: what "python -m bn2d.torch.build"
# compiles there is loaded, and does what Python does. Without torch in that environment, or a C++ compiler, it is skipped.
. "$(dirname "$0")/../packaging/common.sh"
unset BN2D_LIBRARY PYTHONPATH BN2D_TORCH_NATIVE

without() {
  [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && [ "${BN2D_TORCH:-1}" = 1 ] && fail "BN2D_REQUIRE_ALL is set, and $*"
  skip "$*"
}

work=$BN2D_BUILD/tests/python/made
python=$work/venv/bin/python
[ -x "$python" ] || without 'python.wheel made no environment'
mkdir -p "$work/run"
cd "$work/run"
"$python" -c 'import torch' 2>/dev/null || without 'the environment has no torch'
"${CXX:-c++}" --version >/dev/null 2>&1 || without 'there is no C++ compiler'
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' ||
  without 'there are no headers of Python (python3-dev)'
command -v readelf >/dev/null || without 'there is no readelf'

# Nothing is loaded from a folder that others can write, as that of a build may be.
XDG_CACHE_HOME=$(mktemp -d)
trap 'rm -rf "$XDG_CACHE_HOME"' EXIT
export XDG_CACHE_HOME PYTHONDONTWRITEBYTECODE=1 BN2D_TEST_NATIVE=1
"$python" -m bn2d.torch.build
"$work/venv/bin/pytest" -q -rs --rootdir="$BN2D_SOURCE/capi/python" "$BN2D_SOURCE"/capi/python/tests/test_torch*.py

# It is linked to no second copy of the library, and looks for torch nowhere: that is loaded.
file=$(find "$XDG_CACHE_HOME" -name _native.so)
case $(readelf -d "$file") in
  *RPATH* | *RUNPATH* | *libbn2d*) fail "$file is linked to what it must not be" ;;
esac
"$python" -m bn2d.torch.build --remove
[ -z "$(find "$XDG_CACHE_HOME" -type f)" ] || fail 'the cache is not empty after --remove'
