#include "state/replace_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "state/file_error.h"

namespace bn2d::state {
namespace {

// A write beyond the process's limit of file sizes sends SIGXFSZ, which ends the process unless the
// host is prepared. Held back on this thread, it leaves the error EFBIG; the one that waits is
// taken away.
class NoFileSizeSignal {
 public:
  NoFileSizeSignal() {
    sigset_t waiting;
    sigpending(&waiting);
    was_waiting_ = sigismember(&waiting, SIGXFSZ) == 1;
    sigemptyset(&own_);
    sigaddset(&own_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &own_, &before_);
  }
  ~NoFileSizeSignal() {
    constexpr timespec kNow{0, 0};
    if (!was_waiting_)
      while (sigtimedwait(&own_, nullptr, &kNow) < 0 && errno == EINTR) continue;
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoFileSizeSignal(const NoFileSizeSignal &) = delete;
  NoFileSizeSignal &operator=(const NoFileSizeSignal &) = delete;

 private:
  sigset_t own_, before_;
  bool was_waiting_;
};

std::string folder_of(const std::string &path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// Where the file really lies, and what is there now.
struct Target {
  std::string path;
  bool exists = false;
  struct stat about {};

  explicit Target(const std::string &given) : path(given) {
    struct stat link {};
    if (::lstat(given.c_str(), &link) == 0 && S_ISLNK(link.st_mode)) {
      const std::unique_ptr<char, void (*)(void *)> real(::realpath(given.c_str(), nullptr),
                                                         std::free);
      if (!real) fail_file("cannot follow the link", given, errno);
      path = real.get();
    }
    exists = ::stat(path.c_str(), &about) == 0;
    if (!exists && errno != ENOENT) fail_file("cannot look at", path, errno);
    if (exists && !S_ISREG(about.st_mode)) fail_file("not a regular file:", path, 0);
  }
};

// Gone again unless it has been moved to its place.
class TemporaryFile {
 public:
  explicit TemporaryFile(const Target &target) : target_(target), folder_(folder_of(target.path)) {
    static std::atomic<unsigned> number{0};
    do {
      path_ = folder_ + "/.bn2d-" + std::to_string(::getpid()) + "-" +
              std::to_string(number.fetch_add(1, std::memory_order_relaxed)) + ".tmp";
      fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0666);
    } while (fd_ < 0 && (errno == EEXIST || errno == EINTR));
    if (fd_ < 0) fail_file("cannot create", path_, errno);
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!is_in_place_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile &) = delete;
  TemporaryFile &operator=(const TemporaryFile &) = delete;

  void append(const void *data, size_t count) {
    auto *at = static_cast<const char *>(data);
    while (count > 0) {
      const ssize_t written = ::write(fd_, at, count);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail_file("cannot write", target_.path, written < 0 ? errno : ENOSPC);
      at += written;
      count -= static_cast<size_t>(written);
    }
  }

  void move_to_its_place() {
    if (target_.exists) {
      // Another's file stays his where we may say so.
      if (::fchown(fd_, target_.about.st_uid, target_.about.st_gid) != 0) errno = 0;
      if (::fchmod(fd_, target_.about.st_mode & 07777) != 0)
        fail_file("cannot set the permissions of", target_.path, errno);
    }
    sync(fd_, target_.path);
    const int fd = fd_;
    fd_ = -1;
    if (::close(fd) != 0 && errno != EINTR) fail_file("cannot write", target_.path, errno);
    if (::rename(path_.c_str(), target_.path.c_str()) != 0)
      fail_file("cannot put the new file to", target_.path, errno);
    is_in_place_ = true;
    sync_folder();
  }

 private:
  static void sync(int fd, const std::string &path) {
    while (::fsync(fd) != 0) {
      if (errno == EINTR) continue;
      if (errno == EINVAL || errno == ENOTSUP) return;  // a file system without it
      fail_file("cannot bring to the disk", path, errno);
    }
  }
  // Only then is it certain that a crash does not bring the old name back.
  void sync_folder() const {
    const int fd = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
      return;  // a folder that may be written but not read: the file itself is on the disk
    try {
      sync(fd, folder_);
    } catch (...) {
      ::close(fd);
      throw;
    }
    ::close(fd);
  }

  const Target &target_;
  const std::string folder_;
  std::string path_;
  int fd_ = -1;
  bool is_in_place_ = false;
};

}  // namespace

void replace_file(const std::string &path, const std::function<void(const Put &)> &write) {
  const NoFileSizeSignal quiet;
  const Target target(path);
  TemporaryFile file(target);
  write([&](const void *data, size_t count) { file.append(data, count); });
  file.move_to_its_place();
}

}  // namespace bn2d::state
