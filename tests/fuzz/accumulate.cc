// Statistics take in a tensor.
#include <cmath>

#include "fuzz/call.h"
#include "support/contract_message.h"

namespace bn2d_fuzz {

struct Machine::Accumulate : Machine::Call {
  Accumulate(Machine &of, size_t to) : Call(of), index(to), s(of.statistics_[to]) {}
  void run();

 private:
  const size_t index;
  StatisticsModel &s;
  Operand x;
  bn2d_statistics *handle = nullptr;
  Values old;  // the export before the call

  bool draw();
  std::string text() const;
  int32_t call(bn2d_statistics *to) const;
  void follow();
  void once_more();
};

void Machine::accumulate(size_t index) { Accumulate(*this, index).run(); }

void Machine::Accumulate::run() {
  if (!draw()) return;
  what = text();
  machine.before(what);
  old = machine.exported(s);
  bn2d_test::mark_message();
  if (!machine.settle(what, call(handle), verdict)) return;
  machine.changing_ = static_cast<int>(index);
  machine.check_only(what, {}, -1, {});
  if (per_channel() > 0) follow();
  machine.judge_statistics(what, s);
  reach_blocks("statistics", {&x});
  if (in.one_in(6)) once_more();
}

// False for a tensor of another shape or dtype, which is none that is wrong: there is nothing to
// compare it with.
bool Machine::Accumulate::draw() {
  data = static_cast<int32_t>(1 + in.below(4));
  plain = in.one_in(3);
  nhwc = plain && in.coin();
  int64_t channels = s.channels;
  if (!plain && in.one_in(40)) channels += 1, verdict.must.add(BN2D_ERROR_SHAPE);
  shape = machine.choose_shape(channels);
  x = tensor("x", 0, false, false, nullptr);
  if (x.faults.has(BN2D_ERROR_SHAPE) || x.faults.has(BN2D_ERROR_DTYPE)) return false;
  place.fill(x, shape, in.one_in(4));
  place.judge({&x}, verdict);
  verdict.fails_if(per_channel() > StatisticsModel::kMostValues - s.count, BN2D_ERROR_OVERFLOW);
  handle = machine.spoil(s.handle, verdict);
  return true;
}

std::string Machine::Accumulate::text() const {
  return std::string(plain ? "statistics_accumulate_flat" : "statistics_accumulate") + " dtype " +
         std::to_string(data) + text_of(shape) + x.text();
}

int32_t Machine::Accumulate::call(bn2d_statistics *to) const {
  return plain ? bn2d_statistics_accumulate_flat(to, data, layout(), x.data, shape[0], shape[2],
                                                 shape[3])
               : bn2d_statistics_accumulate(to, x.pointer());
}

// The model takes in the same values.
void Machine::Accumulate::follow() {
  const Values values = place.values(x);
  const oracle::Extents e = extents_of(shape);
  const oracle::Statistics part = oracle::batch_statistics(e, values, 0);
  const bool f64 = data == BN2D_F64;
  const oracle::Format &format = f64 ? oracle::binary64 : oracle::binary32;
  s.count += per_channel();
  s.all_f64 = s.all_f64 && f64;
  for (size_t c = 0; c < s.values.size(); ++c) {
    oracle::for_channel(e, static_cast<int64_t>(c),
                        [&](int64_t i) { s.values[c].push_back(values[static_cast<size_t>(i)]); });
    const Real error = 2 * oracle::ulp(format, oracle::promised_mean_scale(part, c, f64));
    s.parts[c] = std::max(s.parts[c], error);
    if (s.values[c].size() > StatisticsModel::kMostKept) s.known = false;
  }
}

// Statistics of no values that take in what was exported are the same bits again: from there the
// same call, with other threads.
void Machine::Accumulate::once_more() {
  StatisticsModel again;
  again.channels = s.channels;
  if (bn2d_statistics_create(s.channels, &again.handle) != BN2D_OK ||
      bn2d_statistics_merge_exported(again.handle, old.data(), static_cast<int64_t>(old.size())) !=
          BN2D_OK)
    machine.found(what, bn2d_last_error());
  const int32_t threads = bn2d_get_num_threads();
  bn2d_set_num_threads(in.pick({1, 2, 3, 8}));
  const int32_t status = call(again.handle);
  bn2d_set_num_threads(threads);
  const Values one = machine.exported(s), other = machine.exported(again);
  bn2d_statistics_release(again.handle);
  if (status != BN2D_OK) machine.found(what, "once more fails");
  for (size_t i = 0; i < one.size(); ++i)
    if (std::memcmp(&one[i], &other[i], sizeof(double)) != 0 &&
        !(std::isnan(one[i]) && std::isnan(other[i])))
      machine.found(what, "once more gives other bits at " + std::to_string(i) + " of the export");
}

}  // namespace bn2d_fuzz
