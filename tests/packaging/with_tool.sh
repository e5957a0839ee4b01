#!/bin/sh
# Runs a test that needs a tool, or reports a skip: with_tool.sh TOOL ARGUMENTS...
. "$(dirname "$0")/common.sh"
need "$1"
exec "$@"
