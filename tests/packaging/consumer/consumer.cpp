// A program in C++, in every mode that bn2d.hpp has: with exceptions or results; linked, or
// (LOADED) not linked and given the path of the library. Prints the version of the library.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#if __cplusplus > 201703L
#include <span>
#endif

// What careless headers leave behind. (The standard library's own headers could not stand it.)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define near
#define far
#define small char
#define interface struct
#define IN
#define OUT
#define ERROR 0
#define OVERFLOW 3
#include <bn2d/bn2d.hpp>

// A second file of the program, of another standard or without exceptions.
int also_uses_bn2d(const bn2d_api &api);

#if defined(BN2D_NO_EXCEPTIONS)
#define VALUE(result) (*(result))
#define DONE(result) static_cast<bool>(result)
#else
#define VALUE(result) (result)
#define DONE(call) ((call), true)
#endif

#if defined(SECOND_FILE)

int also_uses_bn2d(const bn2d_api &api) {
  auto made = bn2d::Module::create(bn2d::Library(api), 1);
  auto &bn = VALUE(made);
  const float x[2] = {0, 2};
  float y[2];
  return DONE(bn.forward({x, {1, 1, 1, 2}}, {y, {1, 1, 1, 2}}, bn2d::relu)) && y[0] == 0 &&
                 y[1] > 0.99f
             ? 0
             : 1;
}

#else

int main(int argc, char **argv) {
#if defined(LOADED)
  if (argc != 2) return 2;
  const auto opened = bn2d::Library::open(argv[1]);
  const bn2d::Library library = VALUE(opened);
#else
  static_cast<void>(argc), static_cast<void>(argv);
  const auto library = bn2d::Library::linked();
#endif
  bn2d::Options options;
  options.eps = 0.5;
  auto made = bn2d::Module::create(library, 3, options);
  auto &bn = VALUE(made);
  std::vector<float> x(24, 1.0f), y(24), dx(24);
  const bn2d::Shape shape{2, 3, 2, 2};
  auto recorded = bn.record({x, shape}, {y, shape}, bn2d::leaky_relu());
  auto &record = VALUE(recorded);
  bool good = DONE(bn.backward(record, {y, shape}, {dx, shape, bn2d::channels_last}));
  bn2d::DoubleBackward twice;
  twice.ddx = {x, shape};
  twice.ddy = {dx, shape};
  good = good && DONE(bn.double_backward(record, {y, shape}, twice));
  VALUE(bn.weight())[0] = 2;
  good = good && VALUE(std::as_const(bn).weight())[0] == 2;
  auto tensor = bn.tensor("bias");
  good = good && DONE(VALUE(tensor).copy_from(VALUE(bn.weight()))) &&
         VALUE(VALUE(tensor).grad()).size() == 3;
  good = good && DONE(bn.eval()) && DONE(std::as_const(bn).infer({x, shape}, {y, shape}));
  good = good && VALUE(bn.num_batches_tracked()) == 1 && !bn.repr().empty() &&
         VALUE(bn.tensors()).size() == 5;
  bn2d::BatchNormForward forward;
  forward.x = {x.data(), shape};
  forward.y = {y, shape};
  forward.weight = VALUE(bn.weight());
  good = good && DONE(bn2d::batch_norm_forward(library, forward));
#if defined(BN2D_NO_EXCEPTIONS)
  const auto failed = bn.forward({x, {2, 4, 3, 1}}, {y, {2, 4, 3, 1}});
  good = good && failed.status() == bn2d::Status::shape && std::strlen(failed.message()) > 0;
#else
  try {
    bn.forward({x, {2, 4, 3, 1}}, {y, {2, 4, 3, 1}});
    good = false;
  } catch (const bn2d::Error &error) {
    good = good && error.status() == bn2d::Status::shape;
  }
#endif
  std::puts(library.version_string());
  return good ? also_uses_bn2d(library.api()) : 1;
}

#endif
