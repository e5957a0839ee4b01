// A program for the fuzzer is a string of bytes; every choice takes one or two of them. Once they
// are used up every choice is 0, and 0 is the plain case everywhere: so a shorter input is a
// simpler program.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>

namespace bn2d_fuzz {

class Input {
 public:
  Input(const uint8_t *data, size_t size) : at_(data), end_(data + size) {}

  bool done() const { return at_ == end_; }
  uint8_t byte() { return done() ? uint8_t{0} : *at_++; }
  // 0 to limit - 1.
  int64_t below(int64_t limit) {
    const int64_t number = limit <= 256 ? byte() : byte() * 256 + byte();
    return number % limit;
  }
  // One of `old` choices, or one of `more` that came later, for bytes from `from` on, or of `most`
  // that came after those. The corpus says each of its choices with the least byte that means it,
  // so that there is room for later ones.
  int64_t below_or_later(int64_t old, int64_t from, int64_t more, int64_t after = 256,
                         int64_t most = 1) {
    const int64_t number = byte();
    return number < from    ? number % old
           : number < after ? old + (number - from) % more
                            : old + more + (number - after) % most;
  }
  // For what is rare; never once the bytes are used up. `times` is 2 to 256.
  bool one_in(int64_t times) { return below(times) == times - 1; }
  bool coin() { return one_in(2); }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }
  template <class All>
  auto &one_of(All &all) {
    return all[static_cast<size_t>(below(static_cast<int64_t>(std::size(all))))];
  }
  uint64_t seed() { return static_cast<uint64_t>(below(65536)); }

 private:
  const uint8_t *at_, *end_;
};

}  // namespace bn2d_fuzz
