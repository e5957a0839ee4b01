// Files with and without exceptions in one program: each has its own functions.
#include "cpp/results.h"
#include "cpp/twin.h"

TEST_CASE("cpp: without exceptions", "[cpp]") {
  // Catches one definition for both: a throw in code that was compiled for results, or the other
  // way around.
  CHECK(bn2d_test::line_without_exceptions() == 0);
  CHECK_THROWS_AS(bn2d::Module(0), bn2d::Error);
}
