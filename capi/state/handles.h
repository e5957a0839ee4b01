// The kinds of handles of state.h.
#pragma once
#include <memory>
#include <vector>

#include "bn2d/state.h"
#include "slots.h"
#include "state/loader.h"
#include "state/state.h"

namespace bn2d::capi {

// The modules that a loader writes to: one reference each, and to their tensors.
struct Loading {
  explicit Loading(std::shared_ptr<const state::State> state) : loader(std::move(state)) {}
  ~Loading();
  Loading(const Loading &) = delete;
  Loading &operator=(const Loading &) = delete;

  state::Loader loader;
  std::vector<bn2d_module *> modules;  // each once
  std::vector<bn2d_tensor *> tensors;
};

}  // namespace bn2d::capi

struct bn2d_state : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x7332'6E62;
  static constexpr const char *kName = "state";
  std::shared_ptr<bn2d::state::State> value;
  void clear() { value.reset(); }
};
struct bn2d_loader : bn2d::capi::Slot {
  static constexpr uint32_t kTag = 0x6C32'6E62;
  static constexpr const char *kName = "loader";
  std::unique_ptr<bn2d::capi::Loading> value;
  void clear() { value.reset(); }
};
