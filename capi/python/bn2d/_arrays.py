# SPDX-License-Identifier: MIT
"""NumPy arrays as the library sees them: their address, layout and dtype, without a copy."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Callable, Optional

import numpy as np

from . import _api
from .errors import DeviceError, DtypeError, Error, InvalidArgumentError, LayoutError

# dtype's name: (number in the library, DLPack's code, bits)
DTYPES: dict[str, tuple[int, int, int]] = {
    "float32": (_api.CONSTANTS["BN2D_F32"], 2, 32),
    "float64": (_api.CONSTANTS["BN2D_F64"], 2, 64),
    "float16": (_api.CONSTANTS["BN2D_F16"], 2, 16),
    "bfloat16": (_api.CONSTANTS["BN2D_BF16"], 4, 16),
    "int64": (_api.CONSTANTS["BN2D_I64"], 0, 64),
}
_NAMES = {number: name for name, (number, _, _) in DTYPES.items()}


def dtype_of(number: int) -> np.dtype[Any]:
    """NumPy's dtype of a number of the library; bfloat16 needs ml_dtypes."""
    name = _NAMES[number]
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise DtypeError("bfloat16 arrays need the package ml_dtypes") from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def unmasked(given: Any, name: str) -> Any:
    """`given`, where it is no masked array: its masked values would count like any others."""
    if isinstance(given, np.ma.MaskedArray):
        raise InvalidArgumentError(
            "%s is a masked array, bn2d knows no masks: give %s.data or %s.filled(value)"
            % (name, name, name)
        )
    return given


def as_array(given: Any, name: str) -> np.ndarray[Any, Any]:
    """`given` as an array, as `numpy.asarray` takes it, or `numpy.from_dlpack`."""
    plain = unmasked(given, name)
    try:
        found = np.asarray(plain)
        if found.dtype == object and not isinstance(plain, np.ndarray):  # what asarray knows not
            return np.from_dlpack(plain) if hasattr(plain, "__dlpack__") else found
        return found
    except (TypeError, ValueError, RuntimeError, BufferError) as fault:
        raise _no_array(given, name, fault) from fault


def as_doubles(given: Any, name: str) -> np.ndarray[Any, Any]:
    """Doubles that are one stretch of memory. No other dtype: what float32 holds of them is no
    longer exact, and who has made it so had better know."""
    found = as_array(given, name)
    if found.dtype != np.float64:
        raise DtypeError("%s is %s, must be float64" % (name, found.dtype))
    return np.ascontiguousarray(found)


def _no_array(given: Any, name: str, fault: Exception) -> Error:
    """The error for an object that gives NumPy no array. What to do is known of torch's tensors,
    without torch."""
    kind = type(given)
    if all(one.__module__.partition(".")[0] != "torch" for one in kind.__mro__):
        return InvalidArgumentError("%s is a %s, not an array: %s" % (name, kind.__name__, fault))
    device, dtype = str(given.device), str(given.dtype).rpartition(".")[2]
    what, instead = "%s is a torch tensor" % name, "use bn2d.torch, or give %s" % name
    if given.requires_grad:
        return InvalidArgumentError("%s that requires grad: %s.detach()" % (what, instead))
    if device != "cpu":
        return DeviceError("%s on %s: %s.cpu()" % (what, device, instead))
    if dtype == "bfloat16" or dtype not in DTYPES:
        return DtypeError("%s of %s: %s.float()" % (what, dtype, instead))
    return LayoutError("%s that gives no array: %s" % (what, fault))


def as_numbers(source: np.ndarray[Any, Any], name: str, dtype: np.dtype[Any]) -> Any:
    """An array of real numbers in another dtype. Of int64, a scalar: nothing is cut."""
    if source.dtype.kind not in "biuf" and source.dtype.name != "bfloat16":
        raise DtypeError("%s is %s, must be real numbers" % (name, source.dtype))
    if dtype.kind == "i":
        value = source.item()
        if value != value or value in (np.inf, -np.inf) or value != int(value):
            raise InvalidArgumentError("%s is %s, must be a whole number" % (name, value))
        if not -(2**63) <= int(value) < 2**63:
            raise InvalidArgumentError("%s is %s, int64 ends at 2**63 - 1" % (name, value))
        return np.asarray(int(value), dtype)
    return source.astype(dtype)


def view_of(array: np.ndarray[Any, Any], name: str) -> _api.View:
    """A view of an array's layout; `data` is not set."""
    found = DTYPES.get(array.dtype.name)
    if found is None or not array.dtype.isnative:
        raise DtypeError(
            "%s has dtype %s; bn2d takes float32, float64, float16 and bfloat16 of this machine's "
            "byte order" % (name, array.dtype)
        )
    _, code, bits = found
    size = array.itemsize
    for extent, stride in zip(array.shape, array.strides):
        if stride % size != 0 and extent > 1:
            raise LayoutError(
                "%s has a stride of %d bytes, no multiple of the element's %d"
                % (name, stride, size)
            )
    return _api.view(array.shape, tuple(stride // size for stride in array.strides), code, bits)


def _address_by_interface(array: np.ndarray[Any, Any]) -> Optional[int]:
    """Address of the first element: the documented way, 1 us."""
    address: int = array.__array_interface__["data"][0]
    return address


def _fast_address() -> Callable[[np.ndarray[Any, Any]], Optional[int]]:
    """Address of the first element in 0.2 us: the first field of NumPy's C struct after Python's
    own.

    Every compiled extension module has that offset built in, so NumPy cannot change it. Checked all
    the same, and not done where `id` is no address.
    """
    if sys.implementation.name != "cpython":
        return _address_by_interface
    at = ctypes.c_void_p.from_address
    offset = object.__basicsize__

    def address(array: np.ndarray[Any, Any]) -> Optional[int]:
        return at(id(array) + offset).value

    probes: list[np.ndarray[Any, Any]] = [
        np.zeros(3),
        np.zeros((2, 3), np.float16)[:, 1:],
        np.zeros(0),
    ]
    right = all(address(one) == _address_by_interface(one) for one in probes)
    return address if right else _address_by_interface


address_of = _fast_address()


class TensorMemory:
    """A tensor's memory for `numpy.asarray`: the array keeps this, and this keeps the tensor."""

    def __init__(self, handle: _api.Handle, shape: tuple[int, ...], itemsize: int) -> None:
        self.handle = handle
        address = _api.value("bn2d_tensor_data", handle.address)
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": "|V%d" % itemsize,
            "data": (address, False),
        }


def array_of(handle: _api.Handle) -> np.ndarray[Any, Any]:
    """The elements of a bn2d_tensor as an array: no copy, writable, valid for as long as it is
    held."""
    rank = _api.value("bn2d_tensor_rank", handle.address)
    shape = tuple(_api.value("bn2d_tensor_dim", handle.address, axis) for axis in range(rank))
    dtype = dtype_of(_api.value("bn2d_tensor_dtype", handle.address))
    return np.asarray(TensorMemory(handle, shape, dtype.itemsize)).view(dtype)
