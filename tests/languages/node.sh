#!/bin/sh
# capi/node: the addon built with cc and Node's own headers.
. "$(dirname "$0")/language.sh"
need node pkg-config
binding node

# Beside node itself, or where Debian's libnode-dev puts them.
prefix=$(dirname "$(dirname "$(node -p process.execPath)")")
for headers in "$prefix/include/node" "$prefix/include/nodejs/src" none; do
  [ -e "$headers/node_api.h" ] && break
done
if [ "$headers" = none ]; then
  [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail "BN2D_REQUIRE_ALL is set, and there are no headers of Node.js"
  skip "no headers of Node.js"
fi

# shellcheck disable=SC2046 # a list of words
"$CC" -std=c11 -Wall -Wextra -Werror -O2 -shared -fPIC -I"$headers" "$binding/bn2d.c" $(bn2d_pkg_config --cflags --libs) \
  -o bn2d.node
shown js example.js
cp "$binding/example.js" .
example node example.js
node --expose-gc "$BN2D_SOURCE/tests/languages/vectors.js" .
