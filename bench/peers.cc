// SPDX-License-Identifier: MIT
#include "peers.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

namespace bench {
namespace {

struct Known {
  const char *name, *file;
};

bool is_there(const std::string &folder, const Known &peer) {
  return access((folder + "/" + peer.file).c_str(), R_OK) == 0;
}

/// A build that was given newer versions has a second module for the system's. Two versions of
/// oneDNN live in one process (their sonames differ); two of PyTorch crash as the second one is
/// loaded.
std::vector<Known> known_peers(const std::string &folder, bool system_torch) {
  constexpr Known kOneDnn{"oneDNN", "bn2d_peer_onednn.so"},
      kSystemOneDnn{"oneDNN", "bn2d_peer_onednn_system.so"};
  constexpr Known kTorch{"PyTorch", "bn2d_peer_torch.so"},
      kSystemTorch{"PyTorch", "bn2d_peer_torch_system.so"};
  std::vector<Known> known{kOneDnn};
  if (is_there(folder, kSystemOneDnn)) known.push_back(kSystemOneDnn);
  known.push_back(system_torch && is_there(folder, kSystemTorch) ? kSystemTorch : kTorch);
  return known;
}

LoadedPeer load(const Known &known, const std::string &folder) {
  LoadedPeer loaded;
  loaded.name = known.name;
  // Lazy and local: a peer brings its own world of libraries along, nothing of which should meet
  // ours.
  void *module = dlopen((folder + "/" + known.file).c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (!module) {
    loaded.note = is_there(folder, known) ? dlerror() : "not installed";
    return loaded;
  }
  auto *factory = reinterpret_cast<PeerFactory *>(dlsym(module, kPeerFactoryName));
  if (!factory) {
    loaded.note = "not usable: no factory";
    return loaded;
  }
  loaded.peer.reset(factory());
  loaded.note = loaded.peer->version();
  return loaded;
}

}  // namespace

// An OpenMP worker that has nothing to do spins for milliseconds (GNU: 9 ms were seen) before it
// sleeps, and would take a core from whoever is timed next. It may spin for 0.3 ms: long against
// the gap between two calls of a sample, so the peer loses nothing, and short against the timer's
// pause. The runtimes read these when they are loaded: if one is in the process already, the
// program has to start anew. A user's own setting wins.
void shorten_openmp_spinning(char **argv) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME")) return;
  setenv("GOMP_SPINCOUNT", "10000", 0);
  setenv("KMP_BLOCKTIME", "1", 0);
  if (dlsym(RTLD_DEFAULT, "omp_get_num_threads")) execv("/proc/self/exe", argv);
}

std::vector<LoadedPeer> load_peers(const std::string &folder, int threads, bool system_torch) {
  std::vector<LoadedPeer> peers;
  for (const Known &known : known_peers(folder, system_torch)) peers.push_back(load(known, folder));
  for (const LoadedPeer &loaded : peers)
    if (loaded.peer) loaded.peer->set_threads(threads);
  return peers;
}

}  // namespace bench
