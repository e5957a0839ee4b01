# SPDX-License-Identifier: MIT
"""The norms on NumPy arrays, and the record of a forward call."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar, Union, overload

import numpy as np

from . import _api
from ._arrays import (
    DTYPES,
    address_of,
    array_of,
    as_array,
    as_doubles,
    as_numbers,
    dtype_of,
    unmasked,
    view_of,
)
from ._statistics import Statistics
from .errors import (
    DeviceError,
    DtypeError,
    InvalidArgumentError,
    LayoutError,
    NotFoundError,
    ShapeError,
    StateError,
)

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Array = NDArray[Any]

ACTIVATIONS = {
    None: _api.CONSTANTS["BN2D_ACT_NONE"],
    "relu": _api.CONSTANTS["BN2D_ACT_RELU"],
    "leaky_relu": _api.CONSTANTS["BN2D_ACT_LEAKY_RELU"],
    "relu6": _api.CONSTANTS["BN2D_ACT_RELU6"],
    "clamp": _api.CONSTANTS["BN2D_ACT_CLAMP"],
    "hardswish": _api.CONSTANTS["BN2D_ACT_HARDSWISH"],
    "silu": _api.CONSTANTS["BN2D_ACT_SILU"],
    "gelu": _api.CONSTANTS["BN2D_ACT_GELU"],
    "sigmoid": _api.CONSTANTS["BN2D_ACT_SIGMOID"],
}
# A program with ever new shapes must not collect a plan for each.
MOST_PLANS = 256


class _Plan:
    """One call prepared for arrays of one layout, with the places where their addresses go."""

    __slots__ = ("arguments", "call", "function", "record", "views")

    def __init__(self, call: _api.Call, views: tuple[Optional[_api.View], ...]) -> None:
        self.call = call
        self.function = call.function
        self.arguments = call.arguments
        self.views = views
        self.record: Optional[ctypes.c_void_p] = None


def _as_array(given: Any, name: str) -> Array:
    """`given` as an array, without a copy where it offers its memory (buffer, DLPack,
    __array__)."""
    if isinstance(given, np.ndarray):
        return unmasked(given, name)
    if isinstance(given, (list, tuple, int, float, complex, str, bytes)) or given is None:
        raise InvalidArgumentError("%s is a %s, not an array" % (name, type(given).__name__))
    return as_array(given, name)


def _flag(name: str, given: Any) -> int:
    """1 or 0. What `given` means where it is no truth value is not guessed."""
    if not isinstance(given, (bool, np.bool_)) and not (isinstance(given, int) and given in (0, 1)):
        raise InvalidArgumentError("%s is %s, not True or False" % (name, repr(given)[:80]))
    return int(given)


def _read_only(name: str) -> LayoutError:
    return LayoutError("%s is read-only" % name)


Self = TypeVar("Self", bound="Norm")


class Norm:
    """What :class:`BatchNorm2d`, :class:`GroupNorm` and :class:`InstanceNorm2d` have in common.

    Arrays: ``weight``, ``bias``, ``running_mean``, ``running_var`` (C elements each),
    ``num_batches_tracked`` (0-d int64), ``weight_grad`` and ``bias_grad`` are the library's own
    memory, without a copy, and stay valid for as long as they are held. What does not exist is
    None. ``bn.weight = values`` copies into it.

    Threads: calls release the interpreter's lock. On running statistics (in eval mode, or frozen)
    any number of threads may call the same module, and the same group or instance norm in eval mode;
    every other call needs it alone, and a violation raises :class:`BusyError` and changes nothing.
    Different modules are independent.
    """

    _address: int
    # What __init__ was given that no function of the library tells, for pickle.
    _arguments: dict[str, Any]

    def _create(
        self,
        function: str,
        counts: dict[str, Any],
        device: Optional[str],
        dtype: Optional[DTypeLike],
        **values: Any,
    ) -> None:
        """Makes the module of the library. `values`: its options by name."""
        if device is not None and str(device) not in ("cpu", "cpu:0"):
            raise DeviceError("device %s; bn2d works on the CPU only" % device)
        options = _api.Handle(_api.value("bn2d_options_create"), "options")
        for name, one in {**values, "dtype": _dtype_number(dtype)}.items():
            if name == "momentum" and one is None:
                _api.call("bn2d_options_set_momentum_none", options.address)
            else:
                _api.call("bn2d_options_set_" + name, options.address, one)
        self._handle = _api.Handle(
            _api.value(function, *counts.values(), options.address), "module"
        )
        self._address = self._handle.address
        told = ("eps", "momentum", "affine", "track_running_stats", "num_threads")
        self._arguments = {
            **counts,
            **{name: one for name, one in values.items() if name not in told},
        }
        self._arrays: dict[str, Array] = {}
        self._tensors: dict[str, _api.Handle] = {}
        self._plans: dict[Any, list[_Plan]] = {}
        for name in (
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "num_batches_tracked",
            "weight.grad",
            "bias.grad",
        ):
            try:
                self._tensors[name] = _api.Handle(
                    _api.value("bn2d_module_tensor_by_name", self._address, name.encode()), "tensor"
                )
            except NotFoundError:
                continue

    # ----------------------------------------------------------------------------------- properties

    def _get(self, name: str) -> Any:
        return _api.value("bn2d_module_" + name, self._address)

    @property
    def num_features(self) -> int:
        """Number of channels C."""
        return int(self._get("num_features"))

    @property
    def eps(self) -> float:
        """Added to the variance."""
        return float(self._get("eps"))

    @property
    def momentum(self) -> Optional[float]:
        """Weight of the new value in the running statistics; None: plain average of all batches.
        May be set."""
        known = ctypes.c_int32()
        found = _api.value("bn2d_module_momentum", self._address, ctypes.addressof(known))
        return float(found) if known.value else None

    @momentum.setter
    def momentum(self, momentum: Optional[float]) -> None:
        if momentum is None:
            _api.call("bn2d_module_set_momentum_none", self._address)
        else:
            _api.call("bn2d_module_set_momentum", self._address, momentum)

    @property
    def frozen(self) -> bool:
        """Whether training mode uses the running statistics, too, and leaves them alone. May be
        set."""
        return bool(self._get("is_frozen"))

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        _api.call("bn2d_module_set_frozen", self._address, _flag("frozen", frozen))

    @property
    def affine(self) -> bool:
        """Whether weight exists."""
        return bool(self._get("affine"))

    @property
    def track_running_stats(self) -> bool:
        """Whether the running statistics exist."""
        return bool(self._get("track_running_stats"))

    @property
    def training(self) -> bool:
        """Training mode (True) or eval mode."""
        return bool(self._get("is_training"))

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of parameters and buffers."""
        return dtype_of(self._get("dtype"))

    @property
    def num_threads(self) -> int:
        """Most threads of a call of this module; 0: the process's limit alone. May be set."""
        return int(self._get("get_num_threads"))

    @num_threads.setter
    def num_threads(self, threads: int) -> None:
        _api.call("bn2d_module_set_num_threads", self._address, threads)

    def _array(self, name: str) -> Optional[Array]:
        found = self._arrays.get(name)
        if found is None and name in self._tensors:
            found = self._arrays[name] = array_of(self._tensors[name])
        return found

    def _store(self, name: str, values: Any) -> None:
        target = self._array(name)
        if target is None:
            raise NotFoundError("this module has no %s" % name)
        source = as_array(values, name)
        if source.shape != target.shape:
            raise ShapeError(
                "%s has the shape %s, the value %s" % (name, target.shape, source.shape)
            )
        target[...] = as_numbers(source, name, target.dtype)

    @property
    def weight(self) -> Any:
        """weight, C elements, or None. No copy."""
        return self._array("weight")

    @weight.setter
    def weight(self, values: Any) -> None:
        self._store("weight", values)

    @property
    def bias(self) -> Any:
        """bias, C elements, or None. No copy."""
        return self._array("bias")

    @bias.setter
    def bias(self, values: Any) -> None:
        self._store("bias", values)

    @property
    def running_mean(self) -> Any:
        """Running mean, C elements, or None. No copy."""
        return self._array("running_mean")

    @running_mean.setter
    def running_mean(self, values: Any) -> None:
        self._store("running_mean", values)

    @property
    def running_var(self) -> Any:
        """Running variance, C elements, or None. No copy."""
        return self._array("running_var")

    @running_var.setter
    def running_var(self, values: Any) -> None:
        self._store("running_var", values)

    @property
    def num_batches_tracked(self) -> Any:
        """Batches seen in training mode, int64 without dimensions, or None. No copy."""
        return self._array("num_batches_tracked")

    @num_batches_tracked.setter
    def num_batches_tracked(self, value: Any) -> None:
        self._store("num_batches_tracked", value)

    @property
    def weight_grad(self) -> Any:
        """Gradient of weight: what backward adds to; C elements, or None. No copy."""
        return self._array("weight.grad")

    @property
    def bias_grad(self) -> Any:
        """Gradient of bias: what backward adds to; C elements, or None. No copy."""
        return self._array("bias.grad")

    def requires_grad_(self: Self, requires_grad: bool = True, *names: str) -> Self:
        """Whether backward computes the gradients of parameters; all, or those named."""
        wanted = _flag("requires_grad", requires_grad)
        for name in names or [one for one in ("weight", "bias") if one in self._tensors]:
            if name not in self._tensors:
                raise NotFoundError("this module has no %s" % name)
            _api.call("bn2d_tensor_set_requires_grad", self._tensors[name].address, wanted)
        return self

    def scale_shift(self, dtype: DTypeLike = "float64") -> tuple[Array, Array]:
        """The map of eval mode, ``y = scale*x + shift`` for each channel, whatever the present mode.

        Args:
            dtype: Of both arrays.

        Raises:
            StateError: The module has no running statistics.
        """
        number = _dtype_number(dtype)
        scale, shift = (np.empty(self.num_features, dtype_of(number)) for _ in range(2))
        _api.call(
            "bn2d_module_scale_shift",
            self._address,
            number,
            address_of(scale),
            address_of(shift),
            self.num_features,
        )
        return scale, shift

    # ------------------------------------------------------------------------------ modes and state

    def train(self: Self, mode: bool = True) -> Self:
        """Training mode, or eval mode with False. Returns the module."""
        _api.call("bn2d_module_train", self._address, _flag("mode", mode))
        return self

    def eval(self: Self) -> Self:
        """Eval mode. Returns the module."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Sets the gradients to 0."""
        _api.call("bn2d_module_zero_grad", self._address)

    def reset_running_stats(self) -> None:
        """running_mean 0, running_var 1, num_batches_tracked 0."""
        _api.call("bn2d_module_reset_running_stats", self._address)

    def set_running_stats(self, statistics: Statistics) -> None:
        """running_mean and running_var of a data set: "precise batch norm". Counter and momentum
        stay.

        Raises:
            StateError (no running statistics), ShapeError, TooFewValuesError, BusyError.
        """
        _api.call("bn2d_module_set_running_stats", self._address, statistics._address)

    def reset_parameters(self) -> None:
        """reset_running_stats, and weight 1, bias 0."""
        _api.call("bn2d_module_reset_parameters", self._address)

    def state_dict(self) -> dict[str, Array]:
        """Copies of parameters and buffers by name, with torch's names: what `numpy.savez`
        takes."""
        found = {}
        for name in self._tensors:
            array = self._array(name)
            if not name.endswith(".grad") and array is not None:
                found[name] = array.copy()
        return found

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> None:
        """Copies values into parameters and buffers. All is checked first: an error changes
        nothing.

        Args:
            state_dict: Arrays by name, from :meth:`state_dict`, `numpy.load` or torch.
            strict: False: names that are missing or unknown are passed over.

        Raises:
            NotFoundError: A name is missing or unknown. (num_batches_tracked may be missing.)
            ShapeError: An array of another shape.
            DtypeError: An array of something else than real numbers.
            InvalidArgumentError: A num_batches_tracked that is no whole number of 64 bits, or below 0.
        """
        if not hasattr(state_dict, "keys"):
            raise InvalidArgumentError(
                "state_dict is a %s, must be a mapping of names to arrays"
                % type(state_dict).__name__
            )
        mine = {name for name in self._tensors if not name.endswith(".grad")}
        given = {name: as_array(state_dict[name], name) for name in state_dict}
        missing = sorted(mine - given.keys() - {"num_batches_tracked"})
        unknown = sorted(given.keys() - mine)
        misfits = [
            "%s has the shape %s, the state %s" % (name, target.shape, given[name].shape)
            for name in sorted(mine & given.keys())
            if (target := self._array(name)) is not None and given[name].shape != target.shape
        ]
        if strict and (missing or unknown):
            names = ", ".join(missing) or "none", ", ".join(unknown) or "none"
            raise NotFoundError("; ".join(["missing: %s; unknown: %s" % names, *misfits]))
        if misfits:
            raise ShapeError("; ".join(misfits))
        values = {
            name: as_numbers(given[name], name, target.dtype)
            for name in mine & given.keys()
            if (target := self._array(name)) is not None
        }
        counter = values.get("num_batches_tracked")
        if counter is not None and counter < 0:
            raise InvalidArgumentError("num_batches_tracked is %d, must be 0 or more" % counter)
        for name, one in values.items():
            self._store(name, one)

    def __repr__(self) -> str:
        length = _api.value("bn2d_module_repr", self._address, None, 0)
        buffer = ctypes.create_string_buffer(length + 1)
        _api.call("bn2d_module_repr", self._address, ctypes.addressof(buffer), length + 1, None)
        return buffer.value.decode()

    def __getstate__(self) -> dict[str, Any]:
        arguments = {
            **self._arguments,
            "eps": self.eps,
            "affine": self.affine,
            "dtype": self.dtype.name,
            "num_threads": self.num_threads,
            **self._running_arguments(),
        }
        grads = {
            name: array.copy()
            for name in self._tensors
            if name.endswith(".grad") and (array := self._array(name)) is not None
        }
        requires = {
            name: bool(_api.value("bn2d_tensor_requires_grad", self._tensors[name].address))
            for name in ("weight", "bias")
            if name in self._tensors
        }
        return {
            "arguments": arguments,
            "state": self.state_dict(),
            "grads": grads,
            "requires_grad": requires,
            "training": self.training,
            "frozen": self.frozen,
        }

    def _running_arguments(self) -> dict[str, Any]:
        """Of the norms with running statistics, as they are now."""
        return {"momentum": self.momentum, "track_running_stats": self.track_running_stats}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["arguments"])  # type: ignore[misc]
        for name, array in {**state["state"], **state["grads"]}.items():
            self._store(name, array)
        for name, required in state["requires_grad"].items():
            self.requires_grad_(required, name)
        self.train(state["training"])
        self.frozen = state.get("frozen", False)

    # -------------------------------------------------------------------------------------- forward

    @overload
    def forward(
        self,
        x: Any,
        z: Any = None,
        *,
        activation: Optional[str] = None,
        slope: Optional[float] = None,
        out: Optional[Array] = None,
        record: Literal[False] = False,
        statistics: Optional[Statistics] = None,
    ) -> Array: ...

    @overload
    def forward(
        self,
        x: Any,
        z: Any = None,
        *,
        activation: Optional[str] = None,
        slope: Optional[float] = None,
        out: Optional[Array] = None,
        record: Literal[True],
        statistics: Optional[Statistics] = None,
    ) -> tuple[Array, Record]: ...

    def forward(
        self,
        x: Any,
        z: Any = None,
        *,
        activation: Optional[str] = None,
        slope: Optional[float] = None,
        out: Optional[Array] = None,
        record: bool = False,
        statistics: Optional[Statistics] = None,
    ) -> Union[Array, tuple[Array, Record]]:
        """y = activation(bn(x) + z).

        Args:
            x: (N, C, H, W) of any strides from 0 on; C-contiguous and channels-last memory
                (``x.transpose(0, 3, 1, 2)`` of an (N, H, W, C) array) run at full speed. Never
                copied.
            z: Residual of the same shape and dtype, or None.
            activation: None, ``"relu"``, ``"leaky_relu"``, ``"relu6"``, ``"clamp"``,
                ``"hardswish"``, ``"silu"``, ``"gelu"`` (of erf) or ``"sigmoid"``.
            slope: Of leaky_relu, 0.01 by default; of clamp, the upper bound (the lower one is 0),
                required. Others ignore it.
            out: Receives y: same shape and dtype, any strides; may be x itself (without record) or
                z (from relu6 on: without record). None: a new array with the layout of x.
            record: True: returns (y, :class:`Record`), for backward.
            statistics: In place of those of x, in training mode; of large planes a call takes as
                long as in eval mode then. Such a forward moves the running statistics and the
                counter, too: of a batch in parts, the first part is for this module, and the others
                for one with ``track_running_stats=False`` and the same weights (README.md).

        Raises:
            ShapeError, DtypeError, LayoutError, OverlapError, TooFewValuesError (batch statistics
            of 1 value per channel), StateError (statistics in eval mode, or of a frozen module),
            BusyError. The module is then as it was.
        """
        if type(x) is not np.ndarray:
            x = _as_array(x, "x")
        if out is None:
            y = np.empty_like(x)
        else:
            y = out
            if type(y) is not np.ndarray and not isinstance(y, np.ndarray):
                raise InvalidArgumentError("out is a %s, not an array" % type(y).__name__)
            if not unmasked(y, "out").flags.writeable:
                raise _read_only("out")
        key: Any = (x.shape, x.strides, x.dtype, y.shape, y.strides, y.dtype)
        key += (activation, slope, record, statistics is None)
        if z is not None:
            if type(z) is not np.ndarray:
                z = _as_array(z, "z")
            key += (z.shape, z.strides, z.dtype)
        try:
            plans = self._plans[key]
            plan = plans.pop()
        except (KeyError, IndexError):
            plan = self._plan_forward(x, z, y, activation, slope, record, statistics is not None)
            plans = self._kept(key)
        views = plan.views
        views[0].data = address_of(x)  # type: ignore[union-attr]
        views[1].data = address_of(y)  # type: ignore[union-attr]
        if z is not None:
            views[2].data = address_of(z)  # type: ignore[union-attr]
        if statistics is not None:
            plan.call.slots["statistics"].value = statistics._address
        status = plan.function(*plan.arguments)
        made = plan.record.value if record and plan.record is not None else None
        plans.append(plan)
        if status:
            _api.fail(status)
        if not record:
            return y
        handle = _api.Handle(made or 0, "record")
        borrowed = self._borrowed(handle, z, y, activation, slope)
        return y, Record(self, handle, x, borrowed, z is not None)

    __call__ = forward

    @staticmethod
    def _borrowed(
        record: _api.Handle,
        z: Optional[Array],
        y: Array,
        activation: Optional[str],
        slope: Optional[float],
    ) -> Optional[Array]:
        """What a record borrows beside x: z, y or nothing.

        As bn2d_forward_act() says: a pointwise activation makes its argument again; others read
        their side off y, where neither x tells it (on batch statistics, without z) nor a mask (of a
        negative slope). The record tells the statistics: another thread may have changed the mode.
        """
        if activation not in ("relu", "leaky_relu"):
            return z if activation is not None else None
        if activation == "leaky_relu" and slope is not None and slope < 0:
            return None
        tells = z is None and _api.value("bn2d_record_batch_statistics", record.address)
        return None if tells else y

    def _kept(self, key: Any) -> list[_Plan]:
        """Where plans of a key are kept for the next call; a plan serves one thread at a time."""
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        return self._plans.setdefault(key, [])

    def _plan_forward(
        self,
        x: Array,
        z: Optional[Array],
        y: Array,
        activation: Optional[str],
        slope: Optional[float],
        record: bool,
        given: bool,
    ) -> _Plan:
        if activation not in ACTIVATIONS:
            raise InvalidArgumentError(
                "activation %r; known are %s" % (activation, ", ".join(map(repr, ACTIVATIONS)))
            )
        if slope is None and activation == "clamp":
            raise InvalidArgumentError("clamp needs slope, its upper bound")
        views = (view_of(x, "x"), view_of(y, "out"), None if z is None else view_of(z, "z"))
        call = _api.Call(
            "bn2d_forward_with_statistics" if given else "bn2d_forward_act",
            module=self._address,
            x=views[0],
            z=views[2],
            activation=ACTIVATIONS[activation],
            slope=0.01 if slope is None else slope,
            y=views[1],
        )
        plan = _Plan(call, views)
        if record:
            plan.record = call.out("record")
        return plan

    # ------------------------------------------------------------------------------------- backward

    def backward(self, record: Record, dy: Any, **arguments: Any) -> Any:
        """The same as :meth:`Record.backward`; StateError for a record of another module."""
        if record._module is not self:
            raise StateError("record is from a forward of another module")
        return record.backward(dy, **arguments)


class BatchNorm2d(Norm):
    """Batch normalisation over (N, C, H, W), with the arguments of ``torch.nn.BatchNorm2d``.

    Training mode (how a new module starts) uses the statistics of the batch and moves
    ``running_mean`` and ``running_var``; after :meth:`eval` those are used and nothing changes.

    Args:
        num_features: Number of channels C, 1 or more.
        eps: Added to the variance; finite, 0 or more.
        momentum: Weight of the new value in the running statistics, 0 to 1; None: plain average
            of all batches.
        affine: Whether ``weight`` (and ``bias``) exist.
        track_running_stats: Whether the running statistics exist; without them eval mode uses
            those of the batch, too.
        device: None or ``"cpu"``.
        dtype: Of parameters and buffers: float32 (the default), float64, float16 or bfloat16 (of
            the package ml_dtypes), as a name or as NumPy's. Data has the same, or is
            float16/bfloat16 with a float32 module.
        bias: False: a weight, but no bias.
        biased_running_var: Running variance from the biased variance, as in ONNX.
        protect_running_stats: A channel with infinities or NaN leaves its running ones alone.
        num_threads: Most threads of a call; 0: the process's limit alone.
        ghost_batch_size: In training, so many samples at a time are normalised on their own (the
            last set may have fewer); the running statistics move once for each set. 0: the whole
            batch.

    Arrays and threads: see :class:`Norm`.

    Raises:
        InvalidArgumentError, DtypeError, DeviceError, OutOfMemoryError.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: Optional[float] = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Optional[str] = None,
        dtype: Optional[DTypeLike] = None,
        bias: bool = True,
        *,
        biased_running_var: bool = False,
        protect_running_stats: bool = False,
        num_threads: int = 0,
        ghost_batch_size: int = 0,
    ) -> None:
        self._create(
            "bn2d_module_create",
            {"num_features": num_features},
            device,
            dtype,
            eps=eps,
            momentum=momentum,
            affine=bool(affine),
            bias=bool(bias),
            track_running_stats=bool(track_running_stats),
            biased_running_var=bool(biased_running_var),
            protect_running_stats=bool(protect_running_stats),
            num_threads=num_threads,
            **({} if ghost_batch_size == 0 else {"ghost_batch_size": ghost_batch_size}),
        )

    @property
    def ghost_batch_size(self) -> int:
        """Samples that are normalised together in training; 0: the whole batch."""
        return int(self._get("ghost_batch_size"))


class InstanceNorm2d(Norm):
    """Each channel of each sample by its own statistics, with the arguments of
    ``torch.nn.InstanceNorm2d``.

    As there, neither weight and bias nor running statistics exist by default. Those that do exist
    move by the averages over the samples of mean and unbiased variance, and eval mode uses them;
    ``num_batches_tracked`` stays 0, and ``momentum=None`` leaves them as they are.

    Args:
        num_features: Number of channels C, 1 or more.
        eps, momentum, affine, track_running_stats, device, dtype, bias, biased_running_var,
            protect_running_stats, num_threads: As in :class:`BatchNorm2d`.

    Raises:
        InvalidArgumentError, DtypeError, DeviceError, OutOfMemoryError.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: Optional[float] = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Optional[str] = None,
        dtype: Optional[DTypeLike] = None,
        bias: bool = True,
        *,
        biased_running_var: bool = False,
        protect_running_stats: bool = False,
        num_threads: int = 0,
    ) -> None:
        self._create(
            "bn2d_instance_norm_create",
            {"num_features": num_features},
            device,
            dtype,
            eps=eps,
            momentum=momentum,
            affine=bool(affine),
            bias=bool(bias),
            track_running_stats=bool(track_running_stats),
            biased_running_var=bool(biased_running_var),
            protect_running_stats=bool(protect_running_stats),
            num_threads=num_threads,
        )


class GroupNorm(Norm):
    """The channels of each sample in groups, each by its own statistics; the arguments of
    ``torch.nn.GroupNorm``.

    There are no running statistics, and training and eval mode compute the same; several threads at
    once need eval mode. With one group it is a layer norm over (C, H, W). One value alone becomes
    the bias.

    Args:
        num_groups: 1 or more.
        num_channels: Number of channels C, a multiple of num_groups.
        eps, affine, device, dtype, bias, num_threads: As in :class:`BatchNorm2d`.

    Raises:
        InvalidArgumentError, DtypeError, DeviceError, OutOfMemoryError.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Optional[str] = None,
        dtype: Optional[DTypeLike] = None,
        bias: bool = True,
        *,
        num_threads: int = 0,
    ) -> None:
        self._create(
            "bn2d_group_norm_create",
            {"num_groups": num_groups, "num_channels": num_channels},
            device,
            dtype,
            eps=eps,
            affine=bool(affine),
            bias=bool(bias),
            num_threads=num_threads,
        )

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return int(self._get("num_groups"))

    @property
    def num_channels(self) -> int:
        """Number of channels C, as ``num_features``."""
        return self.num_features

    def _running_arguments(self) -> dict[str, Any]:
        return {}


def _dtype_number(dtype: Optional[DTypeLike]) -> int:
    name = "float32" if dtype is None else dtype
    if not isinstance(name, str) or name != "bfloat16":
        try:
            name = np.dtype(name).name
        except (TypeError, ValueError):
            name = repr(dtype)[:80]
    if name not in DTYPES:
        raise DtypeError("dtype %s; a module has float32, float64, float16 or bfloat16" % name)
    return DTYPES[name][0]


class Record:
    """What one forward call left for its backward; from ``forward(..., record=True)``.

    It has no copy of the data: it borrows x, and beside it z where the activation is one from relu6
    on, or y where that is relu or leaky_relu after a residual or on running statistics. It keeps
    these alive. Leave them unchanged until the last backward: what changes them changes the
    gradients, without an error. Usable any number of times.
    """

    def __init__(
        self,
        module: Norm,
        handle: _api.Handle,
        x: Array,
        borrowed: Optional[Array],
        residual: bool,
    ) -> None:
        self._module = module
        self._handle = handle
        self._x = x
        self._borrowed = borrowed  # z or y: the library has its address
        self._residual = residual

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Record cannot be pickled or copied: it belongs to one forward of one module in this "
            "process"
        )

    def backward(
        self, dy: Any, *, dx: Union[Array, bool] = True, dz: Union[Array, bool, None] = None
    ) -> Any:
        """Gradients; adds to ``weight_grad`` and ``bias_grad`` of the module.

        Args:
            dy: Gradient of y, shape and dtype of x, any strides from 0 on.
            dx: True: a new array; an array: receives the gradient of x (may be dy itself); False:
                not wanted.
            dz: The same for the residual. None: wanted where the forward had one.

        Returns:
            dx, or (dx, dz) where the forward had a residual, or dz is asked for without one: then it
            is the gradient at the activation's argument. None for what was not wanted.

        Raises:
            ShapeError, DtypeError, LayoutError, OverlapError, StateError, BusyError.
        """
        dy = _as_array(dy, "dy")
        results = self._results(dx, dz)
        self._call("bn2d_backward", {"dy": dy}, {"dx": results[0], "dz": results[1]})
        return self._returned(results)

    def backward_sums(self, dy: Any) -> Array:
        """First step of a backward in two: the sums of this part of a batch, 2*C doubles.

        Those of all parts are to be added. Adds to ``weight_grad`` and ``bias_grad`` of the module.

        Raises:
            As :meth:`backward`; StateError: the forward was on running statistics.
        """
        sums = np.empty(2 * self._module.num_features)
        self._call("bn2d_backward_sums", {"dy": _as_array(dy, "dy")}, {}, {"sums": sums}, sums.size)
        return sums

    def backward_with_sums(
        self,
        dy: Any,
        sums: Any,
        *,
        dx: Union[Array, bool] = True,
        dz: Union[Array, bool, None] = None,
    ) -> Any:
        """Second step: as :meth:`backward`, from the sums of the whole batch.

        ``weight_grad`` and ``bias_grad`` stay as they are.
        """
        totals = as_doubles(sums, "sums")
        results = self._results(dx, dz)
        inputs = {"dy": _as_array(dy, "dy")}
        self._call(
            "bn2d_backward_with_sums",
            inputs,
            {"dx": results[0], "dz": results[1]},
            {"sums": totals},
            totals.size,
        )
        return self._returned(results)

    def double_backward(
        self,
        dy: Any,
        ddx: Any = None,
        ddweight: Any = None,
        ddbias: Any = None,
        *,
        ddz: Any = None,
        ddy: Union[Array, bool] = True,
        dx: Union[Array, bool] = True,
        dz: Union[Array, bool] = False,
    ) -> tuple[Optional[Array], ...]:
        """Backward of backward: for a loss that depends on dx, dz, dweight and dbias.

        Args:
            dy: As given to backward.
            ddx: Gradient of the loss with respect to dx; None: zero.
            ddweight, ddbias: With respect to dweight and dbias, C elements of the module's dtype;
                None: zero.
            ddz: With respect to dz; None: zero.
            ddy, dx, dz: True: a new array; an array: receives it; False: not wanted.

        Returns:
            (ddy, dx): with respect to dy and to x; (ddy, dx, dz) where that of the residual is
            wanted. With respect to weight it adds to ``weight_grad``, and through hardswish, silu, gelu and
            sigmoid with respect to bias to ``bias_grad``.

        Raises:
            As :meth:`backward`.
        """
        inputs = {"dy": _as_array(dy, "dy")}
        if ddx is not None:
            inputs["ddx"] = _as_array(ddx, "ddx")
        channels: dict[str, Array] = {}
        for name, given in (("ddweight", ddweight), ("ddbias", ddbias)):
            if given is None:
                continue
            array = _as_array(given, name)
            if array.shape != (self._module.num_features,):
                raise ShapeError(
                    "%s has the shape %s, the module %d channels"
                    % (name, array.shape, self._module.num_features)
                )
            if array.dtype != self._module.dtype:
                raise DtypeError(
                    "%s is %s, the module %s" % (name, array.dtype, self._module.dtype)
                )
            channels[name] = np.ascontiguousarray(array)
        if ddz is not None:
            inputs["ddz"] = _as_array(ddz, "ddz")
        results = [self._result("ddy", ddy), self._result("dx", dx)]
        outputs = {"ddy": results[0], "dx": results[1]}
        operation = "bn2d_double_backward"
        if ddz is not None or dz is not False:
            operation += "_act"
            outputs["dz"] = self._result("dz", dz)
            results += [] if outputs["dz"] is None else [outputs["dz"]]
        self._call(operation, inputs, outputs, channels)
        return tuple(results)

    def _results(
        self, dx: Union[Array, bool], dz: Union[Array, bool, None]
    ) -> list[Optional[Array]]:
        return [self._result("dx", dx), self._result("dz", self._residual if dz is None else dz)]

    def _returned(self, results: list[Optional[Array]]) -> Any:
        return tuple(results) if self._residual or results[1] is not None else results[0]

    def _result(self, name: str, given: Union[Array, bool]) -> Optional[Array]:
        if given is True:
            return np.empty_like(self._x)
        if given is False or given is None:
            return None
        if not isinstance(given, np.ndarray):
            raise InvalidArgumentError("%s is a %s, not an array" % (name, type(given).__name__))
        if not unmasked(given, name).flags.writeable:
            raise _read_only(name)
        return given

    def _call(
        self,
        function: str,
        inputs: dict[str, Array],
        outputs: dict[str, Optional[Array]],
        channels: Optional[dict[str, Array]] = None,
        length: Optional[int] = None,
    ) -> None:
        """Calls a backward on arrays by the names of their parameters. length: of the sums."""
        arrays = [
            (name, array)
            for name, array in (*inputs.items(), *outputs.items())
            if array is not None
        ]
        key = (
            function,
            tuple((name, array.shape, array.strides, array.dtype) for name, array in arrays),
            tuple(channels or ()),
        )
        module = self._module
        try:
            plans = module._plans[key]
            plan = plans.pop()
        except (KeyError, IndexError):
            plans = module._kept(key)
            views = tuple(view_of(array, name) for name, array in arrays)
            given = {name: view for (name, _), view in zip(arrays, views)}
            call = _api.Call(function, module=module._address, **given)
            plan = _Plan(call, views)
        for view, (_, array) in zip(plan.views, arrays):
            view.data = address_of(array)  # type: ignore[union-attr]
        slots = plan.call.slots
        slots["record"].value = self._handle.address
        for name, array in (channels or {}).items():
            slots[name].value = address_of(array)
        if length is not None:
            slots["length"].value = length
        status = plan.function(*plan.arguments)
        plans.append(plan)
        if status:
            _api.fail(status)
