# SPDX-License-Identifier: MIT
"""The same calls as operators of torch: `torch.ops.bn2d.batch_norm` and two for its gradients.

They are what torch.compile and torch.export see, and what runs under dispatch modes, on fake
tensors, and on gradients that are no plain tensors (batched ones, say). They change nothing in
place: the new running statistics are results. A result that was not wanted has no elements.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from . import _calls

_library = torch.library.Library("bn2d", "DEF")
_library.define(
    "batch_norm(Tensor x, Tensor? z, Tensor? weight, Tensor? bias, Tensor? running_mean, "
    "Tensor? running_var, bool batch_stats, float factor, float eps, int activation, float slope, "
    "bool save, int groups=0) -> (Tensor y, Tensor saved, Tensor new_mean, Tensor new_var)",
    tags=[torch.Tag.pt2_compliant_tag],
)
_library.define(
    "batch_norm_backward(Tensor dy, Tensor x, Tensor? weight, Tensor saved, Tensor? y, bool batch_stats, "
    "int activation, float slope, bool want_x, bool want_z, bool want_weight, bool want_bias, "
    "int groups=0, Tensor? z=None, Tensor? bias=None) "
    "-> (Tensor dx, Tensor dz, Tensor dweight, Tensor dbias)",
    tags=[torch.Tag.pt2_compliant_tag],
)
_library.define(
    "batch_norm_double_backward(Tensor dy, Tensor x, Tensor? weight, Tensor saved, Tensor? y, bool batch_stats, "
    "int activation, float slope, Tensor? ddx, Tensor? ddz, Tensor? ddweight, Tensor? ddbias, int groups=0, "
    "Tensor? z=None, Tensor? bias=None) "
    "-> (Tensor ddy, Tensor dx, Tensor dweight, Tensor dz, Tensor dbias)",
    tags=[torch.Tag.pt2_compliant_tag],
)


def _or_none(tensor: Tensor, wanted: bool) -> Optional[Tensor]:
    return tensor if wanted else None


def _like(x: Tensor) -> Tensor:
    """y or a gradient in the format of `_calls.format_of`, in terms that tracers follow."""
    return torch.empty_like(x, memory_format=suggest_memory_format(x))


def _result(tensor: Optional[Tensor], like: Tensor) -> Tensor:
    return like.new_empty(0) if tensor is None else tensor


# ------------------------------------------------------------------------------------------ forward


def _batch_norm(
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
    groups: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = _calls.laid_out(x, x)
    z = None if z is None else _calls.laid_out(z, x)
    arrays = [_calls.checked(one, x) for one in (weight, bias, running_mean, running_var)]
    if batch_stats:  # nothing in place
        arrays[2:] = [None if one is None else one.clone() for one in arrays[2:]]
    layout = _calls.needed_layout(
        x,
        z,
        next((one.dtype for one in arrays if one is not None), x.dtype),
        activation,
        slope,
        groups,
    )
    y, saved = _calls.forward(layout, x, z, *arrays, batch_stats, factor, eps, save)
    moved = arrays[2:] if batch_stats else (None, None)
    if saved is None or not save:  # an instance norm that moves its statistics always has one
        saved = _calls.new_array(0, torch.float64)
    return y, saved, _result(moved[0], x), _result(moved[1], x)


def _batch_norm_fake(
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
    groups: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    length = _calls.saved_length(*x.shape, _calls.masks(activation, slope), groups) if save else 0
    saved = torch.empty(length, dtype=torch.float64, device=x.device)
    results = [
        torch.empty_like(one) if batch_stats and one is not None else x.new_empty(0)
        for one in (running_mean, running_var)
    ]
    return _like(x), saved, results[0], results[1]


def _batch_norm_context(ctx: Any, inputs: Any, output: Any) -> None:
    x, z, weight, bias, _, _, batch_stats, _, _, activation, slope, save, groups = inputs
    side = output[0] if _calls.shows_side(activation, slope) else None
    of_argument = (z, bias) if _calls.is_pointwise(activation) else (None, None)
    if _calls.bias_shows_side(activation, slope, z, bias):
        of_argument = (None, bias)
    ctx.save_for_backward(x, weight, output[1], side, *of_argument)
    ctx.settings = (batch_stats, activation, slope)
    ctx.groups = groups
    ctx.saves = save
    ctx.wants = (z is not None, weight is not None, bias is not None)


def _batch_norm_gradient(ctx: Any, dy: Tensor, *_: Any) -> Any:
    if not ctx.saves:
        raise RuntimeError(
            "bn2d::batch_norm was called with save=False, which leaves nothing for backward"
        )
    x, weight, saved, y, z, bias = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wants = (needs[0], needs[1], needs[2], needs[3])
    found = torch.ops.bn2d.batch_norm_backward(
        dy, x, weight, saved, y, *ctx.settings, *wants, ctx.groups, z, bias
    )
    return (*(_or_none(one, wanted) for one, wanted in zip(found, wants)), *[None] * 9)


# ----------------------------------------------------------------------------------------- backward


def _backward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    batch_stats: bool,
    activation: int,
    slope: float,
    want_x: bool,
    want_z: bool,
    want_weight: bool,
    want_bias: bool,
    groups: int = 0,
    z: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
) -> Any:
    parameters = x.dtype if weight is None else weight.dtype
    layout, x, weight, z, bias = _calls.as_forward(
        dy, x, weight, saved, y, z, bias, parameters, activation, slope, groups
    )
    wants = (want_x, want_z, want_weight, want_bias)
    found = _calls.backward(layout, dy, x, weight, saved, y, batch_stats, *wants, z, bias)
    return tuple(_result(one, x) for one in found)


def _backward_fake(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    batch_stats: bool,
    activation: int,
    slope: float,
    want_x: bool,
    want_z: bool,
    want_weight: bool,
    want_bias: bool,
    groups: int = 0,
    z: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
) -> Any:
    parameters = x.dtype if weight is None else weight.dtype
    tensors = [_like(x) if wanted else x.new_empty(0) for wanted in (want_x, want_z)]
    arrays = [
        x.new_empty(x.shape[1], dtype=parameters) if wanted else x.new_empty(0)
        for wanted in (want_weight, want_bias)
    ]
    return (*tensors, *arrays)


def _backward_context(ctx: Any, inputs: Any, output: Any) -> None:
    dy, x, weight, saved, y, *settings, z, bias = inputs
    ctx.save_for_backward(dy, x, weight, saved, y, z, bias)
    ctx.settings = tuple(settings)
    ctx.set_materialize_grads(False)


def _backward_gradient(ctx: Any, *grads: Any) -> Any:
    dy, x, weight, saved, y, z, bias = ctx.saved_tensors
    wanted, groups = ctx.settings[3:7], ctx.settings[7]
    grads = tuple(one if want else None for one, want in zip(grads, wanted))
    found = torch.ops.bn2d.batch_norm_double_backward(
        dy, x, weight, saved, y, *ctx.settings[:3], *grads, groups, z, bias
    )
    ddy, dx, dweight, dz, dbias = found
    curved = _calls.is_pointwise(ctx.settings[1])
    return (
        ddy,
        dx,
        _or_none(dweight, weight is not None),
        *[None] * 10,
        _or_none(dz, curved and z is not None),
        _or_none(dbias, curved and bias is not None),
    )


def _double_backward(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    batch_stats: bool,
    activation: int,
    slope: float,
    ddx: Optional[Tensor],
    ddz: Optional[Tensor],
    ddweight: Optional[Tensor],
    ddbias: Optional[Tensor],
    groups: int = 0,
    z: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
) -> Any:
    parameters = x.dtype if weight is None else weight.dtype
    layout, x, weight, z, bias = _calls.as_forward(
        dy, x, weight, saved, y, z, bias, parameters, activation, slope, groups
    )
    grads = (ddx, ddz, ddweight, ddbias, z, bias)
    ddy, dx, *others = _calls.double_backward(layout, dy, x, weight, saved, y, batch_stats, *grads)
    return (ddy, dx, *(_result(one, x) for one in others))


NO_THIRD_ORDER = (
    "bn2d.torch has no gradients of third order (torch's norms have: bn2d.torch.revert)"
)


def _double_backward_gradient(ctx: Any, *grads: Any) -> Any:
    raise RuntimeError(NO_THIRD_ORDER)


def _double_backward_fake(
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    batch_stats: bool,
    activation: int,
    slope: float,
    ddx: Optional[Tensor],
    ddz: Optional[Tensor],
    ddweight: Optional[Tensor],
    ddbias: Optional[Tensor],
    groups: int = 0,
    z: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
) -> Any:
    pointwise = _calls.is_pointwise(activation)
    return (
        _like(x),
        _like(x),
        x.new_empty(0) if weight is None else torch.empty_like(weight),
        _like(x) if pointwise and z is not None else x.new_empty(0),
        torch.empty_like(bias) if pointwise and bias is not None else x.new_empty(0),
    )


for _name, _call, _fake in (
    ("batch_norm", _batch_norm, _batch_norm_fake),
    ("batch_norm_backward", _backward, _backward_fake),
    ("batch_norm_double_backward", _double_backward, _double_backward_fake),
):
    _library.impl(_name, _call, "CPU")
    torch.library.register_fake("bn2d::" + _name, _fake, lib=_library)
torch.library.register_autograd(
    "bn2d::batch_norm", _batch_norm_gradient, setup_context=_batch_norm_context, lib=_library
)
torch.library.register_autograd(
    "bn2d::batch_norm_backward", _backward_gradient, setup_context=_backward_context, lib=_library
)

torch.library.register_autograd(
    "bn2d::batch_norm_double_backward", _double_backward_gradient, lib=_library
)

batch_norm = torch.ops.bn2d.batch_norm.default
batch_norm_backward = torch.ops.bn2d.batch_norm_backward.default
batch_norm_double_backward = torch.ops.bn2d.batch_norm_double_backward.default
