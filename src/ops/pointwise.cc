// Pointwise activations: box by box, small enough for L1, in the arithmetic type.
//
//   forward    a map without activation writes the argument into a buffer, the activation is
//              applied there, and the box is stored
//   backward   the argument is made again of x and z, dy becomes g = dy*act'(argument) in a buffer,
//              and sums and maps without activation take g from there. Where dx has room for it,
//              the sums leave g there for the map, which then is an ordinary one
//
// So there is one kernel for all of them, and the kernels of maps and sums do not know them. Half
// data pass through the kernels of floats. Backward of relu6 and clamp comes here only for half and
// double data, after a residual, and where float has too little range for a channel (find_side).
#include <algorithm>
#include <cstring>
#include <new>

#include "base/cache_line.h"
#include "ops/blockwise.h"
#include "ops/long_rows.h"
#include "ops/preactivation.h"
#include "ops/unbounded.h"

namespace bn2d {

using kernels::Layout;
using kernels::Strided;

namespace {
// Of the arithmetic type. Sums whose vectors run along channels need 128 positions at a time: x and
// g have room for these. The argument passes in parts of kBoxBytes (pointwise_sums).
constexpr int64_t kBoxBytes = 8 * 1024, kSumsBoxBytes = 32 * 1024;
}  // namespace

struct Blockwise::PointwiseBuffers {
  alignas(kLineBytes) std::byte
      kernel[std::max(kernels::kSumsBufferBytes, kLongRowsBytes)];  // for one that needs it
  alignas(kLineBytes) std::byte x[kSumsBoxBytes];
  alignas(kLineBytes) std::byte g[kSumsBoxBytes + kLineBytes];
  alignas(kLineBytes) std::byte argument[kBoxBytes];
  alignas(
      kLineBytes) std::byte packed[kBoxBytes];  // elements that are not in the arithmetic type yet
};
static_assert(sizeof(Blockwise::PointwiseBuffers) <=
              Blockwise::kBufferBytes + Blockwise::kPointwiseBytes);

// A box without gaps: sample after sample; in each, channels or positions change fastest.
Strided Blockwise::box_strided(std::byte *buffer, const Group &group,
                               const Blocks::Block &box) const {
  Strided strided;
  strided.data = buffer;
  strided.sample = group.channels * box.length;
  strided.channel = along_channels() ? 1 : box.length;
  strided.position = along_channels() ? group.channels : 1;
  return strided;
}

// The memory of a box that is one run, with elements of the arithmetic type; NULL: it is not like
// that.
std::byte *Blockwise::direct_box(const View &view, const Group &group,
                                 const Blocks::Block &box) const {
  if (!view.exists() || mode_ == Mode::packed || dtype_size(dtype_) != arithmetic_size(dtype_))
    return nullptr;
  const Strided at = strided(view, group, box);
  const int64_t row = along_channels() ? group.channels : box.length,
                count = along_channels() ? box.length : group.channels;
  const bool joined = count == 1 || (along_channels() ? at.position : at.channel) == row;
  return joined && (box.samples == 1 || at.sample == row * count)
             ? static_cast<std::byte *>(at.data)
             : nullptr;
}

// Calls f(memory, first element in the box, count) for stretches of memory of a tensor.
template <class F>
void Blockwise::for_each_row(const View &view, const Group &group, const Blocks::Block &box,
                             const F &f) const {
  const Strided in_box = box_strided(nullptr, group, box), in_view = strided(view, group, box);
  int64_t count = along_channels() ? group.channels : box.length,
          middle = along_channels() ? box.length : group.channels, outer = box.samples;
  const int64_t step = along_channels() ? in_view.position : in_view.channel;
  if (step == count) {
    count *= middle;
    middle = 1;
    if (in_view.sample == in_box.sample) {
      count *= outer;
      outer = 1;
    }
  }
  std::byte *const start = static_cast<std::byte *>(in_view.data);
  for (int64_t n = 0; n < outer; ++n)
    for (int64_t i = 0; i < middle; ++i)
      f(start + (n * in_view.sample + i * step) * dtype_size(dtype_), n * in_box.sample + i * count,
        count);
}

Box Blockwise::box_of(const Group &group, const Blocks::Block &box) const {
  const Place place = place_of(group.channel);
  return {place.sample + box.first_sample,
          box.samples,
          place.channel,
          group.channels,
          box.position,
          box.length};
}

void Blockwise::load_box(const View &view, const Group &group, const Blocks::Block &box,
                         std::byte *to, PointwiseBuffers &own) const {
  const int64_t bytes = arithmetic_size(dtype_), element = dtype_size(dtype_);
  if (mode_ != Mode::packed)
    return for_each_row(view, group, box, [&](const std::byte *from, int64_t at, int64_t count) {
      kernels_.load_array(from, count, to + at * bytes);
    });
  const Strided in_box = box_strided(nullptr, group, box);
  gather(view, box_of(group, box), {in_box.channel, in_box.sample},
         element == bytes ? to : own.packed);
  if (element != bytes) kernels_.load_array(own.packed, group.channels * box.elements(), to);
}

void Blockwise::store_box(std::byte *from, const View &view, const Group &group,
                          const Blocks::Block &box, bool streaming, PointwiseBuffers &own) const {
  const int64_t bytes = arithmetic_size(dtype_), element = dtype_size(dtype_);
  if (mode_ != Mode::packed)
    return for_each_row(view, group, box, [&](std::byte *to, int64_t at, int64_t count) {
      kernels_.store_array(from + at * bytes, count, to, streaming);
    });
  if (element != bytes)
    kernels_.store_array(from, group.channels * box.elements(), own.packed, false);
  const Strided in_box = box_strided(nullptr, group, box);
  scatter(element == bytes ? from : own.packed, {in_box.channel, in_box.sample}, view,
          box_of(group, box));
}

// A box of a tensor in the arithmetic type: where it is, or in the buffer.
Strided Blockwise::read_box(const View &view, const Group &group, const Blocks::Block &box,
                            std::byte *buffer, PointwiseBuffers &own) const {
  if (!view.exists()) return {};
  if (mode_ != Mode::packed && dtype_size(dtype_) == arithmetic_size(dtype_))
    return strided(view, group, box);
  load_box(view, group, box, buffer, own);
  return box_strided(buffer, group, box);
}

// Samples, channels and positions of the boxes of a block, in which all fits L1. whole_runs: each
// has whole runs of the sums (kernels.h).
Blockwise::BoxShape Blockwise::box_shape(const Group &group, const Blocks::Block &block,
                                         bool whole_runs) const {
  const bool is_wide = whole_runs && along_channels();
  const int64_t most = (is_wide ? kSumsBoxBytes : kBoxBytes) / arithmetic_size(dtype_);
  const int64_t fewest_samples = whole_runs ? kernels::planes_of_run(block.length) : 1;
  const int64_t fewest_positions = whole_runs ? std::min(block.length, kernels::kRunElements) : 1;
  const auto whole = [](int64_t count, int64_t unit, int64_t all) {
    return std::min(std::max(count / unit * unit, unit), all);
  };
  BoxShape shape;
  shape.across = along_channels() || (transposes_ && group.channels > 1);
  if (along_channels()) {
    shape.channels = whole(most / (fewest_samples * fewest_positions), 1, group.channels);
    shape.length = whole(most / (shape.channels * fewest_samples), fewest_positions, block.length);
  } else {
    shape.length = std::min(block.length, shape.across ? kernels::kRunElements : most);
    const bool is_part = !shape.across && shape.length < block.length;
    shape.channels = is_part ? 1 : whole(most / (shape.length * fewest_samples), 1, group.channels);
  }
  const bool is_all = shape.length == block.length && shape.channels == group.channels;
  const int64_t fit = is_all ? most / (shape.length * shape.channels) / fewest_samples : 1;
  shape.samples = std::max(fit, int64_t{1}) * fewest_samples;
  return shape;
}

// Calls f(group, box) for the boxes of a block; those of a channel come in the order of its sums.
template <class F>
void Blockwise::for_each_box(const Group &group, const Blocks::Block &block, bool whole_runs,
                             const F &f) const {
  const BoxShape shape = box_shape(group, block, whole_runs);
  const int64_t end = block.first_sample + block.samples;
  const auto visit = [&](int64_t n, int64_t c, int64_t p) {
    f(Group{group.channel + c, std::min(shape.channels, group.channels - c)},
      Blocks::Block{n, std::min(shape.samples, end - n), block.position + p,
                    std::min(shape.length, block.length - p)});
  };
  for (int64_t n = block.first_sample; n < end; n += shape.samples) {
    if (shape.across) {
      for (int64_t p = 0; p < block.length; p += shape.length)
        for (int64_t c = 0; c < group.channels; c += shape.channels) visit(n, c, p);
    } else {
      for (int64_t c = 0; c < group.channels; c += shape.channels)
        for (int64_t p = 0; p < block.length; p += shape.length) visit(n, c, p);
    }
  }
}

// ---- maps and sums

kernels::ActivationJob Blockwise::activation_job(const void *argument, const void *gradient,
                                                 void *out, int64_t count) const {
  kernels::ActivationJob job;
  job.activation = tensors_.activation;
  job.is_second = tensors_.is_second;
  job.bound = tensors_.bound;
  job.argument = argument;
  job.gradient = gradient;
  job.out = out;
  job.count = count;
  return job;
}

namespace {

void activate(const kernels::ActivationJob &job, bool wide) {
  const auto kernel = kernels::active().activate[wide][kernels::is_smooth(job.activation)];
  constexpr int64_t kStep = kernels::kActivationBytes;
  const int64_t element = wide ? 8 : 4, all = job.count * element, whole = all / kStep * kStep;
  kernels::ActivationJob part = job;
  part.count = whole / element;
  kernel(part);
  if (whole == all) return;
  // The last elements do not fill a vector. Where the output is none of the inputs, the vector that
  // ends with them is computed, some elements of it once more. Else they are copied: that way eval
  // of hardswish (1,256,14,14) would take 1.08 of the time.
  part.count = kStep / element;
  part.ahead[0] = part.ahead[1] = nullptr;
  part.streaming = false;
  const auto at = [](const void *array, int64_t bytes) -> std::byte * {
    return array ? static_cast<std::byte *>(const_cast<void *>(array)) + bytes : nullptr;
  };
  const auto set = [&](std::byte *argument, std::byte *gradient, std::byte *out) {
    part.argument = argument;
    if (job.gradient != nullptr) part.gradient = gradient;
    part.out = out;
  };
  if (whole != 0 && job.out != job.argument && job.out != job.gradient) {
    set(at(job.argument, all - kStep), at(job.gradient, all - kStep), at(job.out, all - kStep));
    return kernel(part);
  }
  alignas(kLineBytes) std::byte rest[3][kStep] = {};
  const size_t bytes = static_cast<size_t>(all - whole);
  std::memcpy(rest[0], at(job.argument, whole), bytes);
  if (job.gradient != nullptr) std::memcpy(rest[1], at(job.gradient, whole), bytes);
  set(rest[0], rest[1], rest[2]);
  kernel(part);
  std::memcpy(at(job.out, whole), rest[2], bytes);
}

}  // namespace

void Blockwise::activate_doubles(const void *argument, const void *gradient, void *out,
                                 int64_t count) const {
  activate(activation_job(argument, gradient, out, count), true);
}

// The same of a box in own.argument, while that which follows in memory is fetched: the arithmetic
// takes longer than that, and the hardware does not look so far.
void Blockwise::activate_box(const Group &group, const Blocks::Block &box,
                             const std::byte *gradient, std::byte *out, bool streaming,
                             PointwiseBuffers &own) const {
  const int64_t count = group.channels * box.elements(), element = dtype_size(dtype_);
  kernels::ActivationJob job = activation_job(own.argument, gradient, out, count);
  job.streaming = streaming && reinterpret_cast<uintptr_t>(out) % kLineBytes == 0;
  job.ahead_bytes = element;
  const auto ahead = [&](const View &view) -> const char * {
    const Strided at = strided(view, group, box);
    const bool follows = along_channels() ? at.position == group.channels
                                          : group.channels == 1 || at.channel == box.length;
    return view.exists() && follows ? static_cast<const char *>(at.data) + count * element
                                    : nullptr;
  };
  job.ahead[0] = ahead(tensors_.x);
  if (gradient != nullptr) job.ahead[1] = ahead(tensors_.g);
  activate(job, dtype_ == DType::f64);
}

// A map without activation, into a box.
void Blockwise::map_box(kernels::MapOf op, const Strided &x, const Strided &g, const Strided &v,
                        const Group &group, const Blocks::Block &box,
                        const MapCoefficients &coefficients, std::byte *out,
                        PointwiseBuffers &own) const {
  kernels::MapJob job;
  job.channels = group.channels;
  job.samples = box.samples;
  job.length = box.length;
  job.x = x;
  job.g = g;
  job.v = v;
  job.out = box_strided(out, group, box);
  job.coefficients = coefficients.regular;
  job.coefficient_stride = coefficients.stride;
  job.prefetch = 2048;
  const DType arithmetic = arithmetic_dtype(dtype_);
  const kernels::TypeKernels &kernels = kernels::active().of(arithmetic);
  map_rows(kernels, op, layout(), job, arithmetic, own.kernel);
}

// Fills g with dy*act'(argument) of a box; returns where its x is. `x`: a buffer for that.
Strided Blockwise::gradients_of_box(const Group &group, const Blocks::Block &box, std::byte *x,
                                    std::byte *g, PointwiseBuffers &own) const {
  const Preactivation &preactivation = *tensors_.preactivation;
  const Strided of_x = read_box(tensors_.x, group, box, x, own);
  const Strided of_z = read_box(tensors_.v, group, box, own.argument, own);
  map_box(kernels::MapOf::forward, of_x, {}, of_z, group, box, preactivation.from(group.channel),
          own.argument, own);
  const std::byte *gradient = direct_box(tensors_.g, group, box);
  if (gradient == nullptr) {
    load_box(tensors_.g, group, box, g, own);
    gradient = g;
  }
  activate_box(group, box, gradient, g, false, own);
  return of_x;
}

void Blockwise::pointwise_map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                              const MapCoefficients &coefficients, bool streaming,
                              void *buffer) const {
  PointwiseBuffers &own = *new (buffer) PointwiseBuffers;
  for_each_box(group, block, false, [&](const Group &some, const Blocks::Block &box) {
    const MapCoefficients own_coefficients = coefficients.from(some.channel - group.channel);
    if (op == kernels::MapOf::forward) {
      const Strided x = read_box(tensors_.x, some, box, own.x, own);
      const Strided z = read_box(tensors_.v, some, box, own.argument, own);
      map_box(op, x, {}, z, some, box, own_coefficients, own.argument, own);
      std::byte *const direct = direct_box(tensors_.out, some, box);
      activate_box(some, box, nullptr, direct ? direct : own.argument, direct && streaming, own);
      if (direct == nullptr) store_box(own.argument, tensors_.out, some, box, streaming, own);
      return;
    }
    const Strided x = gradients_of_box(some, box, own.x, own.g, own);
    if (tensors_.out.exists()) {
      map_box(op, x, box_strided(own.g, some, box), {}, some, box, own_coefficients, own.argument,
              own);
      store_box(own.argument, tensors_.out, some, box, streaming, own);
    }
    if (tensors_.out2.exists())
      store_box(own.g, tensors_.out2, some, box, streaming && !tensors_.out.exists(), own);
  });
}

// The sums of backward.
void Blockwise::pointwise_sums(const Group &group, const Blocks::Block &block,
                               const Accumulators &accumulators, bool in_double,
                               void *buffer) const {
  PointwiseBuffers &own = *new (buffer) PointwiseBuffers;
  constexpr kernels::SumsOf kOf = kernels::SumsOf::backward;
  const int64_t bytes = arithmetic_size(dtype_);
  const int64_t of_channel =
      along_channels() ? 1 : kernels::sums_count(kOf) * kernels::accumulators_of(accumulators.wide);
  for_each_box(group, block, true, [&](const Group &some, const Blocks::Block &box) {
    kernels::SumsJob job;
    // What is large for L1 passes through it in parts.
    const int64_t length =
        along_channels()
            ? std::min(box.length, std::max(kBoxBytes / bytes / some.channels, int64_t{1}))
            : box.length;
    const int64_t samples = along_channels() ? 1 : box.samples;
    const Strided out = strided(tensors_.out, some, box);
    const bool is_direct =
        keeps_gradients() && (along_channels() ? out.position == some.channels
                                               : direct_box(tensors_.out, some, box) != nullptr);
    for (int64_t n = 0; n < box.samples; n += samples)
      for (int64_t p = 0; p < box.length; p += length) {
        const int64_t at = (n * box.length + p) * some.channels * bytes;
        const Blocks::Block part = {box.first_sample + n, samples, box.position + p,
                                    std::min(length, box.length - p)};
        std::byte *const g = is_direct ? direct_box(tensors_.out, some, part) : own.g + at;
        const Strided x = gradients_of_box(some, part, own.x + at, g, own);
        if (n == 0 && p == 0) job.x = x;
      }
    job.g = is_direct ? out : box_strided(own.g, some, box);
    if (keeps_gradients() && !is_direct) store_box(own.g, tensors_.out, some, box, false, own);
    if (job.x.data == own.x) job.x = box_strided(own.x, some, box);
    const int64_t c = some.channel - group.channel;
    job.channels = some.channels;
    job.samples = box.samples;
    job.length = box.length;
    job.in_double = in_double;
    job.first = box.first_sample == block.first_sample && box.position == block.position;
    job.accumulators = accumulators.lanes + c * of_channel;
    job.accumulator_stride = accumulators.stride;
    set_channels(accumulators, c, job);
    if (along_channels()) job.buffer = own.kernel;
    kernels::active().of(arithmetic_dtype(dtype_)).run_sums(kOf, layout(), job);
  });
}

// Backward of an extreme channel: g of a piece of doubles.
void Blockwise::activate_extreme(const Piece &piece, const Packed &packed,
                                 const kernels::MapJob &job) const {
  constexpr int kCount = kernels::coefficient_count(kernels::MapOf::forward);
  const Preactivation &preactivation = *tensors_.preactivation;
  const int64_t channel = piece.n / sets_.samples * sets_.size.c + piece.channel;
  double significands[kCount];
  int32_t exponents[kCount];
  for (int k = 0; k < kCount; ++k) {
    const unbounded::Number number = preactivation.coefficient(k, channel);
    significands[k] = number.significand;
    exponents[k] = number.exponent;
  }
  kernels::MapJob forward = job;
  forward.coefficients = significands;
  forward.coefficient_stride = 1;
  forward.out = forward.x;
  forward.out.data = packed.written[0];
  unbounded::map(kernels::MapOf::forward, forward, exponents);
  activate_doubles(packed.written[0], packed.read[1], packed.read[1], unbounded::count(forward));
}

}  // namespace bn2d
