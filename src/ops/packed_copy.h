// A box of a tensor, to and from a packed copy.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "tensor/view.h"

namespace bn2d {

// A part of one plane of some samples and channels, or some of their whole planes.
struct Box {
  int64_t n, samples, channel, channels, position, length;
};

// Of a packed copy, in elements. Positions follow one another.
struct PackedStrides {
  int64_t channel, sample;
};

// is_far: what is read is in memory, not in the caches. streaming: whole cache lines are written
// past the caches; the caller fences.
struct CopyHints {
  bool is_far = false, streaming = false;
};
void gather(const View &view, const Box &box, const PackedStrides &packed, std::byte *to,
            CopyHints hints = {});
void scatter(const std::byte *from, const PackedStrides &packed, const View &view, const Box &box,
             CopyHints hints = {});

// A packed copy: sample after sample of each channel.
inline PackedStrides strides_of(const Box &box) { return {box.samples * box.length, box.length}; }
inline kernels::Strided packed_strided(std::byte *buffer, const Box &box) {
  kernels::Strided strided;
  strided.data = buffer;
  strided.channel = strides_of(box).channel;
  strided.sample = strides_of(box).sample;
  strided.position = 1;
  return strided;
}

}  // namespace bn2d
