// The function table as a host finds it. Loading and unloading in processes of their own is tested
// by tests/ffi/plugin_host.cc.
#include <dlfcn.h>

#include <cstddef>
#include <string>
#include <type_traits>

#include "support/contract_failures.h"
#include "support/contract_handles.h"

using namespace bn2d_test;

TEST_CASE("plugin: versions of the table", "[plugin]") {
  // Catches a table that is handed to a host which needs a newer one, and one for a host that has
  // none.
  const bn2d_api *api = bn2d_get_api(BN2D_API_VERSION);
  REQUIRE(api != nullptr);
  CHECK(bn2d_get_api(BN2D_API_VERSION) == api);  // static
  CHECK(bn2d_get_api(0) == nullptr);
  CHECK(bn2d_get_api(999) == nullptr);
  CHECK(bn2d_get_api(BN2D_API_VERSION + 1) == nullptr);
  CHECK(bn2d_get_api(UINT32_MAX) == nullptr);
  for (uint32_t older = 1; older < BN2D_API_VERSION; ++older) CHECK(bn2d_get_api(older) != nullptr);
  CHECK(api->size == sizeof(bn2d_api));
  CHECK(api->api_version == BN2D_API_VERSION);
  CHECK(api->reserved == 0);
}

TEST_CASE("plugin: every slot is the function of its name", "[plugin]") {
  // Catches two slots exchanged (both of the same type), a slot left NULL, and one that is missing
  // in the list.
  const bn2d_api *api = bn2d_get_api(BN2D_API_VERSION);
  REQUIRE(api != nullptr);
  size_t slots = 0;
#define BN2D_FUNCTION(since, name)                                                    \
  {                                                                                   \
    INFO("bn2d_" #name);                                                              \
    static_assert(std::is_same_v<decltype(api->name), decltype(&bn2d_##name)>,        \
                  "the slot and the function have one type: " #name);                 \
    CHECK(api->name != nullptr);                                                      \
    CHECK(reinterpret_cast<void *>(api->name) == dlsym(RTLD_DEFAULT, "bn2d_" #name)); \
    CHECK(offsetof(bn2d_api, name) == 16 + slots * sizeof(void *));                   \
    ++slots;                                                                          \
  }
#include "functions.inc"
#undef BN2D_FUNCTION
  CHECK(sizeof(bn2d_api) == 16 + slots * sizeof(void *));
}

TEST_CASE("plugin: the table works without the names", "[plugin]") {
  // Catches a table whose functions work on another state than the exported ones.
  const bn2d_api *api = bn2d_get_api(1);
  REQUIRE(api != nullptr);
  bn2d_module *module = nullptr;
  REQUIRE(api->module_create(2, nullptr, &module) == BN2D_OK);
  const float x[4] = {1, 2, 3, 5};
  float y[4] = {}, z[4] = {};
  CHECK(api->forward_f32(module, x, 2, 1, 1, y, nullptr) == BN2D_OK);
  CHECK(bn2d_forward_f32(module, x, 2, 1, 1, z, nullptr) == BN2D_OK);
  CHECK(std::memcmp(y, z, sizeof y) == 0);
  CHECK(api->forward_f32(module, x, 1, 1, 1, y, nullptr) == BN2D_ERROR_TOO_FEW_VALUES);
  CHECK(api->last_error() == bn2d_last_error());
  api->module_release(module);
  CHECK(bn2d_module_eval(module) == BN2D_ERROR_INVALID_HANDLE);
}
