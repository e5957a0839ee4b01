#!/bin/sh
# Doxygen makes the manual of the headers without a warning, and would not if a comment were wrong.
. "$(dirname "$0")/common.sh"
need doxygen
work_in docs
make_docs() { sh "$BN2D_SOURCE/cmake/docs.sh" doxygen "$BN2D_BUILD/docs/Doxyfile" "$@"; }

make_docs
# Every function of the list has its entry, with what the filter makes of "Threads" and "Since".
names=$(sed -n 's/^BN2D_FUNCTION("[0-9.]*", \([a-z0-9_]*\))/bn2d_\1/p' "$BN2D_SOURCE/capi/functions.inc")
[ -n "$names" ] || fail 'functions.inc lists nothing'
grep 'class="memname">' html/bn2d_8h.html | grep -v '>enum ' >entries
for name in $names bn2d_get_api; do
  grep -q "\b$name\b" entries || fail "the manual has no $name"
done
[ "$(grep -o '>Since</dt>' html/bn2d_8h.html | wc -l)" -ge "$(echo "$names" | wc -l)" ] || fail 'the manual does not tell "Since"'
grep -q '>Threads</dt>' html/bn2d_8h.html || fail 'the manual does not tell "Threads"'
grep -q 'class="memname">.* bn2d::Module::record' html/classbn2d_1_1Module.html || fail 'the manual has no bn2d::Module'

# A comment with another parameter, one without a parameter, a function without a comment, a comment in C++ that is wrong.
broken() { # WHAT HEADER SED
  rm -rf broken
  mkdir broken
  cp "$BN2D_SOURCE"/include/bn2d/*.h "$BN2D_SOURCE"/include/bn2d/*.hpp broken
  sed "$3" "$BN2D_SOURCE/include/bn2d/$2" >"broken/$2"
  cmp -s "broken/$2" "$BN2D_SOURCE/include/bn2d/$2" && fail "nothing to break: $1"
  if make_docs "INPUT = $work/broken" 2>warnings; then fail "Doxygen takes $1"; fi
  cat warnings
}
broken 'a parameter of another name' bn2d.h 's/@param num_features/@param features/'
broken 'a parameter without a comment' bn2d.h '/@param\[in\] z /d'
broken 'a function without a comment' bn2d.h '/Number of channels. @return/d'
broken 'a wrong comment in C++' bn2d.hpp 's/As forward() in eval mode/@param w Another. &/'
