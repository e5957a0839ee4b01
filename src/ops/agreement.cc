#include "ops/agreement.h"

#include <iterator>

#include "ops/packed_copy.h"
#include "parallel/parallel.h"

namespace bn2d {
namespace {

constexpr View Tensors::*kAll[] = {&Tensors::x,    &Tensors::g,   &Tensors::v,
                                   &Tensors::side, &Tensors::out, &Tensors::out2};
constexpr int kReads = 4;

bool is_rows(const View &view) { return view.stride.c == 1 && has_contiguous_channels(view); }

// The one tensor that is read and not in the layout of all the others; NULL: there is none, or
// more.
View Tensors::*odd_one(const Tensors &tensors, bool (*is_in_layout)(const View &)) {
  View Tensors::*odd = nullptr;
  for (int k = 0; k < static_cast<int>(std::size(kAll)); ++k) {
    const View &view = tensors.*kAll[k];
    if (!view.exists() || is_in_layout(view)) continue;
    if (odd != nullptr || k >= kReads) return nullptr;
    odd = kAll[k];
  }
  return odd;
}

// Straight to its place: one of both tensors has contiguous planes.
void copy_box(const View &from, const View &to, const Box &box) {
  const auto start = [&](const View &view) {
    return view.at(box.n, box.channel, 0, 0) + box.position * dtype_size(view.dtype);
  };
  if (has_contiguous_planes(to)) {
    gather(from, box, {to.stride.c, to.stride.n}, start(to));
  } else {
    scatter(start(from), {from.stride.c, from.stride.n}, to, box);
  }
}

}  // namespace

Agreement::Agreement(bool is_allowed, Tensors *tensors) : to_(tensors->out) {
  if (!is_allowed || !tensors->out.exists() || tensors->side_mask != nullptr ||
      tensors->sign_mask != nullptr)
    return;
  View Tensors::*odd = odd_one(*tensors, has_contiguous_planes);
  if (odd == nullptr) {
    odd = odd_one(*tensors, is_rows);
    if (odd == nullptr || !has_contiguous_planes(tensors->*odd)) return;
  }
  from_ = tensors->*odd;
  tensors->*odd = to_;
}

void Agreement::copy(const Pool &pool, int32_t thread_limit) const {
  if (!exists()) return;
  Work work;
  work.size = to_.size;
  work.element_bytes = dtype_size(to_.dtype);
  work.order = MemoryOrder::mixed;
  const Machine machine = machine_for_call(pool, thread_limit, work);
  const int workers = useful_workers(work, machine);
  const Tiles tiles = make_tiles(work, workers);
  auto unit = [&](int64_t index) {
    const Tiles::Tile tile = tiles.at(index);
    copy_box(from_, to_,
             {tile.block.first_sample, tile.block.samples, tile.group.channel, tile.group.channels,
              tile.block.position, tile.block.length});
  };
  for_each_unit(pool, workers, tiles.count, Order::forward, unit);
}

}  // namespace bn2d
