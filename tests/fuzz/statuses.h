// What a call may answer, and how a finding gets out.
#pragma once
#include <bn2d/bn2d.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace bn2d_fuzz {

// What the library did and may not do. libFuzzer's target lets it end the program, the driver
// reports it.
struct Finding : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The last one that the header has: statuses are 0 and the negative numbers down to it.
inline constexpr int32_t kLastStatus = BN2D_ERROR_FORMAT;
inline constexpr bool is_status(int32_t status) { return status <= 0 && status >= kLastStatus; }

// A set of statuses other than BN2D_OK.
class Statuses {
 public:
  void add(int32_t status) { bits_ |= 1u << -status; }
  void add(const Statuses &other) { bits_ |= other.bits_; }
  bool empty() const { return bits_ == 0; }
  bool has(int32_t status) const {
    return status != BN2D_OK && is_status(status) && (bits_ >> -status & 1u) != 0;
  }
  std::string text() const {
    std::string all;
    for (int32_t status = -1; status >= kLastStatus; --status) {
      if (has(status)) all += std::string(all.empty() ? "" : " or ") + bn2d_status_name(status);
    }
    return all.empty() ? "BN2D_OK" : all;
  }

 private:
  uint32_t bits_ = 0;
};

// A call with something wrong must fail, with one of the statuses of what is wrong. `may`: the
// header leaves it open.
struct Verdict {
  Statuses must, may;
  void fails_if(bool wrong, int32_t status = BN2D_ERROR_INVALID_ARGUMENT) {
    if (wrong) must.add(status);
  }
  bool allows(int32_t status) const {
    return status == BN2D_OK ? must.empty() : must.has(status) || may.has(status);
  }
  std::string text() const { return must.text() + (may.empty() ? "" : " (or " + may.text() + ")"); }
};

}  // namespace bn2d_fuzz
