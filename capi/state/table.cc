// The table of all functions of libbn2d_state.
#include "bn2d/state.h"

#define BN2D_TABLE bn2d_state_api
#define BN2D_TABLE_FIRST state_create
#define BN2D_TABLE_LIST "state/functions.inc"
#define BN2D_TABLE_GET bn2d_state_get_api
#define BN2D_TABLE_VERSION BN2D_STATE_API_VERSION
#include "table.inc"

// End of version 1: these numbers never change.
static_assert(kFirst == 16 &&
              offsetof(bn2d_state_api, loader_problem_at) == 16 + 31 * sizeof(void *));
