// What holds after every failing call: the status, a readable message, and nothing changed.
#pragma once
#include <bn2d/bn2d.h>

#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.h"
#include "support/contract_handles.h"
#include "support/contract_message.h"

namespace bn2d_test {

// Whether the message has this word, with no letter, digit or underscore on either side.
inline bool message_has(const std::string &message, const std::string &word) {
  const auto inside = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (size_t at = message.find(word); at != std::string::npos; at = message.find(word, at + 1)) {
    const bool left = at == 0 || !inside(message[at - 1]);
    const size_t end = at + word.size();
    const bool right = end == message.size() || !inside(message[end]);
    if (left && right) return true;
  }
  return false;
}

// Everything that a failing call must leave alone: memory, and the state of a module that only its
// functions tell.
class Snapshot {
 public:
  void add(const std::string &name, const void *data, size_t bytes) {
    if (bytes == 0) return;
    const auto *first = static_cast<const unsigned char *>(data);
    regions_.push_back({name, first, std::vector<unsigned char>(first, first + bytes)});
  }
  template <class T>
  void add(const std::string &name, const std::vector<T> &values) {
    add(name, values.data(), values.size() * sizeof(T));
  }
  void add(const std::string &name, bn2d_module *module) {
    for (const char *tensor : {"weight", "bias", "running_mean", "running_var",
                               "num_batches_tracked", "weight.grad", "bias.grad"}) {
      bn2d_tensor *raw = nullptr;
      if (bn2d_module_tensor_by_name(module, tensor, &raw) != BN2D_OK) continue;
      void *data = nullptr;
      uint64_t bytes = 0;
      (void)bn2d_tensor_data(raw, &data);
      (void)bn2d_tensor_nbytes(raw, &bytes);
      add(name + "." + tensor, data, bytes);
      bn2d_tensor_release(raw);  // the module keeps it
    }
    queries_.push_back({name, [module] { return state_of(module); }, state_of(module)});
  }

  void add(const std::string &name, const bn2d_statistics *statistics) {
    const auto state = [statistics] {
      std::string bits;
      for (const double value : exported(statistics)) bits += exactly(value) + " ";
      return bits;
    };
    queries_.push_back({name, state, state()});
  }

  // "" where nothing has changed since, else what has.
  std::string difference() const {
    std::ostringstream out;
    for (const Region &region : regions_) {
      if (std::memcmp(region.data, region.bytes.data(), region.bytes.size()) == 0) continue;
      size_t at = 0;
      while (region.data[at] == region.bytes[at]) ++at;
      out << region.name << " changed at byte " << at << " of " << region.bytes.size() << "; ";
    }
    for (const Query &query : queries_) {
      const std::string now = query.ask();
      if (now != query.before)
        out << query.name << " was " << query.before << ", is " << now << "; ";
    }
    return out.str();
  }

 private:
  struct Region {
    std::string name;
    const unsigned char *data;
    std::vector<unsigned char> bytes;
  };
  struct Query {
    std::string name;
    std::function<std::string()> ask;
    std::string before;
  };

  // To the last bit: std::to_string() would keep six decimals.
  static std::string exactly(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%a", value);
    return text;
  }

  static std::string state_of(bn2d_module *module) {
    int32_t training = -1;
    int32_t threads = -1, pool = -1, frozen = -1, has_momentum = -1;
    double momentum = -1;
    (void)bn2d_module_is_training(module, &training);
    (void)bn2d_module_get_num_threads(module, &threads);
    (void)bn2d_module_get_thread_pool(module, &pool);
    (void)bn2d_module_is_frozen(module, &frozen);
    (void)bn2d_module_momentum(module, &has_momentum, &momentum);
    std::string state = "training " + std::to_string(training) + " threads " +
                        std::to_string(threads) + " frozen " + std::to_string(frozen) +
                        " momentum " + (has_momentum ? exactly(momentum) : "None") + " pool " +
                        std::to_string(pool);
    for (const char *name : {"weight", "bias"}) {
      bn2d_tensor *raw = nullptr;
      if (bn2d_module_tensor_by_name(module, name, &raw) != BN2D_OK) continue;
      int32_t requires_grad = -1;
      (void)bn2d_tensor_requires_grad(raw, &requires_grad);
      state += std::string(" ") + name + ".requires_grad " + std::to_string(requires_grad);
      bn2d_tensor_release(raw);
    }
    return state;
  }

  std::vector<Region> regions_;
  std::vector<Query> queries_;
};

// A call that must fail with `expected`, leave `before` as it was, and say every one of `words`.
// An "a|b" among the words asks for one of them.
template <class Call>
void check_fails(const std::string &what, int32_t expected, const Snapshot &before,
                 const std::vector<std::string> &words, Call &&call) {
  mark_message();
  const int32_t status = call();
  const std::string message = bn2d_last_error();
  INFO(what);
  INFO("returned " << bn2d_status_name(status) << ", expected " << bn2d_status_name(expected));
  INFO("message: " << message);
  CHECK(status == expected);
  CHECK(message_fault(message.c_str()) == "");
  CHECK(message.find(kMarker) == std::string::npos);
  for (const std::string &word : words) {
    bool found = false;
    std::istringstream alternatives(word);
    for (std::string one; std::getline(alternatives, one, '|');)
      found = found || message_has(message, one);
    INFO("the message should say " << word);
    CHECK(found);
  }
  CHECK(before.difference() == "");
}

template <class Call>
void check_fails(const std::string &what, int32_t expected, Call &&call) {
  check_fails(what, expected, Snapshot(), {}, std::forward<Call>(call));
}

}  // namespace bn2d_test
