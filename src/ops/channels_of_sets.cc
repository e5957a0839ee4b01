#include "ops/channels_of_sets.h"

#include <algorithm>
#include <cmath>

#include "base/two_sum.h"

namespace bn2d {

void fill(double *to, int64_t count, double value) { std::fill_n(to, count, value); }
void fill(float *to, int64_t count, float value) { std::fill_n(to, count, value); }

void spread(const Sets &sets, const Group &g, double *of_sets) {
  int64_t end = g.channels;
  for (int64_t set = count_sets(sets, g) - 1; set >= 0; --set) {
    const int64_t begin =
        std::max((g.channel / sets.channels + set) * sets.channels - g.channel, int64_t{0});
    std::fill(of_sets + begin, of_sets + end, double{of_sets[set]});
    end = begin;
  }
}

void KeptOfSets::sum(const Group &g, double *sums) const {
  double low[kernels::kMaxGroup] = {};
  std::fill_n(sums, g.channels, 0.0);
  for (int64_t batch = 0; batch < batches_; ++batch)
    kernels::active().channel.add(g.channels, sums, low, data() + batch * channels_ + g.channel,
                                  nullptr);
  for (int64_t i = 0; i < g.channels; ++i)
    sums[i] = std::isfinite(sums[i]) ? sums[i] + low[i] : sum_of_large(g.channel + i, 1);
}

double KeptOfSets::average(int64_t c) const {
  const auto count = static_cast<double>(batches_);
  double total;
  sum({c, 1}, &total);
  return std::isfinite(total) ? total / count : sum_of_large(c, count);
}

// The sum of a channel that passes beyond double on its way, or does not end in it, over a divisor:
// {1.5e308, 1.5e308, -1.6e308} gives 1.4e308 over 1.
double KeptOfSets::sum_of_large(int64_t c, double divisor) const {
  constexpr double kScale = 0x1p-64;  // there are fewer sets
  double sum = 0, low = 0;
  for (int64_t batch = 0; batch < batches_; ++batch) {
    const TwoSum s = two_sum(sum, at(batch, c) * kScale);
    low += s.error;
    sum = s.sum;
  }
  return (std::isfinite(sum) ? sum + low : sum) / divisor / kScale;
}

}  // namespace bn2d
