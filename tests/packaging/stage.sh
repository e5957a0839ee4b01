#!/bin/sh
# Installs into a folder and moves it elsewhere: what the other tests use has not been configured for its place.
. "$(dirname "$0")/common.sh"

rm -rf "$BN2D_STAGE" "$BN2D_STAGE.first"
"$CMAKE" --install "$BN2D_BUILD" --prefix "$BN2D_STAGE.first" --strip
mv "$BN2D_STAGE.first" "$BN2D_STAGE"
cd "$BN2D_STAGE"

for file in share/bn2d/bn2d-api.json share/bn2d/bn2d.cdef "$BN2D_LIBDIR/libbn2d.so" "$BN2D_LIBDIR/libbn2d.so.1" "$BN2D_LIBDIR/pkgconfig/bn2d.pc" \
  "$BN2D_LIBDIR/cmake/bn2d/bn2dConfig.cmake" "$BN2D_LIBDIR/cmake/bn2d/bn2dConfigVersion.cmake"; do
  [ -e "$file" ] || fail "not installed: $file"
done
for name in $BN2D_ABOVE; do
  for file in "share/bn2d/bn2d-$name-api.json" "share/bn2d/bn2d-$name.cdef" \
    "$BN2D_LIBDIR/libbn2d_$name.so" "$BN2D_LIBDIR/libbn2d_$name.so.1" "$BN2D_LIBDIR/pkgconfig/bn2d_$name.pc" \
    "$BN2D_LIBDIR/cmake/bn2d/bn2d_${name}Targets.cmake"; do
    [ -e "$file" ] || fail "not installed: $file"
  done
done
# Each header of what is built, and of nothing else.
for file in "$BN2D_SOURCE"/include/bn2d/*; do
  file=${file##*/}
  name=${file%%.*}
  wanted=yes
  case $name in state | fold) case " $BN2D_ABOVE " in *" $name "*) ;; *) wanted=no ;; esac ;; esac
  found=no
  [ ! -e "include/bn2d/$file" ] || found=yes
  [ $found = $wanted ] || fail "include/bn2d/$file: installed is $found, should be $wanted"
done
find . -name LICENSE | grep -q . || fail "not installed: LICENSE"

# Nothing may remember where it was built or first installed.
for path in "$BN2D_SOURCE/" "$BN2D_STAGE.first"; do
  if grep -rlF -e "$path" .; then fail "these files hold the path $path"; fi
done
if grep -rliE 'tbb|hwy|nlohmann|openblas' "$BN2D_LIBDIR/cmake"; then fail "these files make users find our private dependencies"; fi
