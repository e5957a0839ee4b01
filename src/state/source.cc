#include "state/source.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <limits>
#include <new>

#include "base/cancel.h"
#include "base/error.h"
#include "state/file_error.h"

namespace bn2d::state {
namespace {

class Memory final : public Source {
 public:
  Memory(std::unique_ptr<std::byte[]> bytes, uint64_t size)
      : bytes_(std::move(bytes)), size_(size) {}
  uint64_t size() const override { return size_; }
  void read(uint64_t offset, uint64_t count, void *to) const override {
    if (count > 0) std::memcpy(to, bytes_.get() + offset, count);
  }
  const std::byte *data() const override { return bytes_.get(); }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  uint64_t size_;
};

class File final : public Source {
 public:
  explicit File(const std::string &path) : path_(path) {
    // Not to wait for the other end of a pipe, which is refused anyway.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd_ < 0) fail_file("cannot open", path, errno);
    struct stat about {};
    if (::fstat(fd_, &about) != 0) close_and_fail("cannot look at", errno);
    if (!S_ISREG(about.st_mode)) close_and_fail("not a regular file:", 0);
    size_ = static_cast<uint64_t>(about.st_size);
    if (size_ == 0 || size_ > std::numeric_limits<size_t>::max()) return;
    void *const mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
    map_ = mapped == MAP_FAILED ? nullptr : static_cast<const std::byte *>(mapped);
  }
  ~File() override {
    if (map_ != nullptr) ::munmap(const_cast<std::byte *>(map_), size_);
    const NotCancellable here;  // whoever drops the last tensor of a file closes it
    ::close(fd_);
  }
  File(const File &) = delete;
  File &operator=(const File &) = delete;

  uint64_t size() const override { return size_; }
  void read(uint64_t offset, uint64_t count, void *to) const override {
    auto *at = static_cast<char *>(to);
    while (count > 0) {
      const ssize_t got = ::pread(fd_, at, count, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_file("cannot read", path_, errno);
      if (got == 0) fail_shorter();
      at += got;
      offset += static_cast<uint64_t>(got);
      count -= static_cast<uint64_t>(got);
    }
  }
  const std::byte *data() const override {
    if (map_ == nullptr && size_ > 0)
      fail(Status::io,
           "the file could not be mapped, its %" PRIu64 " bytes can only be copied: %.120s", size_,
           path_.c_str());
    return map_;
  }

 private:
  [[noreturn]] void fail_shorter() const {
    struct stat about {};
    if (::fstat(fd_, &about) != 0) fail_file("cannot look at", path_, errno);
    fail(Status::io, "the file has become shorter: %" PRId64 " bytes, was %" PRIu64 ": %.120s",
         static_cast<int64_t>(about.st_size), size_, path_.c_str());
  }
  [[noreturn]] void close_and_fail(const char *what, int error) {
    ::close(fd_);
    fail_file(what, path_, error);
  }

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  const std::byte *map_ = nullptr;
};

}  // namespace

std::unique_ptr<std::byte[]> allocate_bytes(uint64_t count) {
  if (count > static_cast<uint64_t>(std::numeric_limits<ptrdiff_t>::max())) throw std::bad_alloc();
  return std::unique_ptr<std::byte[]>(new std::byte[count]);
}

std::shared_ptr<const Source> memory_source(std::unique_ptr<std::byte[]> bytes, uint64_t size) {
  return std::make_shared<Memory>(std::move(bytes), size);
}

std::shared_ptr<const Source> file_source(const std::string &path) {
  return std::make_shared<File>(path);
}

}  // namespace bn2d::state
