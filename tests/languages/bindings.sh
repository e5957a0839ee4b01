#!/bin/sh
# The raw declarations of the bindings are those that capi/api/bindings.py writes.
. "$(dirname "$0")/language.sh"
need python3

PYTHONDONTWRITEBYTECODE=1 python3 "$BN2D_SOURCE/capi/api/bindings.py" --check
