// SPDX-License-Identifier: MIT
// A chart of the ResNet-50 shapes: one panel per operation, one line per shape, one mark per
// contestant at its time over the limit's. The axis is logarithmic: the same distance is the same
// factor.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "bn2d/bn2d.h"
#include "ours.h"
#include "report.h"

namespace bench {
namespace {

enum class Mark { kDisc, kSquare, kDiamond, kTriangle };

struct Series {
  const char *name, *label, *colour;
  Mark mark;
};
// Drawn in this order: ours lies on top. The three layouts of oneDNN share a colour.
constexpr Series kSeries[] = {
    {"PyTorch", "PyTorch", "#8e44ad", Mark::kTriangle},
    {"PyTorch, memory recycled", "PyTorch, memory recycled", "#b98bd0", Mark::kTriangle},
    {"oneDNN plain", "oneDNN, plain NCHW", "#d9730d", Mark::kDisc},
    {"oneDNN channels_last", "oneDNN, channels last", "#d9730d", Mark::kSquare},
    {"oneDNN blocked", "oneDNN, its own blocked layout", "#d9730d", Mark::kDiamond},
    {kOurs, "bn2d", "#1757c2", Mark::kDisc},
};

constexpr double kWidth = 1180, kMargin = 40, kGutter = 56;
constexpr double kLabelWidth = 132;  // shapes and our ratios, left of a panel
constexpr double kRatioWidth = 46;   // our ratios
constexpr double kHighest = 60;      // a mark beyond stands at the end of the axis
constexpr double kLineHeight = 27, kPanelHead = 46, kPanelFoot = 34;
constexpr double kTop = 142, kBottom = 62;
constexpr const char *kInk = "#1f2328", *kQuiet = "#6a737d", *kGrid = "#e4e7eb";

struct Panel {
  Op op;
  const char *title;
  std::vector<const RowResult *> rows;
};

struct Axis {
  double low, high;    // ratios at its ends
  double left, right;  // pixels
  double x(double ratio) const {
    const double t = std::log(std::clamp(ratio, low, high) / low) / std::log(high / low);
    return left + t * (right - left);
  }
};

std::string number(double value, const char *pattern = "%.2f") {
  char text[32];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

std::string escaped(const std::string &text) {
  std::string out;
  for (const char c : text)
    out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  return out;
}

class Svg {
 public:
  Svg(double width, double height) {
    out_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << width << " " << height
         << "\" width=\"" << width << "\" height=\"" << height
         << "\" font-family=\"Inter, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif\">\n"
         << "<rect width=\"100%\" height=\"100%\" fill=\"#fcfcfa\"/>\n";
  }
  void text(double x, double y, const std::string &what, double size, const char *colour,
            const char *anchor = "start", const char *weight = "400") {
    out_ << "<text x=\"" << number(x) << "\" y=\"" << number(y) << "\" font-size=\"" << size
         << "\" fill=\"" << colour << "\" text-anchor=\"" << anchor << "\" font-weight=\"" << weight
         << "\">" << escaped(what) << "</text>\n";
  }
  void line(double x1, double y1, double x2, double y2, const char *colour, double width,
            const char *dash = "none") {
    out_ << "<line x1=\"" << number(x1) << "\" y1=\"" << number(y1) << "\" x2=\"" << number(x2)
         << "\" y2=\"" << number(y2) << "\" stroke=\"" << colour << "\" stroke-width=\"" << width
         << "\" stroke-dasharray=\"" << dash << "\"/>\n";
  }
  void box(double x, double y, double width, double height, const char *colour) {
    out_ << "<rect x=\"" << number(x) << "\" y=\"" << number(y) << "\" width=\"" << number(width)
         << "\" height=\"" << number(height) << "\" fill=\"" << colour << "\"/>\n";
  }
  void polygon(const std::string &points, const char *colour) {
    out_ << "<polygon points=\"" << points << "\" fill=\"" << colour
         << "\" stroke=\"#fcfcfa\" stroke-width=\"1\"/>\n";
  }
  void disc(double x, double y, double radius, const char *fill, const char *stroke) {
    out_ << "<circle cx=\"" << number(x) << "\" cy=\"" << number(y) << "\" r=\"" << radius
         << "\" fill=\"" << fill << "\" stroke=\"" << stroke << "\" stroke-width=\"1.2\"/>\n";
  }
  std::string finish() { return out_.str() + "</svg>\n"; }

 private:
  std::ostringstream out_;
};

std::string points(double x, double y, std::initializer_list<std::pair<double, double>> corners) {
  std::string text;
  for (const auto &corner : corners)
    text += number(x + corner.first) + "," + number(y + corner.second) + " ";
  return text;
}

void draw_mark(Svg *svg, const Series &series, double x, double y) {
  const double r = series.name == std::string(kOurs) ? 6.5 : 4.8;
  switch (series.mark) {
    case Mark::kDisc:
      svg->disc(x, y, r, series.colour, "#fcfcfa");
      break;
    case Mark::kSquare:
      svg->polygon(points(x, y, {{-r, -r}, {r, -r}, {r, r}, {-r, r}}), series.colour);
      break;
    case Mark::kDiamond:
      svg->polygon(points(x, y, {{0, -1.35 * r}, {1.35 * r, 0}, {0, 1.35 * r}, {-1.35 * r, 0}}),
                   series.colour);
      break;
    case Mark::kTriangle:
      svg->polygon(points(x, y, {{0, -1.2 * r}, {1.15 * r, 0.9 * r}, {-1.15 * r, 0.9 * r}}),
                   series.colour);
      break;
  }
}

/// Of ours, or of a family of peers: its fastest version is drawn.
std::optional<double> ratio_of(const RowResult &row, const std::string &name) {
  const Timing *t = name == kOurs ? row.ours() : row.fastest_of(name);
  if (!t || !row.limit()) return std::nullopt;
  return median_ratio(*t, *row.limit());
}

std::vector<Panel> panels_of(const std::vector<RowResult> &results) {
  std::vector<Panel> panels{{Op::kTrain, "Training forward", {}},
                            {Op::kBackward, "Backward", {}},
                            {Op::kEval, "Eval forward", {}},
                            {Op::kFrozenDx, "Backward, frozen statistics, dx only", {}}};
  for (Panel &panel : panels)
    for (const RowResult &r : results)
      if (r.row.group == Group::kResnet32 && r.row.op == panel.op && r.ratio())
        panel.rows.push_back(&r);
  panels.erase(
      std::remove_if(panels.begin(), panels.end(), [](const Panel &p) { return p.rows.empty(); }),
      panels.end());
  return panels;
}

/// One scale for all panels, so that they can be compared: everything measured, and always from
/// below 1.
Axis axis_of(const std::vector<Panel> &panels) {
  double low = 0.8, high = 4;
  for (const Panel &panel : panels)
    for (const RowResult *row : panel.rows)
      for (const Series &series : kSeries)
        if (const auto ratio = ratio_of(*row, series.name)) {
          low = std::min(low, *ratio);
          high = std::max(high, *ratio);
        }
  return {low / 1.12, std::min(high, kHighest) * 1.12, 0, 0};
}

/// Ticks that a long axis has no room for.
bool crowded(double tick) {
  return tick == 0.7 || tick == 1.5 || tick == 3 || tick == 7 || tick == 30;
}

void draw_axis(Svg *svg, const Axis &axis, double top, double bottom) {
  svg->box(axis.left, top, axis.x(1) - axis.left, bottom - top, "#eef4ee");
  const bool wide = axis.high / axis.low > 30;
  for (const double tick :
       {0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 30.0, 50.0, 100.0}) {
    if (tick < axis.low || tick > axis.high || (wide && crowded(tick))) continue;
    const bool limit = tick == 1;
    svg->line(axis.x(tick), top, axis.x(tick), bottom, limit ? kInk : kGrid, limit ? 1.4 : 1);
    svg->text(axis.x(tick), bottom + 17, number(tick, "%g"), 12, limit ? kInk : kQuiet, "middle",
              limit ? "600" : "400");
  }
  svg->text(axis.x(1), top - 6, "limit", 11.5, kInk, "middle", "600");
}

std::string shape_label(const Shape &shape) {
  return std::to_string(shape.c) + " × " + std::to_string(shape.h) + "²";
}

void draw_row(Svg *svg, const Axis &axis, const RowResult &row, double y) {
  double low = axis.high, high = axis.low;
  for (const Series &series : kSeries)
    if (const auto ratio = ratio_of(row, series.name)) {
      low = std::min(low, *ratio);
      high = std::max(high, *ratio);
    }
  svg->text(axis.left - kRatioWidth - 12, y + 4, shape_label(row.row.shape), 12.5, kInk, "end");
  svg->text(axis.left - 12, y + 4, number(*row.ratio()), 12.5, "#1757c2", "end", "600");
  svg->line(axis.left, y, axis.right, y, "#f0f1f3", 1);
  svg->line(axis.x(low), y, axis.x(high), y, "#c9ced6", 1.6);
  for (const Series &series : kSeries)
    if (const auto ratio = ratio_of(row, series.name)) draw_mark(svg, series, axis.x(*ratio), y);
}

std::string summary_of(const Panel &panel) {
  std::vector<double> ratios;
  for (const RowResult *row : panel.rows) ratios.push_back(*row->ratio());
  return "geometric mean of bn2d " + number(geometric_mean(ratios));
}

void draw_panel(Svg *svg, Axis axis, const Panel &panel, double left, double top, double width) {
  axis.left = left + kLabelWidth;
  axis.right = left + width;
  const double body = top + kPanelHead;
  const double bottom = body + kLineHeight * static_cast<double>(panel.rows.size());
  svg->text(left, top + 16, panel.title, 16, kInk, "start", "600");
  svg->text(axis.right, top + 16, summary_of(panel), 12.5, "#1757c2", "end");
  svg->text(axis.left - 12, body - 6, "bn2d", 11.5, "#1757c2", "end", "600");
  draw_axis(svg, axis, body, bottom);
  for (std::size_t i = 0; i < panel.rows.size(); ++i)
    draw_row(svg, axis, *panel.rows[i], body + kLineHeight * (static_cast<double>(i) + 0.5));
}

void draw_legend(Svg *svg, const std::vector<Panel> &panels) {
  double x = kMargin + 6;
  for (int i = static_cast<int>(std::size(kSeries)) - 1; i >= 0; --i) {
    const Series &series = kSeries[i];
    const bool present = std::any_of(panels.begin(), panels.end(), [&](const Panel &p) {
      return std::any_of(p.rows.begin(), p.rows.end(),
                         [&](const RowResult *r) { return ratio_of(*r, series.name); });
    });
    if (!present) continue;
    draw_mark(svg, series, x, 104);
    svg->text(x + 13, 108.5, series.label, 13, kInk);
    x += 44 + 7.1 * static_cast<double>(std::string(series.label).size());
  }
}

void draw_words(Svg *svg, const Report &report, double height) {
  svg->text(kMargin, 46, "Batch normalisation, ResNet-50 shapes: time over the limit", 23, kInk,
            "start", "600");
  svg->text(kMargin, 72,
            "f32 NCHW, batch 32, " + std::to_string(report.threads) +
                " threads. The limit is a parallel loop that touches the same bytes once, in the "
                "same run. "
                "Further left is faster; the axis is logarithmic.",
            13, kQuiet);
  std::string footer =
      "bn2d " + std::string(bn2d_version_string()) + " (" + bn2d_simd_target() + ")";
  for (const std::string &peer : report.peers) footer += "  ·  " + peer;
  svg->text(kMargin, height - 34, footer, 12, kQuiet);
  std::string machine = report.machine.cpu + ", " + std::to_string(report.machine.cpus) + " CPUs";
  for (const std::string &cache : report.machine.caches) machine += ", " + cache;
  svg->text(kMargin, height - 16,
            machine + "  ·  " + report.machine.date + "  ·  medians of alternating runs", 12,
            kQuiet);
}

}  // namespace

void write_svg(const Report &report, const std::string &path) {
  const std::vector<Panel> panels = panels_of(report.results);
  if (panels.empty()) throw std::runtime_error("no ResNet-50 rows at batch 32 to draw in " + path);
  const double panel_width = (kWidth - 2 * kMargin - kGutter) / 2;
  std::size_t lines = 0;
  for (const Panel &panel : panels) lines = std::max(lines, panel.rows.size());
  const double panel_height = kPanelHead + kLineHeight * static_cast<double>(lines) + kPanelFoot;
  const double height =
      kTop + panel_height * std::ceil(static_cast<double>(panels.size()) / 2) + kBottom;
  Svg svg(kWidth, height);
  draw_words(&svg, report, height);
  draw_legend(&svg, panels);
  const Axis axis = axis_of(panels);
  for (std::size_t i = 0; i < panels.size(); ++i)
    draw_panel(&svg, axis, panels[i],
               kMargin + static_cast<double>(i % 2) * (panel_width + kGutter),
               kTop + static_cast<double>(i / 2) * panel_height, panel_width);
  std::ofstream file(path);
  file << svg.finish();
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace bench
