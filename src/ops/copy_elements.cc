#include "ops/copy_elements.h"

#include <algorithm>

#include "kernels/kernels.h"
#include "ops/packed_copy.h"
#include "ops/settings.h"
#include "parallel/parallel.h"

namespace bn2d {
namespace {

// Straight to its place: one of both tensors has contiguous planes. Its channels are a constant
// stride apart within a block.
void copy_box(const View &from, const View &to, const Box &box, CopyHints hints) {
  const bool packs = has_contiguous_planes(to);
  const View &planes = packs ? to : from;
  const int64_t block = planes.channels_of_block();
  for (int64_t c = box.channel, end = c + box.channels; c < end;) {
    Box part = box;
    part.channel = c;
    part.channels = std::min(end - c, block - c % block);
    std::byte *const start =
        planes.at(part.n, part.channel, 0, 0) + part.position * dtype_size(planes.dtype);
    const PackedStrides strides = {planes.stride.c, planes.stride.n};
    if (packs) {
      gather(from, part, strides, start, hints);
    } else {
      scatter(start, strides, to, part, hints);
    }
    c += part.channels;
  }
}

}  // namespace

void copy_elements(const View &from, const View &to, const Pool &pool, int32_t thread_limit) {
  Work work;
  work.size = to.size;
  work.element_bytes = dtype_size(to.dtype);
  work.order = MemoryOrder::mixed;
  const Machine machine = machine_for_call(pool, thread_limit, work);
  const int workers = useful_workers(work, machine);
  const Tiles tiles = make_tiles(work, workers);
  // What is written is read again at once, as after one pass over planes: with less of it past the
  // caches, two threads take 0.56 to 0.88 of the time for 10 to 13 MB.
  Work as_written = work;
  as_written.order = MemoryOrder::planes;
  const CopyHints hints = {work.output_bytes() > kHeldBytes, streams(as_written, machine)};
  auto unit = [&](int64_t index) {
    const Tiles::Tile tile = tiles.at(index);
    copy_box(from, to,
             {tile.block.first_sample, tile.block.samples, tile.group.channel, tile.group.channels,
              tile.block.position, tile.block.length},
             hints);
  };
  for_each_unit(pool, workers, tiles.count, Order::forward, unit,
                hints.streaming ? kernels::streaming_fence : nullptr);
}

}  // namespace bn2d
