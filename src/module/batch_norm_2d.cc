#include "module/batch_norm_2d.h"

#include <cinttypes>

namespace bn2d {

void BatchNorm2d::check_input(const char *what, const View &view) const {
  if (view.size.c != num_features())
    fail(Status::shape, "%s has %" PRId64 " channels, the module has num_features %" PRId64, what, view.size.c,
         num_features());
  check_input_dtype(what, view.dtype);
}

}  // namespace bn2d
