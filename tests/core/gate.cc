// Who may use a module at the same time: the end of the count, which no test reaches by calls.
#include "module/gate.h"

#include <array>
#include <cstring>
#include <type_traits>

#include "support/catch.h"

using namespace bn2d;

namespace {

// A gate is two words: its users, and those of them that came by lock(). Each is the number of the
// last fork above a count. Read and written as bytes: nobody else is there.
using Words = std::array<uint64_t, 2>;
static_assert(sizeof(Gate) == sizeof(Words) && std::is_standard_layout_v<Gate>);

Words words_of(const Gate &gate) {
  Words words;
  std::memcpy(words.data(), &gate, sizeof words);
  return words;
}

// As if so many shared users were inside: four billion calls would take minutes.
void set_users(Gate &gate, uint32_t users) {
  const Words words = {(uint64_t{fork_generation()} << 32) | users, words_of(gate)[1]};
  std::memcpy(static_cast<void *>(&gate), words.data(), sizeof words);
}

template <class F>
Status status_of(const F &f) {
  try {
    f();
    return Status::ok;
  } catch (const Error &error) {
    return error.status;
  }
}

Status pass(Gate &gate, bool exclusive) {
  return status_of([&] { const Gate::Pass here(gate, exclusive); });
}
Status lock(Gate &gate, bool exclusive) {
  return status_of([&] { gate.lock(exclusive); });
}

}  // namespace

TEST_CASE("gate: more shared users than it counts are refused", "[gate]") {
  // Catches a count that runs into the mark of the one writer: the last user would lock out all
  // others, and its end would let a writer in beside them.
  constexpr uint32_t kMost = UINT32_MAX - 1;  // bn2d.h tells it
  Gate gate;
  set_users(gate, kMost - 1);
  {
    const Gate::Pass last(gate, false);
    const Words full = words_of(gate);
    CHECK(static_cast<uint32_t>(full[0]) == kMost);
    CHECK(pass(gate, false) == Status::overflow);
    CHECK(lock(gate, false) == Status::overflow);
    CHECK(pass(gate, true) == Status::busy);
    CHECK(lock(gate, true) == Status::busy);
    CHECK(words_of(gate) == full);
    CHECK(status_of([&] { gate.unlock(false); }) == Status::state);  // none has come by lock()
    CHECK(words_of(gate) == full);
  }
  // One has left: there is room for one.
  CHECK(pass(gate, false) == Status::ok);
  CHECK(lock(gate, false) == Status::ok);
  CHECK(pass(gate, false) == Status::overflow);
  CHECK(status_of([&] { gate.unlock(false); }) == Status::ok);
  set_users(gate, 0);
  CHECK(pass(gate, true) == Status::ok);
}
