// What a module has once for each channel, seen from the channels of several sets (tensor/sets.h).
#pragma once
#include <algorithm>

#include "base/scratch.h"
#include "ops/operations.h"
#include "parallel/plan.h"

namespace bn2d {

// Calls f(first, channels, offset) for the channels of a module that those of a group stand for.
template <class F>
void for_channels_of_module(const Sets &sets, const Group &g, const F &f) {
  for (int64_t done = 0; done < g.channels;) {
    const int64_t first = sets.batches() == 1 ? g.channel : (g.channel + done) % sets.size.c;
    const int64_t channels = std::min(g.channels - done, sets.size.c - first);
    f(first, channels, done);
    done += channels;
  }
}

// Calls f(set, first, channels) for the sets that a group has channels of, counted from its first.
template <class F>
void for_sets(const Sets &sets, const Group &g, const F &f) {
  int64_t set = sets.channels == 1 ? g.channel : g.channel / sets.channels;
  for (int64_t done = 0; done < g.channels; ++set) {
    const int64_t channels =
        std::min((set + 1) * sets.channels - g.channel - done, g.channels - done);
    f(set, done, channels);
    done += channels;
  }
}

// How many sets a group has channels of.
inline int64_t count_sets(const Sets &sets, const Group &g) {
  return (g.channel + g.channels - 1) / sets.channels - g.channel / sets.channels + 1;
}

// The same number for channels that follow one another. Not inlined: a loop in vectors is 200
// bytes.
void fill(double *to, int64_t count, double value);
void fill(float *to, int64_t count, float value);

// From the sets of a group to its channels. From the last one on, so that nothing is overwritten
// that is still to be read.
void spread(const Sets &sets, const Group &g, double *of_sets);

inline void load_for(const Sets &sets, const Group &g, const ChannelArray &array, double *to) {
  for_channels_of_module(sets, g, [&](int64_t first, int64_t channels, int64_t offset) {
    array.load(first, channels, to + offset);
  });
}

// A number of each channel of each set, kept until all sets are done: then those of one channel of
// the module come together in the order of the sets, whoever has finished first.
class KeptOfSets {
 public:
  // Empty where there is one batch of samples: then nothing has to wait.
  KeptOfSets(const Sets &sets, bool wanted)
      : channels_(sets.size.c),
        batches_(sets.batches()),
        scratch_(wanted && batches_ > 1 ? static_cast<size_t>(channels_ * batches_) * sizeof(double)
                                        : 0) {}

  bool exists() const { return scratch_.data() != nullptr; }
  void keep(const Group &g, const double *values) const {
    std::copy_n(values, g.channels, data() + g.channel);
  }
  double at(int64_t batch, int64_t c) const { return data()[batch * channels_ + c]; }
  // The sums of the channels of a group, of kMaxGroup at most. Sample after sample, as they are in
  // memory, and so in vectors.
  void sum(const Group &g, double *sums) const;
  [[gnu::cold]] double average(int64_t c) const;  // over the sets

 private:
  [[gnu::cold]] double sum_of_large(int64_t c, double divisor) const;
  double *data() const { return static_cast<double *>(scratch_.data()); }
  int64_t channels_, batches_;
  Scratch scratch_;
};

}  // namespace bn2d
