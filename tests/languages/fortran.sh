#!/bin/sh
# capi/fortran with gfortran.
. "$(dirname "$0")/language.sh"
need gfortran
binding fortran

compile() { gfortran -std=f2018 -Wall -Wextra -Werror -O2 "$@" -L"$lib" -lbn2d; }
compile -c "$binding/bn2d_raw.f90" "$binding/bn2d.f90"
compile "$binding/example.f90" bn2d.o bn2d_raw.o -o fortran_example
compile -fcheck=all -Wno-compare-reals "$BN2D_SOURCE/tests/languages/vectors.f90" bn2d.o bn2d_raw.o -o vectors
shown fortran example.f90
example ./fortran_example
./vectors
