// bn2d::Module does what the functions of C do, bit by bit.
#include <thread>

#include "cpp/twin.h"

using namespace bn2d_test;

namespace {

const bn2d::Shape kShape{3, 4, 5, 6};
constexpr size_t kElements = 3 * 4 * 5 * 6;
const bn2d::Strides kWide{4 * 5 * 16, 5 * 16, 16, 2};  // every second element of rows of 16
constexpr size_t kWideElements = 3 * 4 * 5 * 16;

struct Case {
  bn2d::DType module, data;
  int layout;  // 0 nchw, 1 channels_last, 2 strided
  bn2d::Activation activation;
  bool residual;
};

bn2d::View view(Memory &memory, int layout) {
  if (layout == 2) return {memory.bytes.data(), memory.dtype, kShape, kWide};
  return {memory.bytes.data(), memory.dtype, kShape,
          layout == 0 ? bn2d::nchw : bn2d::channels_last};
}

void give_character(bn2d::Module &bn) {
  const std::vector<double> weight{1.5, -0.5, 2, 0.25}, bias{0.125, 3, -1, 0.5};
  bn.tensor("weight").copy_from(weight);
  bn.tensor("bias").copy_from(bias);
}

}  // namespace

TEST_CASE("cpp: forward, backward and double backward are those of C", "[cpp]") {
  // Catches two arguments that are swapped, a view with other strides or dtype, an activation or
  // residual that is lost.
  std::vector<Case> cases;
  for (const int layout : {0, 1, 2})
    for (const bool residual : {false, true})
      for (const bn2d::Activation activation :
           {bn2d::none, bn2d::relu, bn2d::leaky_relu(0.25), bn2d::silu}) {
        cases.push_back({bn2d::DType::f32, bn2d::DType::f32, layout, activation, residual});
        cases.push_back({bn2d::DType::f64, bn2d::DType::f64, layout, activation, residual});
        cases.push_back({bn2d::DType::f32, bn2d::DType::bf16, layout, activation, residual});
        cases.push_back({bn2d::DType::f16, bn2d::DType::f16, layout, activation, residual});
      }
  for (const Case &c : cases) {
    INFO("module " << static_cast<int>(c.module) << ", data " << static_cast<int>(c.data)
                   << ", layout " << c.layout << ", activation " << c.activation.kind
                   << ", residual " << c.residual);
    bn2d::Options options;
    options.dtype = c.module;
    options.momentum = 0.25;
    bn2d::Module bn(4, options), twin(4, options);
    give_character(bn);
    give_character(twin);
    const size_t elements = c.layout == 2 ? kWideElements : kElements;
    Memory x(c.data, elements, 1), z(c.data, elements, 2), dy(c.data, elements, 3),
        ddx(c.data, elements, 4);
    Memory y(c.data, elements), dx(y), dz(y), ddy(y), second(y), infer(y);
    Memory cy(y), cdx(y), cdz(y), cddy(y), csecond(y), cinfer(y);
    Memory ddweight(c.module, 4, 5), ddbias(c.module, 4, 6);
    const auto v = [&](Memory &memory) { return view(memory, c.layout); };
    const auto raw = [&](Memory &memory) { return c_view(v(memory)); };
    const bn2d::View none;

    const auto record = bn.record(v(x), v(y), c.activation, c.residual ? v(z) : none);
    bn2d_record *c_record = nullptr;
    REQUIRE(bn2d_forward_act(twin.get(), raw(x), c.residual ? raw(z).get() : nullptr,
                             c.activation.kind, c.activation.slope, raw(cy), &c_record) == BN2D_OK);
    CHECK(y == cy);
    bn.backward(record, v(dy), v(dx), v(dz));
    REQUIRE(bn2d_backward(twin.get(), c_record, raw(dy), raw(cdx), raw(cdz)) == BN2D_OK);
    CHECK(dx == cdx);
    CHECK(dz == cdz);
    bn2d::DoubleBackward a;
    a.ddx = v(ddx);
    a.ddweight = {ddweight.bytes.data(), c.module, 4};
    a.ddbias = {ddbias.bytes.data(), c.module, 4};
    a.ddy = v(ddy);
    a.dx = v(second);
    bn.double_backward(record, v(dy), a);
    REQUIRE(bn2d_double_backward(twin.get(), c_record, raw(dy), raw(ddx), ddweight.bytes.data(),
                                 ddbias.bytes.data(), raw(cddy), raw(csecond)) == BN2D_OK);
    CHECK(ddy == cddy);
    CHECK(second == csecond);
    a.ddz = v(z);
    a.dz = v(dz);
    bn.double_backward(record, v(dy), a);
    REQUIRE(bn2d_double_backward_act(twin.get(), c_record, raw(dy), raw(ddx), raw(z),
                                     ddweight.bytes.data(), ddbias.bytes.data(), raw(cddy),
                                     raw(csecond), raw(cdz)) == BN2D_OK);
    CHECK(ddy == cddy);
    CHECK(second == csecond);
    CHECK(dz == cdz);
    bn2d_record_release(c_record);

    bn.eval();
    REQUIRE(bn2d_module_eval(twin.get()) == BN2D_OK);
    bn.infer(v(x), v(infer), c.activation, c.residual ? v(z) : none);
    REQUIRE(bn2d_forward_act(twin.get(), raw(x), c.residual ? raw(z).get() : nullptr,
                             c.activation.kind, c.activation.slope, raw(cinfer),
                             nullptr) == BN2D_OK);
    CHECK(infer == cinfer);
    CHECK_FALSE(infer == Memory(c.data, elements));
    check_same_state(bn.get(), twin.get());
  }
}

TEST_CASE("cpp: outputs that are not wanted", "[cpp]") {
  // Catches a default that is not NULL: dz alone, and no output at all.
  bn2d::Module bn(4), other(4);
  std::vector<float> x(kElements, 1.0f), y(kElements), dy(kElements), dz(kElements);
  for (size_t i = 0; i < kElements; ++i)
    x[i] = static_cast<float>(i % 7), dy[i] = static_cast<float>(i % 5);
  const auto record = bn.record({x, kShape}, {y, kShape}, bn2d::relu);
  const auto other_record = other.record({x, kShape}, {y, kShape}, bn2d::relu);
  bn.backward(record, {dy, kShape}, {}, {dz, kShape});
  other.backward(other_record, {dy, kShape});
  for (size_t i = 0; i < kElements; ++i) CHECK(dz[i] == (y[i] > 0 ? dy[i] : 0.0f));
  check_same_state(bn.get(), other.get());
}

TEST_CASE("cpp: options", "[cpp]") {
  // Catches an option that does not reach the module, or another one.
  const bn2d::Module plain(7);
  CHECK(plain.repr() ==
        "BatchNorm2d(7, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)");
  CHECK(plain.num_features() == 7);
  CHECK(plain.eps() == 1e-5);
  CHECK(plain.momentum() == 0.1);
  CHECK(plain.affine());
  CHECK(plain.track_running_stats());
  CHECK(plain.dtype() == bn2d::DType::f32);
  CHECK(plain.num_threads() == 0);
  CHECK(plain.is_training());
  CHECK(plain.tensors().size() == 5);

  bn2d::Options options;
  options.eps = 0.5;
  options.momentum = std::nullopt;
  options.affine = false;
  options.track_running_stats = false;
  options.dtype = bn2d::DType::f64;
  options.num_threads = 3;
  const bn2d::Module bare(7, options);
  CHECK(bare.repr() ==
        "BatchNorm2d(7, eps=0.5, momentum=None, affine=False, track_running_stats=False)");
  CHECK(bare.momentum() == std::nullopt);
  CHECK_FALSE(bare.affine());
  CHECK_FALSE(bare.track_running_stats());
  CHECK(bare.dtype() == bn2d::DType::f64);
  CHECK(bare.num_threads() == 3);
  CHECK(bare.tensors().empty());

  bn2d::Options weight_only;
  weight_only.bias = false;
  const bn2d::Module without_bias(7, weight_only);
  CHECK(without_bias.tensors().size() == 4);

  // biased_running_var: of 2 values 0 and 2 the variance is 1, or 2 without bias.
  for (const bool biased : {false, true}) {
    bn2d::Options onnx;
    onnx.momentum = 1;
    onnx.biased_running_var = biased;
    bn2d::Module bn(1, onnx);
    float x[2] = {0, 2}, y[2];
    bn.forward({x, {1, 1, 1, 2}}, {y, {1, 1, 1, 2}});
    CHECK(bn.running_var()[0] == (biased ? 1.0f : 2.0f));
  }
  // protect_running_stats: a channel with an infinite value leaves its running statistics alone.
  bn2d::Options protective;
  protective.protect_running_stats = true;
  bn2d::Module bn(1, protective);
  float x[2] = {0, HUGE_VALF}, y[2];
  bn.forward({x, {1, 1, 1, 2}}, {y, {1, 1, 1, 2}});
  CHECK(bn.running_mean()[0] == 0.0f);
}

TEST_CASE("cpp: modes, resets and the tensors of a module", "[cpp]") {
  bn2d::Module bn(2);
  std::vector<float> x{1, 2, 30, 50}, y(4), dy{1, 1, 2, 4};
  const bn2d::Shape shape{1, 2, 1, 2};
  bn.backward(bn.record({x, shape}, {y, shape}), {dy, shape});
  CHECK(bn.num_batches_tracked() == 1);
  CHECK(bn.bias_grad()[1] == 6.0f);
  CHECK(bn.running_mean()[1] == Approx(4.0f));
  bn.zero_grad();
  CHECK(bn.bias_grad()[1] == 0.0f);
  bn.weight()[1] = 5;
  CHECK(bn.tensor("weight").span<float>()[1] == 5.0f);
  bn.reset_running_stats();
  CHECK(bn.num_batches_tracked() == 0);
  CHECK(bn.weight()[1] == 5.0f);
  bn.reset_parameters();
  CHECK(bn.weight()[1] == 1.0f);
  bn.train(false);
  CHECK_FALSE(bn.is_training());
  bn.train();
  CHECK(bn.is_training());
  bn.set_num_threads(2);
  CHECK(bn.num_threads() == 2);

  auto weight = bn.tensor("weight");
  CHECK(std::string(weight.name()) == "weight");
  CHECK(weight.kind() == bn2d::TensorKind::parameter);
  CHECK(weight.dtype() == bn2d::DType::f32);
  CHECK(weight.rank() == 1);
  CHECK(weight.size() == 2);
  CHECK(weight.nbytes() == 8);
  CHECK(weight.data() == bn.weight().data());
  CHECK(weight.grad().data() == bn.weight_grad().data());
  CHECK(weight.requires_grad());
  weight.set_requires_grad(false);
  CHECK_FALSE(bn.tensor("weight").requires_grad());
  const double in[2] = {0.5, -4};
  double out[2] = {};
  weight.copy_from(in);
  weight.copy_to(out);
  CHECK(out[0] == 0.5);
  CHECK(out[1] == -4);
  auto batches = bn.tensor("num_batches_tracked");
  CHECK(batches.rank() == 0);
  CHECK(batches.size() == 1);
  const int64_t nine[1] = {9};
  batches.copy_from(nine);
  CHECK(bn.num_batches_tracked() == 9);
  std::string names;
  for (const bn2d::ConstTensor &tensor : std::as_const(bn).tensors())
    names += std::string(tensor.name()) + " ";
  CHECK(names == "weight bias running_mean running_var num_batches_tracked ");
}

TEST_CASE("cpp: a const module serves many threads", "[cpp][threads]") {
  // Catches an infer() that takes the module alone.
  bn2d::Module trained(4);
  std::vector<float> x(kElements), expected(kElements);
  for (size_t i = 0; i < kElements; ++i) x[i] = static_cast<float>(i % 13);
  trained.forward({x, kShape}, {expected, kShape});
  trained.eval();
  const bn2d::Module &bn = trained;
  bn.infer({x, kShape}, {expected, kShape}, bn2d::relu);
  std::vector<std::vector<float>> outputs(4, std::vector<float>(kElements));
  std::vector<std::thread> threads;
  for (auto &y : outputs)
    threads.emplace_back([&bn, &x, &y] {
      for (int i = 0; i < 200; ++i) bn.infer({x, kShape}, {y, kShape}, bn2d::relu);
    });
  for (auto &thread : threads) thread.join();
  for (const auto &y : outputs) CHECK(y == expected);
}

TEST_CASE("cpp: what belongs to the library", "[cpp]") {
  const auto library = bn2d::Library::linked();
  CHECK(library.version() == bn2d_version());
  CHECK(std::string(library.version_string()) == bn2d_version_string());
  CHECK(std::string(library.build_info()) == bn2d_build_info());
  CHECK(std::string(library.simd_target()) == bn2d_simd_target());
  CHECK(std::string(library.name(bn2d::Status::shape)) == "BN2D_ERROR_SHAPE");
  CHECK(std::string(library.name(bn2d::DType::bf16)) == "bfloat16");
  CHECK(library.dtype_from_name("f16") == bn2d::DType::f16);
  CHECK(library.mask_nbytes({2, 3, 3, 3}) == 12);
  library.set_num_threads(3);
  CHECK(bn2d_get_num_threads() == 3);
  CHECK(library.num_threads() == 3);
  library.set_num_threads(0);
  library.set_streaming_threshold(1000);
  CHECK(library.streaming_threshold() == 1000);
  library.set_streaming_threshold(-1);

  // A library that is older than the header lacks the last slots.
  CHECK(library.has(&bn2d_api::mask_nbytes));
  bn2d_api older = library.api();
  older.size = offsetof(bn2d_api, mask_nbytes);
  CHECK_FALSE(bn2d::Library(older).has(&bn2d_api::mask_nbytes));
  CHECK(bn2d::Library(older).has(&bn2d_api::batch_norm_double_backward));
}
