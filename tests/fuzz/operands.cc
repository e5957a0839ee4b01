#include "fuzz/operands.h"

#include <cmath>
#include <limits>
#include <utility>

namespace bn2d_fuzz {
namespace {

int64_t bytes_of(int32_t dtype) {
  return dtype == 0 ? 1 : static_cast<int64_t>(bn2d_dtype_size(dtype));
}

}  // namespace

int64_t Layout::span() const {
  int64_t span = 1;
  for (size_t i = 0; i < rank; ++i) span += std::max<int64_t>(shape[i] - 1, 0) * strides[i];
  return span;
}

std::string Operand::text() const {
  std::string out = " " + name;
  if (!given) return out + "=NULL";
  out += "@" + (footprint.offsets.empty() ? "-" : std::to_string(footprint.offsets[0]));
  if (view.get()->ndim == 5) out += " in blocks of " + std::to_string(view.extent(4));
  if (view.get()->strides != nullptr) {
    out += "(";
    for (size_t i = 0; i < (view.get()->ndim == 5 ? 5 : 4); ++i)
      out += (i > 0 ? "," : "") + std::to_string(view.get()->strides[i]);
    out += ")";
  }
  return out + (faults.empty() ? "" : "[" + faults.text() + "]");
}

// Most tensors end right before a forbidden page or start right behind one; some lie on top of
// another, or beside it.
int64_t Placer::first_byte(size_t room, int64_t span_bytes, int64_t element, const Operand *like) {
  const auto bank_bytes = static_cast<int64_t>(memory_.bank_bytes());
  const size_t bank =
      in_.one_in(12) ? static_cast<size_t>(in_.below(Memory::kBanks)) : room % Memory::kBanks;
  const auto begin = static_cast<int64_t>(memory_.bank_begin(bank));
  const int64_t slack = bank_bytes - span_bytes;
  if (like != nullptr && !like->footprint.offsets.empty() &&
      in_.one_in(12)) {  // beside it, maybe interleaved
    for (size_t i = 0; i < Memory::kBanks; ++i) {
      const auto start = static_cast<int64_t>(memory_.bank_begin(i)),
                 there = int64_t{like->footprint.offsets[0]};
      if (there < start || there >= start + bank_bytes) continue;
      return start + std::clamp<int64_t>(there - start + (in_.below(16) - 4) * element, 0, slack) /
                         element * element;
    }
  }
  switch (in_.below(4)) {
    case 0:
    case 1:
      return begin + slack;
    case 2:
      return begin;
    default:
      return begin + std::min(slack, in_.below(64) * element);
  }
}

Layout Placer::choose_layout(const Extents &shape, bool written) {
  Layout out(shape);
  const int64_t blocked = 8;
  int64_t which = in_.below_or_later(blocked, 208, 5);
  if (which >= blocked && shape[1] > 0) {
    int64_t block = 1 + in_.below(shape[1]);
    while (shape[1] % block != 0) --block;
    out.split_channels(block);
  }
  if (which >= blocked) which = std::array{0, 1, 3, 6, 7}[static_cast<size_t>(which - blocked)];
  switch (which) {
    case 0:
      out.told = false;
      break;
    case 1:
      break;
    case 2:
      out.set_strides(bn2d_test::nhwc_strides(shape));
      break;
    case 3: {  // nested in any order, with gaps
      std::array<size_t, 5> order{0, 1, 2, 3, 4};
      for (size_t i = out.rank - 1; i > 0; --i)
        std::swap(order[i], order[static_cast<size_t>(in_.below(static_cast<int64_t>(i) + 1))]);
      int64_t next = 1 + in_.below(2);
      for (size_t i = 0; i < out.rank; ++i) {
        out.strides[order[i]] = next;
        next = next * std::max<int64_t>(out.shape[order[i]], 1) + in_.below(2);
      }
      break;
    }
    case 4: {  // channels first .. first + C of more channels, either way round
      const bool nhwc = in_.coin();
      const Extents wider{shape[0], shape[1] + 1 + in_.below(3), shape[2], shape[3]};
      out.set_strides(nhwc ? bn2d_test::nhwc_strides(wider) : bn2d_test::nchw_strides(wider));
      break;
    }
    case 5:  // rows of a wider picture
      out.set_strides(
          bn2d_test::nchw_strides({shape[0], shape[1], shape[2], shape[3] + 1 + in_.below(3)}));
      break;
    case 6:
      if (!written && in_.coin()) {  // expanded
        for (size_t i = 0; i < out.rank; ++i)
          if (in_.coin()) out.strides[i] = 0;
      } else {  // anything positive: may overlap itself
        for (size_t i = 0; i < out.rank; ++i) out.strides[i] = 1 + in_.below(12);
      }
      break;
    default:  // every other element
      for (int64_t &stride : out.strides) stride *= 2;
      break;
  }
  return out;
}

Operand Placer::tensor(const char *name, size_t room, int32_t dtype, const Extents &shape,
                       bool written, bool optional, const Operand *like) {
  Operand out;
  out.name = name;
  out.dtype = dtype;
  out.written = written;
  out.given = !(optional && in_.one_in(3)) && !(!optional && in_.one_in(200));
  if (!out.given && !optional) out.faults.add(BN2D_ERROR_INVALID_ARGUMENT);
  if (like != nullptr && like->whole() && in_.one_in(6)) {  // in place
    const bool given = out.given;
    const Statuses faults = out.faults;
    out = *like;
    out.name = name;
    out.written = written;
    out.given = given;
    out.faults = faults;
    return out;
  }
  const int64_t size = bytes_of(dtype);
  Layout layout = choose_layout(shape, written);
  if (layout.span() * size > static_cast<int64_t>(memory_.bank_bytes())) layout.contiguous();
  const int64_t count = bn2d_test::count_of(shape);
  const int64_t span = count == 0 ? 0 : layout.span() * size;
  int64_t first = first_byte(room, span, size, like);
  if (out.given && size > 1 && count > 0 && in_.one_in(120)) {
    first -= first > static_cast<int64_t>(memory_.bank_begin(0)) ? 1 : 0;
    if (first % size != 0) out.faults.add(BN2D_ERROR_LAYOUT);
    for (size_t i = 0; i < Memory::kBanks; ++i) {  // not into the page before the bank
      if (first == static_cast<int64_t>(memory_.bank_begin(i)) - 1) first += size;
    }
  }
  const int64_t ahead = in_.one_in(3) ? in_.below(16) * size : 0;  // said by byte_offset
  unsigned char *const at = memory_.at(static_cast<size_t>(first));
  out.data = at;
  out.view = View(at - ahead, dtype, layout.rank, layout.shape.data(),
                  layout.told ? layout.strides.data() : nullptr);
  out.view->byte_offset = static_cast<uint64_t>(ahead);
  out.footprint.element = static_cast<size_t>(size);
  out.footprint.offsets.reserve(static_cast<size_t>(count));
  for (int64_t n = 0; n < shape[0]; ++n) {
    for (int64_t c = 0; c < shape[1]; ++c) {
      for (int64_t h = 0; h < shape[2]; ++h) {
        for (int64_t w = 0; w < shape[3]; ++w) {
          out.footprint.offsets.push_back(
              static_cast<uint32_t>(first + layout.index(n, c, h, w) * size));
        }
      }
    }
  }
  for (size_t i = 0; i < layout.rank && layout.told; ++i) {  // strides that do not matter
    if (layout.shape[i] <= 1 && in_.one_in(4))
      out.view.set_stride(i, in_.pick<int64_t>({0, -1, INT64_MAX, INT64_MIN, 7}));
  }
  if (count == 0 && in_.one_in(3)) {
    out.view->data = nullptr;
    out.view->byte_offset = 0;
    out.data = nullptr;
  }
  if (out.given && in_.one_in(80)) spoil(out);
  return out;
}

Operand Placer::plain(const char *name, size_t room, int32_t dtype, const Extents &shape, bool nhwc,
                      bool written, bool optional, const Operand *like) {
  const bool given = !(optional && in_.one_in(3));
  if (like != nullptr && like->whole() && like->data != nullptr && in_.one_in(6)) {  // in place
    Operand out = *like;
    out.name = name;
    out.written = written;
    out.given = given;
    if (!given) out.data = nullptr;
    return out;
  }
  Operand out = array(name, room, dtype, bn2d_test::count_of(shape), written, given, like);
  out.is_array = false;
  const bool some = !out.footprint.offsets.empty();
  if (nhwc && some) {
    const Extents strides = bn2d_test::nhwc_strides(shape);
    const uint32_t first = out.footprint.offsets[0];
    const auto size = static_cast<int64_t>(out.footprint.element);
    size_t i = 0;
    for (int64_t n = 0; n < shape[0]; ++n)
      for (int64_t c = 0; c < shape[1]; ++c)
        for (int64_t h = 0; h < shape[2]; ++h)
          for (int64_t w = 0; w < shape[3]; ++w)
            out.footprint.offsets[i++] =
                first + static_cast<uint32_t>(size * (n * strides[0] + c * strides[1] +
                                                      h * strides[2] + w * strides[3]));
  }
  if (given && !optional && in_.one_in(100)) {
    out.data = nullptr;
    if (some) out.faults.add(BN2D_ERROR_INVALID_ARGUMENT);
  }
  return out;
}

Operand Placer::array(const char *name, size_t room, int32_t dtype, int64_t count, bool written,
                      bool given, const Operand *like) {
  Operand out;
  out.name = name;
  out.dtype = dtype;
  out.written = written;
  out.given = given;
  out.is_array = true;
  if (!given) return out;
  const int64_t size = bytes_of(dtype);
  int64_t first = first_byte(room, count * size, size, in_.one_in(4) ? like : nullptr);
  if (size > 1 && count > 0 && in_.one_in(120) &&
      first > static_cast<int64_t>(memory_.bank_begin(0))) {
    bool at_start = false;
    for (size_t i = 0; i < Memory::kBanks; ++i)
      at_start |= first == static_cast<int64_t>(memory_.bank_begin(i));
    if (!at_start) first -= 1, out.faults.add(BN2D_ERROR_LAYOUT);
  }
  out.data = memory_.at(static_cast<size_t>(first));
  out.footprint.element = static_cast<size_t>(size);
  for (int64_t i = 0; i < count; ++i)
    out.footprint.offsets.push_back(static_cast<uint32_t>(first + i * size));
  return out;
}

void Placer::spoil(Operand &operand) {
  View &view = operand.view;
  Statuses &faults = operand.faults;
  const auto i = static_cast<size_t>(in_.below(view->ndim));
  const bool some = !operand.footprint.offsets.empty();
  switch (in_.below(13)) {
    case 0:
      view->ndim = in_.pick<int32_t>({0, 3, 6, -1, INT32_MAX});
      return faults.add(BN2D_ERROR_SHAPE);
    case 1:
      view.set_extent(i, view.extent(i) + 1 + in_.below(3));
      if (view.get()->strides != nullptr)
        view.set_stride(i, 1 + in_.below(5));  // it may not have mattered before
      if (view->data == nullptr)
        faults.add(BN2D_ERROR_INVALID_ARGUMENT);  // now it may have elements
      return faults.add(BN2D_ERROR_SHAPE);
    case 2:
      view.set_extent(i, in_.pick<int64_t>({-1, -2, INT64_MIN}));
      return faults.add(BN2D_ERROR_SHAPE);
    case 3:
      bn2d_test::set_dtype(*view.operator->(), operand.dtype == BN2D_F64 ? BN2D_F32 : BN2D_F64);
      faults.add(BN2D_ERROR_LAYOUT);  // it may not be aligned to those
      return faults.add(BN2D_ERROR_DTYPE);
    case 4:
      view->dtype_lanes = static_cast<uint16_t>(in_.pick({0, 2, 65535}));
      return faults.add(BN2D_ERROR_DTYPE);
    case 5:
      view->dtype_code = static_cast<uint8_t>(in_.pick({0, 1, 3, 5, 255}));
      return faults.add(BN2D_ERROR_DTYPE);
    case 6:
      view->device_type = in_.pick<int32_t>({BN2D_CUDA, BN2D_ROCM, 0, -1, 99});
      return faults.add(BN2D_ERROR_DEVICE);
    case 7:
      view->device_id = in_.pick<int32_t>({1, -1, INT32_MAX});
      return faults.add(BN2D_ERROR_DEVICE);
    case 8: {  // absurd extents: a product that leaves 64 bits, or a shape unlike all others
      view.set_extent(
          i, in_.pick<int64_t>({int64_t{1} << 31, int64_t{1} << 59, int64_t{1} << 62, INT64_MAX}));
      if (view.get()->strides != nullptr) view.set_stride(i, 1);
      faults.add(BN2D_ERROR_SHAPE);
      faults.add(BN2D_ERROR_OVERFLOW);
      if (view->data == nullptr) faults.add(BN2D_ERROR_INVALID_ARGUMENT);
      return;
    }
    case 9:  // a stride that leads out of 64 bits
    case 10:
      for (size_t k = 0; k < static_cast<size_t>(view->ndim); ++k) {
        if (view.extent(k) < 2 || !some) continue;
        if (in_.coin()) {
          view.set_stride(k, in_.pick<int64_t>({INT64_MAX, int64_t{1} << 62, int64_t{1} << 60}));
          faults.add(BN2D_ERROR_OVERFLOW);
        } else {
          view.set_stride(k, in_.pick<int64_t>({-1, -7, INT64_MIN}));
          faults.add(BN2D_ERROR_LAYOUT);
        }
        return;
      }
      return;
    case 11:  // past the end of the address space
      if (!some) return;
      view->byte_offset = in_.pick<uint64_t>({UINT64_MAX, UINT64_MAX - 4095, uint64_t{1} << 63});
      if (view->byte_offset <= UINT64_MAX - reinterpret_cast<uintptr_t>(view->data))
        view->byte_offset = UINT64_MAX;
      faults.add(BN2D_ERROR_OVERFLOW);
      return faults.add(BN2D_ERROR_LAYOUT);
    default:
      if (!some) return;
      if (in_.coin()) {
        view->data = nullptr;
      } else {
        view->shape = nullptr;
      }
      return faults.add(BN2D_ERROR_INVALID_ARGUMENT);
  }
}

// -------------------------------------------------------------------------------------------------
// values

double Placer::element(Style style, int32_t dtype, double channel, numerics::Random &random) const {
  const numerics::Format &format = numerics::format_of(dtype);
  const auto power = [](int exponent) {
    return static_cast<double>(oracle::power_of_two(exponent));
  };
  const double top = std::ldexp(2 - std::ldexp(1.0, 1 - format.digits), format.max_exponent);
  switch (style) {
    case Style::plain:
      return static_cast<double>(random.below(17) - 8) * 0.5;
    case Style::normal:
      return random.normal();
    case Style::offset:
      return (dtype == BN2D_F16 ? 100 : 1e6) * channel + random.normal();
    case Style::constant:
      return channel * 3;
    case Style::tiny:
      return power(format.min_exponent + 3) * random.normal();
    case Style::huge:
      return top * random.uniform(-1, 1);
    case Style::subnormal:
      return power(format.min_exponent - format.digits + 1) *
             static_cast<double>(random.below(9) - 4);
    case Style::all_sizes: {
      const int low = format.min_exponent, high = format.max_exponent;
      return std::ldexp(random.uniform(-1, 1),
                        low + static_cast<int>(random.below(high - low + 1)));
    }
    case Style::ends:
      return random.coin() ? top : -top;
    default:
      return random.coin() ? 0.0 : -0.0;
  }
}

// Plain numbers mostly; `hostile` channels may have any of the others, and a NaN or an infinity
// among them.
void Placer::fill(const Operand &operand, const Extents &shape, bool hostile) {
  if (!operand.whole() || operand.footprint.offsets.empty()) return;
  const auto usual = in_.one_in(3) ? Style::plain : Style::normal;
  const auto first = hostile ? static_cast<Style>(in_.below(kStyles)) : usual;
  const auto second = hostile && in_.coin() ? static_cast<Style>(in_.below(kStyles)) : first;
  const bool positive = hostile && in_.one_in(8);
  numerics::Random random(in_.seed() + 1);
  const auto plane = static_cast<size_t>(shape[2] * shape[3]);
  const auto channels = static_cast<size_t>(shape[1]);
  std::vector<double> character(channels);
  for (double &c : character) c = random.uniform(-1, 1);
  for (size_t i = 0; i < operand.footprint.offsets.size(); ++i) {
    const size_t c = i / plane % channels;
    double value = element(c % 2 == 0 ? first : second, operand.dtype, character[c], random);
    if (positive) value = std::fabs(value);
    numerics::write_element(operand.dtype, memory_.at(operand.footprint.offsets[i]),
                            numerics::rounded(operand.dtype, value));
  }
  if (hostile && in_.one_in(8)) {
    const double infinity = std::numeric_limits<double>::infinity();
    const double value = in_.pick({std::numeric_limits<double>::quiet_NaN(), infinity, -infinity});
    const auto at =
        static_cast<size_t>(random.below(static_cast<int64_t>(operand.footprint.offsets.size())));
    numerics::write_element(operand.dtype, memory_.at(operand.footprint.offsets[at]), value);
  }
}

std::vector<uint64_t> Placer::bits(const Operand &operand) const {
  std::vector<uint64_t> out;
  out.reserve(operand.footprint.offsets.size());
  for (const uint32_t offset : operand.footprint.offsets)
    out.push_back(operand.footprint.element == 1
                      ? *memory_.at(offset)
                      : numerics::read_bits(operand.dtype, memory_.at(offset)));
  return out;
}

Values Placer::values(const Operand &operand) const {
  Values out;
  if (!operand.given) return out;
  out.reserve(operand.footprint.offsets.size());
  for (const uint64_t bits : bits(operand)) out.push_back(numerics::decode(operand.dtype, bits));
  return out;
}

// -------------------------------------------------------------------------------------------------
// faults

void Placer::judge(const std::vector<const Operand *> &operands, Verdict &verdict) {
  for (const Operand *operand : operands) verdict.must.add(operand->faults);
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i]->whole() || !operands[i]->written) continue;
    if (memory_.shares_with_itself(operands[i]->footprint)) verdict.must.add(BN2D_ERROR_LAYOUT);
    for (size_t k = 0; k < i; ++k) {
      if (operands[k]->whole() && operands[k]->written &&
          memory_.share(operands[i]->footprint, operands[k]->footprint))
        verdict.must.add(BN2D_ERROR_OVERLAP);
    }
  }
}

void Placer::judge_overlap(const Operand &output, const Operand &input, bool exact,
                           Verdict &verdict) {
  if (!output.whole() || !input.whole() || !memory_.share(output.footprint, input.footprint))
    return;
  if (exact && output.exactly(input)) return;
  verdict.must.add(BN2D_ERROR_OVERLAP);
}

void Placer::judge_arrays(const std::vector<const Operand *> &operands, bool empty,
                          Verdict &verdict) {
  for (size_t i = 0; i < operands.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      const Operand &a = *operands[i], &b = *operands[k];
      if (!a.whole() || !b.whole() || (!a.is_array && !b.is_array) || (!a.written && !b.written))
        continue;
      if (memory_.share(a.footprint, b.footprint))
        (empty ? verdict.may : verdict.must).add(BN2D_ERROR_OVERLAP);
    }
  }
}

}  // namespace bn2d_fuzz
