# SPDX-License-Identifier: MIT
"""The activations that norms apply themselves: their names, numbers in the library, and torch's
functions for them."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor
from torch.nn import functional

from .. import _api

NUMBERS: dict[str, int] = {
    name: _api.CONSTANTS["BN2D_ACT_" + name.upper()]
    for name in ("relu", "leaky_relu", "relu6", "hardswish", "silu", "gelu", "sigmoid")
}
_FUNCTIONS: dict[int, Callable[[Tensor], Tensor]] = {
    NUMBERS["relu"]: functional.relu,
    NUMBERS["relu6"]: functional.relu6,
    NUMBERS["hardswish"]: functional.hardswish,
    NUMBERS["silu"]: functional.silu,
    NUMBERS["gelu"]: functional.gelu,
    NUMBERS["sigmoid"]: torch.sigmoid,
}


def number_of(name: str) -> int:
    """The library's number of an activation."""
    if name not in NUMBERS:
        raise ValueError("activation is %r, known are %s" % (name, ", ".join(NUMBERS)))
    return NUMBERS[name]


def activate(activation: int, v: Tensor, slope: float) -> Tensor:
    """The same by torch."""
    if activation == NUMBERS["leaky_relu"]:
        return functional.leaky_relu(v, slope)
    return _FUNCTIONS[activation](v) if activation else v


def name_and_slope(module: Any) -> tuple[str, float] | None:
    """What a module of torch.nn computes, where norms can do it; else None."""
    kind = type(module)
    if kind is torch.nn.LeakyReLU:
        return "leaky_relu", float(module.negative_slope)
    if kind is torch.nn.GELU and module.approximate != "none":
        return None
    name = _MODULES.get(kind)
    return None if name is None else (name, 0.0)


_MODULES: dict[type, str] = {
    torch.nn.ReLU: "relu",
    torch.nn.ReLU6: "relu6",
    torch.nn.Hardswish: "hardswish",
    torch.nn.SiLU: "silu",
    torch.nn.GELU: "gelu",
    torch.nn.Sigmoid: "sigmoid",
}
