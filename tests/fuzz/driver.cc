// The fuzzer without libFuzzer, for any compiler:
//
//   bn2d_fuzz_driver FILE OR FOLDER...        replays inputs
//   bn2d_fuzz_driver --corpus FOLDER          the same; all functions and kReached must come up
//   bn2d_fuzz_driver --random SECONDS [SEED]  makes inputs itself, on every SIMD target in turn
//   bn2d_fuzz_driver --survey SECONDS [SEED]  goes on after findings and lists their kinds
//   bn2d_fuzz_driver --seed SEED              shows one of those, on the target of BN2D_SIMD
//   bn2d_fuzz_driver --write SEED FILE        keeps it
//   bn2d_fuzz_driver --shrink FILE            makes the input of a finding smaller, in place
//
// The status is 0 where all is well. A crash says which input it was, too.
#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "fuzz/machine.h"

namespace {

using Bytes = std::vector<uint8_t>;

char g_input[256] = "none";  // the one under way, for a crash

void on_signal(int number) {
  char text[400];
  const int length = std::snprintf(text, sizeof text, "bn2d_fuzz: signal %d with input %s on %s\n",
                                   number, g_input, bn2d_simd_target());
  (void)!write(STDERR_FILENO, text, static_cast<size_t>(std::max(length, 0)));
  signal(number, SIG_DFL);
  raise(number);
}

// Input `seed` of the endless list: short and long ones, of bytes that are more often small.
Bytes input_of(uint64_t seed) {
  numerics::Random random(seed * 2 + 1);
  Bytes bytes(static_cast<size_t>(16 + random.below(random.coin() ? 200 : 2000)));
  const bool small = random.below(4) == 0;
  for (uint8_t &byte : bytes)
    byte = static_cast<uint8_t>(small && random.coin() ? random.below(8) : random.below(256));
  return bytes;
}

// "" or the finding.
std::string run(const Bytes &bytes, bool trace) {
  try {
    bn2d_fuzz::Machine(bytes.data(), bytes.size(), trace).run();
  } catch (const bn2d_fuzz::Finding &finding) {
    return finding.what();
  }
  return "";
}

size_t memory_in_use() {
#ifdef __SANITIZE_ADDRESS__
  return 0;  // the sanitizer has an allocator, and a leak check, of its own
#else
  return mallinfo2().uordblks;
#endif
}

// The library reuses the slots of dead handles as late as possible: only after some thousands of a
// kind do they stop to take memory.
void fill_handle_slots() {
  float x[2] = {1, 2}, y[2];
  for (int i = 0; i < 5000; ++i) {
    bn2d_options *options = nullptr;
    bn2d_module *module = nullptr;
    bn2d_record *record = nullptr;
    if (bn2d_options_create(&options) != BN2D_OK ||
        bn2d_module_create(1, options, &module) != BN2D_OK ||
        bn2d_forward_f32(module, x, 1, 1, 2, y, &record) != BN2D_OK)
      std::fprintf(stderr, "bn2d_fuzz: %s\n", bn2d_last_error());
    bn2d_record_release(record);
    bn2d_module_release(module);
    bn2d_options_release(options);
  }
}

// What the inputs have to bring up beside all functions and activations: operations with results
// that the oracle has judged (machine.h: reach()).
const char *const kReached[] = {
    "statistics judged",
    "scale and shift judged",
    "statistics in blocks",
    "forward in blocks",
    "backward in blocks",
    "double_backward in blocks",
    "stateless forward in blocks",
    "stateless backward in blocks",
    "stateless double_backward in blocks",
    "sums in blocks",
    "with sums in blocks",
    "sums batch",
    "sums given",
    "with sums batch",
    "with sums given",
    "frozen",
    "running batch",
    "running given",
    "running ghost",
    "running instance",
    "forward batch",
    "forward frozen",
    "forward given",
    "forward ghost",
    "forward group",
    "forward instance",
    "backward batch",
    "backward frozen",
    "backward given",
    "backward ghost",
    "backward group",
    "backward instance",
    "double_backward batch",
    "double_backward frozen",
    "double_backward ghost",
    "double_backward group",
    "double_backward instance",
    "stateless forward batch",
    "stateless forward group",
    "stateless backward batch",
    "stateless backward group",
    "stateless double_backward batch",
    "stateless double_backward group",
};

// The C ABI without the functions that only tell what the library is, and cannot fail.
std::vector<std::string> functions() {
  std::vector<std::string> all;
#define BN2D_FUNCTION(since, name) all.emplace_back(#name);
#include "capi/functions.inc"
#undef BN2D_FUNCTION
  for (const char *const constant :
       {"version", "version_string", "build_info", "simd_target", "last_error", "status_name",
        "dtype_name", "dtype_size", "constant_count"})
    all.erase(std::remove(all.begin(), all.end(), constant), all.end());
  return all;
}

// Each operation with each activation of bn2d.h.
std::vector<std::string> activations() {
  std::vector<std::string> all;
  for (int32_t i = 0; i < bn2d_constant_count(); ++i) {
    const char *name = nullptr;
    int64_t value = 0;
    if (bn2d_constant_at(i, &name, &value) != BN2D_OK ||
        std::strncmp(name, "BN2D_ACT_", std::strlen("BN2D_ACT_")) != 0)
      continue;
    for (const char *const operation :
         {"forward", "backward", "double_backward", "stateless forward", "stateless backward",
          "stateless double_backward"})
      all.push_back(std::string(operation) + " act " + std::to_string(value));
  }
  return all;
}

bool reaches_all_operations() {
  bool good = true;
  std::vector<std::string> all = functions();
  all.insert(all.end(), std::begin(kReached), std::end(kReached));
  for (const std::string &one : activations()) all.push_back(one);
  for (const std::string &what : all) {
    if (bn2d_fuzz::Machine::reached().count(what) > 0) continue;
    std::fprintf(stderr, "bn2d_fuzz: no input has reached: %s\n", what.c_str());
    good = false;
  }
  return good;
}

// Whether the inputs reach what they are made for: as many successes as failures, every status that
// a program can provoke alone, and all operations.
bool reaches_everything() {
  bool good = 2 * bn2d_fuzz::Machine::answers(BN2D_OK) > bn2d_fuzz::Machine::calls();
  if (!good) std::fprintf(stderr, "bn2d_fuzz: most calls fail\n");
  for (int32_t status = BN2D_ERROR_INVALID_ARGUMENT; status >= BN2D_ERROR_BUFFER_TOO_SMALL;
       --status) {
    if (status == BN2D_ERROR_BUSY || bn2d_fuzz::Machine::answers(status) > 0) continue;
    std::fprintf(stderr, "bn2d_fuzz: no call has answered %s\n", bn2d_status_name(status));
    good = false;
  }
  return good && reaches_all_operations();
}

// Inputs that reach everything: 3000 have been enough.
constexpr uint64_t kEnough = 5000;

int random_inputs(double seconds, uint64_t first) {
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  fill_handle_slots();
  uint64_t executions = 0;
  size_t half_way = 0;
  // On a slow machine that takes longer.
  while (elapsed() < seconds || executions < kEnough) {
    const uint64_t seed = first + executions;
    std::snprintf(g_input, sizeof g_input, "--seed %" PRIu64, seed);
    const std::string finding = run(input_of(seed), false);
    ++executions;
    if (!finding.empty()) {
      std::fprintf(stderr, "bn2d_fuzz: input --seed %" PRIu64 " on %s: %s\n", seed,
                   bn2d_simd_target(), finding.c_str());
      return 1;
    }
    if (half_way == 0 && elapsed() > seconds / 2 && executions > kEnough / 2)
      half_way = memory_in_use();
  }
  const size_t end = memory_in_use();
  std::printf("bn2d_fuzz: %-6s %9" PRIu64 " inputs, %10" PRIu64 " calls, seeds from %" PRIu64 "\n",
              bn2d_simd_target(), executions, bn2d_fuzz::Machine::calls(), first);
  if (!reaches_everything()) return 1;
  // Pools have been filled by half time; what grows after that is lost. But a seldom call may still
  // put a larger block of scratch in the place of another: after 150,000 inputs 4 MiB for 1 MiB.
  if (seconds >= 2 && end > half_way + (size_t{8} << 20)) {
    std::fprintf(stderr, "bn2d_fuzz: memory in use has grown from %zu to %zu bytes\n", half_way,
                 end);
    return 1;
  }
  return 0;
}

// The target is chosen once in a process, so each has one of its own.
int every_target(const char *self, const char *seconds, uint64_t seed) {
  std::vector<std::string> targets;
  for (const char *name : {"AVX3", "AVX2", "SSE4", "SCALAR"}) {
    const std::string ask = std::string("BN2D_SIMD=") + name + " " + self + " --target";
    FILE *answer = popen(ask.c_str(), "r");
    char line[64] = "";
    if (answer != nullptr && std::fgets(line, sizeof line, answer) != nullptr &&
        std::string(line) == name)
      targets.push_back(name);
    if (answer != nullptr) pclose(answer);
  }
  if (targets.empty()) targets.push_back(bn2d_simd_target());
  int worst = 0;
  const std::string each = std::to_string(std::atof(seconds) / static_cast<double>(targets.size()));
  for (const std::string &target : targets) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      setenv("BN2D_SIMD", target.c_str(), 1);
      execl(self, self, "--here", each.c_str(), std::to_string(seed).c_str(),
            static_cast<char *>(nullptr));
      _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) worst = 1;
  }
  return worst;
}

// The operation and what was wrong with it, without the numbers: findings of one kind have one
// name.
std::string kind_of(const std::string &finding) {
  std::string kind = finding.substr(0, finding.find(' '));
  bool number = false;
  for (size_t i = finding.rfind(": "); i < finding.size(); ++i) {
    const bool digit = std::strchr("0123456789.+", finding[i]) != nullptr;
    if (!digit || !number) kind += digit ? '#' : finding[i];
    number = digit;
  }
  return kind;
}

// Goes on after findings and lists their kinds, each with its number and the first input.
int survey(double seconds, uint64_t first) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const auto begin = std::chrono::steady_clock::now();
  std::map<std::string, std::pair<int, uint64_t>> kinds;
  uint64_t seed = first;
  for (; std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds;
       ++seed) {
    std::snprintf(g_input, sizeof g_input, "--seed %" PRIu64, seed);
    const std::string finding = run(input_of(seed), false);
    if (!finding.empty() && kinds.try_emplace(kind_of(finding), 0, seed).first->second.first++ == 0)
      std::printf("--seed %" PRIu64 " %s\n", seed, finding.c_str());
  }
  std::printf("bn2d_fuzz: %s, %" PRIu64 " inputs, %zu kinds of findings\n", bn2d_simd_target(),
              seed - first, kinds.size());
  for (const auto &[kind, seen] : kinds)
    std::printf("%6d  from --seed %" PRIu64 ": %s\n", seen.first, seen.second, kind.c_str());
  return kinds.empty() ? 0 : 1;
}

Bytes read_file(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

void write_file(const std::filesystem::path &path, const Bytes &bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char *>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

int replay(const std::vector<std::filesystem::path> &paths) {
  std::vector<std::filesystem::path> files;
  for (const auto &path : paths) {
    if (!std::filesystem::exists(path)) {
      std::fprintf(stderr, "bn2d_fuzz: no file or folder %s\n", path.c_str());
      return 2;
    }
    if (!std::filesystem::is_directory(path))
      files.push_back(path);
    else
      for (const auto &entry : std::filesystem::directory_iterator(path))
        files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  int findings = 0;
  for (const auto &file : files) {
    std::snprintf(g_input, sizeof g_input, "%s", file.c_str());
    const std::string finding = run(read_file(file), files.size() == 1);
    if (finding.empty()) continue;
    ++findings;
    std::fprintf(stderr, "bn2d_fuzz: %s on %s: %s\n", file.c_str(), bn2d_simd_target(),
                 finding.c_str());
  }
  std::printf("bn2d_fuzz: %zu files, %" PRIu64 " calls, %d findings\n", files.size(),
              bn2d_fuzz::Machine::calls(), findings);
  return findings == 0 && !files.empty() ? 0 : 1;
}

// Whether an input still ends in a finding, or in a crash: in a process of its own.
bool fails(const Bytes &bytes) {
  const pid_t child = fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL}) signal(number, SIG_DFL);
    alarm(20);
    _exit(run(bytes, false).empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status != 0;
}

int shrink(const std::filesystem::path &path) {
  Bytes bytes = read_file(path);
  if (!fails(bytes)) {
    std::fprintf(stderr, "bn2d_fuzz: %s ends well\n", path.c_str());
    return 1;
  }
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (size_t length = std::max<size_t>(bytes.size() / 2, 1); length > 0; length /= 2) {
      for (size_t at = 0; at + length <= bytes.size();) {
        Bytes less = bytes;
        less.erase(less.begin() + static_cast<std::ptrdiff_t>(at),
                   less.begin() + static_cast<std::ptrdiff_t>(at + length));
        Bytes zero = bytes;
        std::fill_n(zero.begin() + static_cast<std::ptrdiff_t>(at), length, uint8_t{0});
        if (fails(less)) {
          bytes = less;
          smaller = true;
        } else if (zero != bytes && fails(zero)) {
          bytes = zero;
          smaller = true;
          at += length;
        } else {
          at += length;
        }
      }
    }
  }
  write_file(path, bytes);
  std::printf("bn2d_fuzz: %s has %zu bytes now\n", path.c_str(), bytes.size());
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto number = [&](size_t i, uint64_t otherwise) {
    return arguments.size() > i ? std::strtoull(arguments[i].c_str(), nullptr, 10) : otherwise;
  };
#ifndef __SANITIZE_ADDRESS__
  for (const int signal_number : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL})
    signal(signal_number, on_signal);
#endif
  if (arguments.size() == 1 && arguments[0] == "--target") {
    std::fputs(bn2d_simd_target(), stdout);
    return 0;
  }
  if (arguments.size() >= 2 && arguments[0] == "--random")
    return every_target(argv[0], arguments[1].c_str(), number(2, 1));
  if (arguments.size() >= 2 && arguments[0] == "--here")
    return random_inputs(std::atof(arguments[1].c_str()), number(2, 1));
  if (arguments.size() >= 2 && arguments[0] == "--survey")
    return survey(std::atof(arguments[1].c_str()), number(2, 1));
  if (arguments.size() == 2 && arguments[0] == "--seed") {
    std::snprintf(g_input, sizeof g_input, "--seed %s", arguments[1].c_str());
    const std::string finding = run(input_of(number(1, 1)), true);
    if (!finding.empty())
      std::fprintf(stderr, "bn2d_fuzz: on %s: %s\n", bn2d_simd_target(), finding.c_str());
    return finding.empty() ? 0 : 1;
  }
  if (arguments.size() == 3 && arguments[0] == "--write") {
    write_file(arguments[2], input_of(number(1, 1)));
    return 0;
  }
  if (arguments.size() == 2 && arguments[0] == "--corpus") {
    const int status = replay({arguments[1]});
    return status == 0 && !reaches_all_operations() ? 1 : status;
  }
  if (arguments.size() == 2 && arguments[0] == "--shrink") return shrink(arguments[1]);
  if (arguments.empty() || arguments[0].substr(0, 1) == "-") {
    std::fprintf(stderr,
                 "usage: %s FILE OR FOLDER... | --corpus FOLDER | --random SECONDS [SEED] | "
                 "--survey SECONDS [SEED] "
                 "| --seed SEED | "
                 "--write SEED FILE | "
                 "--shrink FILE\n",
                 argv[0]);
    return 2;
  }
  return replay({arguments.begin(), arguments.end()});
}
