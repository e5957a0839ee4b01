// SPDX-License-Identifier: MIT
#include <cstdio>
#include <map>

#include "bn2d/bn2d.h"
#include "ours.h"
#include "report.h"

namespace bench {
namespace {

/// Three significant digits and a unit that suits them.
std::string time_text(double us) {
  char text[32];
  if (us < 1) {
    std::snprintf(text, sizeof text, "%.0f ns", 1e3 * us);
  } else if (us < 1000) {
    std::snprintf(text, sizeof text, us < 10 ? "%.2f us" : us < 100 ? "%.1f us" : "%.0f us", us);
  } else {
    std::snprintf(text, sizeof text, us < 1e4 ? "%.2f ms" : "%.1f ms", us / 1e3);
  }
  return text;
}

std::string ratio_text(std::optional<double> ratio) {
  char text[16];
  if (!ratio) return "-";
  std::snprintf(text, sizeof text, "%.2f", *ratio);
  return text;
}

/// Who is fastest where somebody else ran.
std::string winner_text(const RowResult &result) {
  const bool contest = result.ours() && result.fastest_peer();
  return contest ? result.winner()->name : "-";
}

/// "oneDNN 3.13 plain 3.4x": how much slower than ours, per variant that is neither ours nor the
/// limit.
std::string others_text(const RowResult &result) {
  std::string text;
  for (const Timing &t : result.timings) {
    if (!t.ran || &t == result.ours() || is_limit(t.name)) continue;
    char part[80];
    std::snprintf(part, sizeof part, "%s%s %.2fx", text.empty() ? "" : ", ", t.name.c_str(),
                  result.over_ours(t));
    text += part;
    if (t.name == kOursOther && !t.note.empty() && t.note != kSameResults)
      text += " (" + t.note + ")";
  }
  return text;
}

/// Half the distance of the quartiles, as a part of the median: how far to trust the number.
std::string spread_text(const Timing &t) {
  char text[16];
  std::snprintf(text, sizeof text, "%.0f%%", 50 * (t.quartile3 - t.quartile1) / t.median);
  return text;
}

void print_number(const char *what, const std::optional<double> &value, const char *pattern) {
  if (value) {
    std::printf("  %-52s ", what);
    std::printf(pattern, *value);
    std::printf("\n");
  }
}

}  // namespace

void print_header(const Report &report) {
  std::printf("bn2d %s, %s (%s), %d threads\n%s, %d CPUs", bn2d_version_string(),
              bn2d_simd_target(), simd_class().c_str(), report.threads, report.machine.cpu.c_str(),
              report.machine.cpus);
  for (const std::string &cache : report.machine.caches) std::printf(", %s", cache.c_str());
  std::printf("; %s; %s; load %.1f\n", report.machine.system.c_str(), report.machine.date.c_str(),
              report.machine.load);
  for (const std::string &peer : report.peers) std::printf("peer: %s\n", peer.c_str());
  std::printf(
      "R = our time / limit; +-: half the distance of the quartiles; Nx: that variant takes N "
      "times our time\n\n");
  std::printf("%-46s %10s %5s %10s %6s  %-24s %s\n", "row", "bn2d", "+-", "limit", "R", "fastest",
              "others");
  std::fflush(stdout);
}

void print_row(const RowResult &result, bool first_of_group) {
  if (first_of_group) std::printf("\n");
  const Timing *ours = result.ours(), *limit = result.limit();
  if (!ours) {
    std::printf("%-46s failed: %s\n", result.row.name.c_str(), result.error.c_str());
  } else {
    std::printf("%-46s %10s %5s %10s %6s  %-24s %s\n", result.row.name.c_str(),
                time_text(ours->median).c_str(), spread_text(*ours).c_str(),
                limit ? time_text(limit->median).c_str() : "-", ratio_text(result.ratio()).c_str(),
                winner_text(result).c_str(), others_text(result).c_str());
  }
  std::fflush(stdout);
}

void print_winners(const std::vector<RowResult> &results) {
  std::map<std::string, int> rows_of;
  int contested = 0;
  for (const RowResult &result : results) {
    const std::string name = winner_text(result);
    if (name == "-") continue;
    ++rows_of[name];
    ++contested;
  }
  if (!contested) return;
  std::printf("\nfastest, of %d rows that a peer can run:", contested);
  for (const auto &[name, rows] : rows_of) std::printf(" %s %d;", name.c_str(), rows);
  std::printf("\n");
  int of_layout = 0, behind_of_layout = 0;
  for (const RowResult &result : results) {
    const std::string name = winner_text(result);
    const Timing *const same = result.fastest_peer_of_layout();
    const bool is_behind = result.ours() && same && result.over_ours(*same) <= 1;
    if (result.ours() && same) ++of_layout;
    if (is_behind) ++behind_of_layout;
    if (name != "-" && name != kOurs)
      std::printf("  behind  %-46s %s takes %.2f of our time%s\n", result.row.name.c_str(),
                  name.c_str(), result.over_ours(*result.winner()),
                  is_behind ? "" : ", in another layout");
  }
  std::printf("against peers on the same layout: behind in %d of %d rows\n", behind_of_layout,
              of_layout);
}

void print_memory(const MemoryChecks &m) {
  std::printf("\nmemory and loading\n");
  print_number("peak memory grows over the small calls by", m.growth_kib, "%.0f KiB");
  print_number("scratch of forward, backward, eval (32,64,56,56)", m.scratch_kib, "%.0f KiB");
  print_number("heap allocations per small call", m.small_allocations, "%.3g");
  print_number("heap allocations per large call", m.large_allocations, "%.3g");
  print_number("heap allocations per small call with a record", m.record_allocations, "%.3g");
  print_number("dlopen in a fresh process", m.load_ms, "%.2f ms");
  print_number("threads that starts", m.load_threads, "%.0f");
  const auto kib =
      m.stripped_bytes ? std::optional<double>(*m.stripped_bytes / 1024) : std::nullopt;
  print_number("libbn2d.so, stripped", kib, "%.0f KiB");
}

void print_targets(const std::vector<Target> &targets, bool with_unmeasured) {
  static const char *const verdicts[] = {"holds ", "MISSED", "  -   "};
  int holds = 0, measured = 0;
  std::printf("\ntargets\n");
  for (const Target &target : targets) {
    if (target.verdict == Verdict::kNotMeasured && !with_unmeasured) continue;
    std::printf("  %s  %s: %s; %s\n", verdicts[static_cast<int>(target.verdict)],
                target.what.c_str(), target.measured.c_str(), target.bound.c_str());
    holds += target.verdict == Verdict::kHolds;
    measured += target.verdict != Verdict::kNotMeasured;
  }
  const int skipped = static_cast<int>(targets.size()) - measured;
  std::printf("targets: %d of %d hold", holds, measured);
  if (skipped) std::printf(" (%d not measured)", skipped);
  std::printf("\n");
}

void print_summary(const std::vector<std::string> &lines) {
  if (lines.empty()) return;
  std::printf(
      "\nby kind (geometric means; two passes: everything is read, then read again to write, "
      "without arithmetic)\n");
  for (const std::string &line : lines) std::printf("  %s\n", line.c_str());
}

}  // namespace bench
