// The functions without a module: what a forward leaves behind, and the calls that read it.
#pragma once
#include "fuzz/call.h"

namespace bn2d_fuzz {

struct Machine::Stateless {
  Extents shape{};
  int32_t data = BN2D_F32, parameters = BN2D_F32;
  int64_t groups = 0;               // of a group norm; 0: batch norm
  bool flat = false, nhwc = false;  // without views, contiguous
  int32_t activation = BN2D_ACT_NONE;
  double slope = 0;
  Operand x, z, y, weight, bias, mask, saved_mean, saved_invstd;
  Numbers numbers;
  std::vector<uint64_t> x_bits, y_bits, weight_bits, mean_bits, invstd_bits, mask_bits, z_bits,
      bias_bits;

  bool pointwise() const { return activation > BN2D_ACT_LEAKY_RELU; }
  // A call; its operation has the suffix of its form.
  std::string text(const std::string &operation, int64_t told_groups,
                   const std::vector<const Operand *> &operands) const;
};

// A call that reads what a forward has left, beside its own operands.
struct Machine::StatelessCall : Machine::Call {
  StatelessCall(Machine &of, const Stateless &forward)
      : Call(of),
        s(forward),
        n(s.numbers),
        active(s.activation != BN2D_ACT_NONE),
        pointwise(s.pointwise()),
        x(read(s.x)),
        y(read(s.y)),
        mask(read(s.mask)),
        weight(read(s.weight)),
        mean(read(s.saved_mean)),
        invstd(read(s.saved_invstd)) {
    shape = s.shape, data = s.data, plain = s.flat, nhwc = s.nhwc;
  }

  const Stateless &s;
  const Numbers &n;
  const bool active, pointwise;
  bool of_argument = false;                  // z and bias say again what the activation was of
  Operand x, y, mask, weight, mean, invstd;  // as they are passed: `given` is the call's own
  Operand dy, dx, dz, dweight, dbias;
  double blend = 0;
  Values dys;  // empty where the call has to fail

  int32_t batch_stats() const { return n.batch ? 1 : 0; }
  Operand array(const char *name, size_t room, bool written);
  void draw_blend();
  void expect_side();  // by the mask or by y
  // Whether all that the call reads is as the forward left it.
  bool known(bool reads_x) const;
  std::string text(const std::string &operation, const std::vector<const Operand *> &operands);

 private:
  static Operand read(Operand operand) {
    operand.written = false;
    return operand;
  }
};

}  // namespace bn2d_fuzz
