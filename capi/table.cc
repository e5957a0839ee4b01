// The table of all functions, for plugin hosts, and the checks that header, list and table agree.
#include <cstddef>
#include <type_traits>

#include "bn2d/bn2d.h"

namespace {

enum Slot {
#define BN2D_FUNCTION(since, name) slot_##name,
#include "functions.inc"
#undef BN2D_FUNCTION
  slot_count
};

constexpr size_t kFirst = offsetof(bn2d_api, version);

#define BN2D_FUNCTION(since, name)                                                 \
  static_assert(offsetof(bn2d_api, name) == kFirst + slot_##name * sizeof(void *), \
                "the table is in the order of the list");                          \
  static_assert(std::is_same_v<decltype(bn2d_api::name), decltype(&bn2d_##name)>,  \
                "table and prototype agree");
#include "functions.inc"
#undef BN2D_FUNCTION
static_assert(sizeof(bn2d_api) == kFirst + slot_count * sizeof(void *),
              "every slot of the table is in the list");

// End of version 1: these numbers never change.
static_assert(kFirst == 16 && slot_count >= 83);
static_assert(offsetof(bn2d_api, mask_nbytes) == 16 + 82 * sizeof(void *));
// End of version 2.
static_assert(offsetof(bn2d_api, module_get_thread_pool) == 16 + 95 * sizeof(void *));
// End of version 3.
static_assert(offsetof(bn2d_api, module_scale_shift) == 16 + 99 * sizeof(void *));

constexpr bn2d_api kApi = {
    sizeof(bn2d_api),
    BN2D_API_VERSION,
    0,
#define BN2D_FUNCTION(since, name) &bn2d_##name,
#include "functions.inc"
#undef BN2D_FUNCTION
};

}  // namespace

const bn2d_api *bn2d_get_api(uint32_t api_version) {
  return api_version == 0 || api_version > BN2D_API_VERSION ? nullptr : &kApi;
}
