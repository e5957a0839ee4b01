// Each SIMD target runs the tests of this program: simd_targets.cmake sets BN2D_SIMD. What is here
// sees to it that the environment is heard at all (five runs could be five times the same), and
// skips the run where there is no such target, or where it has run already.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "bn2d/bn2d.h"
#include "support/catch.h"

namespace {

// Whether the processor has what a target needs; a target that is not named here is taken for
// absent.
bool processor_has(const std::string &target) {
  if (target == "SCALAR") return true;
#if defined(__x86_64__) || defined(__i386__)
  const bool sse4 = __builtin_cpu_supports("sse4.2") != 0 && __builtin_cpu_supports("pclmul") != 0;
  const bool avx2 = sse4 && __builtin_cpu_supports("avx2") != 0 &&
                    __builtin_cpu_supports("fma") != 0 && __builtin_cpu_supports("bmi2") != 0;
  const bool avx3 =
      avx2 && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512bw") != 0;
  if (target == "SSE4") return sse4;
  if (target == "AVX2") return avx2;
  if (target == "AVX3") return avx3;
#endif
  return false;
}

// Whether a word of bn2d_build_info() is the target's name.
bool built_with(const std::string &target) {
  const std::string info = bn2d_build_info();
  const auto is_word = [&](size_t i) {
    return i < info.size() &&
           (std::isalnum(static_cast<unsigned char>(info[i])) != 0 || info[i] == '_');
  };
  for (size_t at = info.find(target); at != std::string::npos; at = info.find(target, at + 1)) {
    if (!(at > 0 && is_word(at - 1)) && !is_word(at + target.size())) return true;
  }
  return false;
}

bool is_here(const std::string &target) { return built_with(target) && processor_has(target); }

// What an x86 takes where BN2D_SIMD is not set.
std::string best() {
  for (const char *target : {"AVX3", "AVX2", "SSE4"})
    if (is_here(target)) return target;
  return {};
}

void skip(const char *why, const char *target) {
  std::printf("skipped: %s %s\n", why, target);
  std::exit(77);
}

#ifdef BN2D_CATCH2_V3
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

class SkipAbsentTarget : public Listener {
 public:
  using Listener::Listener;
  void testRunStarting(const Catch::TestRunInfo &info) override {
    Listener::testRunStarting(info);
    const char *const wanted = std::getenv("BN2D_SIMD");
    if (wanted == nullptr) return;
    if (!is_here(wanted)) skip("this build or this processor has no SIMD target", wanted);
    if (std::getenv("BN2D_TEST_OTHER_TARGETS") != nullptr && wanted == best())
      skip("the tests run without BN2D_SIMD are those of", wanted);
  }
};

CATCH_REGISTER_LISTENER(SkipAbsentTarget)

}  // namespace

// Catches: a BN2D_SIMD that is not read, read too late, or matched in part.
TEST_CASE("simd: BN2D_SIMD chooses the target", "[numerics][simd]") {
  const std::string used = bn2d_simd_target();
  INFO("in use: " << used << "; " << bn2d_build_info());
  CHECK(built_with(used));
  const char *const wanted = std::getenv("BN2D_SIMD");
  if (wanted != nullptr) {
    CHECK(used == wanted);
  } else if (!best().empty()) {
    CHECK(used == best());
  }
}
