// A host that is compiled with this header meets libraries of other versions (other_version.c), in
// C and in C++.
//
//   bn2d_plugin_versions <too old> <1.0> <newer>
//
// What it would catch: a C++ class that asks for a version it does not need, or reads a slot that
// an older table does not have; a host that refuses a newer library.
#include <bn2d/bn2d.hpp>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

int faults = 0;
#define EXPECT(condition)                                          \
  do {                                                             \
    if (!(condition)) {                                            \
      std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      ++faults;                                                    \
    }                                                              \
  } while (0)

decltype(&bn2d_get_api) get_api_of(const char *path) {
  void *const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) std::fprintf(stderr, "%s\n", dlerror());
  return library == nullptr
             ? nullptr
             : reinterpret_cast<decltype(&bn2d_get_api)>(dlsym(library, "bn2d_get_api"));
}

// Everything that the C++ header does with a module.
void use(const bn2d::Library &library) {
  std::vector<float> x(2 * 3 * 4 * 4), y(x.size()), dx(x.size()), ddy(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 37 % 101);
  const bn2d::Shape shape{2, 3, 4, 4};
  bn2d::Options options;
  options.momentum = std::nullopt;
  options.num_threads = 1;
  bn2d::Module bn(library, 3, options);
  const auto record = bn.record({x, shape}, {y, shape}, bn2d::leaky_relu(-0.5));
  bn.backward(record, {y, shape}, {dx, shape});
  bn2d::DoubleBackward second;
  second.ddx = {dx, shape};
  second.ddy = {ddy, shape};
  bn.double_backward(record, {y, shape}, second);
  EXPECT(bn.weight_grad()[0] != 0);
  EXPECT(bn.num_batches_tracked() == 1);
  EXPECT(bn.repr().find("momentum=None") != std::string::npos);
  bn.eval();
  bn.infer({x, shape}, {y, shape}, bn2d::relu);
  std::vector<uint8_t> mask(library.mask_nbytes(shape));
  bn2d::BatchNormForward f;
  f.x = {x, shape};
  f.y = {y, shape};
  f.activation = bn2d::relu;
  f.mask = mask;
  bn2d::batch_norm_forward(library, f);
}

void meet_older(const char *path) {
  const auto get_api = get_api_of(path);
  EXPECT(get_api != nullptr);
  if (get_api == nullptr) return;
  EXPECT(get_api(BN2D_API_VERSION) == nullptr);
  const bn2d_api *const api = get_api(1);
  EXPECT(api != nullptr && api->api_version == 1 && api->size == offsetof(bn2d_api, forward_flat));

  const auto library = bn2d::Library::open(path);
  EXPECT(&library.api() == api);
  EXPECT(library.has(&bn2d_api::mask_nbytes));
  EXPECT(!library.has(&bn2d_api::forward_flat));
  EXPECT(!library.has(&bn2d_api::module_get_thread_pool));
  use(library);
}

void meet_newer(const char *path) {
  const auto get_api = get_api_of(path);
  EXPECT(get_api != nullptr);
  if (get_api == nullptr) return;
  const bn2d_api *const api = get_api(BN2D_API_VERSION);
  EXPECT(api != nullptr && api->api_version > BN2D_API_VERSION && api->size > sizeof(bn2d_api));
  const auto library = bn2d::Library::open(path);
  EXPECT(library.has(&bn2d_api::module_get_thread_pool));
  EXPECT(library.api().get_thread_pool() == BN2D_POOL_TBB ||
         library.api().get_thread_pool() == BN2D_POOL_DEFAULT);
  use(library);
}

void meet_too_old(const char *path) {
  try {
    bn2d::Library::open(path);
    EXPECT(false);
  } catch (const bn2d::Error &error) {
    EXPECT(error.status() == bn2d::Status::state);
    EXPECT(std::strstr(error.what(), "older than version 1.0") != nullptr);
  }
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s <too old> <1.0> <newer>\n", argv[0]);
    return 2;
  }
  meet_too_old(argv[1]);
  meet_older(argv[2]);
  meet_newer(argv[3]);
  std::printf("%d faults\n", faults);
  return faults == 0 ? 0 : 1;
}
