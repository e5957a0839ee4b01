// Walks the elements of an operation's tensors block by block and feeds them to the kernels:
// straight from memory where the layout allows, else through a small packed copy.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "kernels/kernels.h"
#include "ops/packed_copy.h"
#include "parallel/plan.h"
#include "tensor/sets.h"
#include "tensor/view.h"

namespace bn2d {

class Preactivation;

// The tensors of one call. A view without data takes no part.
struct Tensors {
  // Read. v: the residual z of a forward or a pointwise activation, or ddx.
  View x, g, side, v;
  // Instead of side: one bit per element, each plane in whole bytes; 1: positive.
  const uint8_t *side_mask = nullptr;
  View out, out2;                // written
  uint8_t *sign_mask = nullptr;  // written (forward): 1 where the activation's argument is positive
  // Masks have a byte, not a bit, for each position, channels fastest: what a mask of planes of one
  // element is (merge.h).
  bool has_byte_masks = false;
  kernels::Activation activation = kernels::Activation::none;
  double slope = 0;
  double bound = 0;                              // of a pointwise activation
  bool side_has_bound = false;                   // of x, in a backward through relu6 or clamp
  const Preactivation *preactivation = nullptr;  // backward of a pointwise activation
  bool is_second = false;                        // the same: by its second derivative
  bool lends_out = false;                        // the same: `out` may hold g between sums and map
};

// Those that are read come first.
inline constexpr int kReadTensors = 4;
inline constexpr View Tensors::*kTensors[] = {&Tensors::x, &Tensors::g,   &Tensors::side,
                                              &Tensors::v, &Tensors::out, &Tensors::out2};

// Where tensors are contiguous both as planes and as channels (planes of one element), vectors
// along the channels are the fuller ones.
inline bool prefers_channels(const Extents &size) {
  return size.plane() < 8 && size.c > size.plane();
}

// The sums of a group while its elements are added, and what they are around.
struct Accumulators {
  static constexpr int64_t kArrays = 5;
  double *lanes;
  void *pivot;                       // per channel, in the arithmetic type
  double *center_lo;                 // per channel: what the mean has beyond the pivot
  void *side_sign, *side_threshold;  // per channel, in the arithmetic type
  void *side_bound;
  int64_t stride;  // channels that there is room for
  bool wide;       // the arithmetic type is double

  static constexpr int64_t doubles(int sums, int64_t channels, bool wide) {
    return (sums * int64_t{kernels::accumulators_of(wide)} + kArrays) * channels;
  }
  Accumulators(double *memory, int sums, int64_t channels, bool is_wide)
      : lanes(memory), stride(channels), wide(is_wide) {
    double *const arrays = memory + sums * int64_t{kernels::accumulators_of(wide)} * channels;
    pivot = arrays;
    center_lo = arrays + channels;
    side_sign = arrays + 2 * channels;
    side_threshold = arrays + 3 * channels;
    side_bound = arrays + 4 * channels;
  }
  // Those from channel c on, of channels that are rows.
  Accumulators from(int64_t c) const {
    Accumulators some = *this;
    some.lanes += c;
    some.pivot = pivot_at(c);
    some.center_lo += c;
    some.side_sign = side_sign_at(c);
    some.side_threshold = side_threshold_at(c);
    some.side_bound = side_bound_at(c);
    return some;
  }
  // Copies what the first channel is summed around to the first `count`.
  void repeat(int64_t count) const;
  // From channel c on.
  void *pivot_at(int64_t c) const { return at(pivot, c); }
  void *side_sign_at(int64_t c) const { return at(side_sign, c); }
  void *side_threshold_at(int64_t c) const { return at(side_threshold, c); }
  void *side_bound_at(int64_t c) const { return at(side_bound, c); }

 private:
  void *at(void *array, int64_t c) const {
    return static_cast<std::byte *>(array) + c * (wide ? 8 : 4);
  }
};

// The coefficients of a map for some channels: coefficient k of channel c at [k*stride + c].
struct MapCoefficients {
  std::byte *regular;   // in the arithmetic type
  int64_t stride;       // channels that there is room for
  int64_t size;         // bytes of the arithmetic type
  double *extreme;      // those of extreme channels
  int32_t *exponents;   // of these, for double data: powers of two (ops/unbounded.h)
  uint8_t *is_extreme;  // 0 or 1 for each channel

  static constexpr int64_t bytes(int count, int64_t size, int64_t channels) {
    return regular_bytes(count, size, channels) + (count * (8 + 4) + 1) * channels;
  }
  MapCoefficients(void *memory, int count, int64_t element_size, int64_t channels)
      : regular(static_cast<std::byte *>(memory)),
        stride(channels),
        size(element_size),
        extreme(reinterpret_cast<double *>(regular + regular_bytes(count, size, channels))),
        exponents(reinterpret_cast<int32_t *>(extreme + count * channels)),
        is_extreme(reinterpret_cast<uint8_t *>(exponents + count * channels)) {}

  // Those from channel c on.
  MapCoefficients from(int64_t c) const {
    MapCoefficients some = *this;
    some.regular += c * size;
    some.extreme += c;
    some.exponents += c;
    some.is_extreme += c;
    return some;
  }
  // Channels from `first` on, up to `channels`, that come before the next extreme one.
  int64_t regular_channels(int64_t first, int64_t channels) const {
    const void *found = std::memchr(is_extreme + first, 1, static_cast<size_t>(channels - first));
    return found ? static_cast<const uint8_t *>(found) - is_extreme - first : channels - first;
  }
  // Calls f(channel) for the extreme ones of the first `channels`.
  template <class F>
  void for_each_extreme(int64_t channels, const F &f) const {
    for (int64_t c = 0; (c += regular_channels(c, channels)) < channels; ++c) f(c);
  }
  kernels::ChannelCoefficients of_regular() const {
    return {regular, stride, size == 8, is_extreme};
  }
  kernels::ChannelCoefficients of_extreme(int64_t c) const {
    return {extreme + c, stride, true, nullptr};
  }

 private:
  static constexpr int64_t regular_bytes(int count, int64_t size, int64_t channels) {
    return (count * size * channels + 7) / 8 * 8;
  }
};

class Blockwise {
 public:
  // Channels of fewer elements are summed in double. The roundings of float, of 2^-25 standard
  // deviations each, average out among many: the mean is off by about 2^-24 / sqrt(M) of one. The
  // gradients of parameters may be off by more: of 128 normal terms by 0.6 * 2^-24 of the sum of
  // their magnitudes at most. Backward of (1,256,14,14) takes 0.83 of the time, with relu 0.62.
  static constexpr int64_t kFewElements = 512, kFewOfGradient = 128;
  // What is packed at a time: at most so many positions of a plane, a multiple of a run, so that
  // pieces keep the canonical order; and at least a cache line of channels, a run of each.
  static constexpr int64_t kPiece = 512, kSmallestPieceBytes = 64 * kernels::kRunElements;
  static_assert(kSmallestPieceBytes >= kPiece * 8);
  // A part of one plane of some channels, or some whole planes of them.
  struct Piece : Box {
    int64_t in_group;                     // its first channel, counted from that of the group
    bool is_first;                        // of its channels in a block
    int64_t next_channel, next_position;  // from here to the next piece
  };
  // Memory that a worker lends to each of the functions below: first kBufferBytes for packed copies
  // or long rows, then what is staged. A pointwise activation uses all of it (PointwiseBuffers).
  static constexpr int64_t kBufferBytes = 64 * 1024;
  static constexpr int64_t kPointwiseBytes = 64 * 1024;  // more, where the activation is pointwise
  struct PointwiseBuffers;
  int64_t buffer_bytes() const {
    return kBufferBytes + (is_pointwise() ? kPointwiseBytes : staged_tensors_ * stage_bytes_);
  }

  Blockwise(const Tensors &tensors, const Sets &sets, DType dtype);

  // For Work: silu, gelu and sigmoid take as long as 4 elements of eval in the caches or more; a
  // backward that keeps no gradients computes them twice. Eval of (1,256,14,14) with sigmoid takes
  // 28 us on one thread, with relu 6.5.
  int64_t activation_bytes() const {
    if (!kernels::is_smooth(tensors_.activation)) return 0;
    return (tensors_.preactivation && !keeps_gradients() ? 8 : 4) * arithmetic_size(dtype_);
  }
  const Sets &sets() const { return sets_; }
  const Blocks &blocks() const { return blocks_; }
  // Channels that a group may have, one after another: those of a sample, or all; those of a block
  // where blocks are packed.
  int64_t row() const { return row_; }
  // Channels of a block that is read in place. A group may have several blocks. 1: there are none.
  int64_t channel_block() const { return channel_block_; }
  MemoryOrder order() const {
    return mode_ == Mode::planes || has_image_rows_ ? MemoryOrder::planes
           : mode_ == Mode::channels                ? MemoryOrder::channels
           : has_lines_of_samples_                  ? MemoryOrder::samples
           : transposes_                            ? MemoryOrder::mixed
                                                    : MemoryOrder::other;
  }
  // Whether the tensors have no layout in common in which they could be read in place.
  bool needs_packing() const { return mode_ == Mode::packed; }
  // Most channels of a group, but for wide ones (kWideGroup).
  int64_t max_group() const { return max_group_; }
  // Blocks of a bundle.
  int64_t at_once() const { return at_once_; }
  int64_t map_step() const { return kernels_.map_step; }
  // Whether a map takes blocks of channels in the order of memory (map_bands).
  bool maps_blocks(kernels::MapOf op, bool streaming) const;

  // What the sums read of a bundle of blocks of a group, packed, where its samples, or rows of a
  // plane, share lines of memory.
  struct Staged {
    Box box;
    int64_t first_sample = 0;  // of its set
    std::byte *memory = nullptr;
    bool exists() const { return memory != nullptr; }
  };
  [[gnu::cold]] Staged stage(const Group &group, const Blocks::Bundle &bundle, void *buffer) const;

  // Adds the elements of one block for a group, from what is staged of it. Pivots for the sums of
  // forward are read first.
  // A series has several blocks of one channel; the sums of its block i go where those of channel i
  // would.
  void accumulate(kernels::SumsOf op, const Group &group, int64_t block,
                  const Blocks::Series &series, const Staged &staged,
                  const Accumulators &accumulators, void *buffer) const;
  // Whether blocks of one channel may be summed as a series.
  bool has_series(kernels::SumsOf op) const;
  // Float and half data: the same in double, around the pivot that is there.
  void accumulate_in_double(kernels::SumsOf op, const Group &group, int64_t block,
                            const Accumulators &accumulators, void *buffer) const;
  // The sums of some channels of that group, counted from its first.
  void reduce(kernels::SumsOf op, const Group &part, const Accumulators &accumulators,
              kernels::Sums *sums) const;

  // The map over one block, or any other part, of a group. `next_group`: channels to the group
  // whose elements are fetched into L2 meanwhile; 0: there is none.
  void map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
           const MapCoefficients &coefficients, bool streaming, int64_t next_group,
           void *buffer) const;

  // Calls f(job) for the pieces of one channel, in the order of memory, with its tensors as packed
  // doubles.
  template <class F>
  void visit(int64_t channel, void *buffer, F f) const {
    visit(channel, buffer, &f,
          [](void *object, const kernels::MapJob &job) { (*static_cast<F *>(object))(job); });
  }
  // The same for all channels of its set.
  template <class F>
  void visit_set(int64_t channel, void *buffer, const F &f) const {
    const int64_t first = channel - channel % sets_.channels;
    for (int64_t c = first; c < first + sets_.channels; ++c) visit(c, buffer, f);
  }

 private:
  enum class Mode { planes, channels, packed };
  // Memory for what is packed of a piece: elements as they are, or doubles.
  struct Packed {
    std::byte *read[4], *written[2], *unconverted;
  };
  Packed packed_in(void *buffer) const;
  static Packed doubles_in(void *buffer);
  // Of kTensors: sums of forward do not read the residual.
  int summed_tensors() const { return tensors_.g.exists() ? kReadTensors : kReadTensors - 1; }
  Mode mode_for(int count, bool has_mask) const;
  [[gnu::cold]] void set_packed();
  [[gnu::cold]] void set_stage();
  // Calls f(tensor of the sums, its view, its memory) for those that are staged.
  template <class F>
  void for_each_staged(std::byte *memory, const F &f) const;
  static kernels::Layout layout_of(Mode mode) {
    return mode == Mode::channels ? kernels::Layout::channels : kernels::Layout::planes;
  }
  kernels::Layout layout() const { return layout_of(mode_); }
  bool along_channels() const { return layout() == kernels::Layout::channels; }
  // Calls f(part) for each block of channels that a group touches; of blocks of 1 once, for the
  // whole group.
  template <class F>
  static void for_each_part(const Group &group, int64_t block, const F &f) {
    const int64_t end = group.channel + group.channels;
    for (int64_t c = group.channel, next; c < end; c = next) {
      next = block == 1 ? end : std::min(end, (c / block + 1) * block);
      f(Group{c, next - c});
    }
  }
  // Whether maps of forward end with the activation's bound.
  bool has_bound() const {
    return kernels::is_bounded(tensors_.activation) &&
           dtype_size(dtype_) == arithmetic_size(dtype_);
  }
  int64_t tensor_bytes() const { return size_.numel() * dtype_size(dtype_); }
  void set_activation(kernels::MapJob &job) const;
  int64_t map_prefetch(kernels::MapOf op, bool streaming) const;
  kernels::MapJob job_of_map(const Group &group, const Blocks::Block &block,
                             const MapCoefficients &coefficients) const;
  bool map_bands(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                 const MapCoefficients &coefficients, bool streaming) const;
  void map_regular(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                   const MapCoefficients &coefficients, bool streaming, int64_t next_group,
                   void *buffer) const;
  [[gnu::cold]] void map_extreme(kernels::MapOf op, int64_t channel, const Blocks::Block &block,
                                 const MapCoefficients &coefficients, const Packed &packed) const;
  void add(kernels::SumsOf op, const Group &part, int64_t block, const Blocks::Series &series,
           const Staged &staged, const Accumulators &accumulators, bool in_double,
           void *buffer) const;
  void set_channels(const Accumulators &accumulators, int64_t c, kernels::SumsJob &job) const;
  void read_pivots(const Group &group, int64_t index, const Blocks::Series &series,
                   const Accumulators &accumulators) const;
  // Whether what the sums read is fetched ahead: where the caches do not hold it. What they hold
  // takes a tenth longer if it is fetched in vain.
  bool fetches() const { return (tensors_.g.exists() ? 2 : 1) * tensor_bytes() > 2 * kHeldBytes; }
  void packed_sums(kernels::SumsOf op, const Group &group, const Blocks::Block &block,
                   const Accumulators &accumulators, bool in_double, const Packed &packed) const;
  [[gnu::cold]] void map_by_image_rows(kernels::MapOf op, const Group &group,
                                       const Blocks::Block &block,
                                       const MapCoefficients &coefficients, kernels::MapJob job,
                                       void *buffer) const;
  void map_piece(kernels::MapOf op, const Piece &piece, const Packed &packed,
                 const kernels::MapJob &whole) const;
  void packed_map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                  const MapCoefficients &coefficients, bool streaming, const Packed &packed) const;
  // What a job of the sums or of a map reads.
  template <class Job>
  Job job_of(const Group &group, const Blocks::Block &block) const;
  // The bands of a job (SumsJob, MapJob), and the strides of a tensor in and between them: of a
  // series, of blocks of channels, or one band.
  struct Bands {
    int64_t channels, count, channel_stride, stride;
  };
  Bands bands_of(const View &view, const Group &group, const Blocks::Series &series) const;
  // Of a group that is larger than a block of channels only where all blocks are a constant stride
  // apart.
  bool has_bands(const Group &group, const Blocks::Series &series) const {
    return series.count() > 1 || (channel_block_ != 1 && group.channels > channel_block_);
  }
  bool has_bands_of_blocks(kernels::SumsOf op, const Group &group) const;
  // tensors: so many of kTensors.
  bool are_whole_blocks(const Group &group, int tensors) const;
  [[gnu::cold]] void set_staged(const Staged &staged, const Blocks::Block &block,
                                kernels::SumsJob &job) const;
  template <class Job>
  Job job_of_piece(const Piece &piece, bool reads_v, const Packed &packed) const;
  [[gnu::cold]] void visit(int64_t channel, void *buffer, void *object,
                           void (*call)(void *, const kernels::MapJob &)) const;
  [[gnu::cold]] kernels::MapJob job_of_extreme_piece(const Piece &piece,
                                                     const Packed &packed) const;
  template <class F>
  void for_each_piece(const Group &group, const Blocks::Block &block, const F &f) const;
  int64_t mask_place(const Piece &piece, int64_t n, int64_t c) const;
  [[gnu::cold]] void expand_signs(const kernels::TypeKernels &kernels, const Piece &piece,
                                  int64_t element_bytes, std::byte *signs) const;
  [[gnu::cold]] void pack_signs(const kernels::TypeKernels &kernels, const std::byte *signs,
                                int64_t element_bytes, const Piece &piece) const;
  // Sets one that has no data. (Returned, it was copied in vectors before the single numbers
  // that had just been stored were there: eval of (1,16,8,8) took 471 ns, not 447.)
  void set_strided(const View &view, const Group &group, const Blocks::Block &block,
                   kernels::Strided &strided) const;
  kernels::Strided strided(const View &view, const Group &group, const Blocks::Block &block) const {
    kernels::Strided strided;
    set_strided(view, group, block, strided);
    return strided;
  }
  // Where in the tensors the samples of a channel of a set begin.
  struct Place {
    int64_t sample, channel;
  };
  Place place_of(int64_t channel) const {
    if (channel < sets_.size.c || row_ == size_.c) return {0, channel};
    return {channel / sets_.size.c * sets_.samples, channel % sets_.size.c};
  }

  // Pointwise activations (pointwise.cc).
  bool is_pointwise() const { return kernels::is_pointwise(tensors_.activation); }
  bool has_pointwise_sums(kernels::SumsOf op) const {
    return is_pointwise() && op == kernels::SumsOf::backward;
  }
  void pointwise_map(kernels::MapOf op, const Group &group, const Blocks::Block &block,
                     const MapCoefficients &coefficients, bool streaming, void *buffer) const;
  void pointwise_sums(const Group &group, const Blocks::Block &block,
                      const Accumulators &accumulators, bool in_double, void *buffer) const;
  kernels::Strided gradients_of_box(const Group &group, const Blocks::Block &box, std::byte *x,
                                    std::byte *g, PointwiseBuffers &own) const;
  void map_box(kernels::MapOf op, const kernels::Strided &x, const kernels::Strided &g,
               const kernels::Strided &v, const Group &group, const Blocks::Block &box,
               const MapCoefficients &coefficients, std::byte *out, PointwiseBuffers &own) const;
  [[gnu::cold]] void activate_extreme(const Piece &piece, const Packed &packed,
                                      const kernels::MapJob &job) const;
  kernels::ActivationJob activation_job(const void *argument, const void *gradient, void *out,
                                        int64_t count) const;
  void activate_doubles(const void *argument, const void *gradient, void *out, int64_t count) const;
  void activate_box(const Group &group, const Blocks::Block &box, const std::byte *gradient,
                    std::byte *out, bool streaming, PointwiseBuffers &own) const;
  std::byte *direct_box(const View &view, const Group &group, const Blocks::Block &box) const;
  // Whether the sums leave g in `out` for the map. Not halves: g would lose digits.
  bool keeps_gradients() const {
    return tensors_.lends_out && mode_ != Mode::packed &&
           dtype_size(dtype_) == arithmetic_size(dtype_);
  }
  kernels::Strided box_strided(std::byte *buffer, const Group &group,
                               const Blocks::Block &box) const;
  Box box_of(const Group &group, const Blocks::Block &box) const;
  kernels::Strided read_box(const View &view, const Group &group, const Blocks::Block &box,
                            std::byte *buffer, PointwiseBuffers &own) const;
  void load_box(const View &view, const Group &group, const Blocks::Block &box, std::byte *to,
                PointwiseBuffers &own) const;
  void store_box(std::byte *from, const View &view, const Group &group, const Blocks::Block &box,
                 bool streaming, PointwiseBuffers &own) const;
  template <class F>
  void for_each_row(const View &view, const Group &group, const Blocks::Block &box,
                    const F &f) const;
  struct BoxShape {
    int64_t samples, channels, length;
    bool across;  // boxes of the same positions, of all channels, follow one another
  };
  BoxShape box_shape(const Group &group, const Blocks::Block &block, bool whole_runs) const;
  template <class F>
  void for_each_box(const Group &group, const Blocks::Block &block, bool whole_runs,
                    const F &f) const;

  const Tensors &tensors_;
  Sets sets_;
  Extents size_;  // sets_.counted()
  int64_t row_, channel_block_ = 1;
  DType dtype_;
  int32_t piece_bytes_ = kSmallestPieceBytes;  // of each tensor that is packed
  Blocks blocks_;
  Mode mode_;                    // of maps
  Mode sums_mode_;               // another one where only what is written lies differently
  bool transposes_ = false;      // packed, and a tensor has its channels contiguous
  bool has_image_rows_ = false;  // packed, but each row of a plane is contiguous in all tensors
  // What has memory for packed copies: no contiguous planes, or the elements of a mask.
  bool is_packed_[std::size(kTensors)] = {};
  int64_t max_group_ = kernels::kMaxGroup, at_once_ = 1;
  int64_t stage_bytes_ = 0;  // of one tensor; 0: nothing is staged
  int64_t staged_tensors_ = 0;
  bool has_lines_of_samples_ = false;  // staged are some samples of each position
  const kernels::TypeKernels &kernels_;
};

}  // namespace bn2d
