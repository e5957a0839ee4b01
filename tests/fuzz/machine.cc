#include "fuzz/machine.h"

#include <cstdio>

#include "support/contract_dlpack.h"
#include "support/contract_message.h"

namespace bn2d_fuzz {
namespace {

constexpr size_t kSmallBank = size_t{16} << 10, kLargeBank = size_t{1} << 20;
uint64_t g_calls = 0, g_answers[1 - kLastStatus] = {};  // by -status
std::map<std::string, uint64_t> g_reached;

Memory &memory_of(bool large) {
  static Memory small(kSmallBank), big(kLargeBank);
  return large ? big : small;
}

}  // namespace

uint64_t Machine::calls() { return g_calls; }
uint64_t Machine::answers(int32_t status) { return is_status(status) ? g_answers[-status] : 0; }

const std::map<std::string, uint64_t> &Machine::reached() { return g_reached; }
void Machine::reach(const std::string &what) { ++g_reached[what]; }
void Machine::reach_blocks(const std::string &operation,
                           const std::vector<const Operand *> &tensors) {
  for (const Operand *tensor : tensors)
    if (tensor->given && tensor->view.get()->ndim == 5) reach(operation + " in blocks");
}

std::string ModuleModel::text() const {
  if (norm == BN2D_NORM_GROUP) return " groups " + std::to_string(groups);
  if (norm == BN2D_NORM_INSTANCE) return " instance";
  return options.ghost != 0 ? " ghost " + std::to_string(options.ghost) : "";
}

Values ModuleModel::values(const std::string &name) {
  Values out;
  const TensorModel *tensor = find(name);
  if (tensor == nullptr) return out;
  const size_t size = numerics::size_of(tensor->dtype);
  for (int64_t c = 0; c < tensor->count; ++c)
    out.push_back(numerics::decode(
        tensor->dtype,
        numerics::read_bits(tensor->dtype, tensor->data + static_cast<size_t>(c) * size)));
  return out;
}

Machine::Machine(const uint8_t *data, size_t size, bool trace)
    : in_(data, size),
      trace_(trace),
      large_(in_.one_in(64)),
      memory_(memory_of(large_)),
      place_(in_, memory_) {
  memory_.clear();
  bn2d_set_num_threads(0);
  bn2d_set_thread_pool(BN2D_POOL_DEFAULT);
  bn2d_set_streaming_threshold(-1);
}

Machine::~Machine() {
  for (DLManagedTensorVersioned *one : exports_) one->deleter(one);
  for (DLManagedTensor *one : legacy_exports_) one->deleter(one);
  for (RecordModel &record : records_)
    for (; record.references > 0; --record.references) bn2d_record_release(record.handle);
  for (const auto &module : modules_) {
    for (TensorModel &tensor : module->tensors)
      for (; tensor.references > 0; --tensor.references) bn2d_tensor_release(tensor.handle);
    for (; module->references > 0; --module->references) bn2d_module_release(module->handle);
  }
  for (StatisticsModel &one : statistics_)
    for (; one.references > 0; --one.references) {
      bn2d_statistics_release(one.handle);
      reach("statistics_release");
    }
  for (OptionsModel &options : options_)
    for (; options.references > 0; --options.references) bn2d_options_release(options.handle);
  bn2d_set_num_threads(0);
  bn2d_set_thread_pool(BN2D_POOL_DEFAULT);
  bn2d_set_streaming_threshold(-1);
}

void Machine::say(const std::string &text) const {
  if (trace_) std::fprintf(stderr, "%s\n", text.c_str());
}

void Machine::found(const std::string &what, const std::string &problem) const {
  throw Finding(what + ": " + problem);
}

std::string Machine::state() const {
  std::string out = std::to_string(bn2d_get_thread_pool()) + ";";
  for (const auto &module : modules_) {
    if (!module->alive()) continue;
    int32_t training = -1, threads = -1, pool = -1, frozen = -1, has_momentum = -1;
    double momentum = -1;
    bn2d_module_is_training(module->handle, &training);
    bn2d_module_get_num_threads(module->handle, &threads);
    bn2d_module_get_thread_pool(module->handle, &pool);
    bn2d_module_is_frozen(module->handle, &frozen);
    bn2d_module_momentum(module->handle, &has_momentum, &momentum);
    out += std::to_string(training) + "," + std::to_string(threads) + "," + std::to_string(pool) +
           "," + std::to_string(frozen);
    if (has_momentum != 0) out += "," + std::to_string(momentum);
    for (const TensorModel &tensor : module->tensors) {
      int32_t requires_grad = -1;
      bn2d_tensor_requires_grad(tensor.handle, &requires_grad);
      out += requires_grad != 0 ? "+" : "-";
    }
    out += ";";
  }
  return out;
}

void Machine::before(const std::string &what) {
  if (!what.empty()) say(what);
  memory_.save(before_.memory);
  before_.blobs.clear();
  for (size_t m = 0; m < modules_.size(); ++m) {
    const ModuleModel &module = *modules_[m];
    for (size_t t = 0; t < module.tensors.size(); ++t) {
      const TensorModel &tensor = module.tensors[t];
      if (!module.alive() && tensor.references == 0) continue;
      before_.blobs.push_back(
          {m, t, std::vector<unsigned char>(tensor.data, tensor.data + tensor.bytes)});
    }
  }
  before_.state = state();
  before_.statistics.clear();
  for (const StatisticsModel &one : statistics_) before_.statistics.push_back(exported(one));
  bn2d_test::mark_message();
}

bool Machine::settle(const std::string &what, int32_t status, const Verdict &verdict) {
  ++g_calls;
  const std::string message = bn2d_last_error();
  say(what + " -> " + bn2d_status_name(status) + (status == BN2D_OK ? "" : ": " + message));
  if (!is_status(status)) found(what, "returned " + std::to_string(status) + ", no status");
  if (!verdict.allows(status))
    found(what, std::string("returned ") + bn2d_status_name(status) + " (" + message + "), not " +
                    verdict.text());
  ++g_answers[-status];
  const bool marked = bn2d_test::message_is_marked();
  if (status == BN2D_OK) {
    reach(what.substr(0, what.find(' ')));
    if (!marked) found(what, "succeeded and left a message: " + message);
    return true;
  }
  if (marked) found(what, "failed without a message");
  const std::string fault = bn2d_test::message_fault(message.c_str());
  if (!fault.empty()) found(what, "its message " + fault + ": " + message);
  check_only(what, {}, -1, {});
  return false;
}

void Machine::check_only(const std::string &what, const std::vector<const Operand *> &outputs,
                         int module, const std::vector<std::string> &tensors) {
  std::vector<const Footprint *> footprints;
  for (const Operand *output : outputs)
    if (output->given) footprints.push_back(&output->footprint);
  const int64_t stray = memory_.stray(before_.memory, footprints);
  if (stray >= 0) {
    const auto bank = static_cast<int64_t>(memory_.bank_bytes());
    found(what, "byte " + std::to_string(stray % bank) + " of bank " +
                    std::to_string(stray / bank) + " was written");
  }
  for (const Before::Blob &blob : before_.blobs) {
    const TensorModel &tensor = modules_[blob.module]->tensors[blob.tensor];
    bool allowed = false;
    for (const std::string &name : tensors)
      allowed |= static_cast<int>(blob.module) == module && tensor.name == name;
    if (!allowed && std::memcmp(tensor.data, blob.bytes.data(), tensor.bytes) != 0)
      found(what, tensor.name + " of module " + std::to_string(blob.module) + " was written");
  }
  const std::string now = state();
  if (now != before_.state) found(what, "modes were " + before_.state + ", are " + now);
  for (size_t i = 0; i < before_.statistics.size(); ++i) {
    if (static_cast<int>(i) == changing_) continue;
    const Values after = exported(statistics_[i]);
    if (std::memcmp(after.data(), before_.statistics[i].data(), after.size() * sizeof(double)) != 0)
      found(what, "statistics " + std::to_string(i) + " were changed");
  }
}

void Machine::simple(const std::string &what, int32_t status, const Verdict &verdict) {
  if (settle(what, status, verdict)) check_only(what, {}, -1, {});
}

void Machine::run() {
  create_module();
  const int most = large_ ? 8 : 32;
  for (int step = 0; step < most && !in_.done(); ++step) {
    changing_ = -1;
    run_operation(in_.below_or_later(32, 160, 16, 240, 4));
  }
}

// By its number, each with as many as its share is. The corpus knows these numbers.
void Machine::run_operation(int64_t which) {
  struct Operation {
    int64_t share;
    void (*run)(Machine &);
  };
  static const Operation all[] = {
      {1, [](Machine &m) { m.options(); }},
      {1, [](Machine &m) { m.options_by_name(); }},
      {1, [](Machine &m) { m.create_module(); }},
      {1, [](Machine &m) { m.query_module(); }},
      {1, [](Machine &m) { m.change_module(); }},
      {1, [](Machine &m) { m.references(); }},
      {1, [](Machine &m) { m.tensor(); }},
      {1, [](Machine &m) { m.copy_tensor(); }},
      {1, [](Machine &m) { m.export_tensor(); }},
      {2, [](Machine &m) { m.set_values(); }},
      {1, [](Machine &m) { m.names(); }},
      {1, [](Machine &m) { m.settings(); }},
      {5, [](Machine &m) { m.forward(); }},
      {4, [](Machine &m) { m.backward(); }},
      {3, [](Machine &m) { m.double_backward(); }},
      {7, [](Machine &m) { m.stateless(); }},
      // Later ones (input.h), most of them of 1.3.
      {3, [](Machine &m) { m.create_norm(); }},
      {3, [](Machine &m) { m.statistics(); }},
      {2, [](Machine &m) { m.forward(true); }},
      {2, [](Machine &m) { m.backward_in_steps(); }},
      {3, [](Machine &m) { m.stateless(true); }},
      {1, [](Machine &m) { m.change_living(); }},
      {1, [](Machine &m) { m.set_running_stats(); }},
      {1, [](Machine &m) { m.query_norm(); }},
      {1, [](Machine &m) { m.pools(); }},
      {1, [](Machine &m) { m.locks(); }},
      {1, [](Machine &m) { m.scale_shift(); }},
      {1, [](Machine &m) { m.last_error(); }},
  };
  for (const Operation &operation : all) {
    which -= operation.share;
    if (which < 0) return operation.run(*this);
  }
}

}  // namespace bn2d_fuzz
