# shellcheck shell=sh
# Read by the other scripts of this folder. ctest sets in the environment:
#   BN2D_SOURCE, BN2D_BUILD  the checkout and the build folder
#   BN2D_LIBRARY             the shared library as built
#   BN2D_ABOVE               names of the libraries above it that are built: "state fold"
#   BN2D_STAGE               the install tree that stage.sh makes
#   BN2D_LIBDIR              folder of the library in the install tree
#   BN2D_AS_RELEASED         ON where compiler and flags are those of the library that we release
#   CC, CXX, CMAKE, CMAKE_GENERATOR  the tools of the build
set -eu

fail() {
  echo "$*" >&2
  exit 1
}

# This test means nothing on this machine.
skip() {
  echo "skipped: $*"
  exit 77
}

# The test needs what is not there: it is skipped, but where everything must be tested, that is a failure.
lacks() {
  [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail "BN2D_REQUIRE_ALL is set, and there is no $*"
  skip "no $*"
}

# The test needs commands.
need() {
  for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 || lacks "$tool"
  done
}

# An empty folder of that name for what a test makes.
work_in() {
  work=$BN2D_BUILD/tests/packaging/made/$1
  rm -rf "$work"
  mkdir -p "$work"
  cd "$work"
}

# marked FILE LANGUAGE MARKDOWN: writes FILE, the block of that language after the line <!-- FILE -->.
marked() {
  awk -v file="<!-- $1 -->" -v block="\`\`\`$2" '
    $0 == file { found = 1; next }
    found && !inside && $0 == block { inside = 1; next }
    inside && $0 == "```" { exit }
    inside { print }
  ' "$3" >"$1"
  [ -s "$1" ] || fail "$3 shows no $1"
}

# libraries CALL: runs `CALL NAME FILE LIST HEADER GETTER NODE` for libbn2d and each library above it.
libraries() {
  call=$1
  "$call" bn2d "$BN2D_LIBRARY" capi/functions.inc bn2d.h bn2d_get_api BN2D
  for above in $BN2D_ABOVE; do
    "$call" "bn2d_$above" "$(dirname "$BN2D_LIBRARY")/libbn2d_$above.so.1" "capi/$above/functions.inc" "$above.h" \
      "bn2d_${above}_get_api" "BN2D_$(echo "$above" | tr '[:lower:]' '[:upper:]')"
  done
}

# pkg-config sees the install tree, and nothing of the system: a user need not have the files of our dependencies.
bn2d_pkg_config() {
  PKG_CONFIG_PATH='' PKG_CONFIG_LIBDIR="$BN2D_STAGE/$BN2D_LIBDIR/pkgconfig" pkg-config "$@" bn2d
}
