#!/bin/sh
# State files against Python's safetensors, in both directions: python.sh FOLDER-FOR-AN-ENVIRONMENT. From the environment:
#   BN2D_PYTHON  an interpreter that has safetensors and numpy (and torch, where it is to be tested, too); without it
#                python3 if it has them, else an environment made with pip
. "$(dirname "$0")/../packaging/common.sh"
without() {
  [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail "BN2D_REQUIRE_ALL is set, and $*"
  skip "$*"
}
python=${BN2D_PYTHON:-python3}
need "$python"
if ! "$python" -c 'import safetensors, numpy' 2>/dev/null; then
  if ! "$1/bin/python" -c 'import safetensors, numpy' 2>/dev/null; then
    rm -rf "$1"
    "$python" -m venv "$1" 2>/dev/null || without "$python makes no virtual environments (python3-venv)"
    "$1/bin/python" -m pip --disable-pip-version-check --quiet install safetensors numpy ml_dtypes ||
      without 'pip reaches no packages'
  fi
  python=$1/bin/python
fi
export BN2D_STATE_LIBRARY
exec "$python" "$(dirname "$0")/safetensors_test.py"
