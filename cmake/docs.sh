#!/bin/sh
# The manual from the headers, into this folder's html: sh docs.sh DOXYGEN DOXYFILE [SETTING=VALUE...]
# The first run is for the C ABI alone, where everything must have a comment; its pages are thrown away.
set -eu
doxygen=$1 doxyfile=$2
shift 2

run() {
  { cat "$doxyfile" && printf '%s\n' "$@"; } | "$doxygen" -
}
mkdir -p strict
run "$@" 'FILE_PATTERNS = *.h' 'WARN_IF_UNDOCUMENTED = YES' 'OUTPUT_DIRECTORY = strict'
rm -r strict
run "$@"
