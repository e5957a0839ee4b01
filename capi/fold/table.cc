// The table of all functions of libbn2d_fold.
#include "bn2d/fold.h"

#define BN2D_TABLE bn2d_fold_api
#define BN2D_TABLE_FIRST fold_into_previous
#define BN2D_TABLE_LIST "fold/functions.inc"
#define BN2D_TABLE_GET bn2d_fold_get_api
#define BN2D_TABLE_VERSION BN2D_FOLD_API_VERSION
#include "table.inc"

// End of version 1: these numbers never change.
static_assert(kFirst == 16 &&
              offsetof(bn2d_fold_api, fold_into_next_flat) == 16 + 3 * sizeof(void *));
