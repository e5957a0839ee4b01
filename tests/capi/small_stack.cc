// The stack of the calling thread: 20 KiB below a call are enough, for every function and every
// tensor. Threads of other languages and of musl have little of it.
//
// Not under the address and thread sanitizers: they widen every frame, so that the numbers are
// theirs.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include <algorithm>
#include <cstdio>
#include <map>

#include "support/contract_functions.h"
#include "support/contract_stack.h"
#include "support/norms_case.h"
#include "support/numerics_cases.h"
#include "support/numerics_parts.h"

namespace {

using bn2d_test::SmallStack;

constexpr size_t kMost = size_t{20} << 10;

// The most of each function, for the table at the end.
class Usage {
 public:
  void note(const std::string &function, size_t bytes, const std::string &where) {
    Row &row = rows_[function];
    if (bytes <= row.bytes) return;
    row.bytes = bytes;
    row.where = where;
  }
  void check() const {
    for (const auto &[function, row] : rows_) {
      INFO(function << " used " << row.bytes << " bytes of stack " << row.where);
      CHECK(row.bytes <= kMost);
    }
  }
  void print(const char *title) const {
    std::printf("stack below a call, %s, most 20480 bytes\n", title);
    for (const auto &[function, row] : rows_)
      std::printf("%8zu  %s\n", row.bytes, function.c_str());
  }

 private:
  struct Row {
    size_t bytes = 0;
    std::string where;
  };
  std::map<std::string, Row> rows_;
};

}  // namespace

// Catches: a table, a job or a text buffer on the stack; an allocation that has become alloca; the
// start of oneTBB.
TEST_CASE("stack: 20 KiB are enough for every operation", "[stack]") {
  using namespace numerics;
  SmallStack stack;
  Usage usage, with_start;
  std::string where;
  bool is_started = false;
  const Around around = [&](const char *function, const std::function<int32_t()> &call) {
    int32_t status = BN2D_ERROR_INTERNAL;
    const size_t used = stack.run([&] { status = call(); });
    (is_started ? usage : with_start).note(function, used, where);
    return status;
  };
  uint64_t seed = 1;
  std::vector<Case> cases = every_case();
  for (const Layout layout : all_layouts) {  // large enough for other threads
    Case c;
    c.e = {4, 64, 40, 40};
    c.x = c.y = c.z = c.dx = c.dz = layout;
    c.activation = {Activation::leaky, -0.5};
    cases.push_back(c);
  }
  // The first time round one of the calls, nobody knows which, starts oneTBB.
  for (const bool again : {false, true}) {
    is_started = again;
    for (const Case &c : cases) {
      where = describe(c);
      run(c, random_inputs(c, ++seed), around);
    }
  }
  for (const int32_t norm : {BN2D_NORM_BATCH, BN2D_NORM_GROUP, BN2D_NORM_INSTANCE})
    for (const Layout layout : all_layouts)
      for (const bool stateless : {false, true})
        for (const Extents e :
             {Extents{3, 8, 5, 5}, Extents{3, 64, 40, 40}, Extents{2, 2, 90, 95}}) {
          NormCase c;
          c.e = e;
          c.norm = norm;
          c.ghost = norm == BN2D_NORM_BATCH ? 2 : 0;
          c.groups = 2;
          c.stateless = stateless && norm == BN2D_NORM_GROUP;
          c.x = c.y = c.dx = layout;
          for (const Activation activation :
               {Activation{Activation::leaky, -0.5}, Activation{Activation::sigmoid, 0}}) {
            c.activation = activation;
            where = describe(c);
            run(c, random_inputs(c, ++seed), around);
          }
        }
  for (const Layout layout : {Layout::nchw, Layout::nhwc}) {  // in rounds
    NormCase c;
    c.e = {1100, 256, 2, 2};
    c.norm = BN2D_NORM_GROUP;
    c.groups = 2;
    c.stateless = true;
    c.x = c.y = c.dx = layout;
    where = describe(c);
    run(c, random_inputs(c, ++seed), around);
  }
  for (const Layout layout : all_layouts) {  // in parts
    Case c;
    c.e = {4, 64, 40, 40};
    c.x = c.y = c.dx = layout;
    where = describe(c);
    run_parts(c, random_inputs(c, ++seed), {3, 1}, around);
  }
  with_start.check();
  usage.check();
  usage.print("by operation");
}

// Catches: the same of all other functions, also where they fail: the list is that of
// functions.inc.
TEST_CASE("stack: 20 KiB are enough for every function, and for its failure", "[stack]") {
  using namespace bn2d_test;
  SmallStack stack;
  Usage usage;
  std::vector<std::string> covered;
  for (const FunctionEntry &entry : all_functions()) {
    World world;
    int32_t status = BN2D_OK;
    usage.note(entry.name, stack.run([&] { status = entry.call_with(world, kNoPointer, nullptr); }),
               "where it succeeds");
    INFO("bn2d_" << entry.name);
    if (entry.returns_status) CHECK(status >= 0);
    for (size_t i = 0; i < entry.pointers.size(); ++i) {
      if (entry.pointers[i].optional || !entry.returns_status) continue;
      const size_t used = stack.run([&] { status = entry.call_with(world, i, nullptr); });
      usage.note(entry.name, used, "where it fails");
      CHECK(status == BN2D_ERROR_INVALID_ARGUMENT);
    }
    world.release_retained(entry.name);
    covered.push_back(entry.name);
  }
  for (const std::string &name : listed_functions()) {
    INFO("bn2d_" << name);
    CHECK(std::find(covered.begin(), covered.end(), name) != covered.end());
  }
  usage.check();
  usage.print("by function");
}
#endif
