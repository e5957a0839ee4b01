# SPDX-License-Identifier: MIT
"""convert: bn2d's norms for torch's in a model, in place, and revert, back.

A module is converted by giving it another class. It stays the same object with the same parameters,
buffers, hooks, mode and place, so that optimizers, DDP and references to it notice nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from torch import Tensor, nn

from ._activations import name_and_slope
from ._fused import BatchNormAct2d, BNReLU, GroupNormAct
from ._modules import BatchNorm2d, GroupNorm, InstanceNorm2d

Module = TypeVar("Module", bound=nn.Module)


class _Absorbed:
    """An activation that the norm before it applies: hands its input on."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x


class AbsorbedReLU(_Absorbed, nn.ReLU): ...  # noqa: D101


class AbsorbedLeakyReLU(_Absorbed, nn.LeakyReLU): ...  # noqa: D101


class AbsorbedReLU6(_Absorbed, nn.ReLU6): ...  # noqa: D101


class AbsorbedHardswish(_Absorbed, nn.Hardswish): ...  # noqa: D101


class AbsorbedSiLU(_Absorbed, nn.SiLU): ...  # noqa: D101


class AbsorbedGELU(_Absorbed, nn.GELU): ...  # noqa: D101


class AbsorbedSigmoid(_Absorbed, nn.Sigmoid): ...  # noqa: D101


_NORMS = {nn.BatchNorm2d: BatchNorm2d, nn.GroupNorm: GroupNorm, nn.InstanceNorm2d: InstanceNorm2d}
_TORCH_NORMS = {ours: theirs for theirs, ours in _NORMS.items()}
_RESTORED = {one: one.__mro__[2] for one in _Absorbed.__subclasses__()}
_ABSORBED = {theirs: ours for ours, theirs in _RESTORED.items()}
_FUSED_NORMS = {BNReLU: nn.BatchNorm2d, BatchNormAct2d: nn.BatchNorm2d, GroupNormAct: nn.GroupNorm}


def convert(model: Module, fuse: bool = False) -> Module:
    """Makes every ``BatchNorm2d``, ``GroupNorm`` and ``InstanceNorm2d`` of torch in a model bn2d's,
    in place.

    Args:
        model: Any module, itself included. Subclasses of torch's norms are left as they are, and so
            are parametrized norms, whose class is a subclass.
        fuse: True: where an ``nn.Sequential`` has an activation right after a batch norm or a group
            norm, both become one, unless one of them has hooks (or a ``forward`` set on the object)
            or is used elsewhere: a :class:`BNReLU` with ``nn.ReLU`` and ``nn.LeakyReLU`` after
            batch norm, else a :class:`BatchNormAct2d` or :class:`GroupNormAct` (also ``nn.ReLU6``,
            ``Hardswish``, ``SiLU``, ``GELU`` of erf, ``Sigmoid``). The activation stays in its
            place and hands its input on, so that the names in ``state_dict`` stay, too. Subclasses
            of ``nn.Sequential`` with its ``forward`` count, too. Use it only where the Sequential
            is called as a whole: do not index, iterate or edit it afterwards. Functions that look
            for "BatchNorm" in the name of a class, to initialise it, miss a BNReLU: call them
            before. The output after ``nn.LeakyReLU`` may not be changed in place before backward
            (``y += x``), as after ``nn.ReLU``: it is kept.

    Returns:
        The model.
    """
    _check(model)
    if fuse:
        _fuse(model)
    for module in model.modules():
        if type(module) in _NORMS:
            module.__class__ = _NORMS[type(module)]
    return model


def revert(model: Module) -> Module:
    """Undoes :func:`convert`, in place. A fused module that was made by hand stays: torch has no
    such. A fused norm whose class has changed since (``parametrize`` and ``fully_shard`` make a
    subclass) stays fused with its activation.

    Returns:
        The model.

    Raises:
        ValueError: The model has a fused norm without the module after it, or the activation without
            the module before it. Nothing has changed then.
    """
    _check(model)
    before, after = {}, {}
    for parent in model.modules():
        children = list(parent.children())
        for first, second in zip(children, children[1:]):
            before[second], after[first] = first, second
    for name, module in model.named_modules():
        absorbed = isinstance(module, _Absorbed)
        if (absorbed or _is_fused(module)) and module not in (before if absorbed else after):
            other = "the norm before" if absorbed else "the activation after"
            raise ValueError(
                "%s is fused with %s it, which is not part of what is to be reverted: revert the "
                "nn.Sequential that has both" % (name or "the model", other)
            )
    for module in model.modules():  # a norm comes before its activation
        if isinstance(module, _Absorbed):
            if type(module) in _RESTORED and not _is_fused(before[module]):
                module.__class__ = _RESTORED[type(module)]
        elif type(module) in _FUSED_NORMS and _is_fused(module):
            for name in (_FUSED, "activation", "negative_slope"):
                module.__dict__.pop(name, None)
            module.__class__ = _FUSED_NORMS[type(module)]
        elif type(module) in _TORCH_NORMS:
            module.__class__ = _TORCH_NORMS[type(module)]
    return model


def _check(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError("model is a %s, not a torch.nn.Module" % type(model).__name__)


_FUSED = "_bn2d_fused"


def _is_fused(module: nn.Module) -> bool:
    """Whether it is a norm that `convert` has joined with the activation after it."""
    return _FUSED in module.__dict__


def _fuse(model: nn.Module) -> None:
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for parent in model.modules():
        if getattr(type(parent), "forward", None) is not nn.Sequential.forward:
            continue
        if "forward" in parent.__dict__:
            continue
        children = list(parent.children())
        for norm, activation in zip(children, children[1:]):
            found = name_and_slope(activation)
            if found is None or type(norm) not in _FUSABLE:
                continue
            if any(uses[id(one)] != 1 or _has_hooks(one) for one in (norm, activation)):
                continue
            name, slope = found
            fused = _FUSABLE[type(norm)]
            if fused is BatchNormAct2d and name in ("relu", "leaky_relu"):
                fused = BNReLU
            else:
                norm.__dict__["activation"] = name
            norm.__class__ = fused
            norm.__dict__[_FUSED] = True
            norm.__dict__["negative_slope"] = slope
            activation.__class__ = _ABSORBED[type(activation)]


_FUSABLE = {
    nn.BatchNorm2d: BatchNormAct2d,
    BatchNorm2d: BatchNormAct2d,
    nn.GroupNorm: GroupNormAct,
    GroupNorm: GroupNormAct,
}


def _has_hooks(module: nn.Module) -> bool:
    """Hooks, or a forward of its own, which is how other tools hook a module."""
    own = module.__dict__
    return "forward" in own or any(own[name] for name in own if name.endswith("_hooks"))
