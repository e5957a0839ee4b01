// Loaders.
#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "above/arrays.h"
#include "above/call.h"
#include "base/cancel.h"
#include "handles.h"

using namespace bn2d;
using namespace bn2d::capi;
using state::Loader;

namespace bn2d::capi {

Loading::~Loading() {
  for (bn2d_tensor *tensor : tensors) bn2d_tensor_release(tensor);
  for (bn2d_module *module : modules) bn2d_module_release(module);
}

}  // namespace bn2d::capi

namespace {

Loading &loading_of(bn2d_loader *loader) { return *checked(loader, "loader").value; }

const std::vector<Loader::Problem> &problems_of(const bn2d_loader *loader, int32_t problem) {
  static_assert(BN2D_PROBLEM_MISSING == Loader::missing + 1 &&
                BN2D_PROBLEM_UNEXPECTED == Loader::unexpected + 1 &&
                BN2D_PROBLEM_MISMATCHED == Loader::mismatched + 1);
  const Loader &value = checked(loader, "loader").value->loader;
  if (problem < BN2D_PROBLEM_MISSING || problem > BN2D_PROBLEM_MISMATCHED)
    fail(Status::invalid_argument, "problem %" PRId32 " is unknown, known are 1 to 3", problem);
  return value.problems(static_cast<Loader::Trouble>(problem - 1));
}

// The tensors of a module as targets, with a reference to each.
struct ModuleTargets {
  std::vector<state::Target> targets;
  std::vector<TensorHandle> tensors;

  ModuleTargets(const std::string &prefix, const bn2d_module *module) {
    for_each_tensor(module, [&](TensorHandle &&tensor, const char *name, const Array &array) {
      state::Target target{prefix + name, array};
      if (std::strcmp(name, "num_batches_tracked") == 0) target.kind = state::Target::Kind::counter;
      targets.push_back(std::move(target));
      tensors.push_back(std::move(tensor));
    });
  }
};

}  // namespace

int32_t bn2d_loader_create(bn2d_state *state, bn2d_loader **out) {
  return guarded([&] {
    required(out, "out");
    NewHandle<bn2d_loader> handle;
    handle->value = std::make_unique<Loading>(checked(state, "state").value);
    *out = handle.publish();
  });
}
int32_t bn2d_loader_retain(bn2d_loader *loader) {
  return guarded([&] { retain(loader, "loader"); });
}
void bn2d_loader_release(bn2d_loader *loader) {
  const NotCancellable here;  // the last one closes the file
  release(loader);
}

int32_t bn2d_loader_add_module(bn2d_loader *loader, const char *prefix, bn2d_module *module) {
  return guarded([&] {
    Loading &loading = loading_of(loader);
    const std::string before = required(prefix, "prefix");
    required(module, "module");
    ModuleTargets own(before, module);
    const bool is_new =
        std::find(loading.modules.begin(), loading.modules.end(), module) == loading.modules.end();
    // All memory first.
    loading.loader.reserve(own.targets.size());
    loading.tensors.reserve(loading.tensors.size() + own.tensors.size());
    loading.modules.reserve(loading.modules.size() + 1);
    std::string kept = before;
    if (is_new) {
      check(bn2d_module_retain(module));
      loading.modules.push_back(module);
    }
    loading.loader.add_prefix(std::move(kept));
    for (state::Target &target : own.targets) loading.loader.add(std::move(target));
    for (TensorHandle &tensor : own.tensors) loading.tensors.push_back(tensor.take());
  });
}
int32_t bn2d_loader_add(bn2d_loader *loader, const char *name, const bn2d_view *target) {
  return guarded([&] {
    Loading &loading = loading_of(loader);
    state::Target added{required(name, "name"), array_of("target", target, true)};
    loading.loader.reserve(1);
    loading.loader.add(std::move(added));
  });
}
int32_t bn2d_loader_add_flat(bn2d_loader *loader, const char *name, int32_t dtype,
                             const int64_t *shape, int32_t rank, void *data) {
  return guarded([&] {
    Loading &loading = loading_of(loader);
    state::Target added{required(name, "name"), array_of("data", dtype, shape, rank, data, true)};
    loading.loader.reserve(1);
    loading.loader.add(std::move(added));
  });
}

int32_t bn2d_loader_load(bn2d_loader *loader, int32_t strict) {
  const NotCancellable here;
  return guarded([&] {
    Loading &loading = loading_of(loader);
    if (strict != 0 && strict != 1)
      fail(Status::invalid_argument, "strict is %" PRId32 ", must be 0 or 1", strict);
    std::vector<ModuleLock> locks;
    locks.reserve(loading.modules.size());
    for (bn2d_module *module : loading.modules) locks.emplace_back(module, true);
    loading.loader.load(strict == 1);
  });
}

int32_t bn2d_loader_problem_count(const bn2d_loader *loader, int32_t problem, int64_t *out) {
  return guarded(
      [&] { *required(out, "out") = static_cast<int64_t>(problems_of(loader, problem).size()); });
}
int32_t bn2d_loader_problem_at(const bn2d_loader *loader, int32_t problem, int64_t index,
                               const char **out_name, const char **out_text) {
  return guarded([&] {
    required(out_name, "out_name");
    required(out_text, "out_text");
    const auto &problems = problems_of(loader, problem);
    if (index < 0 || static_cast<size_t>(index) >= problems.size())
      fail(Status::not_found, "problem %" PRId64 " does not exist, there are %zu of this kind",
           index, problems.size());
    *out_name = problems[static_cast<size_t>(index)].name.c_str();
    *out_text = problems[static_cast<size_t>(index)].text.c_str();
  });
}
