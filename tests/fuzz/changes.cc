// What changes a living module.
#include "fuzz/machine.h"

namespace bn2d_fuzz {

void Machine::change_module() {
  const size_t index = pick_module();
  ModuleModel &m = *modules_[index];
  Verdict verdict;
  bn2d_module *handle = spoil(m.handle, verdict);
  const auto expect = [&](const char *name, double value) {
    for (const double v : m.values(name))
      if (v != value) found("a reset", std::string(name) + " is " + std::to_string(v));
  };
  before();
  switch (in_.below(6)) {
    case 0: {
      const int32_t training =
          in_.one_in(16) ? in_.pick({-1, 2}) : static_cast<int32_t>(in_.below(2));
      verdict.fails_if(training != 0 && training != 1);
      if (settle("module_train " + std::to_string(training), bn2d_module_train(handle, training),
                 verdict))
        m.training = training == 1;
      break;
    }
    case 1:
      if (settle("module_eval", bn2d_module_eval(handle), verdict)) m.training = false;
      break;
    case 2: {
      const int32_t threads = in_.pick<int32_t>({0, 1, 2, INT32_MAX, -1});
      verdict.fails_if(threads < 0);
      if (settle("module_set_num_threads", bn2d_module_set_num_threads(handle, threads), verdict))
        m.threads = threads;
      break;
    }
    case 3:
    case 4: {
      const bool all = in_.coin();
      const int32_t status =
          all ? bn2d_module_reset_parameters(handle) : bn2d_module_reset_running_stats(handle);
      if (!settle(all ? "module_reset_parameters" : "module_reset_running_stats", status, verdict))
        return;
      std::vector<std::string> changed{"running_mean", "running_var", "num_batches_tracked"};
      if (all) changed.insert(changed.end(), {"weight", "bias"});
      check_only("a reset", {}, static_cast<int>(index), changed);
      expect("running_mean", 0);
      expect("running_var", 1);
      if (all) expect("weight", 1), expect("bias", 0);
      break;
    }
    default:
      if (!settle("module_zero_grad", bn2d_module_zero_grad(handle), verdict)) return;
      check_only("module_zero_grad", {}, static_cast<int>(index), {"weight.grad", "bias.grad"});
      expect("weight.grad", 0);
      expect("bias.grad", 0);
      break;
  }
}

// Momentum and frozen statistics; and ghost batches of options.
void Machine::change_living() {
  Verdict verdict;
  const int64_t which = in_.below(5);
  if (which == 4) return set_ghost_batch_size();
  ModuleModel &m = *modules_[pick_module()];
  bn2d_module *handle = spoil(m.handle, verdict);
  verdict.fails_if(which < 2 && m.norm == BN2D_NORM_GROUP, BN2D_ERROR_STATE);
  before();
  if (which == 0) {
    const double momentum = choose_momentum(verdict);
    if (settle("module_set_momentum", bn2d_module_set_momentum(handle, momentum), verdict))
      m.options.momentum = momentum, m.options.has_momentum = true;
  } else if (which == 1) {
    if (settle("module_set_momentum_none", bn2d_module_set_momentum_none(handle), verdict))
      m.options.has_momentum = false;
  } else {
    const int32_t frozen = in_.one_in(12) ? in_.pick({-1, 2, INT32_MAX}) : in_.coin() ? 1 : 0;
    verdict.fails_if(frozen != 0 && frozen != 1);
    verdict.fails_if(frozen == 1 && !m.options.track, BN2D_ERROR_STATE);
    if (settle("module_set_frozen", bn2d_module_set_frozen(handle, frozen), verdict))
      m.frozen = frozen == 1;
  }
}

}  // namespace bn2d_fuzz
