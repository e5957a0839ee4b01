// The table of all functions.
#include "bn2d/bn2d.h"

#define BN2D_TABLE bn2d_api
#define BN2D_TABLE_FIRST version
#define BN2D_TABLE_LIST "functions.inc"
#define BN2D_TABLE_GET bn2d_get_api
#define BN2D_TABLE_VERSION BN2D_API_VERSION
#include "table.inc"

// End of version 1: these numbers never change.
static_assert(kFirst == 16 && slot_count >= 83);
static_assert(offsetof(bn2d_api, mask_nbytes) == 16 + 82 * sizeof(void *));
// End of version 2.
static_assert(offsetof(bn2d_api, module_get_thread_pool) == 16 + 95 * sizeof(void *));
// End of version 3.
static_assert(offsetof(bn2d_api, module_scale_shift) == 16 + 99 * sizeof(void *));
