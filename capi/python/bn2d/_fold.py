# SPDX-License-Identifier: MIT
"""Folding: batch norm in eval mode as part of the layer before or after it."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from . import _above, _api
from ._arrays import address_of, as_array, view_of
from ._module import Norm
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Array = NDArray[Any]


class Folded(NamedTuple):
    """A layer with a batch norm in it."""

    weight: Any
    bias: Any
    #: The largest |W' - W| / |W|.
    change: float
    #: The largest relative error by storing the new weights in their dtype.
    rounding: float


def _given(array: Array, name: str) -> Any:
    view = view_of(array, name)
    view.data = address_of(array)
    return view


def _fold(
    function: str,
    module: Norm,
    weight: Any,
    bias: Optional[Any],
    transposed: bool,
    groups: int,
    dtype: Optional[DTypeLike],
    arguments: tuple[int, ...],
) -> Folded:
    layers = _above.constants("fold")
    # The views have addresses only: these two names keep the arrays.
    old = as_array(weight, "weight")
    old_bias = None if bias is None else as_array(bias, "bias")
    if old.ndim < 2:
        raise InvalidArgumentError("weight has %d dimensions, must have 2 or more" % old.ndim)
    if old.ndim == 2 and not transposed and groups == 1:
        layer = layers["BN2D_LAYER_LINEAR"]
    else:
        layer = layers["BN2D_LAYER_TRANSPOSED" if transposed else "BN2D_LAYER_CONV"]
    outputs = old.shape[1] * groups if transposed else old.shape[0]
    new = np.empty(old.shape, old.dtype if dtype is None else dtype)
    new_bias = np.empty(outputs, new.dtype)
    given = [
        _given(old, "weight"),
        None if old_bias is None else _given(old_bias, "bias"),
        _given(new, "the new weight"),
        _given(new_bias, "the new bias"),
    ]
    change, rounding = ctypes.c_double(), ctypes.c_double()
    _api.call(
        function,
        module._address,
        layer,
        groups,
        *arguments,
        *(None if view is None else ctypes.addressof(view) for view in given),
        ctypes.addressof(change),
        ctypes.addressof(rounding),
    )
    return Folded(new, new_bias, change.value, rounding.value)


def fold_into_previous(
    module: Norm,
    weight: Any,
    bias: Optional[Any] = None,
    *,
    transposed: bool = False,
    groups: int = 1,
    dtype: Optional[DTypeLike] = None,
) -> Folded:
    """New weight and bias of the layer before a batch norm in eval mode, so that it needs none.

    Args:
        module: With running statistics; its mode does not matter.
        weight: As torch has it: (out, in) linear, (out, in/groups, ...) convolution, (in,
            out/groups, ...) transposed.
        bias: None: the layer has none.
        transposed: A transposed convolution.
        groups: Groups of the convolution.
        dtype: Of the result; None: that of weight.

    Raises:
        StateError: No running statistics. ExtentOverflowError: Beyond the range of the dtype.
        ShapeError, DtypeError.
    """
    return _fold("bn2d_fold_into_previous", module, weight, bias, transposed, groups, dtype, ())


def fold_into_next(
    module: Norm,
    weight: Any,
    bias: Optional[Any] = None,
    *,
    transposed: bool = False,
    groups: int = 1,
    padded: bool = False,
    dtype: Optional[DTypeLike] = None,
) -> Folded:
    """The same for the layer after it. See :func:`fold_into_previous`.

    Args:
        padded: Some outputs read fewer inputs than others: zero padding; transposed: a stride above
            1 or an output padding.

    Raises:
        StateError: Also where the layer cannot take the shift.
    """
    return _fold(
        "bn2d_fold_into_next", module, weight, bias, transposed, groups, dtype, (int(padded),)
    )
