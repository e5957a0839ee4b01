// A file is there whole or not at all: whatever call of the system fails, at whatever moment the
// process dies.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>

#include "state_world.h"
#include "support/contract_process.h"
#include "support/numerics_values.h"

using namespace bn2d_test;

// Calls of the system that fail when they are told to: the program's symbols come before the C
// library's.
namespace {
struct Fault {
  const char *call = "";
  int after = 0;      // calls that still work
  int error = 0;      // 0: a short write
  bool once = false;  // later calls work again
};
Fault g_fault;
std::atomic<int> g_calls{0};

bool fails(const char *call) {
  if (std::strcmp(g_fault.call, call) != 0) return false;
  ++g_calls;
  if (g_fault.after-- > 0) return false;
  if (g_fault.once) g_fault.call = "";
  return true;
}
template <class F>
F real(const char *name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
ssize_t write(int fd, const void *data, size_t count) {
  static const auto own = real<ssize_t (*)(int, const void *, size_t)>("write");
  if (!fails("write")) return own(fd, data, count);
  if (g_fault.error == 0) return own(fd, data, (count + 1) / 2);
  errno = g_fault.error;
  return -1;
}
int fsync(int fd) {
  static const auto own = real<int (*)(int)>("fsync");
  if (!fails("fsync")) return own(fd);
  errno = g_fault.error;
  return -1;
}
int rename(const char *from, const char *to) {
  static const auto own = real<int (*)(const char *, const char *)>("rename");
  if (!fails("rename")) return own(from, to);
  errno = g_fault.error;
  return -1;
}
int fchmod(int fd, mode_t mode) {
  static const auto own = real<int (*)(int, mode_t)>("fchmod");
  if (!fails("fchmod")) return own(fd, mode);
  errno = g_fault.error;
  return -1;
}
}
#pragma GCC visibility pop

namespace {

State state_of(float value, size_t count) {
  State state = make_state();
  set_floats(state, "values", std::vector<float>(count, value));
  return state;
}

// Not compared by Catch2, which prints what differs, megabytes of it.
bool holds(const std::string &path, const std::string &bytes) { return read_file(path) == bytes; }

class Injected {
 public:
  explicit Injected(const Fault &fault) {
    g_calls = 0;
    g_fault = fault;
  }
  ~Injected() { g_fault = Fault(); }
};

}  // namespace

TEST_CASE("files: each call of the system that fails leaves the old file, and no other",
          "[state]") {
  // Catches an error that is not looked at, a temporary file that stays, an old file that is gone.
  const Folder folder;
  const std::string path = folder / "file";
  const State old = state_of(1, 10), fresh = state_of(2, 1 << 20);
  REQUIRE(bn2d_state_save(old.get(), path.c_str()) == BN2D_OK);
  const std::string before = read_file(path);
  struct Case {
    Fault fault;
    const char *word;
  };
  for (const Case &c :
       {Case{{"write", 0, ENOSPC}, "No space left"}, Case{{"write", 1, ENOSPC}, "No space left"},
        Case{{"write", 3, EIO}, "error"}, Case{{"fsync", 0, EIO}, "error"},
        Case{{"fchmod", 0, EPERM}, "permi"}, Case{{"rename", 0, EACCES}, "denied"}}) {
    INFO(c.fault.call << " after " << c.fault.after);
    int32_t status = BN2D_OK;
    {
      const Injected injected(c.fault);
      status = bn2d_state_save(fresh.get(), path.c_str());
    }
    CHECK(status == BN2D_ERROR_IO);
    CHECK(std::string(bn2d_last_error()).find("file") != std::string::npos);
    CHECK(std::string(bn2d_last_error()).find(c.word) != std::string::npos);
    CHECK(folder.list() == "file ");
    CHECK(holds(path, before));
  }
  // After the rename the new file is there, and the call says what it does not know.
  int32_t status = BN2D_OK;
  {
    const Injected injected({"fsync", 1, EIO});
    status = bn2d_state_save(fresh.get(), path.c_str());
  }
  CHECK(status == BN2D_ERROR_IO);
  CHECK(folder.list() == "file ");
  CHECK(holds(path, written(fresh)));
}

// The address sanitizer of gcc 12 takes the frames that a cancellation has left for living ones.
#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("files: a cancelled thread drops the last tensor of a file", "[state]") {
  // Catches close() of that file as a cancellation point, in a destructor: the process aborts.
  const Folder folder;
  const std::string path = folder / "file";
  REQUIRE(bn2d_state_save(state_of(1, 2).get(), path.c_str()) == BN2D_OK);
  struct Call {
    bn2d_state *state = nullptr;
    bool returned = false;
  } call;
  REQUIRE(bn2d_state_open(path.c_str(), &call.state) == BN2D_OK);
  pthread_t thread{};
  const auto replace = [](void *context) -> void * {
    Call &own = *static_cast<Call *>(context);
    const float value = 3;
    pthread_cancel(pthread_self());
    (void)bn2d_state_set_flat(own.state, "values", BN2D_F32, nullptr, 0, &value);
    own.returned = true;
    pthread_testcancel();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, nullptr, replace, &call) == 0);
  void *end = nullptr;
  REQUIRE(pthread_join(thread, &end) == 0);
  CHECK(call.returned);
  CHECK(end == PTHREAD_CANCELED);
  bn2d_state_release(call.state);
}
#endif

TEST_CASE("files: writes that are short or interrupted are gone on with", "[state]") {
  // Catches a write whose result is not looked at.
  const Folder folder;
  const std::string path = folder / "file";
  const State state = state_of(2, 1 << 20);
  for (const Fault &fault : {Fault{"write", 0, 0}, Fault{"write", 2, EINTR, true},
                             Fault{"fsync", 0, EINTR, true}, Fault{"fsync", 0, EINVAL}}) {
    INFO(fault.call << " " << fault.error);
    int32_t status = BN2D_ERROR_INTERNAL;
    {
      const Injected injected(fault);
      status = bn2d_state_save(state.get(), path.c_str());
    }
    CHECK(status == BN2D_OK);
    CHECK(g_calls > 0);
    CHECK(holds(path, written(state)));
  }
}

TEST_CASE("files: a full disk", "[state]") {
  // Catches the same with a real file system, where the last write may succeed and the disk be full
  // all the same.
  const Folder folder;
  const std::string path = folder / "file";
  const State old = state_of(1, 10000), fresh = state_of(2, 100000);
  const std::string bytes = written(old);
  const auto is_mounted = [&] {
    return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           mount("none", folder.path().c_str(), "tmpfs", 0, "size=256k") == 0;
  };
  // With mounts of its own, which only root has, or the root of a namespace of users.
  constexpr int kNoMount = 3;
  const int status = bn2d_test::in_child([&] {
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kNoMount;
    if (!is_mounted()) return kNoMount;
    if (bn2d_state_save(old.get(), path.c_str()) != BN2D_OK) return 4;
    if (bn2d_state_save(fresh.get(), path.c_str()) != BN2D_ERROR_IO) return 5;
    if (folder.list() != "file ") return 6;
    if (!holds(path, bytes)) return 7;
    if (bn2d_state_save(old.get(), path.c_str()) != BN2D_OK) return 8;
    return bn2d_test::kWell;
  });
  if (status == kNoMount) {
    const char *const all = std::getenv("BN2D_REQUIRE_ALL");
    if (all != nullptr && std::string(all) == "1") FAIL("no file system may be mounted here");
    WARN("no file system may be mounted here");
    return;
  }
  CHECK(status == bn2d_test::kWell);
  CHECK(folder.list() == "");
}

TEST_CASE("files: the limit of file sizes raises no signal", "[state]") {
  // Catches SIGXFSZ, which ends a process, and one that waits afterwards.
  const Folder folder;
  const std::string path = folder / "file";
  const State old = state_of(1, 10), fresh = state_of(2, 1 << 20);
  REQUIRE(bn2d_state_save(old.get(), path.c_str()) == BN2D_OK);
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit{1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    sigset_t before, after, waiting;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    const bool refused = bn2d_state_save(fresh.get(), path.c_str()) == BN2D_ERROR_IO;
    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    sigpending(&waiting);
    _exit(refused && sigismember(&waiting, SIGXFSZ) == 0 && sigismember(&after, SIGXFSZ) == 0 ? 0
                                                                                              : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(folder.list() == "file ");
  CHECK(holds(path, written(old)));
}

TEST_CASE("files: permissions stay, links are followed, other things are refused", "[state]") {
  // Catches a link that becomes a file, a file that everybody may read all at once, a pipe that is
  // waited for.
  const Folder folder;
  const std::string path = folder / "file", link = folder / "link";
  const State state = state_of(1, 10), other = state_of(2, 20);
  REQUIRE(bn2d_state_save(state.get(), path.c_str()) == BN2D_OK);
  REQUIRE(chmod(path.c_str(), 0640) == 0);
  REQUIRE(symlink("file", link.c_str()) == 0);
  REQUIRE(bn2d_state_save(other.get(), link.c_str()) == BN2D_OK);
  struct stat about {};
  REQUIRE(lstat(link.c_str(), &about) == 0);
  CHECK(S_ISLNK(about.st_mode));
  REQUIRE(stat(path.c_str(), &about) == 0);
  CHECK((about.st_mode & 07777) == 0640);
  CHECK(holds(path, written(other)));

  const std::string nowhere = folder / "nowhere", pipe = folder / "pipe";
  REQUIRE(symlink("missing", nowhere.c_str()) == 0);
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  Snapshot nothing;
  const auto refused = [&](const std::string &what, const std::string &where,
                           const std::string &word) {
    bn2d_state *raw = nullptr;
    check_fails("save to " + what, BN2D_ERROR_IO, nothing, {},
                [&] { return bn2d_state_save(state.get(), where.c_str()); });
    CHECK(std::string(bn2d_last_error()).find(word) != std::string::npos);
    check_fails("open " + what, BN2D_ERROR_IO, nothing, {},
                [&] { return bn2d_state_open(where.c_str(), &raw); });
    CHECK(std::string(bn2d_last_error()).find(word) != std::string::npos);
  };
  const std::string list = folder.list();
  refused("a link to nowhere", nowhere, "nowhere");
  refused("a pipe", pipe, "regular");
  refused("a folder", folder.path(), "regular");
  refused("a folder that is not there", folder / "no/file", "file");
  refused("a device", "/dev/null", "regular");
  refused("a long path", folder / std::string(300, 'x'), "too long");
  CHECK(folder.list() == list);

  // A state goes on with the file that it was opened from.
  const State opened = open_state(path);
  REQUIRE(bn2d_state_save(state.get(), path.c_str()) == BN2D_OK);
  const bool goes_on = written(opened) == written(other);
  CHECK(goes_on);
  REQUIRE(bn2d_state_save(opened.get(), path.c_str()) == BN2D_OK);
  CHECK(holds(path, written(other)));
}

TEST_CASE("files: the permissions of a new file", "[state]") {
  // Catches those of the temporary file, and an umask that is set for a moment for all threads.
  const Folder folder;
  const State state = state_of(1, 10);
  for (const mode_t mask : {027, 0, 077, 0222}) {
    const std::string path = folder / std::to_string(mask);
    const int status = bn2d_test::in_child([&] {
      umask(mask);
      return bn2d_state_save(state.get(), path.c_str()) == BN2D_OK && umask(0) == mask ? 0 : 1;
    });
    CHECK(status == 0);
    struct stat found {};
    REQUIRE(stat(path.c_str(), &found) == 0);
    INFO("umask " << std::oct << mask);
    CHECK((found.st_mode & 07777) == (0666 & ~mask));
  }
}

TEST_CASE("files: kill -9 at 100 random moments of a save", "[state]") {
  // Catches a file that is written in its place, or moved there before all of it is on the disk.
  const Folder folder;
  const std::string path = folder / "file";
  constexpr size_t kCount = 1 << 20;  // 4 MiB, in several writes
  const State states[] = {state_of(1, kCount), state_of(2, kCount)};
  const std::string files[] = {written(states[0]), written(states[1])};
  REQUIRE(bn2d_state_save(states[0].get(), path.c_str()) == BN2D_OK);
  numerics::Random random(9);
  // Of about ten saves, whatever the disk.
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 4; ++i)
    REQUIRE(bn2d_state_save(states[i % 2 == 0 ? 1 : 0].get(), path.c_str()) == BN2D_OK);
  const std::chrono::nanoseconds four = std::chrono::steady_clock::now() - begin;
  const auto longest = std::min<uint64_t>(3 * static_cast<uint64_t>(four.count()), 900'000'000);
  int changed = 0, left = 0;
  size_t now = 0;
  for (int i = 0; i < 100; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      for (size_t k = 1;; ++k) (void)bn2d_state_save(states[(now + k) % 2].get(), path.c_str());
    }
    const timespec pause{0, static_cast<long>(random.below(longest))};
    nanosleep(&pause, nullptr);
    REQUIRE(kill(child, SIGKILL) == 0);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    const std::string file = read_file(path);
    const bool is_whole = file == files[0] || file == files[1];
    REQUIRE(is_whole);
    const size_t then = file == files[1] ? 1 : 0;
    changed += then != now;
    now = then;
    for (const auto &entry : std::filesystem::directory_iterator(folder.path())) {
      const std::string name = entry.path().filename();
      if (name == "file") continue;
      CHECK(name.rfind(".bn2d-", 0) == 0);
      ++left;
      std::filesystem::remove(entry.path());
    }
  }
  WARN(changed << " of 100 left the other file, " << left << " a temporary one");
  CHECK(changed > 5);
  CHECK(left > 5);
}
