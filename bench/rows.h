// SPDX-License-Identifier: MIT
// The table of everything that is timed.
#ifndef BN2D_BENCH_ROWS_H
#define BN2D_BENCH_ROWS_H

#include <string>
#include <vector>

#include "problem.h"

namespace bench {

/// What is compared with what. The group decides which variants a row has and which target it
/// counts for.
enum class Group {
  kResnet32,     ///< ResNet-50 shapes, batch 32, f32 NCHW: the heart of the targets
  kResnet1,      ///< the same at batch 1
  kFused,        ///< relu and add+relu
  kHalf,         ///< f16 and bf16 data with an f32 module
  kDouble,       ///< f64
  kNhwc,         ///< channels last
  kNhwcSmall,    ///< channels last: few channels, and tensors that stay in the caches
  kFewChannels,  ///< fewer channels than threads, paired with a twin of the same bytes and many
                 ///< channels
  kSmallPlanes,  ///< planes of a few elements
  kManySamples,  ///< large batches of small planes
  kBatch1,       ///< batch 1 in other layouts and dtypes
  kMerged,    ///< contiguous memory as (N,C,1,1) or with one channel, against its best description
  kBorder,    ///< planes with gaps after each row, against planes without
  kPermuted,  ///< dense, with the dimensions in another order, against the best description of the
              ///< same memory
  kMixed,     ///< tensors of one call in different layouts, against a call whose layouts agree
  kBlocked,   ///< oneDNN's blocks of channels, against channels last
  kActivations,  ///< activations after relu, against relu
  kExtreme,      ///< x near the end of the range, against ordinary numbers
  kSums,         ///< gradients of weight and bias alone: what the sums cost without a map
  kNorms,        ///< group norm with 32 groups, and instance norm
  kGiven,        ///< training forward with given statistics, against eval mode
  kSmall,        ///< tensors so small that the call itself counts
  kCall,         ///< calls that do nothing
  kConsumer,     ///< forward and one read of y, streaming stores forced on, forced off, and by the
                 ///< library's own choice
  kMisaligned    ///< tensors that start 16 bytes after a cache line, as malloc returns them
};

const char *name_of(Group group);
/// The twin is a better description of the same memory.
bool has_best_description(Group group);
/// The twin is a call on the same memory, taken as one of another layout or shape.
bool twin_shares_memory(Group group);

struct Row {
  Group group;
  Op op;
  Fuse fuse;
  DType dtype;
  Layouts layouts;
  Shape shape;
  Shape twin;  ///< kFewChannels, kExtreme, and where twin_shares_memory
  Layout twin_layout;
  int64_t groups;    ///< as in Problem
  bool record;       ///< forward with a record and its release
  bool quick;        ///< part of --quick
  bool smoke;        ///< part of --smoke
  std::string name;  ///< "resnet32/train/f32/nchw/32x64x56x56"
};

std::vector<Row> all_rows();

}  // namespace bench

#endif  // BN2D_BENCH_ROWS_H
