// What bn2d.h says about threads ("Threads: exclusive."), of every function in the one list: while
// a call is under way, it is let in or gets BN2D_ERROR_BUSY.
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <thread>

#include "support/contract_functions.h"
#include "support/contract_gate.h"

using namespace bn2d_test;

namespace {

// What the comments of the header say after "Threads:", by the name of the function.
std::map<std::string, std::string> threads_of_header() {
  std::ifstream file(BN2D_HEADER);
  const std::string header((std::istreambuf_iterator<char>(file)), {});
  std::map<std::string, std::string> rules;
  const std::string start = "\nBN2D_API ";
  for (size_t at = 0; (at = header.find(start, at)) != std::string::npos; at += start.size()) {
    const size_t name = header.find("bn2d_", at) + 5, end = header.find('(', at);
    std::istringstream words(header.substr(header.rfind("/**", at), at - header.rfind("/**", at)));
    std::string comment;  // in one line
    for (std::string word; words >> word;)
      if (word != "*") comment += word + " ";
    const size_t rule = comment.find("Threads: ");
    const std::string text =  // a function that is as another one need not say it
        rule == std::string::npos ? "as" + comment.substr(comment.find(" As ") + 3)
                                  : comment.substr(rule + 9);
    rules[header.substr(name, end - name)] = text.substr(0, text.find(". Since "));
  }
  return rules;
}

enum class Rule { free, shared, exclusive, forward, unnoticed };

Rule rule_of(const std::map<std::string, std::string> &header, const std::string &function) {
  INFO("bn2d_" << function);
  REQUIRE(header.count(function) == 1);
  const std::string &text = header.at(function);
  INFO("Threads: " << text);
  const auto begins = [&](const std::string &words) { return text.rfind(words, 0) == 0; };
  if (begins("as bn2d_")) return rule_of(header, text.substr(8, text.find('(') - 8));
  if (begins("free")) return Rule::free;
  if (begins("shared on running statistics")) return Rule::forward;
  if (begins("exclusive")) return Rule::exclusive;
  if (begins("one per object")) return Rule::unnoticed;
  REQUIRE(text == "shared");
  return Rule::shared;
}

enum class UnderWay { training_forward, eval_forward, backward };

// A call of a world's module that stands still in its own input until the end.
class CallUnderWay {
 public:
  CallUnderWay(World &world, UnderWay what) : gate_(World::kCount * sizeof(float)) {
    auto *input = static_cast<float *>(gate_.data());
    const std::vector<float> &from = what == UnderWay::backward ? world.dy : world.x;
    std::copy(from.begin(), from.end(), input);
    REQUIRE(bn2d_module_train(world.module.get(), what != UnderWay::eval_forward) == BN2D_OK);
    REQUIRE(bn2d_module_train(world.module64.get(), what != UnderWay::eval_forward) == BN2D_OK);
    gate_.close();
    caller_ = std::thread([this, &world, what, input] {
      status_ = what == UnderWay::backward
                    ? bn2d_backward_f32(world.module.get(), world.record.get(), input, output_)
                    : bn2d_forward_f32(world.module.get(), input, World::kN, World::kH, World::kW,
                                       output_, nullptr);
    });
    stands_ = gate_.wait_until_touched();
  }
  ~CallUnderWay() {
    gate_.open();
    if (caller_.joinable()) caller_.join();
  }
  CallUnderWay(const CallUnderWay &) = delete;
  CallUnderWay &operator=(const CallUnderWay &) = delete;

  bool stands() const { return stands_; }
  int32_t end() {
    gate_.open();
    caller_.join();
    return status_;
  }

 private:
  Gate gate_;
  std::thread caller_;
  float output_[World::kCount];
  int32_t status_ = BN2D_ERROR_INTERNAL;
  bool stands_ = false;
};

}  // namespace

TEST_CASE("threads: every function lets others in, or not, as bn2d.h says", "[threads]") {
  // Catches an exclusive function that does not look, a shared one that excludes itself, a free one
  // that waits or refuses, BUSY after something was changed, and a module that stays in use. The
  // calls of the list that use doubles have a module of their own, which a lock holds.
  const std::map<std::string, std::string> header = threads_of_header();
  for (const FunctionEntry &entry : all_functions()) {
    const Rule rule = rule_of(header, entry.name);
    // What nobody notices would be a race, and the list's calls of locks end what they find locked
    // (their own tests are in locks.cc).
    if (rule == Rule::unnoticed || entry.name == "module_try_lock" || entry.name == "module_unlock")
      continue;
    for (const UnderWay what :
         {UnderWay::training_forward, UnderWay::eval_forward, UnderWay::backward}) {
      const bool is_shared = what == UnderWay::eval_forward;
      // Statistics can be given in training mode only.
      if (is_shared && entry.name.rfind("forward_with_statistics", 0) == 0) continue;
      INFO("bn2d_" << entry.name << ", under way: "
                   << (is_shared                    ? "eval forward"
                       : what == UnderWay::backward ? "backward"
                                                    : "training forward"));
      World world;
      CallUnderWay call(world, what);
      REQUIRE(call.stands());
      REQUIRE(bn2d_module_try_lock(world.module64.get(), !is_shared) == BN2D_OK);
      const bool is_let_in =
          rule == Rule::free || (is_shared && (rule == Rule::shared || rule == Rule::forward));
      if (is_let_in) {
        const int32_t status = entry.call_with(world, kNoPointer, nullptr);
        CHECK((!entry.returns_status || status >= BN2D_OK));
      } else {
        check_fails("while another call is under way", BN2D_ERROR_BUSY, world.snapshot(), {},
                    [&] { return entry.call_with(world, kNoPointer, nullptr); });
      }
      CHECK(call.end() == BN2D_OK);
      REQUIRE(bn2d_module_unlock(world.module64.get(), !is_shared) == BN2D_OK);
      if (!is_let_in) CHECK(entry.call_with(world, kNoPointer, nullptr) == BN2D_OK);
      world.release_retained(entry.name);
    }
  }
}
