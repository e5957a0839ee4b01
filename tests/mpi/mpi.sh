#!/bin/sh
# mpi.sh LIBRARY: the header alone in C and C++, then mpi.c under mpirun. Skipped where there is no MPI.
# shellcheck source=tests/mpi/common.sh
. "$(dirname "$0")/common.sh"
library=$1
need mpicc mpirun
work_in mpi
strict='-Wall -Wextra -pedantic -Werror'
# OpenMPI's and MPICH's own C++ bindings are not wanted.
without='-DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX'
echo '#include <bn2d/mpi.h>' >alone.c
# shellcheck disable=SC2086 # lists of words
for standard in c99 c17; do
  mpicc -std=$standard $strict -Wno-unused-function -I"$BN2D_SOURCE/include" -fsyntax-only alone.c
done
# shellcheck disable=SC2086
for standard in c++11 c++20; do
  mpicc -x c++ -std=$standard $strict $without -I"$BN2D_SOURCE/include" -fsyntax-only alone.c
done
# shellcheck disable=SC2086
mpicc -std=c99 -O1 $strict -I"$BN2D_SOURCE/include" "$BN2D_SOURCE/tests/mpi/mpi.c" "$library" \
  -Wl,-rpath,"$(dirname "$library")" -lm -o ranks

for ranks in 1 2 3 4; do
  on_ranks $ranks ./ranks || fail "$ranks ranks: exit status $?"
done
