// Statistics take in others, by their handle or by what was exported of them.
#include <cmath>

#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::Merge : Machine::Call {
  Merge(Machine &of, size_t to) : Call(of), index(to), s(of.statistics_[to]) {}
  void run();

 private:
  const size_t index;
  StatisticsModel &s;
  StatisticsModel other;  // a copy: it may be the same
  int64_t more = 0;       // values of the other
  bool known = true;      // what these are
  bn2d_statistics *handle = nullptr;

  int32_t call();
  int32_t call_exported();
  void draw_count(Values &values);
  void draw_value(Values &values);
  void follow();
};

void Machine::merge(size_t index) { Merge(*this, index).run(); }

void Machine::Merge::run() {
  other = in.one_of(machine.statistics_);
  more = other.count, known = other.known;
  verdict.fails_if(other.channels != s.channels, BN2D_ERROR_SHAPE);
  handle = machine.spoil(s.handle, verdict);
  const int32_t status = in.coin() ? call() : call_exported();
  if (!machine.settle(what, status, verdict)) return;
  machine.changing_ = static_cast<int>(index);
  machine.check_only(what, {}, -1, {});
  if (more > 0) follow();
  machine.judge_statistics(what, s);
}

int32_t Machine::Merge::call() {
  what = "statistics_merge";
  const bn2d_statistics *from = machine.spoil_statistics(other.handle, true, verdict);
  verdict.fails_if(more > StatisticsModel::kMostValues - s.count, BN2D_ERROR_OVERFLOW);
  machine.before(what);
  return bn2d_statistics_merge(handle, from);
}

int32_t Machine::Merge::call_exported() {
  what = "statistics_merge_exported";
  Values values = machine.exported(other);
  // The arrays of somebody else.
  if (in.one_in(4)) draw_count(values);
  if (in.one_in(6) && other.channels > 0) draw_value(values);
  const auto size = static_cast<int64_t>(values.size());
  const Operand array = place.array("values", 2, BN2D_F64, size, false, true, nullptr);
  verdict.must.add(array.faults);
  for (size_t i = 0; array.whole() && i < values.size(); ++i)
    std::memcpy(machine.memory_.at(array.footprint.offsets[i]), &values[i], sizeof(double));
  const int64_t length = machine.choose_length(size, verdict, 40);
  verdict.fails_if(more > StatisticsModel::kMostValues - s.count, BN2D_ERROR_OVERFLOW);
  machine.before(what);
  return bn2d_statistics_merge_exported(handle, array.as<double>(), length);
}

void Machine::Merge::draw_count(Values &values) {
  const double count = in.pick({0.0, 1.0, 9007199254740992.0, 9007199254740000.0, -1.0, 1.5, nan,
                                infinity, 9007199254740994.0, -0.0});
  const bool right = count >= 0 && count <= 9007199254740992.0 && count == std::floor(count);
  verdict.fails_if(!right);
  values[0] = count;
  more = right ? static_cast<int64_t>(count) : 0;
  known = false;
}

void Machine::Merge::draw_value(Values &values) {
  const auto channels = static_cast<size_t>(other.channels);
  const auto at = static_cast<size_t>(1 + in.below(4 * other.channels));
  values[at] = in.pick({nan, infinity, -infinity, -1.0, 1e308, -0.0, 5e-324});
  for (size_t square = 1 + 2 * channels; square <= 3 * channels && more > 0; ++square)
    verdict.fails_if(values[square] + values[square + channels] < 0);
  known = false;
}

// The model takes in the same.
void Machine::Merge::follow() {
  s.count += more;
  s.known = s.known && known;
  s.all_f64 = s.all_f64 && other.all_f64;
  for (size_t c = 0; c < s.values.size() && s.known; ++c) {
    s.values[c].insert(s.values[c].end(), other.values[c].begin(), other.values[c].end());
    s.parts[c] = std::max(s.parts[c], other.parts[c]);
    if (s.values[c].size() > StatisticsModel::kMostKept) s.known = false;
  }
}

}  // namespace bn2d_fuzz
