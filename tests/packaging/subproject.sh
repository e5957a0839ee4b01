#!/bin/sh
# bn2d as a part of another project, by add_subdirectory and FetchContent, shared and static: it changes no variable of the
# host, takes the host's TBB::tbb, builds as the host builds, installs and packs nothing. Of the host's flags it takes
# none that would change what it does (fast-math) or stop its build (-fno-exceptions, -Werror). Compiles the library
# without optimisation and for few SIMD targets, half a minute; where everything must be tested, twice.
. "$(dirname "$0")/common.sh"
need nm
work_in subproject

flags=''
host() { # NAME OPTIONS... (and $flags for C++)
  name=$1
  shift
  "$CMAKE" -S "$BN2D_SOURCE/tests/packaging/host" -B "$name" -DBN2D_SOURCE="$BN2D_SOURCE" -DCMAKE_C_COMPILER="$CC" \
    -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_CXX_FLAGS="-DBN2D_FEWER_TARGETS $flags" "$@" >"$name.log" ||
    fail "$(cat "$name.log")"
  diff "$name/before" "$name/after" || fail "$name: these variables of the host have changed"
}
built() { # NAME
  "$CMAKE" --build "$1" --parallel 2 >>"$1.log" || fail "$(cat "$1.log")"
  "$1/program" || fail "$1: the program fails"
  "$CMAKE" --install "$1" --prefix "$1/installed" >>"$1.log"
  found=$(cd "$1/installed" && find . -type f)
  [ "$found" = ./bin/program ] || fail "$1: installed is $found"
}

# Two plugins with a copy of bn2d each must not call into one another's.
exports_nothing() { # PLUGIN
  nm "$1" >inside
  grep -q ' t bn2d_module_create$' inside || fail "$1 has no copy of bn2d"
  nm -D --defined-only "$1" >exported
  if grep bn2d_ exported; then fail "$1 exports these"; fi
}

flags='-Ofast -ffast-math -funsafe-math-optimizations'
host no_type -DHOST_WAY=FetchContent -DHOST_LINK_OPTIONS=-Ofast
if grep '^CMAKE_BUILD_TYPE:.*=.' no_type/CMakeCache.txt; then fail "the host had no build type"; fi
grep -qs -e ' -O2 ' no_type/bn2d/CMakeFiles/bn2d_core.dir/flags.make no_type/_deps/bn2d-build/CMakeFiles/bn2d_core.dir/flags.make \
  no_type/build.ninja || fail "without a build type bn2d is not optimised"
# The library itself takes too long to build for this. What fast-math adds to it, the linker adds to an empty one, too.
"$CMAKE" --build no_type --target load linked_as_bn2d >>no_type.log || fail "$(cat no_type.log)"
no_type/load no_type/liblinked_as_bn2d.so || fail "fast-math of the host has changed how bn2d is linked"
flags=''
for math in -ffast-math -ffinite-math-only; do
  if "$CXX" -std=c++17 $math -fsyntax-only -x c++ "$BN2D_SOURCE/src/base/floating_point.h" 2>refused; then
    fail "$math is not refused where it gets through"
  fi
  grep -q 'checks of NaN' refused || fail "$(cat refused)"
done
host shared -DHOST_WAY=FetchContent -DHOST_TBB=ON -DCMAKE_BUILD_TYPE=Debug
if [ "${BN2D_REQUIRE_ALL:-0}" = 1 ]; then built shared; fi
strict='-Wall -Wextra -Wpedantic -Wshadow -Werror'
flags="-ffast-math -fno-exceptions -fno-rtti $strict"
host static -DHOST_WAY=add_subdirectory -DBUILD_SHARED_LIBS=OFF -DCMAKE_BUILD_TYPE=Debug -DCMAKE_UNITY_BUILD=ON \
  -DCMAKE_C_FLAGS="$strict"
built static
# Newer compilers know new warnings. These two kinds are old.
if grep -E '/(src|capi)/.*\[-W(pedantic|shadow)\]' static.log; then fail "warnings that flags of a host turn on"; fi
exports_nothing static/libplugin.so
if find static -name 'libbn2d.so*' | grep .; then fail "the host wanted a static library"; fi

# A host that wants bn2d installed gets it, but no packages of bn2d. A project in C alone finds the static library.
host static -DBN2D_INSTALL=ON
grep -q 'set(CPACK_GENERATOR "TGZ")' static/CPackConfig.cmake || fail "the host's packages have changed their kind"
if grep -q 'COMPONENT_INSTALL' static/CPackConfig.cmake; then fail "bn2d's packages are among the host's"; fi
"$CMAKE" --build static >>static.log
"$CMAKE" --install static --prefix "$work/prefix" >>static.log
[ -e "prefix/$BN2D_LIBDIR/libbn2d.a" ] || fail "no static library is installed"
"$CMAKE" -S "$BN2D_SOURCE/tests/packaging/consumer" -B found -DCMAKE_C_COMPILER="$CC" -DCMAKE_PREFIX_PATH="$work/prefix"
"$CMAKE" --build found
./found/consumer
exports_nothing found/libplugin.so
need pkg-config
bn2d_static() {
  PKG_CONFIG_PATH=$work/prefix/$BN2D_LIBDIR/pkgconfig pkg-config --static "$@" bn2d
}
# shellcheck disable=SC2046 # a list of words
"$CC" -std=c99 "$BN2D_SOURCE/tests/packaging/consumer/consumer.c" $(bn2d_static --cflags --libs) -o static_consumer
./static_consumer
# shellcheck disable=SC2046 # a list of words
"$CC" -std=c99 -shared -fPIC "$BN2D_SOURCE/tests/packaging/consumer/consumer.c" \
  $(bn2d_static --cflags --libs) -o plugin.so
exports_nothing plugin.so
