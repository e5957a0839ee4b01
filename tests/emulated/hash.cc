// One line for each of a fixed list of configurations: its name and a hash of all results. Two
// machines, or two SIMD targets, that print the same lines compute the same bits (.ci/emulated).
#include <cstdio>
#include <string>

#include "support/numerics_cases.h"

namespace {

uint64_t hash_of(const numerics::Outputs &outputs) {
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
  for (const numerics::Case &c : numerics::every_case()) {
    const numerics::Outputs outputs = numerics::run(c, numerics::random_inputs(c, ++seed));
    std::printf("case %d: %s %016llx\n", index++, numerics::describe(c).c_str(),
                static_cast<unsigned long long>(hash_of(outputs)));
  }
}
