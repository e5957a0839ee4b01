// SPDX-License-Identifier: MIT
// One contestant of a row, ready to run, and the interface through which a peer library offers its
// own.
#ifndef BN2D_BENCH_VARIANT_H
#define BN2D_BENCH_VARIANT_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "problem.h"

namespace bench {

/// Whose worker threads a variant runs on. Workers of the other one must be asleep meanwhile. All
/// peers that compute with OpenMP share one runtime, the one that was loaded first.
enum class Runtime { kTbb, kOpenMp };

struct Variant {
  std::string name;    ///< "oneDNN 3.13 blocked"
  std::string family;  ///< of peers: the name without the version, "oneDNN blocked"
  Runtime runtime = Runtime::kTbb;
  /// Makes that many calls. Empty: the variant cannot run, and `note` says why.
  std::function<void(int64_t calls)> run;
  /// Brings the result of the last call into problem.output(); empty where the call writes there
  /// itself.
  std::function<void()> fetch;
  /// Name of the implementation, or the reason why there is none.
  std::string note;
};

/// A loop around one call, without an indirect call per iteration.
template <typename Call>
std::function<void(int64_t)> repeat(Call call) {
  return [call](int64_t calls) mutable {
    for (int64_t i = 0; i < calls; ++i) call();
  };
}

/// A variant that cannot run.
inline Variant missing(const std::string &name, const std::string &reason) {
  Variant variant;
  variant.name = name;
  variant.note = reason;
  return variant;
}

class Peer {
 public:
  virtual ~Peer() = default;
  /// Of the library that is loaded, and what else matters: "3.13.1 (OpenMP)".
  virtual std::string version() const = 0;
  virtual void set_threads(int threads) = 0;
  /// Wakes the peer's workers, so that its first timed call does not pay for that.
  virtual void wake() = 0;
  /// Everything this peer has for the problem. Lives as long as the returned variants and the
  /// problem's tensors.
  virtual std::vector<Variant> variants(const Problem &problem) = 0;
};

/// The one symbol of a peer module (a shared object that is loaded at run time).
using PeerFactory = Peer *();
constexpr const char *kPeerFactoryName = "bn2d_bench_peer";

}  // namespace bench

#endif  // BN2D_BENCH_VARIANT_H
