# SPDX-License-Identifier: MIT
"""Norms that add a residual and apply an activation in the same pass."""

from __future__ import annotations

from typing import Any, Optional

from torch import Tensor

from ._activations import number_of
from ._calls import LEAKY_RELU, RELU
from ._modules import BatchNorm2d, GroupNorm, _forward


class _WithActivation:
    """forward(x) and forward(x, z) of a norm with an activation. The class attributes serve modules
    that `convert` makes of torch's, which have no own."""

    activation: str = "relu"
    negative_slope: float = 0.0

    def _set_activation(self, activation: str, negative_slope: Optional[float]) -> None:
        self.activation = activation
        if activation == "leaky_relu":
            self.negative_slope = 0.01 if negative_slope is None else float(negative_slope)

    def forward(self, input: Tensor, z: Optional[Tensor] = None) -> Tensor:  # noqa: A002, D102
        return _forward(self, input, z, number_of(self.activation), self.negative_slope)

    def extra_repr(self) -> str:  # noqa: D102
        slope = ", negative_slope=%r" % self.negative_slope if self.negative_slope else ""
        norm = super().extra_repr()  # type: ignore[misc]
        return "%s, activation=%s%s" % (norm, self.activation, slope)


def _check_activation(activation: str, negative_slope: Optional[float]) -> None:
    number_of(activation)
    if negative_slope is not None and activation != "leaky_relu":
        raise ValueError(
            "negative_slope is %r, but the activation is %s" % (negative_slope, activation)
        )


class BatchNormAct2d(_WithActivation, BatchNorm2d):
    """act(bn(x)) in one pass, or act(bn(x) + z) with a residual: ``BatchNormAct2d(64,
    activation="silu")(x, z)``.

    The arguments of ``torch.nn.BatchNorm2d`` and:

    Args:
        activation: relu, leaky_relu, relu6, hardswish, silu, gelu (of erf) or sigmoid.
        negative_slope: Of leaky_relu; None: 0.01.

    The state is that of a BatchNorm2d. With relu and leaky_relu the output is kept for backward,
    with the others the inputs, and no output: what changes them in place before makes backward
    raise an error.

    Raises:
        ValueError: Another activation, or a slope of one that has none.
    """

    # torch's arguments by their names, for torch.nn.utils.skip_init, editors and help(); `others`:
    # those of a newer torch.
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: Optional[float] = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: str = "relu",
        negative_slope: Optional[float] = None,
        **others: Any,
    ) -> None:
        _check_activation(activation, negative_slope)
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device=device,
            dtype=dtype,
            **others,
        )
        self._set_activation(activation, negative_slope)


class GroupNormAct(_WithActivation, GroupNorm):
    """act(gn(x)) in one pass, or act(gn(x) + z) with a residual: ``GroupNormAct(32, 64,
    activation="silu")(x, z)``.

    The arguments of ``torch.nn.GroupNorm`` and those of :class:`BatchNormAct2d`, of which the rest
    holds, too.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: str = "relu",
        negative_slope: Optional[float] = None,
        **others: Any,
    ) -> None:
        _check_activation(activation, negative_slope)
        super().__init__(
            num_groups, num_channels, eps, affine, device=device, dtype=dtype, **others
        )
        self._set_activation(activation, negative_slope)


class BNReLU(BatchNorm2d):
    """relu(bn(x)) in one pass, or relu(bn(x) + z) with a residual: ``BNReLU(64)(x, z)``.

    The arguments of ``torch.nn.BatchNorm2d`` and:

    Args:
        negative_slope: Not 0: leaky_relu of that slope.

    The state is that of a BatchNorm2d. As with torch's ReLU, the output is kept for backward: what
    changes it in place before makes backward raise an error. (torch's LeakyReLU keeps its input.)
    """

    negative_slope: float = 0.0

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: Optional[float] = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        negative_slope: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device=device,
            dtype=dtype,
            **others,
        )
        self.negative_slope = float(negative_slope)

    def forward(self, input: Tensor, z: Optional[Tensor] = None) -> Tensor:  # noqa: A002, D102
        slope = self.negative_slope
        return _forward(self, input, z, LEAKY_RELU if slope else RELU, slope)

    def extra_repr(self) -> str:  # noqa: D102
        slope = ", negative_slope=%r" % self.negative_slope if self.negative_slope else ""
        return super().extra_repr() + slope
