// Where the sums find the rows and runs of a block, and what they fetch ahead. Nothing is read
// here: places are numbers.
#include "kernels/runs.h"

#include <string>
#include <vector>

#include "support/catch.h"

using namespace bn2d::kernels;

namespace {

struct Place {
  int64_t x, g;
  bool operator==(const Place &o) const { return x == o.x && g == o.g; }
};
struct Step {
  Place read, fetched;
};
std::vector<Step> steps;
char *const kX = reinterpret_cast<char *>(int64_t{1} << 40), *const kG = reinterpret_cast<char *>(
                                                                 int64_t{1} << 41);

Place place_of(const Cursor &cursor) { return {cursor.x - kX, cursor.g - kG}; }

// As the kernels go through the planes of the channels.
void note_planes(const Planes &planes) {
  const Runs &runs = planes.runs;
  Cursor start = planes.start;
  for (int64_t c = planes.channel; c < planes.end_channel;
       ++c, start = start.plus(runs.next_channel)) {
    Ahead ahead;
    ahead.start(planes, c, start);
    Cursor of_turn = start;
    for (int64_t turn = planes.begin; turn < planes.end;
         ++turn, of_turn = of_turn.plus(runs.next_turn)) {
      Cursor from = of_turn;
      ahead.next_turn(runs);
      for (int64_t run = 0; run < runs.whole_runs; ++run, from = from.plus(runs.next_run))
        steps.push_back({place_of(from), place_of(ahead.next_run(runs))});
      if (runs.rest(turn).rows != 0)
        steps.push_back({place_of(from), place_of(ahead.next_run(runs))});
    }
  }
}

constexpr int64_t kBytes = 4;  // of an element

// NCHW of more samples than the block has; g is twice as far from plane to plane. Bands, if there
// are several, are the samples that follow.
SumsJob job_of(int64_t samples, int64_t channels, int64_t length) {
  SumsJob job;
  job.samples = samples;
  job.channels = channels;
  job.length = length;
  const int64_t sample = channels * length, band = samples * sample;
  job.x = {kX, length, sample, 1, band};
  job.g = {kG, 2 * length, 2 * sample, 1, 2 * band};
  job.fetches = true;
  return job;
}

}  // namespace

// Catches: a fetch that stays in one plane, ends with the channel or the band, or goes where nobody
// will read.
TEST_CASE("runs: what is fetched is read 16 runs later, also in the next channel, band and block",
          "[runs]") {
  for (const int64_t length : {132, 196, 400, 784, 1000, 1536, 2048}) {  // 2 to 16 runs a plane
    const int64_t of_plane = (length + kRunElements - 1) / kRunElements;
    SumsJob job = job_of(kRunsAhead + 2, 3, length);
    job.bands = length % 3 + 1;
    job.next_samples = job.bands * job.samples + 5;
    steps.clear();
    sum_over_planes(job, kBytes, note_planes);
    std::vector<Place> read;
    for (const Step &step : steps) read.push_back(step.read);
    const auto count = static_cast<int64_t>(read.size());
    REQUIRE(count == job.bands * job.samples * job.channels * of_plane);
    for (int64_t i = 0; i < kRunsAhead; ++i) {  // the first runs of the next block
      const int64_t block = job.next_samples * job.channels * length * kBytes;
      const Place &first = read[static_cast<size_t>(i)];
      read.push_back({first.x + block, first.g + 2 * block});
    }
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; ++i)
      wrong +=
          !(steps[static_cast<size_t>(i)].fetched == read[static_cast<size_t>(i + kRunsAhead)]);
    INFO("plane of " << length);
    CHECK(wrong == 0);
  }
}

// Catches: planes of many runs whose beginning nobody fetches: the hardware follows within a plane,
// not to the next.
TEST_CASE("runs: in large planes 4 KiB ahead, and the beginning of the next one", "[runs]") {
  const int64_t bytes = GENERATE(4, 2), ahead = bytes == 4 ? 8 : 16;
  for (const int64_t length : {2049, 3136, 12544}) {
    const int64_t of_plane = (length + kRunElements - 1) / kRunElements,
                  run_bytes = kRunElements * bytes;
    const SumsJob job = job_of(3, 2, length);
    steps.clear();
    sum_over_planes(job, bytes, note_planes);
    REQUIRE(static_cast<int64_t>(steps.size()) == 6 * of_plane);
    int64_t wrong = 0;
    for (int64_t i = 0; i < 5 * of_plane; ++i) {
      const int64_t run = i % of_plane, plane = i / of_plane;
      const Place &first =
          steps[static_cast<size_t>((run + kRunsAhead < of_plane ? plane : plane + 1) * of_plane)]
              .read;
      const int64_t to =
          (run + kRunsAhead < of_plane ? run + ahead : run + kRunsAhead - of_plane) * run_bytes;
      wrong += !(steps[static_cast<size_t>(i)].fetched == Place{first.x + to, first.g + to});
    }
    INFO("plane of " << length);
    CHECK(wrong == 0);
  }
}

// Catches: planes of a run that are too many, or fewer than fit; a last turn of planes that are not
// there.
TEST_CASE("runs: rows of small planes", "[runs]") {
  struct Shape {
    int64_t length, planes;  // of a run
  };
  for (const Shape &s : {Shape{1, 8},
                         {16, 8},
                         {17, 4},
                         {32, 4},
                         {33, 2},
                         {49, 2},
                         {64, 2},
                         {65, 1},
                         {112, 1},
                         {300, 1}}) {
    INFO("plane of " << s.length);
    CHECK(planes_of_run(s.length) == s.planes);
    const int64_t rows = (s.length + kRowElements - 1) / kRowElements;
    if (rows >= kRowsOfRun) continue;
    for (const int64_t samples : {s.planes, s.planes + 1, 3 * s.planes - 1}) {
      const Runs runs(job_of(samples, 3, s.length), kBytes, true);
      int64_t of_all = 0, elements = 0;
      for (int64_t turn = 0; turn < runs.turns; ++turn) {
        const Pattern &pattern = runs.rest(turn);
        of_all += pattern.rows;
        for (int k = 0; k < pattern.rows; ++k) elements += __builtin_popcount(pattern.present[k]);
      }
      CHECK(runs.whole_runs == 0);
      CHECK(of_all == samples * rows);
      CHECK(elements == samples * s.length);
    }
  }
}
