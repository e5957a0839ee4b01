#!/bin/sh
# The Debian packages: sizes, symbols file, and a clean installation and removal by dpkg in a root of their own.
. "$(dirname "$0")/common.sh"
need dpkg dpkg-deb dpkg-shlibdeps
work_in debian

(cd "$BN2D_BUILD" && "$(dirname "$CMAKE")/cpack" -G DEB -B "$work") >log 2>&1 || fail "$(cat log)"
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
nm -D --defined-only "$library.tree"/usr/lib*/libbn2d.so.1 "$library.tree"/usr/lib/*/libbn2d.so.1 2>/dev/null |
  sed -n 's/.* \(bn2d_[a-z0-9_]*\)@@BN2D_\(.*\)/ \1@BN2D_\2 \2.0/p' | LC_ALL=C sort >exported
sed -n '/ bn2d_/p' "$library.tree/DEBIAN/symbols" | LC_ALL=C sort >told
[ -s exported ] || fail "the package exports nothing"
diff exported told || fail "< is exported, > is in the symbols file"
grep -q 'ldconfig' "$library.tree/DEBIAN/triggers" || fail "the loader does not learn of the library"

[ "$(id -u)" = 0 ] || skip "dpkg needs root"
mkdir -p root/var/lib/dpkg/updates root/var/lib/dpkg/info
: >root/var/lib/dpkg/status
dpkg_there() { dpkg --root="$work/root" --log=/dev/null --force-depends "$@" >>log 2>&1 || fail "$(tail -n 5 log)"; }
dpkg_there --install "$library" "$dev"
[ -e root/usr/include/bn2d/bn2d.h ] || fail "no header is installed"
dpkg_there --purge libbn2d-dev libbn2d1
if [ -e root/usr ]; then fail "left behind: $(find root/usr)"; fi
