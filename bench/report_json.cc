// SPDX-License-Identifier: MIT
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "bn2d/bn2d.h"
#include "limit.h"
#include "report.h"

namespace bench {
namespace {

using Json = nlohmann::ordered_json;

double rounded(double value) {
  const double scale = std::pow(10, 5 - std::ceil(std::log10(std::max(1e-12, std::fabs(value)))));
  return std::round(value * scale) / scale;
}

Json optional(const std::optional<double> &value) {
  return value ? Json(rounded(*value)) : Json(nullptr);
}

Json header_of(const Report &report) {
  return {{"date", report.machine.date},      {"cpu", report.machine.cpu},
          {"cpus", report.machine.cpus},      {"caches", report.machine.caches},
          {"system", report.machine.system},  {"load_at_start", rounded(report.machine.load)},
          {"threads", report.threads},        {"budget_seconds", report.budget_seconds},
          {"version", bn2d_version_string()}, {"simd_target", bn2d_simd_target()},
          {"simd_class", simd_class()},       {"seed", report.seed},
          {"build", bn2d_build_info()},       {"peers", report.peers}};
}

Json timing_of(const Timing &t) {
  return {{"median_us", rounded(t.median)},
          {"quartile1_us", rounded(t.quartile1)},
          {"quartile3_us", rounded(t.quartile3)},
          {"fastest_us", rounded(t.fastest)},
          {"samples", t.samples},
          {"calls_per_sample", t.calls}};
}

Json row_of(const RowResult &result, int threads) {
  const Row &row = result.row;
  Json json = {{"name", row.name},
               {"group", name_of(row.group)},
               {"op", name_of(row.op, row.fuse)},
               {"dtype", name_of(row.dtype)},
               {"layout", name_of(row.layouts, row.op, row.fuse)},
               {"shape", {row.shape.n, row.shape.c, row.shape.h, row.shape.w}},
               {"threads", threads},
               {"ours_us", nullptr},
               {"limit_us", nullptr},
               {"ratio", optional(result.ratio())},
               {"peers", Json::object()}};
  if (result.ours()) json["ours_us"] = rounded(result.ours()->median);
  if (result.limit()) json["limit_us"] = rounded(result.limit()->median);
  if (result.fastest_peer() && result.ours()) json["fastest"] = result.winner()->name;
  for (const Timing *peer : result.peers()) json["peers"][peer->name] = rounded(peer->median);
  for (const Timing &t : result.timings) {
    if (t.ran) json["timings"][t.name] = timing_of(t);
    if (t.ran && !t.note.empty()) json["implementations"][t.name] = t.note;
    if (!t.ran) json["missing"][t.name] = t.note;
  }
  if (!result.error.empty()) json["error"] = result.error;
  return json;
}

Json memory_of(const MemoryChecks &m) {
  return {{"growth_kib_over_small_calls", optional(m.growth_kib)},
          {"scratch_kib", optional(m.scratch_kib)},
          {"heap_allocations_per_small_call", optional(m.small_allocations)},
          {"heap_allocations_per_large_call", optional(m.large_allocations)},
          {"heap_allocations_per_small_recording_call", optional(m.record_allocations)},
          {"load_ms", optional(m.load_ms)},
          {"threads_started_by_load", optional(m.load_threads)},
          {"stripped_bytes",
           m.stripped_bytes ? Json(static_cast<int64_t>(*m.stripped_bytes)) : Json(nullptr)}};
}

Json target_of(const Target &target) {
  static const char *const verdicts[] = {"holds", "missed", "not measured"};
  return {{"what", target.what},
          {"bound", target.bound},
          {"measured", target.measured},
          {"verdict", verdicts[static_cast<int>(target.verdict)]}};
}

}  // namespace

void write_json(const Report &report, const std::string &path) {
  Json json = {{"header", header_of(report)}, {"rows", Json::array()}};
  for (const RowResult &result : report.results)
    json["rows"].push_back(row_of(result, report.threads));
  json["memory"] = memory_of(report.memory);
  json["targets"] = Json::array();
  for (const Target &target : report.targets) json["targets"].push_back(target_of(target));
  std::ofstream file(path);
  file << json.dump(1) << "\n";
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace bench
