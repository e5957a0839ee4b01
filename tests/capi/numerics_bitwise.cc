// The same numbers give the same bits: whatever the threads, the layout, the alignment, the place
// of the result, the function that was called, and whatever the neighbouring channels hold.
#include "support/many_threads.h"
#include "support/numerics_case.h"
#include "support/streaming.h"

namespace {

using namespace numerics;

Values permuted(const Extents &e, const Values &values, const std::vector<int64_t> &order) {
  Values result(values.size());
  const int64_t plane = values.size() == static_cast<size_t>(e.c) ? 1 : e.plane();
  for (size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    const int64_t k = at % plane, c = at / plane % e.c, n = at / plane / e.c;
    result[i] = values[(n * e.c + order[c]) * plane + k];
  }
  return result;
}

// Gives each channel a mean of its own, far from that of the next one.
void move_means_apart(const Case &c, Inputs *in) {
  for (size_t i = 0; i < in->x.size(); ++i) {
    const int64_t channel = static_cast<int64_t>(i) / c.e.plane() % c.e.c;
    in->x[i] = rounded(c.data, in->x[i] + 3.0 * static_cast<double>(channel));
  }
}

}  // namespace

// Catches: a partition or an order of summation that depends on the number of threads; a race; a
// temporary shared by two workers. The shapes are so large that the work is split, over channels
// and within one.
TEST_CASE("bitwise: the result does not depend on the number of threads",
          "[numerics][bitwise][threads]") {
  ManyThreads many;
  struct Shape {
    Extents e;
    std::vector<int32_t> dtypes;
  };
  const std::vector<Shape> shapes = {{{2, 3, 224, 224}, {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}},
                                     {{1, 1, 1024, 1024}, {BN2D_F32}},
                                     {{8, 64, 56, 56}, {BN2D_F32}},
                                     {{128, 32, 7, 7}, {BN2D_F32, BN2D_BF16}},
                                     {{3, 200, 5, 9}, {BN2D_F32, BN2D_F64}}};
  for (const Shape &shape : shapes) {
    for (const int32_t dtype : shape.dtypes) {
      for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
        if (shape.e.size() > 1500000 && layout == Layout::nhwc) continue;  // that one runs below
        Case c;
        c.e = shape.e;
        c.data = c.module = dtype;
        c.x = c.y = c.z = c.dx = c.dz = layout;
        const bool fused = shape.e.size() < 1000000;
        if (fused) c.activation = relu, c.residual = true;
        const Inputs in = random_inputs(c, 5);
        Outputs alone;
        {
          const Threads threads(1);
          alone = run(c, in);
        }
        for (const int32_t count : {2, 3, 7}) {
          for (int repeat = 0; repeat < (shape.e.size() > 500000 ? 1 : 2); ++repeat) {
            const Outputs got = many.with(count, [&] { return run(c, in); });
            INFO(describe(c) << ", " << count << " threads");
            CHECK(first_difference(alone, got) == "");
          }
        }
      }
    }
  }
}

// Catches: in a series of blocks (Blocks::Series) the wrong block summed again in double, or the
// pivot of another block. With one thread each channel is two series of 24 blocks in all, or four
// of 34; with seven each block is summed on its own.
TEST_CASE("bitwise: blocks in a series that float cannot sum", "[numerics][bitwise][threads]") {
  ManyThreads many;
  for (const Extents &e :
       {Extents{48, 2, 64, 64}, Extents{12, 2, 112, 112}, Extents{2, 2, 320, 320}}) {
    Case c;
    c.e = e;
    c.data = c.module = BN2D_F32;
    Inputs in = random_inputs(c, 5);
    const int64_t sixth = e.c * e.plane() * e.n / 6;
    for (size_t i = 0; i < in.x.size(); ++i) {
      const int64_t part = static_cast<int64_t>(i) / sixth;
      in.x[i] = rounded(c.data, in.x[i] * (part == 1 ? 1e-25 : part == 4 ? 1e23 : 1.0));
    }
    Outputs alone;
    {
      const Threads threads(1);
      alone = run(c, in);
    }
    const Outputs got = many.with(7, [&] { return run(c, in); });
    INFO(describe(c));
    CHECK(first_difference(alone, got) == "");
  }
}

// Catches: a kernel for one layout, alignment or in-place form that adds in another order, a
// rounding more in a strided copy, module and stateless functions that go different ways, streaming
// stores that write something else.
TEST_CASE("bitwise: the result depends on the numbers alone", "[numerics][bitwise]") {
  Random random(4711);
  const std::vector<Extents> shapes = {
      {2, 3, 64, 64},   {5, 17, 7, 7},  {32, 8, 14, 14},  {1, 64, 5, 9}, {2, 3, 61, 67},
      {33, 65, 1, 1},   {4, 1, 33, 31}, {1, 3, 1, 4101},  {3, 2, 1, 2},  {16, 24, 2, 3},
      {1, 2, 128, 129}, {7, 33, 4, 4},  {2, 1, 100, 100}, {3, 16, 5, 9}, {40, 3, 7, 7},
      {37, 1, 7, 7},    {130, 2, 3, 3}, {9, 30, 5, 5}};  // samples that are joined
  const std::vector<Activation> activations = {
      no_activation, relu, Activation{Activation::leaky, 0.1}, Activation{Activation::leaky, -0.5}};
  const std::vector<int64_t> streaming = {-1, 0, 1, int64_t{1} << 40};
  int failures = 0;
  for (int i = 0; i < 280 && failures < 10; ++i) {
    Case c;
    c.e = shapes[static_cast<size_t>(i) % shapes.size()];
    std::tie(c.data, c.module) = dtype_pairs[random.below(std::size(dtype_pairs))];
    c.mode = static_cast<Mode>(random.below(3));
    c.affine = random.coin() ? Affine::full : random.coin() ? Affine::weight_only : Affine::none;
    c.activation = random.pick(activations);
    c.residual = random.coin();
    c.biased = random.coin();
    Inputs in = random_inputs(c, random.bits());
    Case forward = c;  // an element on the edge of the activation may take either side: silenced
    forward.record = false;
    expect(forward, in);
    const Outputs plain = run(c, in);
    for (int variant = 0; variant < 5; ++variant) {
      Case other = c;
      other.x = static_cast<Layout>(random.below(layouts_of_rank_4));
      other.y = static_cast<Layout>(random.below(layouts_of_rank_4));
      other.z = static_cast<Layout>(random.below(layouts_of_rank_4));
      other.dx = static_cast<Layout>(random.below(layouts_of_rank_4));
      other.dz = static_cast<Layout>(random.below(layouts_of_rank_4));
      if (variant == 0) other.y = other.z = other.dx = other.dz = other.x = Layout::nhwc;
      if (variant == 1) other.y = other.z = other.dx = other.dz = other.x;
      if (variant == 2)
        other.y = other.z = other.dx = other.dz = other.x = Layout::nchw, other.plain = true;
      other.in_place = static_cast<InPlace>(random.below(3));
      other.gradient_in_place = static_cast<GradientInPlace>(random.below(3));
      other.stateless = random.coin();
      other.mask = random.coin();
      other.record = random.below(4) != 0;
      other.placement = random.bits() | 1;
      const Streaming stores(random.pick(streaming));
      const Threads threads(static_cast<int32_t>(random.below(4)));
      Outputs got = run(other, in);
      if (c.data == BN2D_F64 && other.stateless) {
        // A record may keep the mean better than the double that the stateless functions hand over.
        for (const char *name : {"dx", "dweight", "ddy", "dx2", "dweight2"}) got.erase(name);
      }
      INFO("this:  " << describe(c));
      INFO("other: " << describe(other));
      const std::string difference = first_difference(plain, got);
      CHECK(difference == "");
      if (difference != "") ++failures;
    }
  }
}

// Catches: the same at sizes where the work is split and stores stream.
TEST_CASE("bitwise: NCHW and NHWC give the same bits, large tensors", "[numerics][bitwise]") {
  for (const Extents e :
       {Extents{8, 64, 56, 56}, Extents{2, 3, 224, 224}, Extents{64, 128, 7, 7}}) {
    Case c;
    c.e = e;
    Inputs in = random_inputs(c, 11);
    const Outputs nchw = run(c, in);
    c.x = c.y = c.z = c.dx = c.dz = Layout::nhwc;
    INFO(describe(c));
    CHECK(first_difference(nchw, run(c, in)) == "");
  }
}

// Catches: a part of one channel, the last one, whose elements are taken for neighbours. Kernels
// take 64 or 128 channels at a time, and a plane of one element may have any strides.
TEST_CASE("bitwise: the last channel of many, one element of each sample", "[numerics][bitwise]") {
  for (const int64_t channels : {65, 129})
    for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
      for (const Mode mode : {Mode::train, Mode::eval}) {
        Case c;
        c.e = {33, channels, 1, 1};
        c.data = c.module = dtype;
        c.mode = mode;
        c.residual = true;
        const Inputs in = random_inputs(c, 7);
        const Outputs plain = run(c, in);
        for (uint64_t layout = 0; layout < layouts_of_rank_4 * layouts_of_rank_4; ++layout) {
          Case other = c;
          other.x = other.z = static_cast<Layout>(layout % layouts_of_rank_4);
          other.y = other.dx = other.dz = static_cast<Layout>(layout / layouts_of_rank_4);
          INFO(describe(other));
          CHECK(first_difference(plain, run(other, in)) == "");
        }
      }
}

// Catches: sums of a wide group of channels that are taken for those, or for the pivots, of other
// channels of the group or of another worker. Every channel has a mean of its own, so that all of
// these are far off. Maps that go through long rows of tensors as if all had the same steps.
TEST_CASE("bitwise: NCHW and NHWC give the same bits, many channels", "[numerics][bitwise]") {
  ManyThreads many;
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const Extents e :
         {Extents{2, 300, 5, 9}, Extents{3, 1100, 7, 3}, Extents{60, 260, 7, 7}}) {
      Case c;
      c.e = e;
      c.data = c.module = dtype;
      Inputs in = random_inputs(c, 13);
      move_means_apart(c, &in);
      const Outputs nchw = run(c, in);
      c.y = c.z = c.dx = c.dz = Layout::nhwc;
      for (const Layout x : {Layout::nhwc, Layout::nhwc_slice})
        for (const int count : {1, 3}) {
          c.x = x;
          const Outputs got = many.with(count, [&] { return run(c, in); });
          INFO(describe(c) << ", " << count << " threads");
          CHECK(first_difference(nchw, got) == "");
        }
    }
  }
}

// Catches: blocks that are packed together and summed as each other's, or missed; a map that goes
// through samples and positions in another order and takes other channels' numbers; sums that leave
// their order. The shapes have blocks of several samples, of a plane, and of a part of one, and
// more and fewer samples than a line of memory.
TEST_CASE("bitwise: samples or rows that are fastest in memory", "[numerics][bitwise]") {
  ManyThreads many;
  uint64_t seed = 30;
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const Extents e :
         {Extents{40, 5, 7, 7}, Extents{33, 3, 28, 27}, Extents{21, 3, 40, 41},
          Extents{18, 2, 90, 93}, Extents{19, 2, 150, 151}, Extents{3, 70, 20, 30}}) {
      for (const Layout layout : {Layout::samples_fastest, Layout::turned_planes}) {
        Case c;
        c.e = e;
        c.data = c.module = dtype;
        c.mode = seed % 5 == 0 ? Mode::eval : Mode::train;
        if (seed % 3 != 0)
          c.activation = seed % 3 == 1 ? relu : Activation{Activation::leaky, -0.5};
        c.residual = seed % 2 == 0;
        Inputs in = random_inputs(c, seed++);
        move_means_apart(c, &in);
        const Outputs nchw = run(c, in);
        c.x = c.y = c.z = c.dx = c.dz = layout;
        for (const int count : {1, 3}) {
          const Outputs got = many.with(count, [&] { return run(c, in); });
          INFO(describe(c) << ", " << count << " threads");
          CHECK(first_difference(nchw, got) == "");
        }
        c.y = c.dx = Layout::nchw;  // only what is read lies so
        INFO(describe(c));
        CHECK(first_difference(nchw, run(c, in)) == "");
      }
    }
  }
}

// Catches: a state that a call leaves behind, a use of uninitialised memory.
TEST_CASE("bitwise: repeated runs give the same bits", "[numerics][bitwise]") {
  for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted}) {
    Case c;
    c.e = {4, 19, 23, 29};
    c.x = c.y = c.dx = layout;
    Inputs in = random_inputs(c, 12);
    const Outputs first = run(c, in);
    for (int repeat = 0; repeat < 5; ++repeat) CHECK(first_difference(first, run(c, in)) == "");
  }
}

// Catches: channels that are summed together with their neighbours (lanes of NHWC, the last vector
// of a row), a tail of channels that goes another way than the full vectors.
TEST_CASE("bitwise: permuted channels give permuted results", "[numerics][bitwise]") {
  for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
    for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::channel_slice}) {
      for (const Extents e :
           {Extents{3, 37, 14, 14}, Extents{2, 5, 61, 67}, Extents{40, 67, 1, 3}}) {
        Case c;
        c.e = e;
        c.data = c.module = dtype;
        c.x = c.y = c.z = c.dx = c.dz = layout;
        c.residual = true;
        c.activation = relu;
        Random random(13);
        const Inputs in = random_inputs(c, 14);
        std::vector<int64_t> order;
        for (int64_t i = 0; i < e.c; ++i) order.push_back(i);
        for (size_t i = order.size(); i > 1; --i)
          std::swap(order[i - 1], order[random.below(static_cast<int64_t>(i))]);
        Inputs shuffled = in;
        for (Values Inputs::*member :
             {&Inputs::x, &Inputs::z, &Inputs::dy, &Inputs::ddx, &Inputs::weight, &Inputs::bias,
              &Inputs::running_mean, &Inputs::running_var, &Inputs::ddweight, &Inputs::ddbias}) {
          shuffled.*member = permuted(e, in.*member, order);
        }
        const Outputs straight = run(c, in), crossed = run(c, shuffled);
        INFO(describe(c));
        for (const auto &[name, output] : straight) {
          INFO(name);
          CHECK(permuted(e, output.values(), order) == crossed.at(name).values());
        }
      }
    }
  }
}

// Catches: a partition by channels whose sums depend on how many channels there are.
TEST_CASE("bitwise: a channel on its own gives the bits it gives among others",
          "[numerics][bitwise]") {
  for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
    for (const Extents e :
         {Extents{4, 40, 14, 14}, Extents{2, 3, 150, 151}, Extents{100, 9, 1, 1}}) {
      Case c;
      c.e = e;
      c.x = c.y = c.dx = c.dz = layout;
      const Inputs in = random_inputs(c, 15);
      const Outputs all = run(c, in);
      const int64_t channel = e.c - 1;
      Case single = c;
      single.e.c = 1;
      Inputs part;
      for (Values Inputs::*member : {&Inputs::x, &Inputs::z, &Inputs::dy, &Inputs::ddx}) {
        oracle::for_channel(e, channel,
                            [&](int64_t i) { (part.*member).push_back((in.*member)[i]); });
      }
      for (Values Inputs::*member : {&Inputs::weight, &Inputs::bias, &Inputs::running_mean,
                                     &Inputs::running_var, &Inputs::ddweight, &Inputs::ddbias}) {
        part.*member = {(in.*member)[channel]};
      }
      INFO(describe(c));
      for (const auto &[name, output] : run(single, part)) {
        const Bits &whole = all.at(name).bits;
        Bits of_channel;
        if (whole.size() == static_cast<size_t>(e.c)) {
          of_channel = {whole[channel]};
        } else {
          oracle::for_channel(e, channel, [&](int64_t i) { of_channel.push_back(whole[i]); });
        }
        INFO(name);
        CHECK(first_difference(output.bits, of_channel) == -1);
      }
    }
  }
}
