# SPDX-License-Identifier: MIT
"""Modules for torch: the norms. Those that add a residual and apply an activation are in `_fused`.

Parameters and buffers are torch's own tensors. Where the library cannot do a call (other devices,
functorch's transforms, tensor subclasses, dtypes that do not fit), torch's own norm does it.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import math
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import _extension
from ._activations import activate
from ._autograd import batch_norm
from ._calls import address_of, are_plain, fits, forward, layout_of
from ._operators import batch_norm as batch_norm_operator

_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_int64 = torch.int64
_int64_at = ctypes.c_int64.from_address
_tracing_state = torch._C._get_tracing_state
_PLAIN = (Tensor, nn.Parameter)
_INF = math.inf


# What `_forward` does for plain tensors in C++, or None.
_native = _extension.load()


def native() -> bool:
    """Whether calls go through the compiled extension, which ``python -m bn2d.torch.build`` makes.

    What it does not take goes through Python all the same, with the same results.
    """
    return _native is not None


# As torch decides: which running statistics, whether the batch's (else those), how they move, what
# counts; and the groups of a group norm, or 0. A module's _mode() says None of what the library
# refuses, be it that torch refuses it, too: then torch decides (_by_torch).
_Mode = tuple[Optional[Tensor], Optional[Tensor], bool, float, Optional[Tensor], int]


def _zero() -> int:
    return 0


# Private names of torch, each with a default for a version that has them no more.
_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", _zero)
_functorch_active = getattr(torch._C, "_are_functorch_transforms_active", _zero)


def _has_tangents() -> bool:
    """Whether forward-mode differentiation is on, which custom functions do not take part in."""
    return getattr(forward_ad, "_current_level", -1) >= 0


def with_arguments_of(theirs: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For an __init__ that passes its arguments on to that of torch: shows these beside its own.

    ``torch.nn.utils.skip_init`` asks whether there is a ``device``, and help() shows what there is.
    """

    def decorated(init: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(init)
        def wrapper(self: Any, *arguments: Any, **named: Any) -> None:
            init(self, *arguments, **named)

        of_torch = inspect.signature(theirs.__init__).parameters  # type: ignore[misc]
        own = inspect.signature(init).parameters.values()
        shown = [*of_torch.values(), *(one for one in own if one.kind == one.KEYWORD_ONLY)]
        shown.sort(key=lambda one: one.kind)
        wrapper.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        return wrapper

    return decorated


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` computed by bn2d: the same arguments, parameters, buffers and state.

    Shape: (N, C, H, W) in and out, of any layout; channels_last and contiguous at full speed. y is
    channels_last where x is, else contiguous. Data is of the parameters' dtype, or
    float16/bfloat16 with float32 parameters.

    A forward in training moves the running statistics, as torch's: a batch in parts moves them once
    for each part. Statistics of the whole batch, for all its parts, are for
    :class:`bn2d.BatchNorm2d`.

    Raises:
        What torch raises: of other than 4 dimensions, another number of channels, batch statistics
        of 1 value per channel, an eps below 0. The module is then as it was.

    Threads: as torch's; a module in training mode belongs to one thread at a time.
    """

    _torch = nn.BatchNorm2d
    _has_statistics = True

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, D102
        return _forward(self, input, None, 0, 0.0)

    def _mode(
        self, x: Tensor, running_mean: Optional[Tensor], running_var: Optional[Tensor]
    ) -> Optional[_Mode]:
        eps = self.eps
        if (running_mean is None) != (running_var is None):  # torch's error
            return None
        if not self.training and (running_mean is not None or running_var is not None):
            return (running_mean, running_var, False, 0.0, None, 0) if 0.0 <= eps < _INF else None
        momentum = self.momentum
        factor = 0.0 if momentum is None else momentum
        if not 0.0 < eps < _INF or x.numel() == self.num_features:  # torch's errors
            return None
        if not self.training or not self.track_running_stats:
            return None, None, True, 0.0, None, 0
        counter = self._buffers["num_batches_tracked"]
        if momentum is None and counter is not None:
            factor = 1.0 / (float(counter) + 1.0)
        if not 0.0 <= factor <= 1.0:
            return None
        return running_mean, running_var, True, factor, counter, 0


class GroupNorm(nn.GroupNorm):
    """``torch.nn.GroupNorm`` computed by bn2d: the same arguments, parameters and state.

    Shape: (N, C, H, W) in and out, of any layout; channels_last and contiguous at full speed.
    Where x has another number of dimensions, torch computes it. dtypes as in :class:`BatchNorm2d`.

    Where torch refuses a batch of one value a group, or returns noise, the output is the bias.
    """

    _torch = nn.GroupNorm
    _has_statistics = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, D102
        return _forward(self, input, None, 0, 0.0)

    def _mode(self, x: Tensor, running_mean: None, running_var: None) -> Optional[_Mode]:
        if not 0.0 <= self.eps < _INF:
            return None
        return None, None, True, 0.0, None, self.num_groups


class InstanceNorm2d(nn.InstanceNorm2d):
    """``torch.nn.InstanceNorm2d`` computed by bn2d: the same arguments, parameters, buffers and
    state.

    Shape: (N, C, H, W) in and out, of any layout; torch computes (C, H, W). dtypes as in
    :class:`BatchNorm2d`. y is contiguous, as torch's. An empty batch leaves the running statistics
    alone; torch raises an error or makes them NaN. The weight is kept for backward: what changes it
    in place before makes backward raise an error. torch keeps a copy.

    Raises:
        What torch raises: of statistics of 1 value (H*W = 1), another number of channels. The
        module is then as it was.
    """

    _torch = nn.InstanceNorm2d
    _has_statistics = True

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, D102
        if isinstance(input, Tensor):  # as torch, whose y is contiguous whatever x is
            input = input.contiguous()  # noqa: A001
        return _forward(self, input, None, 0, 0.0)

    def _mode(
        self, x: Tensor, running_mean: Optional[Tensor], running_var: Optional[Tensor]
    ) -> Optional[_Mode]:
        if x.dim() != 4 or x.size(1) != self.num_features or not 0.0 <= self.eps < _INF:
            return None
        if (running_mean is None) != (running_var is None):  # torch's error
            return None
        if self.training or not self.track_running_stats:
            if x.size(2) * x.size(3) == 1:  # torch's error
                return None
            momentum = self.momentum
            return (
                running_mean,
                running_var,
                True,
                0.0 if momentum is None else momentum,
                None,
                self.num_features,
            )
        if running_mean is None:  # torch's error
            return None
        return running_mean, running_var, False, 0.0, None, 0


def _forward(module: Any, x: Tensor, z: Optional[Tensor], activation: int, slope: float) -> Tensor:
    if _is_compiling():
        return _by_operator(module, x, z, activation, slope)
    # The dictionaries themselves: nn.Module.__getattr__ takes 0.6 us for each of the five.
    parameters, buffers = module._parameters, module._buffers
    try:
        weight, bias = parameters["weight"], parameters["bias"]
        running_mean = running_var = None
        if module._has_statistics:
            running_mean, running_var = buffers["running_mean"], buffers["running_var"]
    except KeyError:  # parametrized or pruned: then it is an attribute of another kind
        weight, bias, running_mean, running_var = _arrays_of(module)
    if _native is not None:  # asks all that follows, too
        found: Optional[Tensor] = _native(
            module, x, z, weight, bias, running_mean, running_var, activation, slope
        )
        if found is not None:
            return found
    if _dispatch_modes():
        return _by_operator(module, x, z, activation, slope)
    if (
        _functorch_active()
        or _tracing_state() is not None
        or _has_tangents()
        or not _plain(x)
        or not (z is None or _matches(z, x))
    ):
        return _by_torch(module, x, z, activation, slope)

    arrays = (weight, bias, running_mean, running_var)
    dtype = _dtype(x, arrays)
    mode = module._mode(x, running_mean, running_var)
    if mode is None:
        return _by_torch(module, x, z, activation, slope)
    running_mean, running_var, batch_stats, factor, counter, groups = mode
    layout = layout_of(x, z, dtype, activation, slope, groups)
    if layout is None:
        if x.dim() == 4 and (0 in x.stride() or (z is not None and 0 in z.stride())):
            # Expanded, or empty with strides that contiguous() would leave.
            dense = torch.contiguous_format
            return _forward(
                module,
                x.clone(memory_format=dense),
                None if z is None else z.clone(memory_format=dense),
                activation,
                slope,
            )
        return _by_torch(module, x, z, activation, slope)
    # The library gets addresses alone, so that this guards memory, too.
    shape = layout.arrays
    for one in arrays:
        if one is not None and (
            one.shape != shape
            or one.dtype is not dtype
            or not one.is_cpu
            or not one.is_contiguous()
            or type(one) not in _PLAIN
        ):
            return _by_torch(module, x, z, activation, slope)

    if _is_grad_enabled() and (
        x.requires_grad
        or (weight is not None and weight.requires_grad)
        or (bias is not None and bias.requires_grad)
        or (z is not None and z.requires_grad)
    ):
        if any(one is not None and one.is_inference() for one in (x, z, weight, bias)):
            # As autograd does, but before anything has moved.
            raise RuntimeError("Inference tensors cannot be saved for backward: clone them")
        how = (running_mean, running_var, batch_stats, factor, module.eps)
        y: Tensor = batch_norm(layout, x, z, weight, bias, how)
    else:
        y, _ = forward(
            layout,
            x,
            z,
            weight,
            bias,
            running_mean,
            running_var,
            batch_stats,
            factor,
            module.eps,
            False,
        )
    if batch_stats and (running_mean is not None or counter is not None):
        _moved(running_mean, running_var, counter)
    return y


def _arrays_of(
    module: Any,
) -> tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    if not module._has_statistics:
        return module.weight, module.bias, None, None
    return module.weight, module.bias, module.running_mean, module.running_var


def _increment_version(tensors: list[Tensor]) -> None:
    for one in tensors:  # torch 2.4 takes no list
        torch.autograd.graph.increment_version(one)


def _moved(
    running_mean: Optional[Tensor], running_var: Optional[Tensor], counter: Optional[Tensor]
) -> None:
    """After a call, so that one that fails changes nothing: counts, and tells autograd what has
    changed.

    The counter by its address: `counter.add_(1)` takes 2.4 us, and 10 us between other work.
    """
    changed = [one for one in (running_mean, running_var) if one is not None]
    if counter is not None:
        if (
            counter.dtype is _int64
            and counter.is_cpu
            and type(counter) is Tensor
            and counter.numel() == 1
        ):
            _int64_at(address_of(counter)).value += 1
            changed.append(counter)
        else:
            counter.add_(1)
    _increment_version(changed)


def _plain(x: Tensor) -> bool:
    """A tensor that is what it seems, and in the CPU's memory."""
    return type(x) in _PLAIN and are_plain(x)


def _matches(z: Tensor, x: Tensor) -> bool:
    return _plain(z) and z.dtype is x.dtype and z.shape == x.shape


def _dtype(x: Tensor, arrays: tuple[Optional[Tensor], ...]) -> torch.dtype:
    """dtype of parameters and buffers; of x where there are none."""
    for one in arrays:
        if one is not None:
            return one.dtype
    return x.dtype


def _by_operator(
    module: Any, x: Tensor, z: Optional[Tensor], activation: int, slope: float
) -> Tensor:
    """For torch.compile, torch.export and dispatch modes: the library's operator, with nothing in
    place."""
    arrays = _arrays_of(module)
    if not _fits_operator(x, z, arrays):
        return _by_torch(module, x, z, activation, slope)
    mode = module._mode(x, arrays[2], arrays[3])
    if mode is None or (mode[5] and x.size(1) % mode[5] != 0):
        return _by_torch(module, x, z, activation, slope)
    weight, bias = arrays[0], arrays[1]
    running_mean, running_var, batch_stats, factor, counter, groups = mode
    how = (batch_stats, factor, module.eps, activation, slope, _is_grad_enabled(), groups)
    y, _, new_mean, new_var = batch_norm_operator(
        x, z, weight, bias, running_mean, running_var, *how
    )
    if batch_stats:  # detached: the results of an operator all have a gradient
        if running_mean is not None:
            running_mean.copy_(new_mean.detach())
        if running_var is not None:
            running_var.copy_(new_var.detach())
        if counter is not None:
            counter.add_(1)
    return y  # type: ignore[no-any-return]


def _fits_operator(x: Tensor, z: Optional[Tensor], arrays: tuple[Optional[Tensor], ...]) -> bool:
    """What `_forward` asks, in terms that tracers follow; the operator makes strides good
    itself."""
    dtype = _dtype(x, arrays)
    if (
        x.device.type != "cpu"
        or x.dim() != 4
        or x.layout != torch.strided
        or not fits(x.dtype, dtype)
    ):
        return False
    for one in arrays:
        if one is not None and (
            one.dtype != dtype or one.device.type != "cpu" or one.shape != (x.size(1),)
        ):
            return False
    return z is None or (z.dtype == x.dtype and z.device.type == "cpu" and z.shape == x.shape)


def _by_torch(module: Any, x: Tensor, z: Optional[Tensor], activation: int, slope: float) -> Tensor:
    """What the library cannot do, and its errors: torch's own."""
    if isinstance(x, torch.fx.Proxy):
        # A module of torch.nn is a leaf of torch.fx's graphs, and so is this; but not the root.
        arguments = (x,) if z is None else (x, z)
        tracer = x.tracer
        if module is not tracer.root:
            return tracer.create_proxy("call_module", tracer.path_of_module(module), arguments, {})  # type: ignore
    y = module._torch.forward(module, x) if _is_compiling() else _torch_or_unchanged(module, x)
    if z is not None:
        y = y + z
    return activate(activation, y, slope)


def _torch_or_unchanged(module: Any, x: Tensor) -> Tensor:
    """torch's norm, but where it raises, it has not counted: torch counts first."""
    counter = module._buffers.get("num_batches_tracked")
    known = counter is not None and not counter.is_inference()
    version = counter._version if known else None
    try:
        y: Tensor = module._torch.forward(module, x)
    except Exception:
        if known and counter._version != version:
            counter.sub_(1)
        raise
    return y
