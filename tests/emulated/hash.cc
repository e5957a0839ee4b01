// One line for each of a fixed list of configurations: its name and a hash of all results. Two
// machines, or two SIMD targets, that print the same lines compute the same bits (.ci/emulated).
#include <cstdio>
#include <string>

#include "support/norms_case.h"
#include "support/numerics_cases.h"

namespace {

using namespace numerics;

uint64_t hash_of(const Outputs &outputs) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  const auto add = [&](uint64_t value) {
    for (int byte = 0; byte < 8; ++byte)
      hash = (hash ^ (value >> 8 * byte & 0xff)) * 0x100000001b3u;
  };
  for (const auto &[name, output] : outputs) {
    for (const char c : name) add(static_cast<uint64_t>(c));
    for (const uint64_t bits : output.bits) add(bits);
  }
  return hash;
}

}  // namespace

TEST_CASE("hash of all results", "[hash]") {
  std::printf("target %s\n", bn2d_simd_target());
  uint64_t seed = 1;
  int index = 0;
  const auto print = [&](const auto &c) {
    const Outputs outputs = run(c, random_inputs(c, ++seed));
    std::printf("case %d: %s %016llx\n", index++, describe(c).c_str(),
                static_cast<unsigned long long>(hash_of(outputs)));
  };
  for (const Case &c : every_case()) print(c);
  for (const int32_t norm : {BN2D_NORM_GROUP, BN2D_NORM_INSTANCE, BN2D_NORM_BATCH})
    for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16})
      for (const Layout layout : {Layout::nchw, Layout::nhwc, Layout::permuted})
        for (const Extents &e :
             {Extents{3, 12, 5, 7}, Extents{9, 6, 2, 2}, Extents{2, 6, 40, 41}}) {
          NormCase c = case_of(e, norm, 3);
          c.ghost = norm == BN2D_NORM_BATCH ? 2 : 0;
          c.data = c.module = dtype;
          c.x = c.y = c.dx = layout;
          c.activation = relu;
          print(c);
        }
}
