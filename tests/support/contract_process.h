// Processes of their own: a child with all that its parent has, and one in which nothing of the
// library has been used before.
#pragma once
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace bn2d_test {

// Processors that this process may use: as many threads oneTBB has at most.
inline int processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

// Runs f in a child, which ends with the status that f returns and has `seconds` for it. Its
// status; minus the signal where it died of one (-14, SIGALRM: it hung).
template <class F>
int in_child(const F &f, unsigned seconds = 20) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(seconds);
    _exit(f());
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 125;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// What a process that runs alone ends with when all is well: no status that a program has by
// itself.
inline constexpr int kWell = 42;

// Starts this program once more with the hidden test case `name` alone (no comma in it), which
// finds `argument` in the environment variable BN2D_TEST_ARGUMENT and ends with _exit(status). As
// in_child().
inline int run_alone(const char *name, const std::string &argument, unsigned seconds = 20) {
  return in_child(
      [&] {
        setenv("BN2D_TEST_ARGUMENT", argument.c_str(), 1);
        const int silence = open("/dev/null", O_WRONLY);
        dup2(silence, 1);
        if (std::getenv("BN2D_TEST_LOUD") == nullptr) dup2(silence, 2);
        execl("/proc/self/exe", "bn2d_capi_tests", name, static_cast<char *>(nullptr));
        return 126;
      },
      seconds);  // the alarm lives on in the new program
}

inline std::string argument_of_alone() {
  const char *argument = std::getenv("BN2D_TEST_ARGUMENT");
  return argument == nullptr ? "" : argument;
}

}  // namespace bn2d_test
