// SPDX-License-Identifier: MIT
// Benchmark of bn2d: what to run, in which order, and where the results go. See options.cc for its
// flags.
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>
#include <regex>
#include <stdexcept>

#include "bn2d/bn2d.h"
#include "library.h"
#include "machine.h"
#include "memory_checks.h"
#include "options.h"
#include "ours.h"
#include "peers.h"
#include "progress.h"
#include "report.h"
#include "rows.h"
#include "run.h"
#include "summary.h"
#include "targets.h"

namespace bench {
namespace {

std::vector<Row> chosen_rows(const Options &options) {
  const std::regex filter(options.filter);
  std::vector<Row> rows;
  for (const Row &row : all_rows()) {
    if (options.quick && !row.quick) continue;
    if (options.smoke && !row.smoke) continue;
    if (std::regex_search(row.name, filter)) rows.push_back(row);
  }
  return rows;
}

double default_budget(const Options &options) { return options.quick ? 0.5 : 1.5; }

void run_rows(const std::vector<Row> &rows, const std::vector<LoadedPeer> &peers,
              const RunOptions &run, Report *report) {
  Progress progress(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    progress.show(i, rows[i].name);
    report->results.push_back(run_row(rows[i], peers, run));
    progress.hide();
    const bool first = i == 0 || rows[i].group != rows[i - 1].group || rows[i].op != rows[i - 1].op;
    print_row(report->results.back(), first);
  }
}

Report start_report(const std::vector<LoadedPeer> &peers, const RunOptions &run) {
  Report report;
  report.machine = this_machine();
  report.threads = run.threads;
  report.budget_seconds = run.budget_seconds;
  report.seed = run.seed;
  for (const LoadedPeer &loaded : peers) report.peers.push_back(loaded.name + " " + loaded.note);
  return report;
}

void write_files(const Options &options, const Report &report, const std::string &folder) {
  // The results of a comparison are not those that a table is made of.
  const bool by_default = !options.smoke && options.other_build.empty();
  const std::string json = options.json_path.empty() && by_default
                               ? folder + "/results-" + simd_class() + ".json"
                               : options.json_path;
  if (!json.empty()) write_json(report, json);
  if (!options.svg_path.empty()) write_svg(report, options.svg_path);
}

bool any_failed(const std::vector<RowResult> &results) {
  return std::any_of(results.begin(), results.end(),
                     [](const RowResult &r) { return !r.error.empty(); });
}

int run_all(const Options &options, int threads) {
  const std::vector<Row> rows = chosen_rows(options);
  if (rows.empty()) throw std::invalid_argument("no row matches");
  const std::string folder = program_folder();
  std::optional<Library> other_build;
  if (!options.other_build.empty()) other_build = load_library(options.other_build);
  const std::vector<LoadedPeer> peers = options.no_peers
                                            ? std::vector<LoadedPeer>()
                                            : load_peers(folder, threads, options.system_torch);
  RunOptions run;
  run.threads = threads;
  run.budget_seconds =
      options.budget_seconds > 0 ? options.budget_seconds : default_budget(options);
  run.seed = options.seed;
  run.once = options.smoke;
  if (other_build) run.other_build = &*other_build;
  Report report = start_report(peers, run);
  if (other_build)
    report.peers.push_back("another build of bn2d: " + options.other_build + ", " +
                           other_build->version_string());
  print_header(report);
  run_rows(rows, peers, run, &report);
  if (options.filter.empty()) {
    report.memory = run_memory_checks(folder, options.quick || options.smoke);
    print_memory(report.memory);
  }
  report.targets = judge(report.results, report.memory);
  if (!options.smoke) print_targets(report.targets, options.filter.empty());
  if (!options.smoke) print_winners(report.results);
  if (!options.smoke) print_summary(summarise(report.results));
  write_files(options, report, folder);
  return any_failed(report.results) ? 1 : 0;
}

int list_rows(const Options &options) {
  for (const Row &row : chosen_rows(options)) std::printf("%s\n", row.name.c_str());
  return 0;
}

int run_main(const Options &options) {
  if (options.help) return std::fputs(kUsage, stdout) < 0;
  if (options.list) return list_rows(options);
  if (options.memory_child_calls) return memory_child(options.memory_child_calls);
  const int threads = options.threads ? options.threads : tbb::info::default_concurrency();
  // Ours and the limit run in this arena: both get the same threads.
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  static_cast<std::size_t>(threads));
  tbb::task_arena arena(threads);
  return arena.execute([&] { return run_all(options, threads); });
}

}  // namespace
}  // namespace bench

int main(int argc, char **argv) {
  bench::shorten_openmp_spinning(argv);
  try {
    return bench::run_main(bench::parse_options(argc, argv));
  } catch (const std::invalid_argument &e) {
    if (*e.what()) std::fprintf(stderr, "%s\n", e.what());
    std::fputs(bench::kUsage, stderr);
    return 2;
  } catch (const std::regex_error &) {
    std::fputs("--filter is not a regular expression\n", stderr);
    return 2;
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
