// What a host with threads, locks, errors or kernels of its own uses.
#include <cmath>

#include "fuzz/comparison.h"
#include "fuzz/machine.h"
#include "support/contract_message.h"

namespace bn2d_fuzz {
namespace {

// A host's pool: in reverse order, and it leaves the first worker to the library.
void run_in_reverse(void *user, int32_t workers, bn2d_work work, void *context) {
  ++*static_cast<uint64_t *>(user);
  for (int32_t worker = workers - 1; worker > 0; --worker) work(context, worker);
}

uint64_t g_runs = 0;

}  // namespace

// Of the process, or of one module. From here on results come by way of this pool.
void Machine::pools() {
  Verdict verdict;
  ModuleModel *const m = in_.coin() ? modules_[pick_module()].get() : nullptr;
  bn2d_module *const module = m == nullptr ? nullptr : spoil(m->handle, verdict);
  const std::string of = m == nullptr ? "" : "module_";
  int32_t pool = BN2D_POOL_HOST, status = BN2D_OK;
  std::string what = of + "set_host_thread_pool ";
  before();
  if (in_.coin()) {
    const auto run = in_.one_in(16) ? nullptr : &run_in_reverse;
    const auto threads = in_.pick<int32_t>({1, 2, 3, 8, 64, INT32_MAX, 0, -1});
    if (run == nullptr || threads < 1) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    status = m == nullptr ? bn2d_set_host_thread_pool(run, &g_runs, threads)
                          : bn2d_module_set_host_thread_pool(module, run, &g_runs, threads);
    what += std::to_string(threads);
  } else {
    pool = in_.pick<int32_t>(
        {BN2D_POOL_DEFAULT, BN2D_POOL_TBB, BN2D_POOL_OPENMP, BN2D_POOL_HOST, 4, -1, INT32_MAX});
    if (pool == BN2D_POOL_OPENMP) verdict.must.add(BN2D_ERROR_NOT_FOUND);  // this process has none
    if (pool < BN2D_POOL_DEFAULT || pool > BN2D_POOL_OPENMP)
      verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    status = m == nullptr ? bn2d_set_thread_pool(pool) : bn2d_module_set_thread_pool(module, pool);
    what = of + "set_thread_pool " + std::to_string(pool);
  }
  if (!settle(what, status, verdict)) return;
  int32_t now = -1;
  if (m == nullptr) {
    now = bn2d_get_thread_pool();
    if (pool == BN2D_POOL_DEFAULT) pool = BN2D_POOL_TBB;
  } else if (bn2d_module_get_thread_pool(m->handle, &now) != BN2D_OK) {
    found("module_get_thread_pool", bn2d_last_error());
  }
  if (now != pool) found(what, "the pool is " + std::to_string(now));
  reach(of + "get_thread_pool");
}

// Locks a module, tries what that excludes, and leaves it unlocked.
void Machine::locks() {
  const ModuleModel &m = *modules_[pick_module()];
  int exclusive = 0, shared = 0;
  for (int64_t steps = 1 + in_.below(8); steps > 0; --steps) {
    Verdict verdict;
    const auto kind = in_.one_in(16) ? in_.pick<int32_t>({2, -1}) : in_.coin() ? 1 : 0;
    int &held = kind == 1 ? exclusive : shared;
    const int64_t which = in_.below(4);
    if (which > 0 && kind != 0 && kind != 1) verdict.must.add(BN2D_ERROR_INVALID_ARGUMENT);
    bn2d_module *const handle = spoil(m.handle, verdict);
    before();
    if (which == 0) {  // what needs the module alone
      if (exclusive + shared > 0) verdict.must.add(BN2D_ERROR_BUSY);
      simple("module_train", bn2d_module_train(handle, m.training ? 1 : 0), verdict);
    } else if (which == 1 && kind == 0) {  // what shares it
      if (exclusive > 0) verdict.must.add(BN2D_ERROR_BUSY);
      if (!m.options.track) verdict.must.add(BN2D_ERROR_STATE);
      simple("module_scale_shift",
             bn2d_module_scale_shift(handle, BN2D_F32, nullptr, nullptr, m.channels), verdict);
    } else if (which < 3) {
      if (exclusive > 0 || (kind == 1 && shared > 0)) verdict.must.add(BN2D_ERROR_BUSY);
      simple("module_try_lock " + std::to_string(kind), bn2d_module_try_lock(handle, kind),
             verdict);
      if (verdict.must.empty()) ++held;
    } else {
      if (held == 0) verdict.must.add(BN2D_ERROR_STATE);
      simple("module_unlock " + std::to_string(kind), bn2d_module_unlock(handle, kind), verdict);
      if (verdict.must.empty()) --held;
    }
  }
  for (; exclusive + shared > 0; --(exclusive > 0 ? exclusive : shared)) {
    before();
    simple("module_unlock", bn2d_module_unlock(m.handle, exclusive > 0 ? 1 : 0), {});
  }
}

// The map of eval mode.
void Machine::scale_shift() {
  ModuleModel &m = *modules_[pick_module()];
  Verdict verdict;
  const auto dtype = static_cast<int32_t>(1 + in_.below(4));
  const Operand scale = place_.array("scale", 3, dtype, m.channels, true, !in_.one_in(4), nullptr),
                shift = place_.array("shift", 4, dtype, m.channels, true, !in_.one_in(4), &scale);
  place_.judge({&scale, &shift}, verdict);
  int64_t length = m.channels;
  int32_t told = dtype;
  if (in_.one_in(24)) {
    length += in_.pick<int64_t>({-1, 1, -length, INT64_MAX - 400});
    verdict.must.add(BN2D_ERROR_SHAPE);
  } else if (in_.one_in(24)) {
    told = in_.pick<int32_t>({0, BN2D_I64, 6, -1});
    verdict.must.add(BN2D_ERROR_DTYPE);
  }
  if (!m.options.track) verdict.must.add(BN2D_ERROR_STATE);
  const bn2d_module *const handle = spoil(m.handle, verdict);
  const std::string what = "module_scale_shift dtype " + std::to_string(told) + scale.text() +
                           shift.text() + " eps " + std::to_string(m.options.eps);
  before(what);
  if (!settle(what,
              bn2d_module_scale_shift(handle, told, scale.as<void>(), shift.as<void>(), length),
              verdict))
    return;
  check_only(what, {&scale, &shift}, -1, {});
  const auto channels = static_cast<size_t>(m.channels);
  const Values weight = m.values("weight"), bias = m.values("bias"),
               mean = m.values("running_mean"), var = m.values("running_var");
  const oracle::Statistics s = oracle::frozen_statistics(mean, var, m.options.eps);
  Reals want_scale(channels), want_shift(channels), scale_scale(channels), scale_shift(channels),
      extra(channels);
  std::vector<bool> judged(channels);
  for (size_t c = 0; c < channels; ++c) {
    const auto i = static_cast<int64_t>(c);
    const Real w = oracle::at_or(weight, i, 1), b = oracle::at_or(bias, i, 0);
    want_scale[c] = w * s.invstd[c];
    want_shift[c] = b - mean[c] * want_scale[c];
    scale_scale[c] = std::fabs(want_scale[c]);
    scale_shift[c] = std::fabs(b) + std::fabs(mean[c] * want_scale[c]);
    extra[c] = oracle::ulp(oracle::binary64, 0) * (1 + std::fabs(mean[c]));
    judged[c] = std::isfinite(s.invstd[c]) && std::isfinite(scale_shift[c]);
  }
  const auto judge = [&](const Operand &got, const Reals &want, const Reals &of) {
    if (!got.given) return;
    const std::string problem =
        Comparison(got.name.c_str(), dtype, m.channels, 1, judged)
            .run(place_.values(got), want, of, extra, dtype == BN2D_F64 ? 3 : Real{0.51L});
    if (!problem.empty()) found(what, problem);
    reach("scale and shift judged");
  };
  judge(scale, want_scale, scale_scale);
  judge(shift, want_shift, scale_shift);
}

// The message of a library on top of this one.
void Machine::last_error() {
  const auto status = in_.pick<int32_t>({BN2D_ERROR_IO, BN2D_OK, 77, INT32_MIN});
  const bool null = in_.one_in(8);
  std::string text = in_.coin() ? "disk full: " : "";
  for (int64_t i = in_.below(300); i > 0; --i) text += static_cast<char>(in_.byte() | 1);
  before();
  const int32_t got = bn2d_set_last_error(status, null ? nullptr : text.c_str());
  if (got != (null ? int32_t{BN2D_ERROR_INVALID_ARGUMENT} : status))
    found("set_last_error", "returned " + std::to_string(got));
  const std::string now = bn2d_last_error(), fault = bn2d_test::message_fault(now.c_str());
  if (bn2d_test::message_is_marked()) found("set_last_error", "has set nothing");
  if (!text.empty() && !fault.empty()) found("set_last_error", fault + ": " + now);
  if (!null && text.compare(0, 11, now, 0, 11) != 0 && text.compare(0, 4, "disk") == 0)
    found("set_last_error", "now is: " + now);
  check_only("set_last_error", {}, -1, {});
  reach("set_last_error");
}

}  // namespace bn2d_fuzz
