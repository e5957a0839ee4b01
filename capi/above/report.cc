// Of the libraries above libbn2d: their messages are told by bn2d_last_error(), too.
#include "bn2d/bn2d.h"
#include "guard.h"

namespace bn2d::capi {

int32_t report(Status status, const char *text) noexcept {
  return bn2d_set_last_error(static_cast<int32_t>(status), text);
}

}  // namespace bn2d::capi
