#!/bin/sh
# Each library exports the functions of its list and what gives out its table, each under its version, and nothing else.
. "$(dirname "$0")/common.sh"
need nm
work_in symbols

check() { # NAME FILE LIST HEADER GETTER NODE
  library=$2 list=$3 header=$4 getter=$5 node=$6
  sed -n "s/^BN2D_FUNCTION(\"\([0-9.]*\)\", \([a-z0-9_]*\)).*/bn2d_\2@@${node}_\1/p" "$BN2D_SOURCE/$list" >listed
  {
    cat listed
    echo "$getter@@$(sed -n '1s/.*@@//p' listed)"
  } | LC_ALL=C sort >expected
  # Type A is a version itself, T a function; any other kind of symbol shows in the comparison.
  nm -D --defined-only "$library" |
    awk -v node="^${node}_[0-9.]+\$" '$2 == "A" && $3 ~ node { next } { print ($2 == "T" ? "" : $2 " ") $3 }' |
    LC_ALL=C sort >exported
  diff expected exported || fail "< is in $list alone, > in $library alone"
  echo "$1: $(wc -l <exported) symbols"

  # The header declares the same functions.
  sed -n 's/^BN2D_API .*\(bn2d_[a-z0-9_]*\)(.*/\1/p' "$BN2D_SOURCE/include/bn2d/$header" | LC_ALL=C sort >declared
  sed 's/@.*//' expected | diff - declared || fail "< is in $list alone, > in $header alone"
}
libraries check
