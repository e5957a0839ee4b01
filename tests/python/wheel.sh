#!/bin/sh
# "pip install ./capi/python" into a fresh environment, then the package's tests as installed there. From the environment:
#   BN2D_PYTHON  the interpreter, python3 by default
#   BN2D_TORCH   1: with torch, the version below; 0: without; not set: with it where everything must be tested
# A wheel of torch for the CPU has to be at hand (PyPI's own is of several GB): say so with BN2D_TORCH=0 where it is not.
. "$(dirname "$0")/../packaging/common.sh"
torch='torch==2.13.0'

python=${BN2D_PYTHON:-python3}
need "$python"
unset BN2D_LIBRARY PYTHONPATH

# What must be there, or the test is skipped; where everything must be tested, that is a failure.
without() {
  [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail "BN2D_REQUIRE_ALL is set, and $*"
  skip "$*"
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || without "$python is older than 3.9"
work=$BN2D_BUILD/tests/python/made
rm -rf "$work/venv" "$work/wheel" "$work/run"
mkdir -p "$work/run"
cd "$work/run"
"$python" -m venv "$work/venv" >venv.log 2>&1 || without "$python makes no virtual environments (python3-venv)"
pip() { "$work/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip download --no-deps -d "$work/run" iniconfig >pip.log 2>&1 || without 'pip reaches no packages'

CMAKE_BUILD_PARALLEL_LEVEL=$(getconf _NPROCESSORS_ONLN)
export CMAKE_BUILD_PARALLEL_LEVEL
[ -n "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ] || unset CMAKE_C_COMPILER_LAUNCHER CMAKE_CXX_COMPILER_LAUNCHER
pip wheel --no-deps -w "$work/wheel" --config-settings=build-dir="$work/build" "$BN2D_SOURCE/capi/python"
wheel=$(echo "$work"/wheel/*.whl)
case $wheel in
  *-py3-none-*.whl) ;;
  *) fail "not one wheel for all Pythons: $wheel" ;;
esac

if [ "${BN2D_TORCH:-${BN2D_REQUIRE_ALL:-0}}" = 1 ]; then
  pip install "${wheel}[test]" "$torch"
else
  pip install "${wheel}[test]"
  export BN2D_TORCH=0
fi
# From a folder that holds no "bn2d": the installed package counts. Without the compiled extension: native.sh tests that.
export PYTHONDONTWRITEBYTECODE=1 BN2D_TORCH_NATIVE=0 BN2D_TEST_NATIVE=0
"$work/venv/bin/pytest" -q -rs --rootdir="$BN2D_SOURCE/capi/python" "$BN2D_SOURCE/capi/python/tests"

# Nothing in the wheel remembers where it was built. (What Python compiled at the installation does.)
if grep -rlF --exclude-dir=__pycache__ -e "$BN2D_SOURCE" -e "$work/build" "$work"/venv/lib/python3*/site-packages/bn2d; then
  fail 'these files hold a path of the build'
fi

# A source distribution holds what a build needs. (It is configured, not compiled: that is the same once more.)
pip install build scikit-build-core
"$work/venv/bin/python" -m build --no-isolation --sdist -o "$work/run" "$BN2D_SOURCE/capi/python" >sdist.log 2>&1 || {
  cat sdist.log >&2
  fail 'no source distribution'
}
tar xzf bn2d-*.tar.gz
rm bn2d-*.tar.gz
cmake=${CMAKE:-cmake}
"$cmake" -S bn2d-*/project -B sdist -DSKBUILD=2 -DSKBUILD_PROJECT_VERSION="$(cd bn2d-* && sed -n 's/^Version: //p' PKG-INFO)" \
  -DBN2D_DEVELOPER_MODE=OFF >configure.log || fail 'the source distribution does not configure'
for file in pyproject.toml README.md bn2d/__init__.py bn2d/py.typed tests/test_numpy.py project/LICENSE; do
  [ -e "$(echo bn2d-*)/$file" ] || fail "the source distribution lacks $file"
done
