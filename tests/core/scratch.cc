// Working memory: who has it, and what stays when nobody does.
#include "base/scratch.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "support/catch.h"

using bn2d::Scratch;

namespace {

size_t resident_bytes() {
  long size = 0, resident = 0;
  std::FILE *const statm = std::fopen("/proc/self/statm", "r");
  REQUIRE(statm != nullptr);
  REQUIRE(std::fscanf(statm, "%ld %ld", &size, &resident) == 2);
  std::fclose(statm);
  return static_cast<size_t>(resident) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("scratch: nobody else has it", "[scratch][threads]") {
  // Catches a block that two calls get, one that is too small or misaligned; more threads than the
  // pool has places.
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 20; ++t) {
    threads.emplace_back([&bad, t] {
      for (size_t i = 0; i < 300; ++i) {
        const size_t bytes = 1 + (i * 7919 * static_cast<size_t>(t + 1)) % 100000;
        const Scratch outer(bytes), inner(i % 3 == 0 ? 64 : 0);
        if (reinterpret_cast<uintptr_t>(outer.data()) % 64 != 0) ++bad;
        if ((inner.data() == nullptr) != (i % 3 != 0)) ++bad;
        std::memset(outer.data(), t, bytes);
        if (inner.data()) std::memset(inner.data(), -1, 64);
        const auto *data = static_cast<const unsigned char *>(outer.data());
        if (std::any_of(data, data + bytes, [t](unsigned char byte) { return byte != t; })) ++bad;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  CHECK(bad == 0);
}

TEST_CASE("scratch: the same memory again", "[scratch]") {
  // Catches a pool that allocates in steady state.
  const void *first = nullptr;
  {
    const Scratch scratch(100000);
    first = scratch.data();
  }
  int others = 0;
  for (int i = 0; i < 100; ++i) {
    const Scratch scratch(static_cast<size_t>(1000 * i + 1));
    if (scratch.data() != first) ++others;
  }
  CHECK(others == 0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("scratch: what is kept is bounded", "[scratch]") {
  // Catches a pool that keeps the largest block ever asked for: millions of channels left 180 MB
  // behind.
  const size_t before = resident_bytes();
  {
    std::vector<std::unique_ptr<Scratch>> all;
    for (int i = 0; i < 8; ++i) {
      all.push_back(std::make_unique<Scratch>(size_t{40} << 20));
      std::memset(all.back()->data(), 1, size_t{40} << 20);
    }
    CHECK(resident_bytes() > before + (size_t{200} << 20));
  }
  CHECK(resident_bytes() < before + (size_t{64} << 20));
}
#endif
