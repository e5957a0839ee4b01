// A test case in a process of its own, where nothing of the library has been used before.
#pragma once
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace bn2d_test {

// What such a process ends with when all is well: no status that a program has by itself.
inline constexpr int kWell = 42;

// Starts this program once more with the hidden test case `name` alone (no comma in it), which
// finds `argument` in the environment variable BN2D_TEST_ARGUMENT, ends with _exit(status) and has
// `seconds` for all. Its status; minus the signal where it died of one (-14, SIGALRM: it hung).
inline int run_alone(const char *name, const std::string &argument, unsigned seconds = 20) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("BN2D_TEST_ARGUMENT", argument.c_str(), 1);
    const int silence = open("/dev/null", O_WRONLY);
    dup2(silence, 1);
    if (std::getenv("BN2D_TEST_LOUD") == nullptr) dup2(silence, 2);
    alarm(seconds);  // lives on in the new program
    execl("/proc/self/exe", "bn2d_capi_tests", name, static_cast<char *>(nullptr));
    _exit(126);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 125;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

inline std::string argument_of_alone() {
  const char *argument = std::getenv("BN2D_TEST_ARGUMENT");
  return argument == nullptr ? "" : argument;
}

}  // namespace bn2d_test
