// The OpenMP runtime of the process, found at run time: we are not linked with one, and a second
// one would be one too many. libgomp's entry for a parallel region, GOMP_parallel, is also what
// LLVM's and Intel's runtimes have for programs made by GCC.
#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cstring>

#include "parallel/pool.h"

namespace bn2d {
namespace {

struct Runtime {
  void (*parallel)(void (*)(void *), void *, unsigned threads, unsigned flags);
  int (*thread_number)();
  int (*most_threads)();
  int (*in_parallel)();
};

std::atomic<const Runtime *> g_runtime{nullptr};

template <class Function>
bool look_up(void *library, const char *name, Function *function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

bool load(void *library, Runtime *runtime) {
  return library != nullptr && look_up(library, "GOMP_parallel", &runtime->parallel) &&
         look_up(library, "omp_get_thread_num", &runtime->thread_number) &&
         look_up(library, "omp_get_max_threads", &runtime->most_threads) &&
         look_up(library, "omp_in_parallel", &runtime->in_parallel);
}

// The library that is loaded under this path; it stays, from now on.
void *loaded(const char *path) { return dlopen(path, RTLD_NOW | RTLD_NOLOAD); }

// What any code of the process sees comes first: that is the runtime which most of it uses.
bool load_global(Runtime *runtime) {
  void *const parallel = dlsym(RTLD_DEFAULT, "GOMP_parallel");
  Dl_info where;
  if (parallel == nullptr || dladdr(parallel, &where) == 0) return false;
  return load(loaded(where.dli_fname), runtime) || load(dlopen(nullptr, RTLD_NOW), runtime);
}

struct Names {
  static constexpr int kMost = 8;
  char path[kMost][512];
  int count = 0;
};

// A runtime that came with a plugin or a Python module, which only that one sees.
bool load_local(Runtime *runtime) {
  Names names;
  dl_iterate_phdr(
      [](dl_phdr_info *object, size_t, void *context) {
        Names &found = *static_cast<Names *>(context);
        const char *const slash = std::strrchr(object->dlpi_name, '/');
        const char *const file = slash ? slash + 1 : object->dlpi_name;
        const bool is_runtime = std::strncmp(file, "libgomp", 7) == 0 ||
                                std::strncmp(file, "libomp", 6) == 0 ||
                                std::strncmp(file, "libiomp5", 8) == 0;
        if (!is_runtime || found.count == Names::kMost ||
            std::strlen(object->dlpi_name) >= sizeof found.path[0])
          return 0;
        std::strcpy(found.path[found.count++], object->dlpi_name);
        return 0;
      },
      &names);
  for (int i = 0; i < names.count; ++i)
    if (load(loaded(names.path[i]), runtime)) return true;
  return false;
}

}  // namespace

bool find_openmp() {
  if (g_runtime.load(std::memory_order_acquire) != nullptr) return true;
  Runtime found;
  if (!load_global(&found) && !load_local(&found)) return false;
  const Runtime *none = nullptr, *const made = new Runtime(found);
  if (!g_runtime.compare_exchange_strong(none, made, std::memory_order_acq_rel)) delete made;
  return true;
}

int openmp_threads() {
  const Runtime &runtime = *g_runtime.load(std::memory_order_acquire);
  return runtime.in_parallel() ? 1 : runtime.most_threads();
}

void run_openmp(int32_t workers, WorkerFunction work, void *context) {
  struct Region {
    const Runtime &runtime;
    WorkerFunction work;
    void *context;
  } region = {*g_runtime.load(std::memory_order_acquire), work, context};
  region.runtime.parallel(
      [](void *given) {
        const Region &r = *static_cast<Region *>(given);
        r.work(r.context, r.runtime.thread_number());
      },
      &region, static_cast<unsigned>(workers), 0);
}

}  // namespace bn2d
