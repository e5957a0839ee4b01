# SPDX-License-Identifier: MIT
"""convert: bn2d's norms for torch's in a model, in place, and revert, back.

A module is converted by giving it another class. It stays the same object with the same parameters,
buffers, hooks, mode and place, so that optimizers, DDP and references to it notice nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from torch import Tensor, nn

from ._modules import BatchNorm2d, BNReLU, GroupNorm, InstanceNorm2d

Module = TypeVar("Module", bound=nn.Module)


class AbsorbedReLU(nn.ReLU):
    """A ReLU that the BNReLU before it does: hands its input on."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x


class AbsorbedLeakyReLU(nn.LeakyReLU):
    """A LeakyReLU that the BNReLU before it does: hands its input on."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x


_NORMS = {nn.BatchNorm2d: BatchNorm2d, nn.GroupNorm: GroupNorm, nn.InstanceNorm2d: InstanceNorm2d}
_TORCH_NORMS = {ours: theirs for theirs, ours in _NORMS.items()}
_ABSORBED = {nn.ReLU: AbsorbedReLU, nn.LeakyReLU: AbsorbedLeakyReLU}
_RESTORED = {AbsorbedReLU: nn.ReLU, AbsorbedLeakyReLU: nn.LeakyReLU}


def convert(model: Module, fuse: bool = False) -> Module:
    """Makes every ``BatchNorm2d``, ``GroupNorm`` and ``InstanceNorm2d`` of torch in a model bn2d's,
    in place.

    Args:
        model: Any module, itself included. Subclasses of torch's norms are left alone.
        fuse: True: where an ``nn.Sequential`` has an ``nn.ReLU`` or ``nn.LeakyReLU`` right after a
            batch norm, both become one :class:`BNReLU`, unless one of them has hooks or is used
            elsewhere. The activation stays in its place and hands its input on, so that the names
            in ``state_dict`` stay, too.

    Returns:
        The model.
    """
    if fuse:
        _fuse(model)
    for module in model.modules():
        if type(module) in _NORMS:
            module.__class__ = _NORMS[type(module)]
    return model


def revert(model: Module) -> Module:
    """Undoes :func:`convert`, in place. A BNReLU that was made by hand stays: torch has no such
    module.

    Returns:
        The model.
    """
    for module in model.modules():
        if type(module) is BNReLU and module.__dict__.pop(_FUSED, False):
            module.__dict__.pop("negative_slope", None)
            module.__class__ = nn.BatchNorm2d
        elif type(module) in _TORCH_NORMS:
            module.__class__ = _TORCH_NORMS[type(module)]
        elif type(module) in _RESTORED:
            module.__class__ = _RESTORED[type(module)]
    return model


_FUSED = "_bn2d_fused"


def _fuse(model: nn.Module) -> None:
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for parent in model.modules():
        if type(parent) is not nn.Sequential:
            continue
        children = list(parent.children())
        for norm, activation in zip(children, children[1:]):
            if type(norm) not in (nn.BatchNorm2d, BatchNorm2d) or type(activation) not in _ABSORBED:
                continue
            if any(uses[id(one)] != 1 or _has_hooks(one) for one in (norm, activation)):
                continue
            norm.__class__ = BNReLU
            norm.__dict__[_FUSED] = True
            norm.__dict__["negative_slope"] = float(getattr(activation, "negative_slope", 0.0))
            activation.__class__ = _ABSORBED[type(activation)]


def _has_hooks(module: nn.Module) -> bool:
    return any(value for name, value in module.__dict__.items() if name.endswith("_hooks"))
