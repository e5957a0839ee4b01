// A plugin host: knows the header only, and loads the library by its path as often as asked, each
// time in a new process.
//
//   bn2d_plugin_host <path of libbn2d.so> [rounds]
//
// What it would catch: a crash at dlclose or at exit, threads or floating-point modes changed by
// loading, symbols that are missing with RTLD_NOW, a slot that is not the function of its name.
#include <bn2d/bn2d.h>
#include <dirent.h>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cfenv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace {

int faults = 0;
#define EXPECT(condition)                                          \
  do {                                                             \
    if (!(condition)) {                                            \
      std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      ++faults;                                                    \
    }                                                              \
  } while (0)

int threads_of_process() {
  int count = 0;
  if (DIR *folder = opendir("/proc/self/task")) {
    while (const dirent *entry = readdir(folder)) count += entry->d_name[0] != '.';
    closedir(folder);
  }
  return count;
}

// Rounding and whether results below the normal range are kept; on x86 the whole of it, exception
// masks too.
unsigned floating_point_mode() {
  const volatile float subnormal = 1e-40f;
  const bool keeps_subnormals = subnormal * 0.5f > 0;
  unsigned mode = static_cast<unsigned>(std::fegetround()) << 1 | unsigned{keeps_subnormals};
#if defined(__SSE2__)
  mode ^= _mm_getcsr() & ~0x3fu;  // without the sticky flags
#endif
  return mode;
}

// One module, trained and asked, through the table alone. Large enough for the workers.
void use(const bn2d_api *api) {
  constexpr int64_t n = 4, c = 16, h = 32, w = 32;
  std::vector<float> x(n * c * h * w), y(x.size()), dx(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761u % 1024) * 0.01f;
  bn2d_module *module = nullptr;
  bn2d_record *record = nullptr;
  EXPECT(api->module_create(c, nullptr, &module) == BN2D_OK);
  EXPECT(api->forward_f32(module, x.data(), n, h, w, y.data(), &record) == BN2D_OK);
  EXPECT(api->backward_f32(module, record, y.data(), dx.data()) == BN2D_OK);
  double sum = 0;
  for (const float value : y) sum += value;
  EXPECT(std::fabs(sum) < 1.0);
  EXPECT(api->module_train(module, 5) == BN2D_ERROR_INVALID_ARGUMENT);
  EXPECT(std::strlen(api->last_error()) > 0);
  api->record_release(record);
  api->module_release(module);
}

enum Way {
  kCloseUnused,
  kCloseUsed,
  kExitWhileLoaded,
  kUsedOnAnotherThread,
  kTwice,
  kHandlesLeft,
  kWays
};

int one_process(const char *path, int way) {
  const int threads = threads_of_process();
  const unsigned mode = floating_point_mode();
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  EXPECT(threads_of_process() == threads);
  EXPECT(floating_point_mode() ==
         mode);  // loading must not: code linked for fast math flushes subnormals to zero
  EXPECT(dlsym(RTLD_DEFAULT, "bn2d_version") ==
         nullptr);  // RTLD_LOCAL: our names are not the process's
  const auto get_api = reinterpret_cast<decltype(&bn2d_get_api)>(dlsym(library, "bn2d_get_api"));
  if (get_api == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const bn2d_api *api = get_api(BN2D_API_VERSION);
  EXPECT(get_api(0) == nullptr);
  EXPECT(get_api(999) == nullptr);
  if (api == nullptr) return 1;
  EXPECT(api->size >= sizeof(bn2d_api));
  EXPECT(api->api_version >= BN2D_API_VERSION);
#define BN2D_FUNCTION(since, name) \
  EXPECT(reinterpret_cast<void *>(api->name) == dlsym(library, "bn2d_" #name));
#include "functions.inc"
#undef BN2D_FUNCTION
  EXPECT(threads_of_process() == threads);  // asking for the table starts nothing either

  switch (way) {
    case kCloseUnused:
      break;
    case kCloseUsed:
      use(api);
      break;
    case kExitWhileLoaded:
      use(api);
      std::exit(faults);
    case kUsedOnAnotherThread:
      std::thread([&] { use(api); }).join();
      break;
    case kTwice:
      use(api);
      EXPECT(dlclose(library) == 0);
      library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
      EXPECT(library != nullptr);
      use(api);
      break;
    default: {
      use(api);
      bn2d_module *module = nullptr;
      EXPECT(api->module_create(3, nullptr, &module) == BN2D_OK);
      EXPECT(dlclose(library) == 0);
      EXPECT(api->module_eval(module) ==
             BN2D_OK);  // "valid for ever (the library stays loaded after dlclose)"
      api->module_release(module);
      return faults;
    }
  }
  EXPECT(dlclose(library) == 0);
  use(api);  // the same promise
  EXPECT(floating_point_mode() == mode);
  return faults;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s <path of libbn2d.so> [rounds]\n", argv[0]);
    return 2;
  }
  if (argc == 4)
    return one_process(argv[1], std::atoi(argv[3]));  // one round, started by the loop below
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 50;
  for (int round = 0; round < rounds; ++round) {
    const std::string way = std::to_string(round % kWays);
    const pid_t child = fork();
    if (child == 0) {
      execl("/proc/self/exe", argv[0], argv[1], "once", way.c_str(), static_cast<char *>(nullptr));
      _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      std::fprintf(stderr, "round %d, way %s: %s %d\n", round, way.c_str(),
                   WIFEXITED(status) ? "exit" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
      ++faults;
    }
  }
  std::printf("%d rounds, %d faults\n", rounds, faults);
  return faults == 0 ? 0 : 1;
}
