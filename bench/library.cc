// SPDX-License-Identifier: MIT
#include "library.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <stdexcept>

namespace bench {
namespace {

template <typename Function>
void find(void *handle, const char *name, Function *function) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  if (!*function) throw std::invalid_argument(dlerror());
}

/// The loader searches for a name without a slash, and it would find ours.
std::string absolute(const std::string &path) {
  char *const found = realpath(path.c_str(), nullptr);
  if (!found) throw std::invalid_argument(path + ": " + strerror(errno));
  const std::string result = found;
  free(found);
  return result;
}

}  // namespace

void Library::check(int32_t status) const {
  if (status != BN2D_OK) throw std::runtime_error(last_error());
}

const Library kLinked = {
#define X(name) &bn2d_##name,
#include "library.inc"
#undef X
};

Library load_library(const std::string &path) {
  void *const handle = dlopen(absolute(path).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::invalid_argument(dlerror());
  Library library;
#define X(name) find(handle, "bn2d_" #name, &library.name);
#include "library.inc"
#undef X
  // The loader keeps one copy of a file: against itself, a build would be timed twice.
  if (library.forward == kLinked.forward)
    throw std::invalid_argument(path + " is the build that this program is linked to");
  return library;
}

}  // namespace bench
