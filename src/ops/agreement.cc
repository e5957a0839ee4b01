#include "ops/agreement.h"

#include <iterator>

#include "ops/copy_elements.h"

namespace bn2d {
namespace {

bool is_rows(const View &view) { return view.stride.c == 1 && has_contiguous_channels(view); }

// The one tensor that is read and not in the layout of all the others; NULL: there is none, or
// more.
View Tensors::*odd_one(const Tensors &tensors, bool (*is_in_layout)(const View &)) {
  View Tensors::*odd = nullptr;
  for (int k = 0; k < static_cast<int>(std::size(kTensors)); ++k) {
    const View &view = tensors.*kTensors[k];
    if (!view.exists() || is_in_layout(view)) continue;
    if (odd != nullptr || k >= kReadTensors) return nullptr;
    odd = kTensors[k];
  }
  return odd;
}

bool reads_agree(const Tensors &tensors, bool (*is_in_layout)(const View &)) {
  bool all = true;
  for (int k = 0; k < kReadTensors; ++k) {
    const View &view = tensors.*kTensors[k];
    all = all && (!view.exists() || is_in_layout(view));
  }
  return all;
}

}  // namespace

Agreement::Agreement(bool is_allowed, Tensors *tensors) : to_(tensors->out) {
  if (!is_allowed || !tensors->out.exists() || tensors->side_mask != nullptr ||
      tensors->sign_mask != nullptr)
    return;
  // Where all that is read are planes, the sums read them as they are, and the output is transposed
  // on its way.
  if (reads_agree(*tensors, has_contiguous_planes)) return;
  View Tensors::*odd = odd_one(*tensors, has_contiguous_planes);
  if (odd == nullptr) {
    odd = odd_one(*tensors, is_rows);
    if (odd == nullptr || !has_contiguous_planes(tensors->*odd)) return;
  }
  from_ = tensors->*odd;
  tensors->*odd = to_;
}

void Agreement::copy(const Pool &pool, int32_t thread_limit) const {
  if (exists()) copy_elements(from_, to_, pool, thread_limit);
}

}  // namespace bn2d
