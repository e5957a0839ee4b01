// From the types of the header to those of the core, and texts back to the caller.
#pragma once
#include <string>

#include "bn2d/bn2d.h"
#include "guard.h"
#include "tensor/view.h"

namespace bn2d::capi {

// A tensor of rank 4, or of rank 5: blocks of channels, (N, C/block, H, W, block). NULL is an
// error.
View view_of(const char *what, const bn2d_view *view);
// NULL: a view that does not exist.
View optional_view_of(const char *what, const bn2d_view *view);
// A tensor of rank 0 or 1 with `length` elements, as the channels of a View. For rank 0 a shape of
// (1) does, too.
View vector_view_of(const char *what, const bn2d_view *view, int32_t rank, int64_t length);
// Contiguous NCHW.
View contiguous_of(const char *what, const void *data, DType dtype, int64_t n, int64_t c, int64_t h,
                   int64_t w);

// Device and type of a tensor of this dtype.
void set_type(DType dtype, bn2d_view *view);

// The text with a NUL into a buffer, or only its length.
void copy_text(const std::string &text, char *buffer, uint64_t capacity, uint64_t *length);

}  // namespace bn2d::capi
