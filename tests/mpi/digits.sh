#!/bin/sh
# The example, trained by 1, 2 and 4 processes and by the program without MPI, from the same seed. Skipped without MPI.
#
# All ranks end with the same bits of weights and running statistics (the program's exit status), and every epoch has the
# loss and the accuracy of the single process but for roundings. Catches: statistics of a rank's own part (running
# statistics differ between ranks), gradients that are not summed (weights differ), a mean over the part in place of the
# batch (losses differ), a part that is left out or trained twice (losses differ), an empty part (batches of 2 on 4 ranks).
# shellcheck source=tests/mpi/common.sh
. "$(dirname "$0")/common.sh"
need mpirun awk
programs=$BN2D_BUILD/tests/packaging/made/examples
if [ ! -x "$programs/digits_mpi" ]; then
  [ "${BN2D_REQUIRE_ALL:-0}" = 1 ] && fail 'BN2D_REQUIRE_ALL is set, and there is no digits_mpi'
  skip 'digits_mpi was not built'
fi
work_in mpi_digits
export OPENBLAS_NUM_THREADS=1 # a rank has no core of its own

# compare OPTIONS: seen were 0.0001 of a loss and two of the 360 images, 0.6 %, which are told to one digit.
compare() {
  "$programs/digits" --norm batch "$@" >one.txt
  for ranks in 1 2 4; do
    on_ranks $ranks "$programs/digits_mpi" --norm batch "$@" >ranks.txt || fail "$ranks ranks: exit status $?"
    grep -q '^held .*same bits' ranks.txt || fail "$ranks ranks do not tell that they agree"
    awk -v ranks=$ranks '
      function distance(a, b) { return a < b ? b - a : a - b }
      !/epoch/ { next }
      NR == FNR { epochs++; loss[$3] = $7; accuracy[$3] = $9; next }
      { compared++ }
      distance($7, loss[$3]) > 0.0005 { print ranks " ranks, epoch " $3 ": loss " $7 ", one process " loss[$3]; bad = 1 }
      distance($9, accuracy[$3]) > 0.65 { print ranks " ranks, epoch " $3 ": test " $9 " %, one process " accuracy[$3] " %"; bad = 1 }
      END { if (!epochs || compared != epochs) { print ranks " ranks: " compared + 0 " of " epochs + 0 " epochs"; bad = 1 } exit bad }
    ' one.txt ranks.txt || fail "$ranks ranks train something else: digits $*"
  done
}

compare --seed 1
compare --seed 2 --batch 2 --epochs 1
