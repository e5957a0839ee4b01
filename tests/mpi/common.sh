# shellcheck shell=sh
# Read by the other scripts of this folder.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/../packaging/common.sh"

# on_ranks N PROGRAM ...: more processes than cores, and root in a container: OpenMPI wants to hear that. From version 5 on
# it reads PRTE_MCA_... instead of OMPI_MCA_....
on_ranks() {
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe OMPI_MCA_mpi_yield_when_idle=1 timeout 100 mpirun -n "$@"
}
