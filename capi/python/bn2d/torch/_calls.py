# SPDX-License-Identifier: MIT
"""The stateless functions of the library on torch tensors: parameters, buffers and data stay torch's.

Each function here takes and returns plain tensors of the CPU, allocates what it returns, and knows
nothing of autograd. Where a call can be made at all is told by `fits`.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from .. import _api

RELU = _api.CONSTANTS["BN2D_ACT_RELU"]
LEAKY_RELU = _api.CONSTANTS["BN2D_ACT_LEAKY_RELU"]
NONE = _api.CONSTANTS["BN2D_ACT_NONE"]

# dtype: (number in the library, DLPack's code, bits)
DTYPES = {
    torch.float32: (_api.CONSTANTS["BN2D_F32"], 2, 32),
    torch.float64: (_api.CONSTANTS["BN2D_F64"], 2, 64),
    torch.float16: (_api.CONSTANTS["BN2D_F16"], 2, 16),
    torch.bfloat16: (_api.CONSTANTS["BN2D_BF16"], 4, 16),
}
HALF = (torch.float16, torch.bfloat16)
# A program with ever new shapes must not collect a plan for each.
MOST_PLANS = 1024


def view_of(tensor: Tensor) -> _api.View:
    """A view of a tensor's layout; `data` is not set."""
    _, code, bits = DTYPES[tensor.dtype]
    return _api.view(tuple(tensor.shape), tensor.stride(), code, bits)


def saved_length(n: int, c: int, h: int, w: int, mask: bool) -> int:
    """Elements of the float64 tensor that a forward leaves for backward: mean, invstd, bits of the mask.

    The length of the mask is bn2d_mask_nbytes() (a test compares), written out for symbolic extents.
    """
    return 2 * c + (n * c * ((h * w + 7) // 8) + 7) // 8 if mask else 2 * c


class _Pool:
    """Prepared calls by layout. Each is used by one thread at a time, and given back."""

    def __init__(self, make: Any) -> None:
        self.make = make
        self.plans: dict[Any, list[Any]] = {}

    def take(self, key: Any, *arguments: Any) -> Any:
        try:
            return self.plans[key].pop()
        except (KeyError, IndexError):
            return self.make(*arguments)

    def give(self, key: Any, plan: Any) -> None:
        try:
            self.plans[key].append(plan)
        except KeyError:
            if len(self.plans) >= MOST_PLANS:
                self.plans.clear()
            self.plans[key] = [plan]


class _Forward:
    """bn2d_batch_norm_forward for one layout of x, z and y."""

    __slots__ = (
        "arguments", "bias", "eps", "factor", "function", "invstd", "mask", "mean", "running_mean",
        "running_var", "saved", "batch_stats", "weight", "x", "y", "z", "channels",
    )  # fmt: skip

    def __init__(self, x: Tensor, z: Optional[Tensor], y: Tensor, parameters: torch.dtype, activation: int, slope: float) -> None:
        self.x, self.y = view_of(x), view_of(y)
        self.z = None if z is None else view_of(z)
        call = _api.Call(
            "bn2d_batch_norm_forward",
            x=self.x,
            z=self.z,
            y=self.y,
            dtype=DTYPES[parameters][0],
            activation=activation,
            slope=slope,
        )
        self.function, self.arguments = call.function, call.arguments
        slots = call.slots
        self.weight, self.bias = slots["weight"], slots["bias"]
        self.running_mean, self.running_var = slots["running_mean"], slots["running_var"]
        self.batch_stats, self.factor, self.eps = slots["batch_stats"], slots["averaging_factor"], slots["eps"]
        self.mask, self.mean, self.invstd = slots["mask"], slots["saved_mean"], slots["saved_invstd"]
        n, c, h, w = x.shape
        self.channels = c
        self.saved = saved_length(n, c, h, w, activation != NONE)


_forwards = _Pool(_Forward)
_empty_like, _empty, _float64 = torch.empty_like, torch.empty, torch.float64


def forward(
    x: Tensor,
    z: Optional[Tensor],
    weight: Optional[Tensor],
    bias: Optional[Tensor],
    running_mean: Optional[Tensor],
    running_var: Optional[Tensor],
    batch_stats: bool,
    factor: float,
    eps: float,
    activation: int,
    slope: float,
    save: bool,
) -> tuple[Tensor, Optional[Tensor]]:
    """y = act(bn(x) + z) and, with `save`, what backward needs. Moves the running statistics in place."""
    y = _empty_like(x)
    parameters = x.dtype
    for one in (weight, bias, running_mean, running_var):
        if one is not None:
            parameters = one.dtype
            break
    key = (x.shape, x.stride(), x.dtype, parameters, activation, slope, None if z is None else z.stride())
    plan = _forwards.take(key, x, z, y, parameters, activation, slope)
    saved = None
    plan.x.data = x.data_ptr()
    plan.y.data = y.data_ptr()
    if z is not None:
        plan.z.data = z.data_ptr()
    plan.weight.value = None if weight is None else weight.data_ptr()
    plan.bias.value = None if bias is None else bias.data_ptr()
    plan.running_mean.value = None if running_mean is None else running_mean.data_ptr()
    plan.running_var.value = None if running_var is None else running_var.data_ptr()
    plan.batch_stats.value = batch_stats
    plan.factor.value = factor
    plan.eps.value = eps
    if save:
        saved = _empty(plan.saved, dtype=_float64)
        address = saved.data_ptr()
        size = 8 * plan.channels
        plan.mean.value = address
        plan.invstd.value = address + size
        plan.mask.value = address + 2 * size if activation else None
    else:
        plan.mean.value = plan.invstd.value = plan.mask.value = None
    status = plan.function(*plan.arguments)
    _forwards.give(key, plan)
    if status:
        _api.fail(status)
    return y, saved


class _Backward:
    """bn2d_batch_norm_backward for one layout of x, dy, dx and dz."""

    __slots__ = (
        "arguments", "batch_stats", "bias", "channels", "dweight", "dx", "dy", "dz", "function", "invstd", "mask",
        "mean", "weight", "x", "saved_has_mask", "dbias",
    )  # fmt: skip

    def __init__(self, x: Tensor, dy: Tensor, dx: Optional[Tensor], dz: Optional[Tensor], parameters: torch.dtype, activation: int, slope: float) -> None:
        self.x, self.dy = view_of(x), view_of(dy)
        self.dx = None if dx is None else view_of(dx)
        self.dz = None if dz is None else view_of(dz)
        call = _api.Call(
            "bn2d_batch_norm_backward",
            x=self.x,
            dy=self.dy,
            dtype=DTYPES[parameters][0],
            activation=activation,
            slope=slope,
            dx=self.dx,
            dz=self.dz,
        )
        self.function, self.arguments = call.function, call.arguments
        slots = call.slots
        self.weight, self.mask, self.mean, self.invstd = slots["weight"], slots["mask"], slots["saved_mean"], slots["saved_invstd"]
        self.dweight, self.dbias, self.batch_stats = slots["dweight"], slots["dbias"], slots["batch_stats"]
        self.channels = x.shape[1]


_backwards = _Pool(_Backward)


def positive(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor with strides that the library takes: an expanded one (of y.sum(), say) is laid out as `like`."""
    if 0 in tensor.stride() or tensor.is_neg():
        return _empty_like(like).copy_(tensor)
    return tensor


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    batch_stats: bool,
    activation: int,
    slope: float,
    want_x: bool,
    want_z: bool,
    want_weight: bool,
    want_bias: bool,
) -> tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """dx, dz, dweight and dbias; None for what is not wanted."""
    strides = dy.stride()
    if 0 in strides or dy.is_neg():
        dy = positive(dy, x)
        strides = dy.stride()
    parameters = x.dtype if weight is None else weight.dtype
    dx = _empty_like(x) if want_x else None
    dz = _empty_like(x) if want_z else None
    key = (x.shape, x.stride(), strides, x.dtype, parameters, activation, slope, want_x, want_z)
    plan = _backwards.take(key, x, dy, dx, dz, parameters, activation, slope)
    plan.x.data = x.data_ptr()
    plan.dy.data = dy.data_ptr()
    if dx is not None:
        plan.dx.data = dx.data_ptr()
    if dz is not None:
        plan.dz.data = dz.data_ptr()
    plan.weight.value = None if weight is None else weight.data_ptr()
    plan.batch_stats.value = batch_stats
    address = saved.data_ptr()
    size = 8 * plan.channels
    plan.mean.value = address
    plan.invstd.value = address + size
    plan.mask.value = address + 2 * size if activation else None
    dweight = dbias = None
    if want_weight:
        dweight = _empty(plan.channels, dtype=parameters)
        plan.dweight.value = dweight.data_ptr()
    else:
        plan.dweight.value = None
    if want_bias:
        dbias = _empty(plan.channels, dtype=parameters)
        plan.dbias.value = dbias.data_ptr()
    else:
        plan.dbias.value = None
    status = plan.function(*plan.arguments)
    _backwards.give(key, plan)
    if status:
        _api.fail(status)
    return dx, dz, dweight, dbias


def double_backward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    batch_stats: bool,
    activation: int,
    slope: float,
    ddx: Optional[Tensor],
    ddz: Optional[Tensor],
    ddweight: Optional[Tensor],
    ddbias: Optional[Tensor],
) -> tuple[Tensor, Tensor, Optional[Tensor]]:
    """Gradients with respect to dy, x and weight, for those with respect to the results of backward.

    The cost of preparing the call is small beside that of the graph which leads here.
    """
    dy = positive(dy, x)
    parameters = x.dtype if weight is None else weight.dtype
    ddy, dx = _empty_like(x), _empty_like(x)
    dweight = None if weight is None else _empty_like(weight)
    channels = x.shape[1]
    address = saved.data_ptr()
    tensors = {"x": x, "dy": dy, "ddy": ddy, "dx": dx}
    if ddx is not None:
        tensors["ddx"] = positive(ddx, x)
    arrays = {"weight": weight, "dweight": dweight, "ddweight": ddweight, "ddbias": ddbias}
    arrays = {name: one.contiguous() for name, one in arrays.items() if one is not None}
    views = {name: view_of(tensor) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        views[name].data = tensor.data_ptr()
    call = _api.Call(
        "bn2d_batch_norm_double_backward",
        dtype=DTYPES[parameters][0],
        mask=address + 16 * channels if activation else None,
        saved_mean=address,
        saved_invstd=address + 8 * channels,
        batch_stats=batch_stats,
        activation=activation,
        slope=slope,
        **views,
        **{name: one.data_ptr() for name, one in arrays.items()},
    )
    status = call.function(*call.arguments)
    if status:
        _api.fail(status)
    if ddz is not None:  # dz is dy through the activation, so ddz reaches dy through it, too
        _, through, _, _ = backward(ddz, x, weight, saved, batch_stats, activation, slope, False, True, False, False)
        ddy += through
    return ddy, dx, dweight
