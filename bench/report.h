// SPDX-License-Identifier: MIT
// The forms in which results leave the program.
#ifndef BN2D_BENCH_REPORT_H
#define BN2D_BENCH_REPORT_H

#include <string>
#include <vector>

#include "machine.h"
#include "memory_checks.h"
#include "peers.h"
#include "result.h"
#include "targets.h"

namespace bench {

struct Report {
  Machine machine;
  int threads = 0;
  double budget_seconds = 0;
  unsigned seed = 0;
  std::vector<std::string> peers;  ///< "oneDNN 2.6.3 (OpenMP)"
  std::vector<RowResult> results;
  MemoryChecks memory;
  std::vector<Target> targets;
};

/// A table on stdout, row by row as they are measured.
void print_header(const Report &report);
void print_row(const RowResult &result, bool first_of_group);
/// Who was fastest in how many rows, and the rows in which it was not us.
void print_winners(const std::vector<RowResult> &results);
void print_memory(const MemoryChecks &memory);
void print_targets(const std::vector<Target> &targets, bool with_unmeasured);
void print_summary(const std::vector<std::string> &lines);

/// Both throw std::runtime_error where the file cannot be written.
void write_json(const Report &report, const std::string &path);
void write_svg(const Report &report, const std::string &path);

}  // namespace bench

#endif  // BN2D_BENCH_REPORT_H
