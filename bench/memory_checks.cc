// SPDX-License-Identifier: MIT
#include "memory_checks.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <vector>

#include "alloc_count.h"
#include "ours.h"

namespace bench {
namespace {

// ------------------------------------------------------------------------------------------------
// in the child

/// A line of /proc/self/status in KiB; -1 where there is none.
double status_kib(const std::string &key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.compare(0, key.size() + 1, key + ":") == 0)
      return std::stod(line.substr(key.size() + 1));
  return -1;
}

/// Makes the peak the present size, so that a later peak is one of the code in between.
void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

/// How much higher than now the resident set gets during `work`.
template <typename Work>
double peak_growth_kib(Work work) {
  reset_peak();
  const double before = status_kib("VmRSS");
  work();
  return std::max(0.0, status_kib("VmHWM") - before);
}

/// Training forward, eval and backward of one shape.
struct Calls {
  explicit Calls(const Shape &shape) {
    for (const Op op : {Op::kTrain, Op::kEval, Op::kBackward}) {
      Problem problem{};
      problem.op = op;
      problem.shape = shape;
      memory.provide(&problem, 0);
      problems.push_back(problem);
    }
  }
  void make() {
    for (const Problem &problem : problems) variants.push_back(ours(problem, kOurs));
    recording = ours_recording(problems.front(), kOurs);
  }
  void run(int64_t calls) {
    for (const Variant &variant : variants) variant.run(calls);
  }

  Memory memory;
  std::vector<Problem> problems;
  std::vector<Variant> variants;
  Variant recording;
};

double allocations_per_call(const Variant &variant, int64_t calls) {
  variant.run(2);
  const long before = allocation_count();
  variant.run(calls);
  return static_cast<double>(allocation_count() - before) / static_cast<double>(calls);
}

double most_allocations(const std::vector<Variant> &variants, int64_t calls) {
  double most = 0;
  for (const Variant &variant : variants)
    most = std::max(most, allocations_per_call(variant, calls));
  return most;
}

void print(const char *key, double value) { std::printf("%s %.9g\n", key, value); }

// -----------------------------------------------------------------------------------------------
// in the parent

std::string output_of(const std::string &command) {
  const std::unique_ptr<FILE, int (*)(FILE *)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  char part[256];
  while (pipe && std::fgets(part, sizeof part, pipe.get())) text += part;
  return text;
}

std::map<std::string, double> parse(const std::string &text) {
  std::map<std::string, double> values;
  std::istringstream lines(text);
  std::string key;
  for (double value; lines >> key >> value;) values[key] = value;
  return values;
}

std::optional<double> find(const std::map<std::string, double> &values, const std::string &key) {
  const auto found = values.find(key);
  if (found == values.end() || found->second < 0) return std::nullopt;
  return found->second;
}

std::string library_path() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void *>(&bn2d_version), &info) || !info.dli_fname) return "";
  return info.dli_fname;
}

std::string quoted(const std::string &path) { return "'" + path + "'"; }

/// The best of a few loads: the first one reads the files from the disk.
void measure_load(const std::string &folder, MemoryChecks *checks) {
  const std::string command = quoted(folder + "/bn2d_bench_load") + " " + quoted(library_path());
  for (int i = 0; i < 7; ++i) {
    std::istringstream output(output_of(command));
    double ms, threads;
    if (!(output >> ms >> threads)) return;
    checks->load_ms = std::min(ms, checks->load_ms.value_or(ms));
    checks->load_threads = threads;
  }
}

void measure_size(const std::string &folder, MemoryChecks *checks) {
  struct stat info;
  if (stat((folder + "/libbn2d.stripped.so").c_str(), &info) == 0)
    checks->stripped_bytes = static_cast<double>(info.st_size);
}

}  // namespace

int memory_child(long calls) {
  Calls small({1, 16, 8, 8}), large({32, 64, 56, 56});
  small.make();
  small.run(1000);
  const double scratch = peak_growth_kib([&] {
    large.make();
    large.run(1);
  });
  print("scratch_kib", scratch);
  print("growth_kib", peak_growth_kib([&] { small.run(calls / 3); }));
  if (allocation_count() < 0) return 0;
  print("small_allocations", most_allocations(small.variants, 1000));
  print("large_allocations", most_allocations(large.variants, 10));
  print("record_allocations", allocations_per_call(small.recording, 1000));
  return 0;
}

MemoryChecks run_memory_checks(const std::string &folder, bool quick) {
  MemoryChecks checks;
  const std::string calls = quick ? "100000" : "1000000";
  const auto values =
      parse(output_of(quoted(folder + "/bn2d_bench") + " " + kMemoryChildFlag + " " + calls));
  checks.growth_kib = find(values, "growth_kib");
  checks.scratch_kib = find(values, "scratch_kib");
  checks.small_allocations = find(values, "small_allocations");
  checks.large_allocations = find(values, "large_allocations");
  checks.record_allocations = find(values, "record_allocations");
  measure_load(folder, &checks);
  measure_size(folder, &checks);
  return checks;
}

}  // namespace bench
