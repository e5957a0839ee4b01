#include "fuzz/stateless.h"

#include <cmath>

namespace bn2d_fuzz {

std::string Machine::Stateless::text(const std::string &operation, int64_t told_groups,
                                     const std::vector<const Operand *> &operands) const {
  return (groups != 0 ? "group_norm_" : "batch_norm_") + operation +
         text_of(shape, data, parameters) +
         (groups != 0 ? " groups " + std::to_string(told_groups) : "") +
         (numbers.batch ? " batch" : " frozen") + text_of(operands) + " act " +
         std::to_string(activation) + " slope " + text_of(slope);
}

std::string Machine::StatelessCall::text(const std::string &operation,
                                         const std::vector<const Operand *> &operands) {
  return s.text(operation, s.groups, operands) + " blend " + text_of(blend);
}

// In the order in which the corpus has the two choices: g++ evaluates arguments from the last on.
Operand Machine::StatelessCall::array(const char *name, size_t room, bool written) {
  const Operand &like = in.coin() ? dx : s.weight;
  const bool given = in.coin();
  return place.array(name, room, s.parameters, s.shape[1], written, given, &like);
}

void Machine::StatelessCall::draw_blend() {
  blend = in.one_in(32) ? in.pick({nan, infinity}) : in.pick({0.0, 1.0, 0.5, -1.0});
  verdict.fails_if(!std::isfinite(blend));
}

void Machine::StatelessCall::expect_side() {
  const bool negative = s.activation == BN2D_ACT_LEAKY_RELU && s.slope < 0;
  verdict.fails_if(active && !pointwise && !mask.given && !empty() && (!y.given || negative));
}

bool Machine::StatelessCall::known(bool reads_x) const {
  const auto fresh = [&](const Operand &operand, const std::vector<uint64_t> &bits) {
    return place.bits(operand) == bits;
  };
  if (reads_x && (!fresh(s.x, s.x_bits) || !fresh(mean, s.mean_bits) || s.x.exactly(s.y)))
    return false;
  if (of_argument && (!fresh(s.z, s.z_bits) || !fresh(s.bias, s.bias_bits) || s.z.exactly(s.y)))
    return false;
  return (!y.given || fresh(y, s.y_bits)) && fresh(weight, s.weight_bits) &&
         fresh(invstd, s.invstd_bits) && fresh(mask, s.mask_bits);
}

}  // namespace bn2d_fuzz
