# SPDX-License-Identifier: MIT
"""The eager path: autograd functions that call the library straight away.

`torch.library` operators do the same (see `_operators`), but cost 3 times as much for a small layer;
they serve torch.compile, torch.export and whatever looks at operators.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _calls


class BatchNorm(torch.autograd.Function):
    """y = act(bn(x) + z)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Optional[Tensor], weight: Optional[Tensor], bias: Optional[Tensor], how: Any) -> Tensor:  # type: ignore[override]
        """`how`: the arguments of `_calls.forward` from running_mean to slope."""
        y, saved = _calls.forward(x, z, weight, bias, *how, True)
        ctx.save_for_backward(x, weight, saved)
        ctx.how = how
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        x, weight, saved = ctx.saved_tensors
        _, _, batch_stats, _, _, activation, slope = ctx.how
        want_x, want_z, want_weight, want_bias, _ = ctx.needs_input_grad
        settings = (batch_stats, activation, slope, want_x, want_z, want_weight, want_bias)
        if torch.is_grad_enabled():  # create_graph: the gradients have gradients
            return (*BatchNormBackward.apply(dy, x, weight, saved, settings), None)
        return (*_calls.backward(dy, x, weight, saved, *settings), None)


class BatchNormBackward(torch.autograd.Function):
    """dx, dz, dweight, dbias as functions of dy, x and weight."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, weight: Optional[Tensor], saved: Tensor, settings: Any) -> Any:  # type: ignore[override]
        ctx.save_for_backward(dy, x, weight, saved)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return _calls.backward(dy, x, weight, saved, *settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ddx: Any, ddz: Any, ddweight: Any, ddbias: Any) -> Any:  # type: ignore[override]
        dy, x, weight, saved = ctx.saved_tensors
        ddy, dx, dweight = _calls.double_backward(dy, x, weight, saved, *ctx.settings[:3], ddx, ddz, ddweight, ddbias)
        return ddy, dx, dweight, None, None
