#!/bin/sh
# State files against Python's safetensors, in both directions: python.sh FOLDER-FOR-AN-ENVIRONMENT. From the environment:
#   BN2D_PYTHON  an interpreter that has safetensors, numpy and ml_dtypes (and torch, where it is to be tested, too);
#                without it python3 if it has them, else an environment made with pip
. "$(dirname "$0")/../packaging/common.sh"
python=${BN2D_PYTHON:-python3}
need "$python"
if ! "$python" -c 'import safetensors, numpy, ml_dtypes' 2>/dev/null; then
  if ! "$1/bin/python" -c 'import safetensors, numpy, ml_dtypes' 2>/dev/null; then
    rm -rf "$1"
    "$python" -m venv "$1" 2>/dev/null || lacks "virtual environment of $python (python3-venv)"
    "$1/bin/python" -m pip --disable-pip-version-check --quiet install safetensors numpy ml_dtypes || lacks 'package that pip reaches'
  fi
  python=$1/bin/python
fi
export BN2D_STATE_LIBRARY
exec "$python" "$(dirname "$0")/safetensors_test.py"
