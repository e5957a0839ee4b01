// SPDX-License-Identifier: MIT
#include "rows.h"

#include <initializer_list>
#include <utility>

namespace bench {
namespace {

constexpr Fuse kPlain = Fuse::kNone;
constexpr DType kF32 = DType::kF32;
constexpr Layout kNchw = Layout::kNchw;

// The batch norms of ResNet-50: channels and plane. `quick` are those of --quick.
struct Plane {
  int64_t c, hw;
  bool quick;
};
constexpr Plane kResnet50[] = {{64, 112, true},  {256, 56, false}, {64, 56, true},
                               {512, 28, true},  {128, 28, false}, {1024, 14, true},
                               {256, 14, false}, {2048, 7, true},  {512, 7, false}};
// A plane of each size, for the rows where all nine would say the same nine times.
constexpr Plane kChosen[] = {
    {64, 112, false}, {64, 56, true}, {512, 28, false}, {1024, 14, false}, {2048, 7, false}};

class Table {
 public:
  Row &add(Group group, Op op, Fuse fuse, DType dtype, Layouts layouts, Shape shape, bool quick) {
    Row row{group, op, fuse, dtype, layouts, shape, {}, layouts.x, 0, false, quick, false, ""};
    row.name = std::string(name_of(group)) + "/" + name_of(op, fuse) + "/" + name_of(dtype) + "/" +
               name_of(layouts, op, fuse) + "/" + name_of(shape);
    rows_.push_back(row);
    return rows_.back();
  }
  std::vector<Row> take() { return std::move(rows_); }

 private:
  std::vector<Row> rows_;
};

void add_resnet(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval, Op::kFrozenDx})
    for (const Plane &p : kResnet50)
      table->add(Group::kResnet32, op, kPlain, kF32, kNchw, {32, p.c, p.hw, p.hw}, p.quick);
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval, Op::kFrozenDx})
    for (const Plane &p : kResnet50)
      table->add(Group::kResnet1, op, kPlain, kF32, kNchw, {1, p.c, p.hw, p.hw}, false).smoke =
          p.c == 512 && p.hw == 7;
}

void add_fused(Table *table) {
  for (const Fuse fuse : {Fuse::kRelu, Fuse::kAddRelu})
    for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
      for (const Plane &p : kChosen) {
        table->add(Group::kFused, op, fuse, kF32, kNchw, {32, p.c, p.hw, p.hw},
                   p.quick && fuse == Fuse::kAddRelu);
      }
  for (const Fuse fuse : {Fuse::kRelu, Fuse::kAddRelu})
    for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
      table->add(Group::kFused, op, fuse, kF32, kNchw, {1, 256, 14, 14}, false).smoke = true;
}

void add_dtypes(Table *table) {
  for (const DType dtype : {DType::kF16, DType::kBF16})
    for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
      for (const Plane &p : kChosen)
        table->add(Group::kHalf, op, kPlain, dtype, kNchw, {32, p.c, p.hw, p.hw},
                   p.quick && dtype == DType::kBF16);
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Plane &p : {kChosen[1], kChosen[2], kChosen[3], kChosen[4]})
      table->add(Group::kDouble, op, kPlain, DType::kF64, kNchw, {32, p.c, p.hw, p.hw},
                 p.quick && op == Op::kTrain);
}

void add_nhwc(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval, Op::kFrozenDx})
    for (const Plane &p : kChosen)
      table->add(Group::kNhwc, op, kPlain, kF32, Layout::kNhwc, {32, p.c, p.hw, p.hw}, p.quick);
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Shape &shape : {Shape{32, 3, 224, 224}, Shape{8, 64, 28, 28}, Shape{16, 512, 7, 7}})
      table->add(Group::kNhwcSmall, op, kPlain, kF32, Layout::kNhwc, shape, false);
  table->add(Group::kNhwcSmall, Op::kTrain, kPlain, kF32, Layout::kNhwc, {2, 19, 9, 9}, false)
      .smoke = true;
}

void add_few_channels(Table *table) {
  // Twins have the same number of elements, and channels of 2 MB and more, which do not fit a
  // core's cache either.
  struct Pair {
    Shape few, many;
  };
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval, Op::kFrozenDx})
    for (const Pair &pair : {Pair{{128, 3, 224, 224}, {48, 32, 112, 112}},
                             Pair{{1, 1, 4096, 4096}, {32, 32, 128, 128}}})
      table->add(Group::kFewChannels, op, kPlain, kF32, kNchw, pair.few, op == Op::kTrain).twin =
          pair.many;
}

void add_small(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Shape &shape :
         {Shape{128, 64, 4, 4}, Shape{256, 256, 2, 2}, Shape{1024, 512, 1, 1}, Shape{32, 512, 3, 3},
          Shape{1, 512, 4, 4}, Shape{1, 2048, 2, 2}, Shape{64, 256, 1, 1}})
      table->add(Group::kSmallPlanes, op, kPlain, kF32, kNchw, shape, false);
  for (const Shape &shape : {Shape{1, 16, 8, 8}, Shape{1, 256, 14, 14}}) {
    for (const Op op : {Op::kTrain, Op::kEval, Op::kBackward})
      table->add(Group::kSmall, op, kPlain, kF32, kNchw, shape, true).smoke = shape.c == 16;
    Row &row = table->add(Group::kSmall, Op::kTrain, kPlain, kF32, kNchw, shape, false);
    row.record = true;
    row.name += "/record";
  }
}

void add_many_samples(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval}) {
    for (const Shape &shape : {Shape{256, 1024, 14, 14}, Shape{256, 2048, 7, 7},
                               Shape{512, 64, 8, 8}, Shape{4096, 16, 7, 7}, Shape{32768, 8, 3, 3}})
      table->add(Group::kManySamples, op, kPlain, kF32, kNchw, shape, false);
    table->add(Group::kManySamples, op, kPlain, DType::kBF16, kNchw, {64, 512, 5, 5}, false);
  }
}

void add_batch1(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Plane &p : kChosen) {
      table->add(Group::kBatch1, op, kPlain, kF32, Layout::kNhwc, {1, p.c, p.hw, p.hw}, false);
      table->add(Group::kBatch1, op, kPlain, DType::kBF16, kNchw, {1, p.c, p.hw, p.hw}, false);
    }
}

// Contiguous memory that a caller may describe in several ways.
void add_merged(Table *table) {
  struct Pair {
    Shape shape, best;
    Layout best_layout;
  };
  const Pair pairs[] = {
      {{1605632, 1, 1, 1}, {1, 1, 1, 1605632}, kNchw},  // one channel: one long run
      {{32768, 1, 7, 7}, {1, 1, 1, 1605632}, kNchw},
      {{8192, 1, 14, 14}, {1, 1, 1, 1605632}, kNchw},
      {{32, 1, 1, 50176}, {1, 1, 1, 1605632}, kNchw},
      {{535210, 3, 1, 1},
       {1, 3, 1, 535210},
       Layout::kNhwc},  // planes of one element: rows of channels
      {{200704, 8, 1, 1}, {1, 8, 448, 448}, Layout::kNhwc},
      {{3136, 512, 1, 1}, {1, 512, 56, 56}, Layout::kNhwc}};
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Pair &pair : pairs) {
      Row &row = table->add(Group::kMerged, op, kPlain, kF32, kNchw, pair.shape, false);
      row.twin = pair.best;
      row.twin_layout = pair.best_layout;
    }
}

// Dense strides in another order of the dimensions. A twin renames them: N fastest is a plane of N
// for every pixel, channels slowest is one sample whose planes are all samples of a channel.
void add_permuted(Table *table) {
  struct Case {
    Layout layout;
    Shape shape, best;
    Layout best_layout = kNchw;
  };
  const Case cases[] = {{Layout::kWhcn, {32, 64, 56, 56}, {3136, 64, 1, 32}},
                        {Layout::kCnhw, {32, 64, 56, 56}, {1, 64, 1792, 56}},
                        {Layout::kNcwh, {32, 64, 56, 56}, {32, 64, 56, 56}},
                        {Layout::kWhcn, {8, 32, 28, 28}, {784, 32, 1, 8}},
                        {Layout::kCnhw, {8, 32, 28, 28}, {1, 32, 224, 28}},
                        {Layout::kNcwh, {8, 32, 28, 28}, {8, 32, 28, 28}},
                        {Layout::kNwhc, {8, 32, 28, 28}, {8, 32, 28, 28}, Layout::kNhwc},
                        {Layout::kNwhc, {2, 3, 224, 224}, {2, 3, 224, 224}, Layout::kNhwc}};
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Case &c : cases) {
      Row &row = table->add(Group::kPermuted, op, kPlain, kF32, c.layout, c.shape, false);
      row.twin = c.best;
      row.twin_layout = c.best_layout;
    }
}

void add_border(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Shape &shape :
         {Shape{32, 64, 56, 56}, Shape{8, 64, 28, 28}, Shape{8, 256, 14, 14}}) {
      Row &row = table->add(Group::kBorder, op, kPlain, kF32, Layout::kBorder, shape, false);
      row.twin = shape;
      row.twin_layout = kNchw;
    }
}

// The layouts that a network with one channels_last layer makes, and worse. Most tensors of a call
// have the layout `most`, which is the twin's.
struct Mix {
  Op op;
  Fuse fuse;
  Layouts layouts;
  Layout most;
};
std::vector<Mix> mixes(Layout most, Layout other) {
  const auto with = [most](Layout Layouts::*tensor, Layout layout) {
    Layouts layouts(most);
    layouts.*tensor = layout;
    return layouts;
  };
  Layouts three = with(&Layouts::dy, other);
  three.dx = Layout::kCnhw;
  Layouts residual = with(&Layouts::z, other);
  residual.dy = other;
  return {{Op::kTrain, kPlain, with(&Layouts::y, other), most},
          {Op::kEval, kPlain, with(&Layouts::y, other), most},
          {Op::kTrain, Fuse::kAddRelu, with(&Layouts::z, other), most},
          {Op::kBackward, kPlain, with(&Layouts::x, other), most},
          {Op::kBackward, kPlain, with(&Layouts::dy, other), most},
          {Op::kBackward, kPlain, with(&Layouts::dx, other), most},
          {Op::kBackward, kPlain, three, most},
          {Op::kBackward, Fuse::kAddRelu, residual, most}};
}

void add_mixed(Table *table) {
  for (const Shape &shape : {Shape{32, 64, 56, 56}, Shape{1, 256, 14, 14}})
    for (const auto &[most, other] : {std::pair{kNchw, Layout::kNhwc}, {Layout::kNhwc, kNchw}})
      for (const Mix &mix : mixes(most, other)) {
        Row &row = table->add(Group::kMixed, mix.op, mix.fuse, kF32, mix.layouts, shape, false);
        row.twin = shape;
        row.twin_layout = mix.most;
        row.smoke = shape.n == 1;
      }
}

void add_blocked(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    for (const Layout layout : {Layout::kNchw8c, Layout::kNchw16c})
      for (const Shape &shape : {Shape{32, 64, 56, 56}, Shape{32, 512, 28, 28},
                                 Shape{32, 2048, 7, 7}, Shape{1, 256, 14, 14}}) {
        Row &row = table->add(Group::kBlocked, op, kPlain, kF32, layout, shape, false);
        row.twin = shape;
        row.twin_layout = Layout::kNhwc;
        row.smoke = shape.n == 1;
      }
}

// Beyond the caches the memory decides, inside of them the instructions.
void add_activations(Table *table) {
  for (const Fuse fuse :
       {Fuse::kRelu6, Fuse::kClamp, Fuse::kHardswish, Fuse::kSilu, Fuse::kGelu, Fuse::kSigmoid})
    for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval}) {
      for (const Shape &shape :
           {Shape{32, 64, 56, 56}, Shape{32, 2048, 7, 7}, Shape{1, 256, 14, 14}})
        table->add(Group::kActivations, op, fuse, kF32, kNchw, shape, false).smoke = shape.n == 1;
      table->add(Group::kActivations, op, fuse, kF32, Layout::kNhwc, {32, 64, 56, 56}, false);
    }
}

void add_extreme(Table *table) {
  for (const DType dtype : {kF32, DType::kF64})
    for (const Op op : {Op::kTrain, Op::kBackward})
      for (const Shape &shape : {Shape{1, 32, 56, 56}, Shape{1, 32, 14, 14}}) {
        Row &row = table->add(Group::kExtreme, op, kPlain, dtype, kNchw, shape, false);
        row.twin = shape;
        row.twin_layout = kNchw;
      }
}

void add_sums(Table *table) {
  for (const int64_t batch : {32, 1})
    for (const Plane &p : kChosen)
      table->add(Group::kSums, Op::kGradients, kPlain, kF32, kNchw, {batch, p.c, p.hw, p.hw},
                 false);
  table->add(Group::kSums, Op::kGradients, kPlain, kF32, Layout::kNhwc, {32, 64, 56, 56}, false);
}

// Shapes of ResNet-50 and of the U-Net of Stable Diffusion.
void add_norms(Table *table) {
  const Shape shapes[] = {{1, 64, 56, 56},   {1, 512, 28, 28}, {1, 1024, 14, 14}, {1, 2048, 7, 7},
                          {2, 320, 64, 64},  {2, 640, 32, 32}, {2, 1280, 16, 16}, {32, 64, 56, 56},
                          {32, 256, 28, 28}, {32, 512, 7, 7}};
  for (const bool instance : {false, true})
    for (const Op op : {Op::kTrain, Op::kBackward})
      for (const Layout layout : {kNchw, Layout::kNhwc})
        for (const Shape &shape : shapes) {
          Row &row = table->add(Group::kNorms, op, kPlain, kF32, layout, shape, false);
          row.groups = instance ? shape.c : 32;
          row.name += instance ? "/instance" : "/group32";
          row.smoke = shape.c == 64 && shape.n == 1 && layout == kNchw;
        }
  for (const Op op : {Op::kTrain, Op::kBackward})
    for (const Layout layout : {kNchw, Layout::kNhwc})
      for (const Shape &shape : {Shape{32, 512, 2, 2}, Shape{32, 512, 7, 7}}) {
        Row &row = table->add(Group::kNorms, op, kPlain, DType::kF64, layout, shape, false);
        row.groups = 32;
        row.name += "/group32";
      }
  // Small planes, which go by sets as planes (ops/sets_as_planes.h); in one group, a layer norm.
  struct Small {
    Shape shape;
    int64_t groups;
    Layout layout;
  };
  for (const Op op : {Op::kTrain, Op::kBackward})
    for (const Small &small :
         {Small{{4096, 256, 1, 1}, 32, kNchw}, Small{{512, 1024, 2, 2}, 32, kNchw},
          Small{{512, 1024, 2, 2}, 32, Layout::kNhwc}, Small{{4096, 768, 1, 1}, 1, kNchw},
          Small{{64, 512, 1, 1}, 1, kNchw}}) {
      Row &row = table->add(Group::kNorms, op, kPlain, kF32, small.layout, small.shape, false);
      row.groups = small.groups;
      row.name += "/group" + std::to_string(small.groups);
    }
}

void add_given(Table *table) {
  for (const int64_t batch : {32, 1})
    for (const Plane &p : kChosen)
      table->add(Group::kGiven, Op::kGiven, kPlain, kF32, kNchw, {batch, p.c, p.hw, p.hw},
                 p.quick && batch == 32);
  table->add(Group::kGiven, Op::kGiven, kPlain, kF32, Layout::kNhwc, {32, 64, 56, 56}, false);
  table->add(Group::kGiven, Op::kGiven, Fuse::kAddRelu, kF32, kNchw, {1, 256, 14, 14}, false)
      .smoke = true;
}

void add_calls(Table *table) {
  // The getter and the empty forward of a (0, 16, 8, 8) tensor.
  for (const char *name : {"getter", "empty-forward"}) {
    Row &row = table->add(Group::kCall, Op::kEval, kPlain, kF32, kNchw, {0, 16, 8, 8}, true);
    row.name = std::string("call/") + name;
    row.smoke = true;
  }
}

void add_consumers(Table *table) {
  // From 256 KiB to 98 MiB, i.e. from well inside the caches to well outside.
  const Shape shapes[] = {{1, 64, 32, 32},  {1, 64, 56, 56},   {32, 64, 14, 14},
                          {4, 256, 28, 28}, {8, 64, 56, 56},   {16, 64, 56, 56},
                          {32, 64, 56, 56}, {32, 128, 56, 56}, {32, 256, 56, 56}};
  for (const Op op : {Op::kTrain, Op::kEval})
    for (const Shape &shape : shapes)
      table->add(Group::kConsumer, op, kPlain, kF32, kNchw, shape,
                 op == Op::kTrain && shape.c == 64 && shape.n >= 16);
}

void add_misaligned(Table *table) {
  for (const Op op : {Op::kTrain, Op::kBackward, Op::kEval})
    table->add(Group::kMisaligned, op, kPlain, kF32, kNchw, {32, 64, 56, 56}, false);
}

}  // namespace

const char *name_of(Group group) {
  switch (group) {
    case Group::kResnet32:
      return "resnet32";
    case Group::kResnet1:
      return "resnet1";
    case Group::kFused:
      return "fused";
    case Group::kHalf:
      return "half";
    case Group::kDouble:
      return "double";
    case Group::kNhwc:
      return "nhwc";
    case Group::kNhwcSmall:
      return "nhwc-small";
    case Group::kFewChannels:
      return "few-channels";
    case Group::kSmallPlanes:
      return "small-planes";
    case Group::kManySamples:
      return "many-samples";
    case Group::kBatch1:
      return "batch1";
    case Group::kMerged:
      return "merged";
    case Group::kBorder:
      return "border";
    case Group::kPermuted:
      return "permuted";
    case Group::kMixed:
      return "mixed";
    case Group::kBlocked:
      return "blocked";
    case Group::kActivations:
      return "activations";
    case Group::kExtreme:
      return "extreme";
    case Group::kSums:
      return "sums";
    case Group::kNorms:
      return "norms";
    case Group::kGiven:
      return "given";
    case Group::kSmall:
      return "small";
    case Group::kCall:
      return "call";
    case Group::kConsumer:
      return "consumer";
    case Group::kMisaligned:
      return "misaligned";
  }
  return "?";
}

bool has_best_description(Group group) {
  return group == Group::kMerged || group == Group::kPermuted;
}

bool twin_shares_memory(Group group) {
  return has_best_description(group) || group == Group::kMixed || group == Group::kBlocked ||
         group == Group::kBorder;
}

std::vector<Row> all_rows() {
  Table table;
  add_resnet(&table);
  add_fused(&table);
  add_dtypes(&table);
  add_nhwc(&table);
  add_few_channels(&table);
  add_small(&table);
  add_many_samples(&table);
  add_batch1(&table);
  add_merged(&table);
  add_permuted(&table);
  add_border(&table);
  add_mixed(&table);
  add_blocked(&table);
  add_activations(&table);
  add_extreme(&table);
  add_sums(&table);
  add_norms(&table);
  add_given(&table);
  add_calls(&table);
  add_consumers(&table);
  add_misaligned(&table);
  return table.take();
}

}  // namespace bench
