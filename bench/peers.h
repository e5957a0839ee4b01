// SPDX-License-Identifier: MIT
// The peer libraries that are installed, each in a module that is loaded at run time.
#ifndef BN2D_BENCH_PEERS_H
#define BN2D_BENCH_PEERS_H

#include <memory>
#include <string>
#include <vector>

#include "variant.h"

namespace bench {

struct LoadedPeer {
  std::string name;            ///< "oneDNN"
  std::unique_ptr<Peer> peer;  ///< null where it is not there
  std::string note;            ///< version, or why it is not there
};

/// Makes idle OpenMP workers sleep soon. Call it first in main; it may start the program anew.
void shorten_openmp_spinning(char **argv);

/// Loads the peers from `folder`: oneDNN in both versions where there are two, PyTorch in one of
/// them.
std::vector<LoadedPeer> load_peers(const std::string &folder, int threads, bool system_torch);

}  // namespace bench

#endif  // BN2D_BENCH_PEERS_H
