// SPDX-License-Identifier: MIT
#include "peers.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include <exception>

namespace bench {
namespace {

struct Known {
  const char *name, *file;
};
constexpr Known kKnown[] = {{"oneDNN", "bn2d_peer_onednn.so"}, {"PyTorch", "bn2d_peer_torch.so"}};

LoadedPeer load(const Known &known, const std::string &folder) {
  LoadedPeer loaded;
  loaded.name = known.name;
  // Lazy and local: a peer brings its own world of libraries along, nothing of which should meet ours.
  void *module = dlopen((folder + "/" + known.file).c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (!module) {
    loaded.note = "not installed";
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

// An OpenMP worker that has nothing to do spins for milliseconds (GNU: 9 ms were seen) before it sleeps, and would take
// a core from whoever is timed next. It may spin for 0.3 ms: long against the gap between two calls of a sample, so the
// peer loses nothing, and short against the timer's pause. The runtimes read these when they are loaded: if one is in
// the process already, the program has to start anew. A user's own setting wins.
void shorten_openmp_spinning(char **argv) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME")) return;
  setenv("GOMP_SPINCOUNT", "10000", 0);
  setenv("KMP_BLOCKTIME", "1", 0);
  if (dlsym(RTLD_DEFAULT, "omp_get_num_threads")) execv("/proc/self/exe", argv);
}

std::vector<LoadedPeer> load_peers(const std::string &folder, int threads) {
  std::vector<LoadedPeer> peers;
  for (const Known &known : kKnown) {
    peers.push_back(load(known, folder));
    if (peers.back().peer) peers.back().peer->set_threads(threads);
  }
  return peers;
}

}  // namespace bench
