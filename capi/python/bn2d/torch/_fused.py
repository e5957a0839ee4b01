# SPDX-License-Identifier: MIT
"""Norms that add a residual and apply an activation in the same pass."""

from __future__ import annotations

from typing import Any, Optional

from torch import Tensor, nn

from ._activations import number_of
from ._calls import LEAKY_RELU, RELU
from ._modules import BatchNorm2d, GroupNorm, _forward, with_arguments_of


class _WithActivation:
    """forward(x) and forward(x, z) of a norm with an activation. The class attributes serve modules
    that `convert` makes of torch's, which have no own."""

    activation: str = "relu"
    negative_slope: float = 0.0

    def __init__(
        self,
        *arguments: Any,
        activation: str = "relu",
        negative_slope: Optional[float] = None,
        **named: Any,
    ) -> None:
        number_of(activation)
        is_leaky = activation == "leaky_relu"
        if negative_slope is not None and not is_leaky:
            raise ValueError(
                "negative_slope is %r, but the activation is %s" % (negative_slope, activation)
            )
        super().__init__(*arguments, **named)
        self.activation = activation
        if is_leaky:
            self.negative_slope = 0.01 if negative_slope is None else float(negative_slope)

    def forward(self, input: Tensor, z: Optional[Tensor] = None) -> Tensor:  # noqa: A002, D102
        return _forward(self, input, z, number_of(self.activation), self.negative_slope)

    def extra_repr(self) -> str:  # noqa: D102
        slope = ", negative_slope=%r" % self.negative_slope if self.negative_slope else ""
        norm = super().extra_repr()  # type: ignore[misc]
        return "%s, activation=%s%s" % (norm, self.activation, slope)


class BatchNormAct2d(_WithActivation, BatchNorm2d):
    """act(bn(x)) in one pass, or act(bn(x) + z) with a residual: ``BatchNormAct2d(64,
    activation="silu")(x, z)``.

    The arguments of ``torch.nn.BatchNorm2d`` and:

    Args:
        activation: relu, leaky_relu, relu6, hardswish, silu, gelu (of erf) or sigmoid.
        negative_slope: Of leaky_relu; None: 0.01.

    The state is that of a BatchNorm2d. Kept for backward are x and weight, as ever, and what tells
    the activation: with relu and leaky_relu the output, and the bias where there is no residual;
    with the others z and the bias, and no output. What changes one of them in place before makes
    backward raise an error. (torch keeps no bias.)

    Raises:
        ValueError: Another activation, or a slope of one that has none.
    """

    __init__ = with_arguments_of(nn.BatchNorm2d)(_WithActivation.__init__)


class GroupNormAct(_WithActivation, GroupNorm):
    """act(gn(x)) in one pass, or act(gn(x) + z) with a residual: ``GroupNormAct(32, 64,
    activation="silu")(x, z)``.

    The arguments of ``torch.nn.GroupNorm`` and those of :class:`BatchNormAct2d`, of which the rest
    holds, too.
    """

    __init__ = with_arguments_of(nn.GroupNorm)(_WithActivation.__init__)


class BNReLU(BatchNorm2d):
    """relu(bn(x)) in one pass, or relu(bn(x) + z) with a residual: ``BNReLU(64)(x, z)``.

    The arguments of ``torch.nn.BatchNorm2d`` and:

    Args:
        negative_slope: Not 0: leaky_relu of that slope.

    The state is that of a BatchNorm2d. As with torch's ReLU, the output is kept for backward, and
    without a residual the bias, too: what changes one of them in place before makes backward raise
    an error. (torch's LeakyReLU keeps its input, and its norms no bias.)
    """

    negative_slope: float = 0.0

    @with_arguments_of(nn.BatchNorm2d)
    def __init__(self, *arguments: Any, negative_slope: float = 0.0, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.negative_slope = float(negative_slope)

    def forward(self, input: Tensor, z: Optional[Tensor] = None) -> Tensor:  # noqa: A002, D102
        slope = self.negative_slope
        return _forward(self, input, z, LEAKY_RELU if slope else RELU, slope)

    def extra_repr(self) -> str:  # noqa: D102
        slope = ", negative_slope=%r" % self.negative_slope if self.negative_slope else ""
        return super().extra_repr() + slope
