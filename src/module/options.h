// What a module is constructed with: the constructor's arguments of the page, and a few beyond.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "tensor/dtype.h"

namespace bn2d {

// What is normalised together (tensor/sets.h).
enum class Norm : int32_t { batch = 1, group = 2, instance = 3 };

class Options {
 public:
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;  // none: cumulative average
  bool affine = true;
  bool bias = true;  // of an affine module
  bool track_running_stats = true;
  DType dtype = DType::f32;
  bool biased_running_var = false;
  bool protect_running_stats = false;
  int32_t num_threads = 0;       // 0: no limit of its own
  int64_t ghost_batch_size = 0;  // samples that are normalised together in training; 0: all

  // Each throws Error and changes nothing where the value is out of range.
  void set_eps(double value);
  void set_momentum(double value);
  void set_momentum_none();
  void set_affine(int32_t value);
  void set_bias(int32_t value);
  void set_track_running_stats(int32_t value);
  void set_biased_running_var(int32_t value);
  void set_protect_running_stats(int32_t value);
  void set_ghost_batch_size(int64_t value);
  void set_device(int32_t type, int32_t id);
  void set_dtype(int32_t value);
  void set_num_threads(int32_t value);
  void set_by_name(const char *name, const char *value);

  // What was not set takes the default of the norm. Throws where something was set that the norm
  // does not have.
  Options for_norm(Norm norm) const;

 private:
  enum Given : unsigned {
    kMomentum = 1,
    kAffine = 2,
    kTrack = 4,
    kBiased = 8,
    kProtect = 16,
    kGhost = 32
  };
  unsigned given_ = 0;
};

// A truth value that came as a number: 0 or 1.
bool checked_flag(const char *name, int32_t value);
int32_t checked_thread_limit(int32_t value);
double checked_eps(double value);
// A momentum, by whatever name.
double checked_momentum(const char *name, double value);

// dtype by any of its names, "float32" or "f32"; throws `unknown` where none has it.
DType dtype_from_name(const char *name, Status unknown);
// A dtype that came as a number; throws dtype where it is no floating one.
DType checked_floating_dtype(int32_t value);
// Throws device for anything but the CPU.
void check_device(const char *what, int32_t type, int32_t id);

// A double as Python's repr writes it: the fewest digits that read back the same, "1e-05", "0.1",
// "1.0".
std::string python_float(double value);
inline const char *python_bool(bool value) { return value ? "True" : "False"; }

}  // namespace bn2d
