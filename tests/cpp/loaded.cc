// A program that is not linked with the library: the same classes, through dlopen.
//
//   bn2d_cpp_loaded <path of libbn2d.so>
//
// What it would catch: a reference to a function of the library in code that only uses the table
// (it would not link), a call that goes to another library than the one that was opened.
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

void use(const bn2d::Library &library) {
  const bn2d_api &api = library.api();
  std::vector<float> x(2 * 3 * 4 * 4), y(x.size()), dx(x.size()), c_y(x.size()), c_dx(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 37 % 101);
  const bn2d::Shape shape{2, 3, 4, 4};

  bn2d::Options options;
  options.eps = 0.5;
  bn2d::Module bn(library, 3, options);
  const auto record = bn.record({x, shape}, {y, shape});
  bn.backward(record, {x, shape}, {dx, shape});

  bn2d_options *c_options = nullptr;
  bn2d_module *module = nullptr;
  bn2d_record *c_record = nullptr;
  EXPECT(api.options_create(&c_options) == BN2D_OK);
  EXPECT(api.options_set_eps(c_options, 0.5) == BN2D_OK);
  EXPECT(api.module_create(3, c_options, &module) == BN2D_OK);
  EXPECT(api.forward_f32(module, x.data(), 2, 4, 4, c_y.data(), &c_record) == BN2D_OK);
  EXPECT(api.backward_f32(module, c_record, x.data(), c_dx.data()) == BN2D_OK);
  EXPECT(y == c_y);
  EXPECT(dx == c_dx);
  api.record_release(c_record);
  api.module_release(module);
  api.options_release(c_options);

  bn2d::BatchNormForward f;
  f.x = {x, shape};
  f.y = {y, shape};
  f.eps = 0.5;
  bn2d::batch_norm_forward(library, f);
  EXPECT(y == c_y);
  try {
    bn.forward({x, {2, 4, 3, 4}}, {y, shape});
    EXPECT(false);
  } catch (const bn2d::Error &error) {
    EXPECT(error.status() == bn2d::Status::shape);
    EXPECT(std::strcmp(error.what(), "x has 4 channels, the module has num_features 3") == 0);
  }
}

// What is no library, or another one, is an error with the reason.
void refuse(const char *path) {
  try {
    bn2d::Library::open(path);
    EXPECT(false);
  } catch (const bn2d::Error &error) {
    EXPECT(error.status() == bn2d::Status::not_found);
    EXPECT(std::strlen(error.what()) > 0);
  }
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s <path of libbn2d.so>\n", argv[0]);
    return 2;
  }
  EXPECT(dlsym(RTLD_DEFAULT, "bn2d_get_api") == nullptr);  // or this would test something else
  refuse("libbn2d-that-does-not-exist.so");
  refuse("libc.so.6");  // exists, and has no bn2d_get_api
  const auto library = bn2d::Library::open(argv[1]);
  EXPECT(dlsym(RTLD_DEFAULT, "bn2d_get_api") == nullptr);
  use(library);
  use(bn2d::Library::open(argv[1]));  // once more is the same library
  std::printf("%s, %d faults\n", library.build_info(), faults);
  return faults == 0 ? 0 : 1;
}
