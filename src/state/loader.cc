#include "state/loader.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"

namespace bn2d::state {
namespace {

using Bytes = std::unique_ptr<std::byte[]>;

// Elements of one floating type as those of another, rounded to nearest even.
void convert(const ElementType &from_type, const std::byte *from, const ElementType &to_type,
             std::byte *to, int64_t count) {
  constexpr int64_t kPiece = 512;
  double values[kPiece];
  for (int64_t done = 0, piece = 0; done < count; done += piece) {
    piece = std::min(kPiece, count - done);
    load_elements(*from_type.dtype, from, done, piece, values);
    store_elements(*to_type.dtype, to, done, piece, values);
  }
}

// The one element of a counter.
int64_t counter_of(const ElementType &type, const std::byte *bytes) {
  if (type.bits == 32) {
    int32_t value = 0;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }
  int64_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

bool is_counter_type(const ElementType &type) { return type.name[0] == 'I' && type.bits >= 32; }

bool dtypes_fit(const Target &target, const ElementType &stored) {
  if (target.kind == Target::Kind::counter) return is_counter_type(stored);
  return &stored == target.array.type || (stored.is_floating() && target.array.type->is_floating());
}

bool shapes_fit(const Target &target, const std::vector<int64_t> &stored) {
  if (target.kind == Target::Kind::counter)
    return stored.empty() || stored == std::vector<int64_t>{1};
  return stored == target.array.shape;
}

}  // namespace

void Loader::reserve(size_t targets) {
  // Twice as much each time: a loop of reserve() and add() stays linear.
  if (targets_.capacity() - targets_.size() < targets)
    targets_.reserve(2 * targets_.size() + targets);
  if (prefixes_.capacity() == prefixes_.size()) prefixes_.reserve(2 * prefixes_.size() + 1);
}

std::vector<Loader::Match> Loader::match() {
  std::vector<Match> matches;
  bool shape_is_wrong = false;
  dtype_is_wrong_ = false;
  for (const Target &target : targets_) {
    const auto index = state_->find(target.name);
    if (!index) {
      if (target.kind != Target::Kind::counter) add_problem(missing, target.name, "is missing");
      continue;
    }
    const Entry &entry = state_->entry(*index);
    if (!shapes_fit(target, entry.shape)) {
      shape_is_wrong = true;
      add_problem(
          mismatched, target.name,
          "has shape " + text_of(entry.shape) + ", must have " + text_of(target.array.shape));
    } else if (!dtypes_fit(target, *entry.type)) {
      dtype_is_wrong_ = true;
      add_problem(mismatched, target.name,
                  std::string("has dtype ") + entry.type->name + ", which does not convert to " +
                      target.array.type->name);
    } else {
      matches.push_back({&target, *index});
    }
  }
  if (shape_is_wrong) dtype_is_wrong_ = false;
  return matches;
}

void Loader::find_unexpected() {
  std::set<std::string_view> wanted;
  for (const Target &target : targets_) wanted.insert(target.name);
  const std::set<std::string_view> prefixes(prefixes_.begin(), prefixes_.end());
  for (int64_t i = 0; i < state_->size(); ++i) {
    const std::string &name = state_->entry(i).name;
    if (wanted.count(name) != 0) continue;
    const bool is_under_one = std::any_of(
        prefixes.begin(), prefixes.end(),
        [&](std::string_view prefix) { return name.compare(0, prefix.size(), prefix) == 0; });
    if (is_under_one) add_problem(unexpected, name, "is unexpected");
  }
}

void Loader::check(bool strict) const {
  const size_t counts[kTroubles] = {strict ? problems_[missing].size() : 0,
                                    strict ? problems_[unexpected].size() : 0,
                                    problems_[mismatched].size()};
  if (counts[missing] + counts[unexpected] + counts[mismatched] == 0) return;
  const Trouble first = counts[mismatched] > 0 ? mismatched
                        : counts[missing] > 0  ? missing
                                               : unexpected;
  const Status status = first != mismatched ? Status::not_found
                        : dtype_is_wrong_   ? Status::dtype
                                            : Status::shape;
  const Problem &problem = problems_[first].front();
  fail(status, "%s %s (missing: %zu, unexpected: %zu, mismatched: %zu)",
       quoted(problem.name).c_str(), problem.text.c_str(), problems_[missing].size(),
       problems_[unexpected].size(), problems_[mismatched].size());
}

void Loader::load(bool strict) {
  for (auto &problems : problems_) problems.clear();
  const std::vector<Match> matches = match();
  find_unexpected();
  check(strict);

  std::vector<Bytes> staged;
  for (const auto &[target, index] : matches) {
    const Entry &entry = state_->entry(index);
    Bytes bytes = allocate_bytes(entry.nbytes());
    state_->read(index, bytes.get());
    const ElementType &type = *target->array.type;
    if (target->kind == Target::Kind::counter) {
      const int64_t value = counter_of(*entry.type, bytes.get());
      bytes = allocate_bytes(sizeof value);
      std::memcpy(bytes.get(), &value, sizeof value);
    } else if (entry.type != &type) {
      const int64_t count = count_of(entry.shape);
      Bytes converted = allocate_bytes(static_cast<uint64_t>(count * (type.bits / 8)));
      convert(*entry.type, bytes.get(), type, converted.get(), count);
      bytes = std::move(converted);
    }
    staged.push_back(std::move(bytes));
  }
  // From here on nothing fails.
  for (size_t i = 0; i < matches.size(); ++i) scatter(staged[i].get(), matches[i].target->array);
}

}  // namespace bn2d::state
