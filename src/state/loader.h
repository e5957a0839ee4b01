// From named tensors into the memory of modules and hosts: all of it or nothing.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arrays/array.h"
#include "state/state.h"

namespace bn2d::state {

// What is to be loaded.
struct Target {
  enum class Kind {
    plain,    // the same shape; floating types convert, others are the same
    counter,  // num_batches_tracked: a scalar or one element, of an integer type; old checkpoints
              // lack it
  };
  std::string name;
  Array array;  // has been checked
  Kind kind = Kind::plain;
};

class Loader {
 public:
  enum Trouble { missing, unexpected, mismatched, kTroubles };
  struct Problem {
    std::string name, text;
  };

  explicit Loader(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  // Room for as many targets and one prefix: adding them does not fail.
  void reserve(size_t targets);
  void add(Target target) { targets_.push_back(std::move(target)); }
  // Every name that begins so belongs to a module: one that is no target is unexpected.
  void add_prefix(std::string prefix) { prefixes_.push_back(std::move(prefix)); }

  // Reads and converts everything, then writes it. Error not_found for missing (where strict) or
  // unexpected names (where strict), shape or dtype for mismatched ones, io; nothing has been
  // written then. problems() are those of this call.
  void load(bool strict);
  const std::vector<Problem> &problems(Trouble trouble) const { return problems_[trouble]; }

 private:
  struct Match {
    const Target *target;
    int64_t index;  // of the state's tensor
  };
  std::vector<Match> match();
  void find_unexpected();
  void check(bool strict) const;
  void add_problem(Trouble trouble, const std::string &name, std::string text) {
    problems_[trouble].push_back({name, std::move(text)});
  }

  std::shared_ptr<const State> state_;
  std::vector<Target> targets_;
  std::vector<std::string> prefixes_;
  std::vector<Problem> problems_[kTroubles];
  bool dtype_is_wrong_ = false;  // of a mismatched one, and no shape
};

}  // namespace bn2d::state
