// A batch in several parts, as several processes have it: statistics that are exported and merged,
// a forward with them, and a backward in two steps.
#pragma once
#include <memory>
#include <numeric>

#include "support/numerics_case.h"

namespace numerics {

class Statistics {
 public:
  explicit Statistics(int64_t channels) {
    NUMERICS_OK(bn2d_statistics_create(channels, &statistics_));
  }
  ~Statistics() { bn2d_statistics_release(statistics_); }
  Statistics(const Statistics &) = delete;
  Statistics &operator=(const Statistics &) = delete;
  operator bn2d_statistics *() const { return statistics_; }

  int64_t count() const {
    int64_t count = -1;
    NUMERICS_OK(bn2d_statistics_count(statistics_, &count));
    return count;
  }
  Values exported() const {
    int64_t length = 0;
    NUMERICS_OK(bn2d_statistics_export_length(statistics_, &length));
    Values values(static_cast<size_t>(length));
    NUMERICS_OK(bn2d_statistics_export(statistics_, values.data(), length));
    return values;
  }
  void merge(const Values &exported) {
    NUMERICS_OK(bn2d_statistics_merge_exported(statistics_, exported.data(),
                                               static_cast<int64_t>(exported.size())));
  }

 private:
  bn2d_statistics *statistics_ = nullptr;
};

// Samples [first, first + count) of a batch.
inline Values samples_of(const Values &values, const Extents &e, int64_t first, int64_t count) {
  const auto sample = e.c * e.plane();
  return Values(values.begin() + first * sample, values.begin() + (first + count) * sample);
}

// One process: its part of the batch, and its copy of the module.
class Part {
 public:
  Part(const Case &c, const Inputs &in, int64_t first, int64_t count,
       const Around &around = call_plainly)
      : c_(c),
        around_(around),
        e_{count, c.e.c, c.e.h, c.e.w},
        x(c.data, e_, samples_of(in.x, c.e, first, count), c.x),
        z(c.data, e_, samples_of(in.z, c.e, first, count), c.z),
        dy(c.data, e_, samples_of(in.dy, c.e, first, count), c.y),
        y(c.data, e_, c.y),
        dx(c.data, e_, c.dx),
        dz(c.data, e_, c.dz),
        module(c.e.c, options_of(c)),
        statistics(c.e.c),
        sums(static_cast<size_t>(2 * c.e.c)) {
    if (c.has_weight()) module.set("weight", in.weight);
    if (c.has_bias()) module.set("bias", in.bias);
    if (c.mode == Mode::train)
      module.set("running_mean", in.running_mean), module.set("running_var", in.running_var);
    if (c.mode == Mode::no_track) module.eval();
    NUMERICS_OK(around_("bn2d_statistics_accumulate",
                        [&] { return bn2d_statistics_accumulate(statistics, x.view()); }));
  }
  void forward(bn2d_statistics *total) {
    NUMERICS_OK(around_("bn2d_forward_with_statistics", [&] {
      return bn2d_forward_with_statistics(module, total, x.view(), c_.residual ? z.view() : nullptr,
                                          c_.activation.kind, c_.activation.slope, y.view(),
                                          record.out());
    }));
  }
  void backward_sums() {
    NUMERICS_OK(around_("bn2d_backward_sums", [&] {
      return bn2d_backward_sums(module, record, dy.view(), sums.data(),
                                static_cast<int64_t>(sums.size()));
    }));
  }
  void backward(const Values &total) {
    NUMERICS_OK(around_("bn2d_backward_with_sums", [&] {
      return bn2d_backward_with_sums(module, record, dy.view(), total.data(),
                                     static_cast<int64_t>(total.size()), dx.view(),
                                     c_.residual ? dz.view() : nullptr);
    }));
  }

 private:
  const Case &c_;
  const Around around_;
  const Extents e_;

 public:
  Tensor x, z, dy, y, dx, dz;
  Module module;
  Statistics statistics;
  Values sums;
  Record record;
};

// `samples`: of each part; together those of the batch. The same outputs as those of run(),
// gradients of parameters added up.
inline Outputs run_parts(const Case &c, const Inputs &in, const std::vector<int64_t> &samples,
                         const Around &around = call_plainly) {
  std::vector<std::unique_ptr<Part>> parts;
  int64_t first = 0;
  for (const int64_t count : samples) {
    parts.push_back(std::make_unique<Part>(c, in, first, count, around));
    first += count;
  }
  REQUIRE(first == c.e.n);

  Statistics total(c.e.c);
  for (const auto &part : parts)
    NUMERICS_OK(around("bn2d_statistics_merge",
                       [&] { return bn2d_statistics_merge(total, part->statistics); }));
  CHECK(total.count() == c.e.per_channel());
  for (const auto &part : parts) part->forward(total);
  for (const auto &part : parts) part->backward_sums();
  Values sums(parts[0]->sums.size());
  for (const auto &part : parts)
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += part->sums[i];
  for (const auto &part : parts) part->backward(sums);

  Outputs out;
  const auto append = [&](const char *name, Tensor &tensor) {
    Output &output = out[name];
    output.dtype = c.data;
    const Bits bits = tensor.bits();
    output.bits.insert(output.bits.end(), bits.begin(), bits.end());
    CHECK(tensor.gaps_intact());
  };
  const auto add_up = [&](const char *name, const char *tensor) {
    Values gradient(static_cast<size_t>(c.e.c));
    for (const auto &part : parts) {
      const Values of_part = part->module.get(tensor);
      for (size_t i = 0; i < gradient.size(); ++i) gradient[i] += of_part[i];
    }
    Output &output = out[name];
    output.dtype = BN2D_F64;
    Array as_bits(BN2D_F64, gradient);
    output.bits = as_bits.bits();
    if (parts.size() == 1) output = {c.module, parts[0]->module.bits(tensor)};
  };
  for (const auto &part : parts) {
    append("y", part->y);
    append("dx", part->dx);
    if (c.residual) append("dz", part->dz);
    if (c.mode != Mode::train) continue;
    for (const char *name : {"running_mean", "running_var"}) {
      out[name] = {c.module, part->module.bits(name)};
      CHECK(out[name].bits == parts[0]->module.bits(name));  // everywhere the same
    }
    CHECK(part->module.batches() == 1);
  }
  if (c.has_weight()) add_up("dweight", "weight.grad");
  if (c.has_bias()) add_up("dbias", "bias.grad");
  return out;
}

}  // namespace numerics
