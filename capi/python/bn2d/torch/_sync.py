# SPDX-License-Identifier: MIT
"""SyncBatchNorm2d: batch norm over the batches of all processes of torch.distributed, on the CPU
(gloo).

Each call of training gathers the statistics of all processes, merges them in the order of the
ranks, and normalises with the result: the same bits of running statistics on every rank. Parameters
and buffers are torch's; a module of the library, which borrows their values for the length of a call,
computes.
"""

from __future__ import annotations

import ctypes
from typing import Any, Optional
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, distributed, nn

from .. import _api
from .._arrays import TensorMemory
from .._module import BatchNorm2d as Worker
from .._statistics import Statistics
from ..errors import DtypeError, InvalidArgumentError, ShapeError, StateError
from ._autograd import not_differentiable
from ._calls import DTYPES, _view, address_of, format_of, laid_out, new_array
from ._fused import BatchNormAct2d, BNReLU
from ._modules import BatchNorm2d, _dtype, with_arguments_of

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_workers: WeakKeyDictionary[nn.Module, tuple[Any, Worker]] = WeakKeyDictionary()


class SyncBatchNorm2d(BatchNorm2d):
    """``torch.nn.SyncBatchNorm`` for the CPU: batch norm by the statistics of all processes.

    The arguments of ``torch.nn.BatchNorm2d`` and ``process_group`` (None: the default one); the
    same state. Each process has a part of the batch, of another size on each, or empty. Gradients
    of weight and bias are those of
    the own part, as with torch: DistributedDataParallel adds them up.

    In eval mode, without ``torch.distributed`` and with one process it is a :class:`BatchNorm2d`.

    Raises:
        Error, ValueError: As BatchNorm2d, on *all* processes: where one cannot go on, the others
        get a
            StateError that names its rank.
    """

    process_group: Any = None

    @with_arguments_of(nn.BatchNorm2d)
    def __init__(self, *arguments: Any, process_group: Any = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.process_group = process_group

    @classmethod
    def convert(cls, model: nn.Module, process_group: Any = None) -> nn.Module:
        """Makes every BatchNorm2d of a model, torch's or ours, one of these, in place. Returns the
        model.

        Raises:
            ValueError: A batch norm has an activation, which this one has not: ``revert(model)`` what
                ``convert(model, fuse=True)`` made. Nothing has changed then.
        """
        for name, module in model.named_modules():
            if isinstance(module, (BNReLU, BatchNormAct2d)):
                raise ValueError(
                    "%s is a %s, and SyncBatchNorm2d has no activation: revert(model) first"
                    % (name or "the model", type(module).__name__)
                )
        for module in model.modules():
            if type(module) in (nn.BatchNorm2d, BatchNorm2d):
                module.__class__ = cls
                module.process_group = process_group
        return model

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, D102
        batch = self.training or not self.track_running_stats
        if not batch or not distributed.is_available() or not distributed.is_initialized():
            return super().forward(input)
        if distributed.get_world_size(self.process_group) == 1:
            return super().forward(input)
        y: Tensor = _SyncBatchNorm.apply(input, self.weight, self.bias, self)
        return y

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process_group": None}  # a group belongs to its process


def _copy(worker: Worker, name: str, tensor: Tensor, back: bool = False) -> None:
    """The elements of a tensor of the worker's dtype and shape into the worker, or back."""
    address_of(tensor)  # raises where they are not in memory
    memory = TensorMemory(worker._tensors[name], tuple(tensor.shape), tensor.element_size())
    array = np.asarray(memory).view("i%d" % tensor.element_size())  # NumPy has no bfloat16
    own = torch.from_numpy(array).view(tensor.dtype)
    if back:
        tensor.copy_(own)
    else:
        own.copy_(tensor)


def _check(name: str, tensor: Tensor, features: int, dtype: torch.dtype) -> None:
    """Refuses what torch lets a program assign: a copy by address would leave the worker's memory."""
    counts = name == "num_batches_tracked"
    wanted = torch.int64 if counts else dtype
    shape = () if counts else (features,)
    if tensor.dtype != wanted:
        raise DtypeError("%s is %s, must be %s" % (name, tensor.dtype, wanted))
    if tensor.shape != shape:
        raise ShapeError("%s has the shape %s, must have %s" % (name, tuple(tensor.shape), shape))


def _worker(module: nn.BatchNorm2d, x: Tensor) -> Worker:
    """The module of the library that computes for a module of torch, with its parameters and
    buffers."""
    tracks = module.running_mean is not None
    arrays = (module.weight, module.bias, module.running_mean, module.running_var)
    if tracks != (module.running_var is not None):
        given, missing = ("mean", "var") if tracks else ("var", "mean")
        raise InvalidArgumentError(
            "running_%s is None, running_%s is not: both or neither" % (missing, given)
        )
    own_dtype = _dtype(x, arrays)
    dtype = str(own_dtype).replace("torch.", "")
    key = (
        module.num_features,
        module.eps,
        module.weight is None,
        module.bias is None,
        tracks,
        dtype,
    )
    known = _workers.get(module)
    if known is None or known[0] != key:
        worker = Worker(
            module.num_features,
            eps=module.eps,
            affine=module.weight is not None,
            bias=module.bias is not None,
            track_running_stats=tracks,
            dtype=dtype,
        )
        known = _workers[module] = (key, worker)
    worker = known[1]
    worker.momentum = module.momentum
    tensors = {
        name: tensor.detach()
        for name in ("weight", "bias", *(_BUFFERS if tracks else ()))
        if (tensor := getattr(module, name)) is not None
    }
    for name, tensor in tensors.items():
        _check(name, tensor, module.num_features, own_dtype)
        _copy(worker, name, tensor)
    return worker


def _gather(
    group: Any, values: Optional[Tensor], fault: Optional[Exception], length: int
) -> list[Tensor]:
    """The doubles of all ranks in their order; raises on all of them where one has a fault."""
    own = new_array(1 + length, torch.float64).zero_()
    if values is None:
        own[0] = 1
    else:
        own[1:] = values
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(every, own, group)
    if fault is not None:
        raise fault
    for rank, one in enumerate(every):
        if one[0] != 0:
            raise StateError("rank %d could not take part: its exception tells why" % rank)
    return [one[1:] for one in every]


def _call(name: str, worker: Worker, tensors: dict[str, Optional[Tensor]], **named: Any) -> None:
    """Calls a function of the library on tensors by the names of their parameters."""
    views = {}
    for parameter, tensor in tensors.items():
        if tensor is not None:
            views[parameter] = _view(tensor)
            views[parameter].data = address_of(tensor)
    call = _api.Call(name, module=worker._address, **views, **named)
    status = call.function(*call.arguments)
    if status:
        _api.fail(status)


def _forward(worker: Worker, x: Tensor, y: Tensor, total: Statistics) -> _api.Handle:
    """y by the statistics of all ranks; returns the record."""
    place = ctypes.c_void_p()
    named = {"statistics": total._address, "record": ctypes.addressof(place)}
    _call("bn2d_forward_with_statistics", worker, {"x": x, "y": y}, **named)
    return _api.Handle(place.value or 0, "record")


class _SyncBatchNorm(torch.autograd.Function):
    """y of x, weight and bias, over all processes of the module's group."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], module: Any
    ) -> Tensor:  # type: ignore[override]
        own, total = (Statistics(module.num_features) for _ in range(2))
        length = 1 + 4 * module.num_features
        fault: Optional[Exception] = None
        exported = worker = y = None
        try:
            if x.dtype not in DTYPES or x.device.type != "cpu":
                raise StateError(
                    "x is %s on %s; the library takes floating dtypes of the CPU"
                    % (x.dtype, x.device)
                )
            x = laid_out(x, x)
            y = torch.empty_like(x, memory_format=format_of(x))
            worker = _worker(module, x)
            _call("bn2d_forward_with_statistics", worker, {"x": x, "y": y})  # only checks
            view = _view(x)
            view.data = address_of(x)
            _api.call("bn2d_statistics_accumulate", own._address, ctypes.addressof(view))
            exported = torch.from_numpy(own.exported())
        except Exception as error:  # whatever it is, the others wait for this rank
            fault = error
        for of_rank in _gather(module.process_group, exported, fault, length):
            total.merge(of_rank.numpy())
        assert worker is not None
        assert y is not None
        ctx.record = _forward(worker, x, y, total)
        if module.running_mean is not None:
            for name in _BUFFERS:
                tensor = getattr(module, name)
                if tensor is not None:
                    _copy(worker, name, tensor, back=True)
        ctx.save_for_backward(x)
        ctx.recorded = (x.data_ptr(), x.stride())
        ctx.weight = weight  # not saved: its values are in the record, and it may change
        ctx.again = (total, None if weight is None else weight.detach().clone())
        ctx.parameters = (worker, weight is not None, bias is not None)
        ctx.group = module.process_group
        ctx.dtype = _dtype(x, (weight, bias, module.running_mean))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # type: ignore[override]
        (x,) = ctx.saved_tensors  # once: a checkpoint unpacks no tensor twice
        with torch.no_grad():
            found = _SyncBatchNorm._gradients(ctx, x, dy)
        text = "SyncBatchNorm2d has no gradients of second order"
        return *not_differentiable(text, found, dy, x, ctx.weight), None

    @staticmethod
    def _record(ctx: Any, x: Tensor) -> _api.Handle:
        """The record of forward, which borrows the memory of x. Hooks and checkpoints may have
        another x by now, and the memory of the first one may be another's: then a new record."""
        recorded = (x.data_ptr(), x.stride())
        if ctx.recorded != recorded:
            worker, (total, weight) = ctx.parameters[0], ctx.again
            if weight is not None:
                _copy(worker, "weight", weight)
            ctx.record = _forward(worker, x, torch.empty_like(x), total)
            ctx.recorded = recorded
        found: _api.Handle = ctx.record
        return found

    @staticmethod
    def _gradients(ctx: Any, x: Tensor, dy: Tensor) -> tuple[Optional[Tensor], ...]:
        worker, has_weight, has_bias = ctx.parameters
        length = 2 * worker.num_features
        sums = new_array(length, torch.float64).zero_()
        fault: Optional[Exception] = None
        dy = laid_out(dy, x)
        named = {"length": length}
        try:
            named["record"] = _SyncBatchNorm._record(ctx, x).address
            worker.zero_grad()
            _call("bn2d_backward_sums", worker, {"dy": dy}, sums=address_of(sums), **named)
        except Exception as error:  # whatever it is, the others wait for this rank
            fault = error
        gradients = []
        for name, exists in (("weight.grad", has_weight), ("bias.grad", has_bias)):
            tensor = None
            if exists:
                tensor = new_array(worker.num_features, ctx.dtype)
                _copy(worker, name, tensor, back=True)
            gradients.append(tensor)
        dx = None
        if ctx.needs_input_grad[0]:
            total = new_array(length, torch.float64).zero_()
            for of_rank in _gather(ctx.group, None if fault else sums, fault, length):
                total += of_rank
            dx = torch.empty_like(x, memory_format=format_of(x))
            _call(
                "bn2d_backward_with_sums",
                worker,
                {"dy": dy, "dx": dx},
                sums=address_of(total),
                **named,
            )
        elif fault is not None:
            raise fault
        return dx, gradients[0], gradients[1]
