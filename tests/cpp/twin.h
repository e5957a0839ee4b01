// A module through bn2d.hpp and the same one through bn2d.h: what both make must agree bit by bit.
#pragma once
#include <bn2d/bn2d.hpp>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/contract_views.h"

namespace bn2d_test {

inline bn2d_dtype as_c(bn2d::DType dtype) { return static_cast<bn2d_dtype>(dtype); }

// The error of a call; a call that succeeds fails the test.
inline bn2d::Error error_of(const std::function<void()> &call) {
  try {
    call();
  } catch (const bn2d::Error &error) {
    return error;
  }
  FAIL("nothing was thrown");
  return {bn2d::Status::ok, ""};
}

// Memory for a tensor of any dtype: numbers that are finite in each of them, never the same twice
// in a row.
struct Memory {
  explicit Memory(bn2d::DType type, size_t elements, unsigned seed = 0) : dtype(type) {
    const auto value = [&](size_t i) {
      return static_cast<double>((i * 37 + seed * 11) % 101) * 0.0625 - 3.0;
    };
    bytes.resize(elements * bn2d_dtype_size(as_c(dtype)));
    for (size_t i = 0; i < elements; ++i) {
      if (dtype == bn2d::DType::f64) {
        const double element = value(i);
        std::memcpy(&bytes[i * 8], &element, 8);
      } else if (dtype == bn2d::DType::f32) {
        const float element = static_cast<float>(value(i));
        std::memcpy(&bytes[i * 4], &element, 4);
      } else {  // 0x3800 to 0x3bff: 0.5 to 1 as f16; as bf16 small and positive
        const uint16_t element = static_cast<uint16_t>(0x3800 + (i * 37 + seed * 11) % 1021);
        std::memcpy(&bytes[i * 2], &element, 2);
      }
    }
  }
  bool operator==(const Memory &other) const { return bytes == other.bytes; }

  bn2d::DType dtype;
  std::vector<unsigned char> bytes;
};

inline Extents extents(const bn2d::Shape &s) { return {s.n, s.c, s.h, s.w}; }

// The same view for C.
inline View c_view(const bn2d::ConstView &view) {
  const bn2d::Strides &s = view.strides();
  return View(const_cast<void *>(view.data()), as_c(view.dtype()), extents(view.shape()),
              {s.n, s.c, s.h, s.w});
}

// The bytes of a module's tensor, found in C; empty where it does not exist.
inline std::string tensor_bytes(const bn2d_module *module, const char *name) {
  bn2d_tensor *tensor = nullptr;
  if (bn2d_module_tensor_by_name(module, name, &tensor) != BN2D_OK) return {};
  void *data = nullptr;
  uint64_t size = 0;
  REQUIRE(bn2d_tensor_data(tensor, &data) == BN2D_OK);
  REQUIRE(bn2d_tensor_nbytes(tensor, &size) == BN2D_OK);
  std::string bytes(static_cast<const char *>(data), size);
  bn2d_tensor_release(tensor);
  return bytes;
}

inline void check_same_state(const bn2d_module *one, const bn2d_module *other) {
  for (const char *name : {"weight", "bias", "running_mean", "running_var", "num_batches_tracked",
                           "weight.grad", "bias.grad"}) {
    INFO(name);
    CHECK(tensor_bytes(one, name) == tensor_bytes(other, name));
  }
}

}  // namespace bn2d_test
