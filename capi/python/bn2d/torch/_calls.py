# SPDX-License-Identifier: MIT
"""The stateless functions of the library on torch tensors: parameters, buffers and data stay
torch's.

What a call needs is prepared once for each `Layout`; a call itself stores addresses and goes. Each
function here takes and returns plain tensors of the CPU, allocates what it returns, and knows
nothing of autograd. Who calls sees to it that tensors fit their layout: the library gets addresses
alone.
"""

from __future__ import annotations

import ctypes
from typing import Any, Optional

import torch
from torch import Tensor

from .. import _api
from ..errors import DeviceError, DtypeError, ShapeError

NONE = _api.CONSTANTS["BN2D_ACT_NONE"]
RELU = _api.CONSTANTS["BN2D_ACT_RELU"]
LEAKY_RELU = _api.CONSTANTS["BN2D_ACT_LEAKY_RELU"]
# The first of those whose argument backward makes again, of x, z and the parameters.
_FIRST_POINTWISE = _api.CONSTANTS["BN2D_ACT_RELU6"]

# dtype: (number in the library, DLPack's code, bits)
DTYPES = {
    torch.float32: (_api.CONSTANTS["BN2D_F32"], 2, 32),
    torch.float64: (_api.CONSTANTS["BN2D_F64"], 2, 64),
    torch.float16: (_api.CONSTANTS["BN2D_F16"], 2, 16),
    torch.bfloat16: (_api.CONSTANTS["BN2D_BF16"], 4, 16),
}
HALF = (torch.float16, torch.bfloat16)
# A program with ever new shapes must not collect what was prepared for each.
MOST_LAYOUTS = 1024

_empty_like, _empty, _float64 = torch.empty_like, torch.empty, torch.float64
_keys_of = torch._C._dispatch_keys
# All that a dense tensor of the CPU has, in inference mode or not. By its keys: wrappers,
# transforms, lazy negation, other devices and formats, and what torch adds next year, are each a
# key more.
_CPU = torch.device("cpu")  # said wherever something is made: torch's default may be another
_OTHER_KEYS = ~_keys_of(torch.empty(0, device=_CPU)).raw_repr()


def are_plain(*tensors: Optional[Tensor]) -> bool:
    """Whether all of them are dense tensors of the CPU, whose address the library may get."""
    for one in tensors:
        if one is not None and _keys_of(one).raw_repr() & _OTHER_KEYS:
            return False
    return True


def fits(data: torch.dtype, parameters: torch.dtype) -> bool:
    """Whether the library takes data of one dtype with parameters of another."""
    return data in DTYPES and (data == parameters or (parameters == torch.float32 and data in HALF))


def saved_length(n: int, c: int, h: int, w: int, mask: bool, groups: int = 0) -> int:
    """Elements of the float64 tensor that a forward leaves for backward: mean, invstd, bits of a
    mask.

    The length of the mask is bn2d_mask_nbytes() (a test compares), written out for symbolic
    extents.
    """
    statistics = 2 * (n * groups if groups else c)
    return statistics + (n * c * ((h * w + 7) // 8) + 7) // 8 if mask else statistics


def is_pointwise(activation: int) -> bool:
    """Whether backward needs z and bias, and neither y nor a mask."""
    return activation >= _FIRST_POINTWISE


def shows_side(activation: int, slope: float) -> bool:
    """Whether backward reads the side of the activation off y."""
    return activation != NONE and not is_pointwise(activation) and not masks(activation, slope)


def bias_shows_side(
    activation: int, slope: float, z: Optional[Tensor], bias: Optional[Tensor]
) -> bool:
    """Whether backward may find the side on x, which it reads anyway, with the help of bias.

    It reads y no more then: a step of (64, 16, 32, 32) takes 0.8 of the time.
    """
    return shows_side(activation, slope) and z is None and bias is not None


def masks(activation: int, slope: float) -> bool:
    """Whether backward needs a mask to know the side of the activation: where y does not tell.

    y costs no memory, for what follows keeps it, too. And bits are unpacked, with channels_last also
    transposed: a step of (64, 16, 32, 32) took 2.8 ms by a mask there, 1.7 ms by y; 1.8 and 1.2 ms
    contiguous.
    """
    return activation != NONE and slope < 0


def _view(tensor: Tensor) -> _api.View:
    """A view of a tensor's layout; `data` is not set."""
    _, code, bits = DTYPES[tensor.dtype]
    return _api.view(tuple(tensor.shape), tensor.stride(), code, bits)


def format_of(x: Tensor) -> torch.memory_format:
    """The memory format of y and of all gradients like it: what torch's norms choose, so that
    `y.view(...)` works where it did.

    c10's `suggest_memory_format`, which Python cannot call: channels_last where the strides ascend
    in that order, if with gaps; else contiguous, also of a permuted x.
    """
    shape, strides = x.shape, x.stride()
    least = 0
    for axis in (1, 3, 2, 0):
        stride = strides[axis]
        if shape[axis] == 0 or stride < least or stride == 0:
            return torch.contiguous_format
        if axis == 0 and least == strides[1]:  # one value a sample, which lies both ways
            return torch.contiguous_format
        least = stride * shape[axis]
    return torch.channels_last


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor with strides that the library takes: an expanded one (of y.sum(), say) is
    copied."""
    if 0 in tensor.stride() or tensor.is_neg():
        return _empty_like(like, memory_format=format_of(like)).copy_(tensor)
    return tensor


def new_array(length: int, dtype: torch.dtype) -> Tensor:
    """A tensor of one dimension that the library may write to, whatever torch's default device is.

    All that is not like another tensor is made here. Its elements are not set.
    """
    return _empty(length, dtype=dtype, device=_CPU)


def address_of(tensor: Tensor) -> int:
    """Where the elements of a tensor are; 0 where it has none. The library gets no other addresses.

    Raises:
        DeviceError: They are not in the CPU's memory, or nowhere (`untyped_storage().resize_(0)`).
    """
    address = tensor.data_ptr()
    if not tensor.is_cpu or (not address and tensor.numel()):
        raise DeviceError(
            "a %s of %s has no elements in memory" % (type(tensor).__name__, tensor.device)
        )
    return address


# Of an empty batch the statistics have no elements, and torch gives them no address.
_nothing = ctypes.c_double()
_NO_ELEMENTS = ctypes.addressof(_nothing)


def _address_of_saved(saved: Tensor) -> int:
    return address_of(saved) or _NO_ELEMENTS


class _Nowhere:
    """The place of an argument that a function does not have."""

    __slots__ = ("value",)


_NOWHERE = _Nowhere()


def _prepared(layout: Layout, operation: str, **given: Any) -> _api.Call:
    """A call of bn2d_batch_norm_<operation> or, with groups, of bn2d_group_norm_<operation>."""
    if layout.groups:
        name, given = "bn2d_group_norm_", {**given, "num_groups": layout.groups}
        given.pop("batch_stats", None)  # always
    else:
        name = "bn2d_batch_norm_"
    dtype = DTYPES[layout.parameters][0]
    return _api.Call(
        name + operation, dtype=dtype, activation=layout.activation, slope=layout.slope, **given
    )


class _Forward:
    """One forward of the library, for one thread at a time."""

    __slots__ = (
        "arguments", "batch_stats", "bias", "eps", "factor", "function", "invstd", "mask", "mean",
        "running_mean", "running_var", "weight", "x", "y", "z",
    )  # fmt: skip

    def __init__(self, layout: Layout, x: Tensor, z: Optional[Tensor], y: Tensor) -> None:
        self.x, self.y = _view(x), _view(y)
        self.z = None if z is None else _view(z)
        call = _prepared(layout, "forward", x=self.x, z=self.z, y=self.y)
        self.function, self.arguments = call.function, call.arguments
        slots = call.slots
        self.weight, self.bias = slots["weight"], slots["bias"]
        self.running_mean, self.running_var = (
            slots.get("running_mean", _NOWHERE),
            slots.get("running_var", _NOWHERE),
        )
        self.batch_stats, self.factor = (
            slots.get("batch_stats", _NOWHERE),
            slots.get("averaging_factor", _NOWHERE),
        )
        self.eps = slots["eps"]
        self.mask, self.mean, self.invstd = (
            slots["mask"],
            slots["saved_mean"],
            slots["saved_invstd"],
        )


class _Backward:
    """One backward of the library, for one thread at a time."""

    __slots__ = (
        "arguments", "batch_stats", "bias", "dbias", "dweight", "dx", "dy", "dz", "function",
        "invstd", "mask", "mean", "weight", "x", "y", "z",
    )  # fmt: skip

    def __init__(
        self,
        layout: Layout,
        x: Tensor,
        dy: Tensor,
        y: Optional[Tensor],
        z: Optional[Tensor],
        dx: Optional[Tensor],
        dz: Optional[Tensor],
        of_argument: bool,
    ) -> None:
        self.x, self.dy = _view(x), _view(dy)
        self.y = None if y is None else _view(y)
        self.z = None if z is None else _view(z)
        self.dx = None if dx is None else _view(dx)
        self.dz = None if dz is None else _view(dz)
        tensors = {"x": self.x, "dy": self.dy, "y": self.y, "dx": self.dx, "dz": self.dz}
        if of_argument:
            call = _prepared(layout, "backward_act", z=self.z, **tensors)
        else:
            call = _prepared(layout, "backward", **tensors)
        self.function, self.arguments = call.function, call.arguments
        slots = call.slots
        self.weight, self.batch_stats = slots["weight"], slots.get("batch_stats", _NOWHERE)
        self.bias = slots.get("bias", _NOWHERE)
        self.mask, self.mean, self.invstd = (
            slots["mask"],
            slots["saved_mean"],
            slots["saved_invstd"],
        )
        self.dweight, self.dbias = slots["dweight"], slots["dbias"]


class Layout:
    """Shape, strides and dtypes of x and z with an activation: calls are prepared and kept by it.

    groups: of a group norm, or 0. An instance norm has one for each channel.
    """

    __slots__ = (
        "activation", "arrays", "backwards", "format", "forwards", "groups", "mask", "parameters",
        "pointwise", "saved", "slope", "statistics",
    )  # fmt: skip

    def __init__(
        self, x: Tensor, parameters: torch.dtype, activation: int, slope: float, groups: int
    ) -> None:
        n, c, h, w = x.shape
        self.parameters = parameters
        self.activation = activation
        self.slope = slope
        self.groups = groups
        self.statistics = 8 * (n * groups if groups else c)  # bytes of the saved means
        self.arrays = torch.Size((c,))
        self.format = format_of(x)
        self.mask = masks(activation, slope)
        self.pointwise = is_pointwise(activation)
        self.saved = saved_length(n, c, h, w, self.mask, groups)
        self.forwards: list[_Forward] = []
        self.backwards: dict[Any, list[_Backward]] = {}


_layouts: dict[Any, Layout] = {}


def layout_of(
    x: Tensor,
    z: Optional[Tensor],
    parameters: torch.dtype,
    activation: int,
    slope: float,
    groups: int = 0,
) -> Optional[Layout]:
    """The layout of a call, or None where the library does not take x (rank, dtypes, expanded,
    groups)."""
    key = (
        x.shape,
        x.stride(),
        x.dtype,
        parameters,
        activation,
        slope,
        None if z is None else z.stride(),
        groups,
    )
    found = _layouts.get(key)
    if found is None:
        if len(x.shape) != 4 or 0 in x.stride() or not fits(x.dtype, parameters):
            return None
        if z is not None and 0 in z.stride():
            return None
        if groups and x.shape[1] % groups != 0:
            return None
        if len(_layouts) >= MOST_LAYOUTS:
            _layouts.clear()
        found = _layouts[key] = Layout(x, parameters, activation, slope, groups)
    return found


def needed_layout(
    x: Tensor,
    z: Optional[Tensor],
    parameters: torch.dtype,
    activation: int,
    slope: float,
    groups: int,
) -> Layout:
    """The layout of a call that the library must take."""
    found = layout_of(x, z, parameters, activation, slope, groups)
    if found is None:
        raise DtypeError(
            "x is %s of the shape %s, the parameters %s" % (x.dtype, tuple(x.shape), parameters)
        )
    return found


def checked(array: Optional[Tensor], x: Tensor) -> Optional[Tensor]:
    """An array of the channels, contiguous; the library gets its address alone."""
    if array is None:
        return None
    if x.dim() != 4 or array.shape != (x.size(1),):
        raise ShapeError("an array has the shape %s, x %s" % (tuple(array.shape), tuple(x.shape)))
    return array.contiguous()


def as_forward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    z: Optional[Tensor],
    bias: Optional[Tensor],
    parameters: torch.dtype,
    activation: int,
    slope: float,
    groups: int,
) -> tuple[Layout, Tensor, Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """The layout of the forward that left `saved`; x, weight, z and bias as the library takes them.

    They may be others than forward had: hooks on saved tensors change strides, `weight.data = ...`
    changes all, and an operator gets what its caller likes.
    """
    x = laid_out(x, x)
    if z is not None:
        z = laid_out(z, x)
    for name, one in (("dy", dy), ("y", y), ("z", z)):
        if one is not None and (one.shape != x.shape or one.dtype is not x.dtype):
            raise ShapeError("%s has the shape %s, x %s" % (name, tuple(one.shape), tuple(x.shape)))
    layout = needed_layout(x, z, parameters, activation, slope, groups)
    if saved.numel() != layout.saved or saved.dtype is not _float64 or not saved.is_contiguous():
        raise ShapeError("what forward saved is not of an x of the shape %s" % (tuple(x.shape),))
    for one in (weight, bias):
        if one is not None and one.dtype is not parameters:
            raise DtypeError("an array is %s, forward had %s" % (one.dtype, parameters))
    return layout, x, checked(weight, x), z, checked(bias, x)


def forward(
    layout: Layout,
    x: Tensor,
    z: Optional[Tensor],
    weight: Optional[Tensor],
    bias: Optional[Tensor],
    running_mean: Optional[Tensor],
    running_var: Optional[Tensor],
    batch_stats: bool,
    factor: float,
    eps: float,
    save: bool,
) -> tuple[Tensor, Optional[Tensor]]:
    """y = act(bn(x) + z) and, with `save`, what backward needs. Moves the running statistics in place."""
    y = _empty_like(x, memory_format=layout.format)
    calls = layout.forwards
    try:
        call = calls.pop()
    except IndexError:
        call = _Forward(layout, x, z, y)
    call.x.data = address_of(x)
    call.y.data = address_of(y)
    if z is not None:
        call.z.data = address_of(z)  # type: ignore[union-attr]
    call.weight.value = None if weight is None else address_of(weight)
    call.bias.value = None if bias is None else address_of(bias)
    call.running_mean.value = None if running_mean is None else address_of(running_mean)
    call.running_var.value = None if running_var is None else address_of(running_var)
    call.batch_stats.value = batch_stats
    call.factor.value = factor
    call.eps.value = eps
    moves = layout.groups != 0 and running_mean is not None
    if save or moves:
        saved: Optional[Tensor] = new_array(layout.saved, _float64)
        address = _address_of_saved(saved)  # type: ignore[arg-type]
        size = layout.statistics
        call.mean.value = address
        call.invstd.value = address + size
        call.mask.value = address + 2 * size if layout.mask else None
    else:
        saved = None
        call.mean.value = call.invstd.value = call.mask.value = None
    status = call.function(*call.arguments)
    calls.append(call)
    if status:
        _api.fail(status)
    if moves:
        _move(layout, saved, running_mean, running_var, factor, eps, x)  # type: ignore[arg-type]
    return y, saved


def _move(
    layout: Layout,
    saved: Tensor,
    running_mean: Tensor,
    running_var: Optional[Tensor],
    factor: float,
    eps: float,
    x: Tensor,
) -> None:
    """Running statistics of an instance norm: those of a batch are averages over its samples.

    The variance comes from invstd in double, whose error is 2^-52 of var + eps; where eps is the
    larger one, from x. Without elements nothing moves, and `saved` holds nothing.
    """
    n, c, h, w = x.shape
    if x.numel() == 0 or factor == 0.0:
        return
    mean, invstd = saved[: 2 * n * c].view(2, n, c)
    values = h * w
    var = torch.where(invstd == 0, 0.0, invstd.pow(-2) - eps).clamp_(min=0.0) * (
        values / (values - 1.0)
    )
    small = var < eps
    if small.any():
        var[small] = x.detach()[small].double().var((1, 2))
    for target, new in ((running_mean, mean), (running_var, var)):
        if target is None:
            continue
        average = new.mean(0)
        # As the library: what has no weight does not count, be it NaN.
        target.copy_(
            average if factor == 1.0 else (1.0 - factor) * target.double() + factor * average
        )


def backward(
    layout: Layout,
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    batch_stats: bool,
    want_x: bool,
    want_z: bool,
    want_weight: bool,
    want_bias: bool,
    z: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
) -> tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """dx, dz, dweight and dbias; None for what is not wanted.

    `y`: with an activation whose side it shows. `z` and `bias`: with a pointwise one; bias also
    where it shows the side.
    """
    strides = dy.stride()
    if 0 in strides or dy.is_neg():
        dy = laid_out(dy, x)
        strides = dy.stride()
    dx = _empty_like(x, memory_format=layout.format) if want_x else None
    dz = _empty_like(x, memory_format=layout.format) if want_z else None
    of_argument = layout.pointwise or bias is not None
    key = (strides, None if y is None else y.stride(), want_x, want_z, of_argument)
    try:
        call = layout.backwards[key].pop()
    except (KeyError, IndexError):
        layout.backwards.setdefault(key, [])
        call = _Backward(layout, x, dy, y, z, dx, dz, of_argument)
    call.x.data = address_of(x)
    call.dy.data = address_of(dy)
    if y is not None:
        call.y.data = address_of(y)  # type: ignore[union-attr]
    if of_argument:
        call.bias.value = None if bias is None else address_of(bias)
        if z is not None:
            call.z.data = address_of(z)  # type: ignore[union-attr]
    if dx is not None:
        call.dx.data = address_of(dx)  # type: ignore[union-attr]
    if dz is not None:
        call.dz.data = address_of(dz)  # type: ignore[union-attr]
    call.weight.value = None if weight is None else address_of(weight)
    call.batch_stats.value = batch_stats
    address = _address_of_saved(saved)
    size = layout.statistics
    call.mean.value = address
    call.invstd.value = address + size
    call.mask.value = address + 2 * size if layout.mask else None
    dweight = dbias = None
    if want_weight:
        dweight = _empty_like(weight)  # type: ignore[arg-type]
        call.dweight.value = address_of(dweight)
    else:
        call.dweight.value = None
    if want_bias:
        dbias = new_array(x.size(1), layout.parameters) if weight is None else _empty_like(weight)
        call.dbias.value = address_of(dbias)
    else:
        call.dbias.value = None
    status = call.function(*call.arguments)
    layout.backwards[key].append(call)
    if status:
        _api.fail(status)
    return dx, dz, dweight, dbias


def double_backward(
    layout: Layout,
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    batch_stats: bool,
    ddx: Optional[Tensor],
    ddz: Optional[Tensor],
    ddweight: Optional[Tensor],
    ddbias: Optional[Tensor],
    z: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
) -> tuple[Tensor, Tensor, Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """Gradients with respect to dy, x, weight, z and bias, for those with respect to the results of
    backward. `z` and `bias`: as in backward. They have gradients through a pointwise activation.

    Prepared anew each time: that costs little beside the graph which leads here.
    """
    ddy, dx = (_empty_like(x, memory_format=layout.format) for _ in range(2))
    dweight = None if weight is None else _empty_like(weight)
    tensors = {"x": x, "dy": laid_out(dy, x), "ddy": ddy, "dx": dx}
    arrays = {"weight": weight, "dweight": dweight, "ddweight": ddweight, "ddbias": ddbias}
    operation, dz, dbias = "double_backward", None, None
    if layout.pointwise or ddz is not None:
        operation = "double_backward_act"
        if ddz is not None:
            tensors["ddz"] = laid_out(ddz, x)
    if layout.pointwise:
        arrays["bias"] = bias
        if z is not None:
            dz = _empty_like(x, memory_format=layout.format)
            tensors.update(z=z, dz=dz)
        if bias is not None:
            arrays["dbias"] = dbias = _empty_like(bias)
    if y is not None:
        tensors["y"] = y
    if ddx is not None:
        tensors["ddx"] = laid_out(ddx, x)
    held = {name: one.contiguous() for name, one in arrays.items() if one is not None}
    views = {name: _view(tensor) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        views[name].data = address_of(tensor)
    address, size = _address_of_saved(saved), layout.statistics
    call = _prepared(
        layout,
        operation,
        mask=address + 2 * size if layout.mask else None,
        saved_mean=address,
        saved_invstd=address + size,
        batch_stats=batch_stats,
        **views,
        **{name: address_of(one) for name, one in held.items()},
    )
    status = call.function(*call.arguments)
    if status:
        _api.fail(status)
    return ddy, dx, dweight, dz, dbias
