// Runs a program: a string of bytes as calls of the C ABI, each compared with what the header
// promises.
//
//   - the status is one that the arguments call for
//   - a call that fails has changed nothing: no tensor, buffer, gradient, counter, mode or out
//     parameter; its message is one line. A call that succeeds leaves the message alone
//   - a call that succeeds has written its outputs and nothing else, with the numbers of the oracle
//   - with another number of threads and other stores it does the same, bit by bit
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "fuzz/numbers.h"
#include "fuzz/operands.h"
#include "fuzz/statuses.h"

struct DLManagedTensor;
struct DLManagedTensorVersioned;

namespace bn2d_fuzz {

struct OptionsModel {
  bn2d_options *handle = nullptr;
  int references = 0;
  double eps = 1e-5;
  bool has_momentum = true;
  double momentum = 0.1;
  bool affine = true, bias = true, track = true, biased = false, protect = false;
  int32_t dtype = BN2D_F32, threads = 0;
  int64_t ghost = 0;
  // What was set: the norms have other defaults, and refuse what they have not.
  enum Touched : unsigned { kMomentum = 1, kAffine = 2, kTrack = 4, kStatistics = 8, kGhost = 16 };
  unsigned touched = 0;
};

struct TensorModel {
  std::string name;
  int32_t kind = BN2D_BUFFER, dtype = BN2D_F32;
  int64_t count = 0;
  bool scalar = false, requires_grad = false;
  bn2d_tensor *handle = nullptr;
  int references = 0;  // of the program's
  unsigned char *data = nullptr;
  size_t bytes = 0;
  int gradient = -1;  // index in the module's tensors
};

struct ModuleModel {
  bn2d_module *handle = nullptr;
  int references = 0;
  OptionsModel options;
  int64_t channels = 0;
  bool training = true, frozen = false;
  int32_t threads = 0;
  int32_t norm = BN2D_NORM_BATCH;
  int64_t groups = 0;
  std::vector<TensorModel> tensors;

  bool alive() const { return references > 0; }
  bool moves() const { return training && !frozen; }
  bool batch() const { return moves() || !options.track; }
  // Samples that have their statistics in common; 0: all.
  int64_t samples() const {
    if (norm != BN2D_NORM_BATCH) return 1;
    return training ? options.ghost : 0;
  }
  std::string text() const;
  TensorModel *find(const std::string &name) {
    for (TensorModel &tensor : tensors)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  Values values(const std::string &name);  // empty where there is no such tensor
};

struct RecordModel {
  bn2d_record *handle = nullptr;
  int references = 0;
  size_t module = 0;
  Extents shape{};
  Numbers numbers;
  Operand x, y, z;
  std::vector<uint64_t> x_bits, y_bits, z_bits;  // as the forward left them
  bool in_place = false, side_of_x = false, borrows_y = false, pointwise = false;
};

struct StatisticsModel {
  bn2d_statistics *handle = nullptr;
  static constexpr int64_t kMostValues = int64_t{1} << 53;
  static constexpr size_t kMostKept = 4000;  // values of a channel that the model keeps
  int references = 0;
  int64_t channels = 0, count = 0;
  bool known = true;           // else `values` says nothing
  bool all_f64 = true;         // of what was accumulated
  std::vector<Values> values;  // of each channel
  oracle::Reals parts;         // by channel: the largest error that a part's mean may have
};

// What all calls of a program have to leave alone, as it was before the call under way.
struct Before {
  Memory::Image memory;
  struct Blob {
    size_t module, tensor;
    std::vector<unsigned char> bytes;
  };
  std::vector<Blob> blobs;
  std::string state;
  std::vector<Values> statistics;  // as they are exported
};

class Machine {
 public:
  Machine(const uint8_t *data, size_t size, bool trace);
  ~Machine();
  Machine(const Machine &) = delete;
  Machine &operator=(const Machine &) = delete;

  void run();                               // throws Finding
  static uint64_t calls();                  // since the program began
  static uint64_t answers(int32_t status);  // so many of them had this status
  // What succeeded and was judged, and how often.
  static const std::map<std::string, uint64_t> &reached();

 private:
  // machine.cc: what is common to all calls
  void say(const std::string &text) const;
  void before(
      const std::string &what = "");  // what: shown before the call, in case it does not come back
  bool settle(const std::string &what, int32_t status,
              const Verdict &verdict);  // true where it succeeded
  void check_only(const std::string &what, const std::vector<const Operand *> &outputs, int module,
                  const std::vector<std::string> &tensors);
  [[noreturn]] void found(const std::string &what, const std::string &problem) const;
  std::string state() const;
  void run_operation(int64_t which);
  static void reach(const std::string &what);
  static void reach_blocks(const std::string &operation,
                           const std::vector<const Operand *> &tensors);
  template <class Again>
  void repeat(const std::string &what, const std::vector<const Operand *> &outputs, Again call);
  void simple(const std::string &what, int32_t status, const Verdict &verdict);

  // draw.cc: what many calls draw from the input
  template <class H>
  H *spoil(H *handle, Verdict &verdict);
  size_t pick_module();
  int pick_record();  // -1: there is none
  Extents choose_shape(int64_t channels);
  int32_t choose_data_dtype(int32_t parameters, Verdict &verdict);
  oracle::Activation choose_activation(int32_t data, int32_t &number, double &slope,
                                       Verdict &verdict);
  double choose_momentum(Verdict &verdict);
  // Rarely, once in so many times, another than the right one.
  int64_t choose_length(int64_t right, Verdict &verdict, int64_t times);

  struct Call;  // call.h: what all the structs for one kind of call derive from

  // options.cc, options_by_name.cc
  struct SetOption;
  void options();
  void create_options();
  void set_ghost_batch_size();
  void options_by_name();
  void set_garbage(std::string name);
  static bool makes_a_module(const bn2d_options *options);

  // creation.cc
  struct Creation;
  struct CreateModule;
  struct CreateNorm;
  void create_module();
  void create_norm();
  void adopt(bn2d_module *handle, int64_t channels, const OptionsModel &options,
             int32_t norm = BN2D_NORM_BATCH, int64_t groups = 0);

  // queries.cc, changes.cc: of modules
  struct ModuleQuery;
  void query_module();
  void query_norm();
  void query_record();
  void change_module();
  void change_living();

  // references.cc
  void references();
  void references_of_options();
  void references_of_module();
  void references_of_tensor();
  void references_of_record();
  template <class Model, class H>
  bool retain_or_release(const std::string &kind, Model &model, int32_t (*retain)(H *),
                         void (*release)(H *));

  // tensors.cc, copy_tensor.cc
  struct TensorQuery;
  struct CopyTensor;
  void tensor();
  void tensor_by_name(ModuleModel &m);
  void copy_tensor();
  void export_tensor();
  void set_values();

  // names.cc
  void names();
  void constant_at();
  void constant_by_garbage();
  void dtype_from_name();
  void mask_nbytes();
  void settings();

  // hosts.cc: for hosts with threads, locks, errors and kernels of their own
  void pools();
  void locks();
  void scale_shift();
  void last_error();

  // statistics.cc, accumulate.cc, merge.cc
  struct Accumulate;
  struct Merge;
  void statistics();
  void create_wrong_statistics();
  void accumulate(size_t index);
  void merge(size_t index);
  void reset_statistics(size_t index);
  void read_statistics(size_t index);
  void export_statistics(const StatisticsModel &s, const bn2d_statistics *handle, Verdict &verdict);
  void read_mean_var(const StatisticsModel &s, const bn2d_statistics *handle, Verdict &verdict);
  void set_running_stats();
  size_t pick_statistics(int64_t channels);
  bn2d_statistics *spoil_statistics(bn2d_statistics *handle, bool null_too, Verdict &verdict);
  Values exported(const StatisticsModel &model) const;
  oracle::Statistics exported_statistics(const StatisticsModel &model, double eps) const;
  void judge_statistics(const std::string &what, const StatisticsModel &model);

  // forward.cc, backward.cc, double_backward.cc, backward_in_steps.cc
  struct RecordCall;
  struct Forward;
  struct Backward;
  struct DoubleBackward;
  struct SumsCall;
  struct BackwardSums;
  struct BackwardWithSums;
  void forward(bool outside = false);  // outside: with given statistics
  void backward();
  void double_backward();
  void backward_in_steps();

  // the same without a module: stateless*.cc
  struct Stateless;
  struct StatelessCall;
  struct StatelessForward;
  struct StatelessBackward;
  struct StatelessDoubleBackward;
  void stateless(bool in_groups = false);
  void stateless_backward(const Stateless &s);
  void stateless_double_backward(const Stateless &s);

  Input in_;
  bool trace_, large_;
  Memory &memory_;
  Placer place_;
  Before before_;
  std::vector<OptionsModel> options_;
  std::vector<std::unique_ptr<ModuleModel>> modules_;
  std::vector<RecordModel> records_;
  std::vector<StatisticsModel> statistics_;
  int changing_ = -1;  // the statistics that the call under way may change
  std::vector<bn2d_options *> dead_options_;
  std::vector<bn2d_module *> dead_modules_;
  std::vector<bn2d_tensor *> dead_tensors_;
  std::vector<bn2d_record *> dead_records_;
  std::vector<bn2d_statistics *> dead_statistics_;
  std::vector<DLManagedTensorVersioned *> exports_;
  std::vector<DLManagedTensor *> legacy_exports_;
};

}  // namespace bn2d_fuzz
