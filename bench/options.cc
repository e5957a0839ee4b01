// SPDX-License-Identifier: MIT
#include "options.h"

#include <getopt.h>

#include <cstdlib>
#include <stdexcept>

#include "memory_checks.h"

namespace bench {

const char kUsage[] =
    "usage: bn2d_bench [options]\n"
    "Times bn2d against the limit (a parallel loop that touches the same bytes once) and against "
    "oneDNN and PyTorch,\n"
    "where they are installed, alternately in one process.\n"
    "  --quick            a subset, a minute\n"
    "  --filter REGEX     rows whose name matches, see --list\n"
    "  --threads N        threads of everybody (default: all)\n"
    "  --budget SECONDS   time per row (default: 1.5, quick: 0.5)\n"
    "  --json PATH        results (default: results-avx512.json, -avx2.json... beside this "
    "program)\n"
    "  --svg PATH         a chart of the ResNet-50 shapes\n"
    "  --seed N           of the order in which a round times its variants (default: 1)\n"
    "  --system-torch     the system's PyTorch, not the newer one that the build found (a process "
    "holds one)\n"
    "  --no-peers         bn2d and the limit alone\n"
    "  --against PATH     another build of libbn2d, timed beside this one\n"
    "  --list             names of the rows\n"
    "  --smoke            one sample of a few rows: does it run at all\n"
    "  --help             this text\n"
    "Exit status: 0 all ran, 1 a row failed, 2 wrong usage. Missed targets are reported, they are "
    "no failure.\n";

namespace {

double positive_number(const char *text) {
  char *end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end || !(value > 0))
    throw std::invalid_argument(std::string("not a positive number: ") + text);
  return value;
}

enum Flag {
  kQuick = 1000,
  kFilter,
  kThreads,
  kBudget,
  kJson,
  kSvg,
  kSeed,
  kSystemTorch,
  kNoPeers,
  kList,
  kSmoke,
  kAgainst,
  kHelp,
  kMemoryChild
};

const option kFlags[] = {{"quick", no_argument, nullptr, kQuick},
                         {"filter", required_argument, nullptr, kFilter},
                         {"threads", required_argument, nullptr, kThreads},
                         {"budget", required_argument, nullptr, kBudget},
                         {"json", required_argument, nullptr, kJson},
                         {"svg", required_argument, nullptr, kSvg},
                         {"seed", required_argument, nullptr, kSeed},
                         {"system-torch", no_argument, nullptr, kSystemTorch},
                         {"no-peers", no_argument, nullptr, kNoPeers},
                         {"against", required_argument, nullptr, kAgainst},
                         {"list", no_argument, nullptr, kList},
                         {"smoke", no_argument, nullptr, kSmoke},
                         {"help", no_argument, nullptr, kHelp},
                         {kMemoryChildFlag + 2, required_argument, nullptr, kMemoryChild},
                         {nullptr, 0, nullptr, 0}};

void apply(int flag, const char *value, Options *options) {
  switch (flag) {
    case kQuick:
      options->quick = true;
      break;
    case kFilter:
      options->filter = value;
      break;
    case kThreads:
      options->threads = static_cast<int>(positive_number(value));
      break;
    case kBudget:
      options->budget_seconds = positive_number(value);
      break;
    case kJson:
      options->json_path = value;
      break;
    case kSvg:
      options->svg_path = value;
      break;
    case kSeed:
      options->seed = static_cast<unsigned>(positive_number(value));
      break;
    case kSystemTorch:
      options->system_torch = true;
      break;
    case kNoPeers:
      options->no_peers = true;
      break;
    case kList:
      options->list = true;
      break;
    case kSmoke:
      options->smoke = true;
      break;
    case kAgainst:
      options->other_build = value;
      break;
    case kHelp:
      options->help = true;
      break;
    case kMemoryChild:
      options->memory_child_calls = static_cast<long>(positive_number(value));
      break;
    default:
      throw std::invalid_argument("");  // getopt has told already
  }
}

}  // namespace

Options parse_options(int argc, char **argv) {
  Options options;
  for (int flag; (flag = getopt_long(argc, argv, "", kFlags, nullptr)) != -1;)
    apply(flag, optarg, &options);
  if (optind < argc) throw std::invalid_argument(std::string("not an option: ") + argv[optind]);
  return options;
}

}  // namespace bench
