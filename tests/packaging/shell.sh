#!/bin/sh
# The scripts of the project, read by shellcheck.
. "$(dirname "$0")/common.sh"
need shellcheck
cd "$BN2D_SOURCE"
shellcheck -x -P SCRIPTDIR .ci/*
find cmake tests bench capi -name '*.sh' -exec shellcheck -x -P SCRIPTDIR {} +
