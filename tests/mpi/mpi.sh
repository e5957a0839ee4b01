#!/bin/sh
# mpi.sh LIBRARY: the header alone in C and C++, then mpi.c under mpirun. Skipped where there is no MPI.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/../packaging/common.sh"
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

# More processes than cores, and root in a container: OpenMPI wants to hear that.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1
for ranks in 1 2 3 4; do
  timeout 60 mpirun -n $ranks ./ranks || fail "$ranks ranks: exit status $?"
done
