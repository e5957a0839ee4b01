#!/bin/sh
# capi/lua with LuaJIT.
. "$(dirname "$0")/language.sh"
need luajit
binding lua

export LUA_PATH="$binding/?.lua"
shown lua example.lua
example luajit "$binding/example.lua"
goes_on lua fused.lua example.lua
fused luajit fused.lua
luajit "$BN2D_SOURCE/tests/languages/vectors.lua"
