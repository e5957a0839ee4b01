#!/bin/sh
# capi/fortran with gfortran, and that the compiler refuses what would leave a record without its x.
. "$(dirname "$0")/language.sh"
need gfortran
binding fortran

compile() { gfortran -std=f2018 -Wall -Wextra -Werror -O2 "$@" -L"$lib" -lbn2d; }
compile -c "$binding/bn2d_raw.f90" "$binding/bn2d.f90"
compile "$binding/example.f90" bn2d.o bn2d_raw.o -o fortran_example
compile -fcheck=all -Wno-compare-reals "$BN2D_SOURCE/tests/languages/vectors.f90" bn2d.o bn2d_raw.o -o vectors
shown fortran example.f90
example ./fortran_example
goes_on fortran fused.f90 example.f90 '  call record%release()'
compile fused.f90 bn2d.o bn2d_raw.o -o fused
fused ./fused
./vectors

# accepted ARGUMENTS: whether a forward of these compiles.
accepted() {
  cat >accepted.f90 <<END
program accepted
  use, intrinsic :: iso_c_binding
  use bn2d
  implicit none
  real(c_float), target :: x(2, 2, 3, 2), y(2, 2, 3, 2)
  real(c_float) :: plain(2, 2, 3, 2)
  type(batch_norm) :: bn
  type(batch_norm_record) :: record
  x = 1
  plain = 1
  call bn%create(3)
  call bn%forward($1)
end program
END
  compile -fsyntax-only accepted.f90 >accepted.txt 2>&1
}
accepted 'x, y, record, z=x' || fail "not compiled: $(cat accepted.txt)"
for arguments in 'plain, y, record' 'x, plain, record' 'x, y, record, z=plain' \
  'x, y, record, z=x + x' '2 * x, y, record'; do
  if accepted "$arguments"; then fail "the compiler accepts forward($arguments)"; fi
done
