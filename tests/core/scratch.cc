// Working memory: who has it, and what stays when nobody does.
#include "base/scratch.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
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

TEST_CASE("scratch: sixteen blocks stay of those that were held at once", "[scratch]") {
  // Catches a pool that keeps all of them, and one that keeps none of the large ones. A thread
  // looks at half of the places, so that it takes several to fill them. The last test: all this
  // stays.
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 20);  // what is freed goes back, and does not stay in an arena
#endif
  constexpr int kHeld = 24;
  constexpr size_t kMiB = size_t{1} << 20, kBytes = 15 * kMiB;
  const size_t before = resident_bytes();
  std::atomic<int> holding{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kHeld; ++t)
    threads.emplace_back([&holding] {
      const Scratch scratch(kBytes);
      std::memset(scratch.data(), 1, kBytes);
      ++holding;
      while (holding < kHeld) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  for (std::thread &thread : threads) thread.join();
  const size_t after = resident_bytes();
  INFO((after - before) / kMiB << " MiB stay");
  CHECK(after < before + (16 * 16 + 8) * kMiB);
  CHECK(after >= before + 200 * kMiB);
}
#endif
