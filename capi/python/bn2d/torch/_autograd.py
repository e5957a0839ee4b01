# SPDX-License-Identifier: MIT
"""The eager path: autograd functions that call the library straight away.

The operators of `_operators` do the same, but go through torch's dispatcher and its Python several
times; they serve torch.compile, torch.export and whatever looks at operators.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from . import _calls, _operators


class BatchNorm(torch.autograd.Function):
    """y = act(bn(x) + z). `how`: running_mean, running_var, batch_stats, factor, eps."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        layout: _calls.Layout,
        x: Tensor,
        z: Optional[Tensor],
        weight: Optional[Tensor],
        bias: Optional[Tensor],
        how: Any,
    ) -> Tensor:
        y, saved = _calls.forward(layout, x, z, weight, bias, *how, True)
        if layout.pointwise:
            ctx.save_for_backward(x, weight, saved, None, z, bias)
        else:
            side = None if layout.mask or not layout.activation else y
            tells = _calls.bias_shows_side(layout.activation, layout.slope, z, bias)
            ctx.save_for_backward(x, weight, saved, side, None, bias if tells else None)
        ctx.how = (layout.parameters, layout.activation, layout.slope, layout.groups, how[2])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        return (
            None,
            *gradients(ctx.how, ctx.needs_input_grad[1:5], dy, *ctx.saved_tensors),
            None,
        )


def gradients(
    how: Any,
    wants: Any,
    dy: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    saved: Tensor,
    y: Optional[Tensor],
    z: Optional[Tensor],
    bias: Optional[Tensor],
) -> Any:
    """dx, dz, dweight and dbias from what a forward saved.

    `how`: dtype of the parameters, activation, slope, groups, batch_stats.
    """
    if not _calls.are_plain(dy, x):  # 0.4 us each; the others are what forward took or made
        parameters, activation, slope, groups, batch_stats = how
        settings = (batch_stats, activation, slope, *wants, groups)
        found = _operators.batch_norm_backward(dy, x, weight, saved, y, *settings, z, bias)
        return tuple(one if wanted else None for one, wanted in zip(found, wants))
    layout, x, weight, z, bias = _calls.as_forward(dy, x, weight, saved, y, z, bias, *how[:4])
    if torch.is_grad_enabled():  # backward with create_graph=True
        return BatchNormBackward.apply(layout, dy, x, weight, saved, y, how[4], wants, z, bias)
    return _calls.backward(layout, dy, x, weight, saved, y, how[4], *wants, z, bias)


class BatchNormBackward(torch.autograd.Function):
    """dx, dz, dweight, dbias as functions of dy, x and weight.

    Through a pointwise activation they are functions of z and bias, too.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        layout: _calls.Layout,
        dy: Tensor,
        x: Tensor,
        weight: Optional[Tensor],
        saved: Tensor,
        y: Optional[Tensor],
        batch_stats: bool,
        wants: Any,
        z: Optional[Tensor],
        bias: Optional[Tensor],
    ) -> Any:
        ctx.save_for_backward(dy, x, weight, saved, y, z, bias)
        ctx.how = (layout, batch_stats)
        ctx.set_materialize_grads(False)
        return _calls.backward(layout, dy, x, weight, saved, y, batch_stats, *wants, z, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        layout, batch_stats = ctx.how
        *tensors, z, bias = ctx.saved_tensors
        dy, x, weight = tensors[:3]
        if _calls.are_plain(*tensors, z, bias, *grads):
            with torch.no_grad():
                found = _calls.double_backward(layout, *tensors, batch_stats, *grads, z, bias)
            inputs = (dy, x, weight, z, bias, *grads)
            found = not_differentiable(_operators.NO_THIRD_ORDER, found, *inputs)
        else:
            settings = (batch_stats, layout.activation, layout.slope)
            found = _operators.batch_norm_double_backward(
                *tensors, *settings, *grads, layout.groups, z, bias
            )
        ddy, dx, dweight, dz, dbias = found
        dweight = None if weight is None else dweight
        dz, dbias = (
            result if layout.pointwise and one is not None else None
            for one, result in ((z, dz), (bias, dbias))
        )
        return None, ddy, dx, dweight, None, None, None, None, dz, dbias


class _NotDifferentiable(torch.autograd.Function):
    """What was computed from inputs, as a node of which backward raises an error."""

    @staticmethod
    def forward(ctx: Any, text: str, found: Any, *inputs: Any) -> Any:  # type: ignore[override]
        ctx.text = text
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        raise RuntimeError(ctx.text)


def not_differentiable(text: str, found: Any, *inputs: Optional[Tensor]) -> Any:
    """The same tensors, without gradients: whoever differentiates them meets `text` as an error.

    torch's `once_differentiable` does not do: its node has no edge to the inputs, so that
    `torch.autograd.grad` with respect to them goes around it and returns what is left.
    """
    if not torch.is_grad_enabled():
        return found
    return _NotDifferentiable.apply(text, tuple(found), *inputs)


# Function.apply without its look for functorch's transforms (2 us), which the modules have looked
# for already.
batch_norm = super(torch.autograd.Function, BatchNorm).apply
