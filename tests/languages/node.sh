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

# What V8 has been told of memory outside of it: JavaScript itself cannot ask (memoryUsage() tells buffers alone).
cat >told.c <<'EOF_C'
#include <node_api.h>
static napi_value told(napi_env env, napi_callback_info info) {
  int64_t all = 0;
  napi_value value;
  (void)info;
  napi_adjust_external_memory(env, 0, &all);
  return napi_create_int64(env, all, &value) == napi_ok ? value : NULL;
}
NAPI_MODULE_INIT() {
  napi_value function;
  (void)exports;
  return napi_create_function(env, "told", NAPI_AUTO_LENGTH, told, NULL, &function) == napi_ok ? function : NULL;
}
EOF_C
"$CC" -std=c11 -Wall -Wextra -Werror -shared -fPIC -I"$headers" told.c -o told.node

shown js example.js
cp "$binding/example.js" .
example node example.js
goes_on js fused.js example.js
fused node fused.js
node --expose-gc "$BN2D_SOURCE/tests/languages/vectors.js" .
