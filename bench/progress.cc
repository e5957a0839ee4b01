// SPDX-License-Identifier: MIT
#include "progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace bench {
namespace {

constexpr std::size_t kBarWidth = 28;

std::string bar(std::size_t done, std::size_t total) {
  const std::size_t full = kBarWidth * done / std::max<std::size_t>(1, total);
  return "[" + std::string(full, '#') + std::string(kBarWidth - full, '.') + "]";
}

std::string minutes(double seconds) {
  char text[32];
  const int whole = static_cast<int>(seconds + 0.5);
  std::snprintf(text, sizeof text, "%d:%02d", whole / 60, whole % 60);
  return text;
}

}  // namespace

Progress::Progress(std::size_t total) : total_(total), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { hide(); }

void Progress::show(std::size_t done, const std::string &name) {
  const double spent =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double left =
      done ? spent / static_cast<double>(done) * static_cast<double>(total_ - done) : 0;
  const std::string remaining = done ? ", " + minutes(left) + " left" : "";
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s %zu/%zu%s  %s", bar(done, total_).c_str(), done, total_,
                 remaining.c_str(), name.c_str());
  } else if (done >= next_line_) {
    std::fprintf(stderr, "%zu of %zu rows%s\n", done, total_, remaining.c_str());
    next_line_ = done + (total_ + 9) / 10;
  }
  std::fflush(stderr);
}

void Progress::hide() {
  if (terminal_) std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
}

}  // namespace bench
