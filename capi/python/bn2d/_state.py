# SPDX-License-Identifier: MIT
"""State files: modules and arrays to and from safetensors."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import numpy as np

from . import _above, _api
from ._arrays import address_of, as_array, unmasked
from ._module import Norm
from .errors import DtypeError, InvalidArgumentError, LayoutError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Value = Union[Norm, NDArray[Any]]

_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


class Problems(NamedTuple):
    """Names that did not fit, where `strict` is False. Unexpected are those that begin with the
    prefix of a module that was asked for, and are none of the names that were."""

    missing: list[str]
    unexpected: list[str]


class Listed(NamedTuple):
    """What a file has under a name: the dtype as safetensors writes it ("F32"), and the shape."""

    dtype: str
    shape: tuple[int, ...]


def _view(name: str, array: Any) -> _api.View:
    code = 4 if array.dtype.name == "bfloat16" else _CODES.get(array.dtype.kind)
    if code is None or not array.dtype.isnative:
        raise DtypeError("%s: dtype %s does not go into a state file" % (name, array.dtype))
    if any(stride % array.itemsize != 0 for stride in array.strides):
        raise LayoutError(
            "%s: a stride is no multiple of the element's %d bytes" % (name, array.itemsize)
        )
    strides = tuple(stride // array.itemsize for stride in array.strides)
    view = _api.view(array.shape, strides, code, 8 * array.itemsize)
    view.data = address_of(array)
    return view


def save_state(
    path: Union[str, os.PathLike[str]],
    tensors: Mapping[str, Value],
    metadata: Optional[Mapping[str, str]] = None,
) -> None:
    """Writes modules and arrays to a safetensors file: all of it, or the old file stays.

    Args:
        path: The file.
        tensors: Modules by prefix (``{"layer1.0.bn1.": bn}``) and arrays by name. A prefix has its
            dot, as names are the prefix and what follows: ``{"bn": bn}`` makes "bnweight".
        metadata: Texts by name, beside ``"format": "pt"``.

    Raises:
        FileError: The file cannot be written.
        DtypeError, BusyError, InvalidArgumentError.
    """
    _above.constants("state")
    state = _api.Handle(_api.value("bn2d_state_create"), "state")
    for name, value in tensors.items():
        if isinstance(value, Norm):
            _api.call("bn2d_state_set_module", state.address, name.encode(), value._address)
        else:
            array = as_array(value, name)
            if any(stride < 0 for stride in array.strides):
                array = array.copy()
            view = _view(name, array)
            _api.call("bn2d_state_set", state.address, name.encode(), ctypes.addressof(view))
    for key, text in (metadata or {}).items():
        _api.call("bn2d_state_set_metadata", state.address, key.encode(), text.encode())
    _api.call("bn2d_state_save", state.address, os.fsencode(path))


def list_state(path: Union[str, os.PathLike[str]]) -> dict[str, Listed]:
    """What a safetensors file has: dtypes and shapes by name, in the order of the file. Only its
    header is read.

    Raises:
        FileError, FormatError: The file cannot be read, or is no safetensors file.
    """
    _above.constants("state")
    state = _api.Handle(_api.value("bn2d_state_open", os.fsencode(path)), "state")

    def one(index: int) -> tuple[str, Listed]:
        rank = _api.value("bn2d_state_rank", state.address, index)
        shape = (_api.value("bn2d_state_dim", state.address, index, d) for d in range(rank))
        dtype = _api.value("bn2d_state_dtype_name", state.address, index)
        name = _api.value("bn2d_state_name", state.address, index)
        return name.decode(), Listed(dtype.decode(), tuple(shape))

    return dict(map(one, range(_api.value("bn2d_state_count", state.address))))


def load_state(
    path: Union[str, os.PathLike[str]], tensors: Mapping[str, Value], strict: bool = True
) -> Problems:
    """Loads modules and arrays, in place, from a safetensors file: all of them, or nothing is
    changed.

    Args:
        path: The file.
        tensors: Modules by prefix and arrays by name, as in :func:`save_state`. Floating dtypes
            convert.
        strict: False: names that are missing, or unexpected under a module's prefix, are passed
            over. (What else the file has is never unexpected: :func:`list_state` tells of it.)

    Returns:
        Those names; empty where all was there.

    Raises:
        FileError, FormatError: The file cannot be read, or is no safetensors file.
        NotFoundError: A name is missing or unexpected. (num_batches_tracked may be missing.)
        ShapeError, DtypeError: A tensor that does not fit, strict or not.
        BusyError: Another thread is using a module.
    """
    problems = _above.constants("state")
    state = _api.Handle(_api.value("bn2d_state_open", os.fsencode(path)), "state")
    loader = _api.Handle(_api.value("bn2d_loader_create", state.address), "loader")
    views = []  # kept until the load
    for name, value in tensors.items():
        if isinstance(value, Norm):
            _api.call("bn2d_loader_add_module", loader.address, name.encode(), value._address)
            continue
        if not isinstance(unmasked(value, name), np.ndarray) or not value.flags.writeable:
            raise InvalidArgumentError("%s is no array that can be written" % name)
        views.append((_view(name, value), value))
        _api.call("bn2d_loader_add", loader.address, name.encode(), ctypes.addressof(views[-1][0]))
    _api.call("bn2d_loader_load", loader.address, int(strict))

    def names(kind: str) -> list[str]:
        found = []
        for index in range(_api.value("bn2d_loader_problem_count", loader.address, problems[kind])):
            name, text = ctypes.c_char_p(), ctypes.c_char_p()
            _api.call(
                "bn2d_loader_problem_at",
                loader.address,
                problems[kind],
                index,
                ctypes.addressof(name),
                ctypes.addressof(text),
            )
            found.append((name.value or b"").decode())
        return found

    return Problems(names("BN2D_PROBLEM_MISSING"), names("BN2D_PROBLEM_UNEXPECTED"))
