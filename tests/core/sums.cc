// The sums of float and half data, bit by bit, against the order of summation that kernels.h
// promises: here it is written once more, element by element, with no vector and no layout.
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "support/catch.h"
#include "support/numerics_values.h"

using namespace bn2d;
using namespace bn2d::kernels;

namespace {

using numerics::Random;

// A block, and how its tensors lie in memory.
struct Block {
  int64_t samples, channels, length;
  enum Memory {
    dense,
    padded,
    other_order,
    positions
  } memory;  // other_order: (channel, sample, position)
  Strided stream(void *data) const {
    const int64_t gap = memory == padded ? 3 : 0, plane = length + gap;
    Strided s;
    s.data = data;
    s.channel = memory == positions ? 1 : memory == other_order ? samples * length : plane;
    s.sample = memory == positions     ? length * channels
               : memory == other_order ? length
                                       : channels * plane + gap;
    s.position = memory == positions ? channels : 1;
    return s;
  }
  int64_t elements() const { return samples * (channels * (length + 3) + 3); }
  int64_t at(int64_t n, int64_t c, int64_t i) const {
    const Strided s = stream(nullptr);
    return n * s.sample + c * s.channel + i * s.position;
  }
};

constexpr float kNowhere = 1e9F;  // between the elements, and after them

// Elements of one dtype, and as floats.
struct Elements {
  DType dtype;
  std::vector<std::byte> bytes;
  explicit Elements(DType of, const Block &block)
      : dtype(of), bytes(static_cast<size_t>((block.elements() + 64) * dtype_size(of))) {
    for (int64_t i = 0; i < block.elements() + 64; ++i) set(i, kNowhere);
  }
  void set(int64_t at, double value) { store_element(dtype, bytes.data(), at, value); }
  float get(int64_t at) const { return static_cast<float>(load_element(dtype, bytes.data(), at)); }
};

struct Scene {
  Block block;
  Elements x, g, side;
  std::vector<float> pivot, zero;
  double slope = 0;
  bool has_side = false;
  Scene(const Block &of, DType dtype, uint64_t seed)
      : block(of),
        x(dtype, of),
        g(dtype, of),
        side(dtype, of),
        pivot(static_cast<size_t>(of.channels) + 16),
        zero(static_cast<size_t>(of.channels) + 16) {
    Random random(seed);
    for (int64_t c = 0; c < of.channels; ++c) {
      pivot[static_cast<size_t>(c)] = static_cast<float>(random.normal());
      for (int64_t n = 0; n < of.samples; ++n)
        for (int64_t i = 0; i < of.length; ++i) {
          x.set(of.at(n, c, i), 3 * random.normal());
          g.set(of.at(n, c, i), random.normal());
          side.set(of.at(n, c, i), random.normal());
        }
    }
  }
};

struct Terms {
  float first = 0, second = 0;
};
Terms operator+(const Terms &a, const Terms &b) { return {a.first + b.first, a.second + b.second}; }

// t and t^2 of an element, or g and g*t.
class Reference {
 public:
  Reference(SumsOf op, const Scene &scene, int64_t channel)
      : op_(op), scene_(scene), channel_(channel) {}

  std::array<double, 2> sums() const {
    const Block &block = scene_.block;
    std::array<std::array<double, 8>, 2> lanes{};
    const int64_t rows = (block.length + 15) / 16;
    if (rows >= 8) {
      for (int64_t n = 0; n < block.samples; ++n)
        for (int64_t row = 0; row < rows; row += 8)
          add_run({{n, row, std::min<int64_t>(rows - row, 8)}}, lanes);
    } else {
      for (int64_t n = 0; n < block.samples;) {
        std::vector<Part> run;
        for (int64_t room = 8; room >= rows && n < block.samples; room -= rows)
          run.push_back({n++, 0, rows});
        add_run(run, lanes);
      }
    }
    const auto tree = [](const std::array<double, 8> &v) {
      return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    };
    return {tree(lanes[0]), tree(lanes[1])};
  }

 private:
  struct Part {
    int64_t sample, row, rows;
  };
  struct Element {
    float t = 0, g = 0;  // 0 where there is none
  };
  Element read(int64_t n, int64_t i) const {
    const int64_t at = scene_.block.at(n, channel_, i);
    Element e;
    e.t = scene_.x.get(at) - scene_.pivot[static_cast<size_t>(channel_)];
    e.g = scene_.g.get(at);
    if (scene_.has_side && scene_.side.get(at) <= 0) {
      const float slope = static_cast<float>(scene_.slope),
                  rest = static_cast<float>(scene_.slope - double{slope});
      e.g = scene_.slope == 0 ? 0 : std::fma(e.g, slope, e.g * rest);
    }
    return e;
  }
  Terms of_two(const Element &a, const Element &b) const {
    if (op_ == SumsOf::forward) return {a.t + b.t, std::fma(b.t, b.t, a.t * a.t)};
    return {a.g + b.g, std::fma(b.g, b.t, a.g * a.t)};
  }
  void add_run(const std::vector<Part> &parts, std::array<std::array<double, 8>, 2> &lanes) const {
    for (int64_t lane = 0; lane < 8; ++lane) {
      Terms half[2];
      for (int64_t h = 0; h < 2; ++h) {
        Element e[8];
        int64_t k = 0;
        for (const Part &part : parts)
          for (int64_t row = part.row; row < part.row + part.rows; ++row, ++k) {
            const int64_t i = row * 16 + h * 8 + lane;
            if (i < scene_.block.length) e[k] = read(part.sample, i);
          }
        half[h] =
            (of_two(e[0], e[1]) + of_two(e[2], e[3])) + (of_two(e[4], e[5]) + of_two(e[6], e[7]));
      }
      const Terms both = half[0] + half[1];
      lanes[0][static_cast<size_t>(lane)] += both.first;
      lanes[1][static_cast<size_t>(lane)] += both.second;
    }
  }

  const SumsOf op_;
  const Scene &scene_;
  const int64_t channel_;
};

// The channels whose sums are not those of the reference.
std::string differences(SumsOf op, Scene &scene, bool fetches) {
  const Block &block = scene.block;
  const Layout layout = block.memory == Block::positions ? Layout::channels : Layout::planes;
  const TypeKernels &type = active().of(scene.x.dtype);
  std::vector<double> lanes(static_cast<size_t>(2 * kLanes * kMaxGroup), 1e300);
  alignas(64) static std::byte buffer[kSumsBufferBytes];
  SumsJob job;
  job.channels = block.channels;
  job.samples = block.samples;
  job.length = block.length;
  job.x = block.stream(scene.x.bytes.data());
  if (op != SumsOf::forward) job.g = block.stream(scene.g.bytes.data());
  if (scene.has_side) job.side = block.stream(scene.side.bytes.data());
  job.slope = scene.slope;
  job.fetches = fetches;
  job.accumulators = lanes.data();
  job.accumulator_stride = block.channels;
  job.pivot = scene.pivot.data();
  job.side_sign = job.side_threshold = scene.zero.data();
  job.buffer = buffer;
  type.sums[static_cast<int>(op)][static_cast<int>(layout)](job);
  Sums sums;
  type.reduce(2, layout, block.channels, lanes.data(), job.accumulator_stride, nullptr, &sums);
  std::string wrong;
  for (int64_t c = 0; c < block.channels; ++c) {
    const auto want = Reference(op, scene, c).sums();
    for (int64_t term = 0; term < 2; ++term)
      if (sums.hi[term * kMaxGroup + c] != want[static_cast<size_t>(term)])
        wrong += " sum " + std::to_string(term) + " of channel " + std::to_string(c);
  }
  return wrong;
}

// Old CPUs sum floats in double.
bool has_runs() { return active().f32->sums[0][static_cast<int>(Layout::channels)] != nullptr; }

}  // namespace

// Catches: an element that is lost, counted twice or read past a plane; a row, a lane or a run that
// is added in another place; a pivot of the wrong channel. All layouts could agree on the same
// wrong order: other machines would not.
TEST_CASE("sums: floats and halves are added in the order of kernels.h", "[sums]") {
  if (!has_runs()) {
    WARN(active().name << " sums floats in double: no order to compare");
    return;
  }
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    // Rests of 1 to 8 rows behind a whole run, and planes of 4 rows, have code of their own.
    for (const int64_t length :
         {1,   2,   4,   7,   8,   9,   15,  16,  17,  25,  31,  33,  40,  48,  49,  64,  65,
          112, 113, 127, 128, 129, 144, 150, 170, 180, 196, 220, 230, 240, 255, 256, 272, 300})
      for (const int64_t samples : {1, 2, 7, 8, 19})
        for (const auto memory :
             {Block::dense, Block::padded, Block::other_order, Block::positions}) {
          // Rows of 8 and 16 channels have code of their own.
          const int64_t channels = samples == 2   ? 21
                                   : samples == 7 ? 8
                                   : samples == 8 ? 16
                                   : length < 10  ? 67
                                                  : 5;
          Scene scene({samples, channels, length, memory}, dtype,
                      static_cast<uint64_t>(length * 100 + samples));
          INFO(active().name << " dtype " << static_cast<int>(dtype) << ", " << samples << "x"
                             << channels << "x" << length << ", memory "
                             << static_cast<int>(memory));
          CHECK(differences(SumsOf::forward, scene, false) == "");
          CHECK(differences(SumsOf::forward, scene, true) == "");
          CHECK(differences(SumsOf::backward, scene, false) == "");
          scene.has_side = true;
          CHECK(differences(SumsOf::backward, scene, true) == "");
          scene.slope = 0.01;
          CHECK(differences(SumsOf::backward, scene, length % 2 == 0) == "");
        }
}
