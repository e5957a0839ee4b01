#!/bin/sh
# The Debian packages: sizes, symbols file, and a clean installation and removal by dpkg in a root of their own.
. "$(dirname "$0")/common.sh"
need dpkg dpkg-deb dpkg-shlibdeps
work_in debian

(cd "$BN2D_BUILD" && "$(dirname "$CMAKE")/cpack" -G DEB -B "$work") >log 2>&1 || fail "$(cat log)"
above=
library=$(echo libbn2d1_*.deb) dev=$(echo libbn2d-dev_*.deb)
for package in "$library" "$dev"; do
  dpkg-deb --raw-extract "$package" "$package.tree"
  told=$(dpkg-deb --field "$package" Installed-Size)
  found=$(du -k --apparent-size -s "$package.tree/usr" | cut -f1)
  # du counts 4 KiB for a folder, Debian 1.
  if [ "$told" -gt $((found + 8)) ] || [ $((told + 60)) -lt "$found" ]; then
    fail "$package: Installed-Size is $told, it has $found KiB"
  fi
done

# Each exported symbol, with the first version that had it.
check_symbols() { # PACKAGE LIBRARY
  nm -D --defined-only "$1.tree"/usr/lib*/"$2" "$1.tree"/usr/lib/*/"$2" 2>/dev/null |
    sed -n 's/.* \(bn2d_[a-z0-9_]*\)@@\(BN2D_[A-Z_]*\)\(.*\)/ \1@\2\3 \3.0/p' | LC_ALL=C sort >exported
  sed -n '/ bn2d_/p' "$1.tree/DEBIAN/symbols" | LC_ALL=C sort >told
  [ -s exported ] || fail "$1 exports nothing"
  diff exported told || fail "$1: < is exported, > is in the symbols file"
  grep -q 'ldconfig' "$1.tree/DEBIAN/triggers" || fail "$1: the loader does not learn of the library"
}
check_symbols "$library" libbn2d.so.1
for name in $BN2D_ABOVE; do
  package=$(echo "libbn2d-${name}1"_*.deb)
  above="$above $package"
  dpkg-deb --raw-extract "$package" "$package.tree"
  check_symbols "$package" "libbn2d_$name.so.1"
  dpkg-deb --field "$package" Depends | grep -q 'libbn2d1 (= ' || fail "$package does not ask for libbn2d1"
done

unshare=
if [ "$(id -u)" != 0 ]; then
  unshare='unshare --map-root-user'
  $unshare true 2>/dev/null || lacks 'root, which dpkg needs'
fi
mkdir -p root/var/lib/dpkg/updates root/var/lib/dpkg/info
: >root/var/lib/dpkg/status
dpkg_there() { $unshare dpkg --root="$work/root" --log=/dev/null --force-depends "$@" >>log 2>&1 || fail "$(tail -n 5 log)"; }
# shellcheck disable=SC2086 # a list of words
dpkg_there --install "$library" $above "$dev"
[ -e root/usr/include/bn2d/bn2d.h ] || fail "no header is installed"
dpkg_there --purge libbn2d-dev
for name in $BN2D_ABOVE; do dpkg_there --purge "libbn2d-${name}1"; done
dpkg_there --purge libbn2d1
if [ -e root/usr ]; then fail "left behind: $(find root/usr)"; fi
