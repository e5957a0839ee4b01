// A plugin host in bad company: many loads with threads, two copies of the library, another
// namespace, a fork, a host that flushes subnormals. Built twice, without and with oneTBB in the
// host. Each case is a process of its own.
//
//   bn2d_plugin_company <path of libbn2d.so> <path of a copy>
//
// What it would catch: a load that leaves threads or handles behind, state that two copies share, a
// table that an older host cannot use, a child process that waits for workers it has not.
#include <bn2d/bn2d.h>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif
#if defined(BN2D_HOST_HAS_TBB)
#include <tbb/parallel_for.h>
#endif

namespace {

using GetApi = decltype(&bn2d_get_api);

GetApi get_api_of(void *library) {
  return library == nullptr ? nullptr : reinterpret_cast<GetApi>(dlsym(library, "bn2d_get_api"));
}

const bn2d_api *table_of(void *library) {
  const GetApi get_api = get_api_of(library);
  return get_api == nullptr ? nullptr : get_api(BN2D_API_VERSION);
}

// Trains one batch of (n, 16, 32, 32); 1 image is a small call, 32 images are work for all threads.
std::vector<float> train(const bn2d_api *api, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n) * 16 * 32 * 32), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761u % 1024) * 0.01f;
  bn2d_module *module = nullptr;
  if (api == nullptr || api->module_create(16, nullptr, &module) != BN2D_OK) return {};
  const int32_t status = api->forward_f32(module, x.data(), n, 32, 32, y.data(), nullptr);
  api->module_release(module);
  return status == BN2D_OK ? y : std::vector<float>();
}

struct Paths {
  const char *library, *copy;
};

bool loads_with_threads(const Paths &paths) {
  for (int round = 0; round < 500; ++round) {
    void *library = dlopen(paths.library, RTLD_NOW | RTLD_LOCAL);
    const bn2d_api *api = table_of(library);
    if (api == nullptr) return false;
    bool good[2] = {};
    std::thread other([&] { good[0] = !train(api, 1).empty(); });
    good[1] = !train(api, round % 50 == 0 ? 32 : 1).empty();
    other.join();
    if (!good[0] || !good[1] || dlclose(library) != 0) return false;
  }
  return true;
}

// A host of version 1, 2 and of a version that does not exist yet.
bool versions(const Paths &paths) {
  void *library = dlopen(paths.library, RTLD_NOW | RTLD_LOCAL);
  const GetApi get_api = get_api_of(library);
  if (get_api == nullptr || get_api(BN2D_API_VERSION + 1) != nullptr) return false;
  const bn2d_api *first = get_api(1), *second = get_api(2);
  if (first == nullptr || second == nullptr) return false;
  const size_t end_of_1 = offsetof(bn2d_api, mask_nbytes) + sizeof(void *);
  return first->size >= end_of_1 &&
         std::strcmp(first->version_string(), second->version_string()) == 0 &&
         second->size > offsetof(bn2d_api, module_get_thread_pool) && !train(first, 1).empty();
}

bool two_copies(const Paths &paths) {
  const bn2d_api *one = table_of(dlopen(paths.library, RTLD_NOW | RTLD_GLOBAL));
  const bn2d_api *two = table_of(dlopen(paths.copy, RTLD_NOW | RTLD_GLOBAL));
  if (one == nullptr || two == nullptr || one == two || one->module_create == two->module_create)
    return false;
  if (one->set_num_threads(1) != BN2D_OK || two->set_num_threads(2) != BN2D_OK) return false;
  if (one->get_num_threads() != 1 || two->get_num_threads() != 2) return false;
  const std::vector<float> y = train(one, 32);
  return !y.empty() && y == train(two, 32);
}

bool after_fork(const Paths &paths) {
  const bn2d_api *api = table_of(dlopen(paths.library, RTLD_NOW | RTLD_LOCAL));
  const std::vector<float> y = train(api, 32);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(!y.empty() && train(api, 32) == y ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0;
}

// Flushing does not change the results of ordinary numbers, and is as it was after the call.
bool under_flush_to_zero(const Paths &paths) {
#if defined(__SSE2__)
  const bn2d_api *api = table_of(dlopen(paths.library, RTLD_NOW | RTLD_LOCAL));
  const std::vector<float> y = train(api, 32);
  _mm_setcsr(_mm_getcsr() | 0x8040);
  const unsigned mode = _mm_getcsr() & ~0x3fu;
  const std::vector<float> flushed = train(api, 32);
  return !y.empty() && y == flushed && (_mm_getcsr() & ~0x3fu) == mode;
#else
  static_cast<void>(paths);
  return true;
#endif
}

bool another_namespace(const Paths &paths) {
#if defined(LM_ID_NEWLM)
  const bn2d_api *api = table_of(dlmopen(LM_ID_NEWLM, paths.library, RTLD_NOW | RTLD_LOCAL));
  return api != nullptr && !train(api, 1).empty();
#else
  static_cast<void>(paths);
  return true;
#endif
}

// Not a promise: oneTBB 2022.1 crashes in glibc 2.41 while it is loaded, whoever needs it. Where
// there is no dlmopen, the case holds.
bool namespace_with_tbb(const Paths &) {
#if defined(LM_ID_NEWLM)
  return dlmopen(LM_ID_NEWLM, "libtbb.so.12", RTLD_NOW | RTLD_LOCAL) != nullptr;
#else
  return true;
#endif
}

// Not a promise: what README.md says of it is what this shows.
bool another_namespace_large(const Paths &paths) {
#if defined(LM_ID_NEWLM)
  return !train(table_of(dlmopen(LM_ID_NEWLM, paths.library, RTLD_NOW | RTLD_LOCAL)), 32).empty();
#else
  static_cast<void>(paths);
  return true;
#endif
}

enum class Promise { always, never, where_last_holds };

struct Case {
  const char *name;
  bool (*holds)(const Paths &);
  Promise promise;
};
constexpr Case kCases[] = {
    {"500 loads with threads", loads_with_threads, Promise::always},
    {"versions of the table", versions, Promise::always},
    {"two copies", two_copies, Promise::always},
    {"after fork", after_fork, Promise::always},
    {"subnormals flushed", under_flush_to_zero, Promise::always},
    {"oneTBB alone in another namespace", namespace_with_tbb, Promise::never},
    {"small calls in another namespace", another_namespace, Promise::where_last_holds},
    {"large calls in another namespace", another_namespace_large, Promise::never},
};

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const Paths paths{argv[1], argv[2]};
  int faults = 0;
  bool last_holds = true;
  for (const Case &one : kCases) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      alarm(120);
#if defined(BN2D_HOST_HAS_TBB)
      std::vector<int> work(1000);
      tbb::parallel_for(size_t{0}, work.size(), [&](size_t i) { work[i] = 1; });
#endif
      _exit(one.holds(paths) ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
      std::printf("%s: signal %d\n", one.name, WTERMSIG(status));
    else
      std::printf("%s: %s\n", one.name, status == 0 ? "good" : "failed");
    const bool is_promised =
        one.promise == Promise::always || (one.promise == Promise::where_last_holds && last_holds);
    last_holds = status == 0;
    faults += is_promised && !last_holds;
  }
  return faults == 0 ? 0 : 1;
}
