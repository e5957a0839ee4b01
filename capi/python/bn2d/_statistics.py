# SPDX-License-Identifier: MIT
"""Statistics from outside: gathered from any number of arrays, and from what other processes
have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from . import _api
from ._arrays import address_of, as_array, as_doubles, view_of
from .errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]


class Statistics:
    """Mean and variance of each channel, for :meth:`BatchNorm2d.forward` and ``set_running_stats``.

    A batch on several processes, in pieces, or a whole data set::

        own = bn2d.Statistics(64).accumulate(x).exported()
        total = bn2d.Statistics(64)
        for exported in gathered:                       # `own` of every process, in the same order
            total.merge(exported)                       # the same bits everywhere
        y, record = bn.forward(x, statistics=total, record=True)
        sums = record.backward_sums(dy)                 # add up those of all processes, ...
        dx = record.backward_with_sums(dy, sums)

    Each forward moves the running statistics of its module. Where one process computes several
    parts of a batch, only one of them is for this module, the others for a second one without
    running statistics (README.md).

    Args:
        num_features: Number of channels C, 1 or more.

    Raises:
        InvalidArgumentError, ExtentOverflowError, OutOfMemoryError.

    Threads: one at a time.
    """

    def __init__(self, num_features: int) -> None:
        self._handle = _api.Handle(_api.value("bn2d_statistics_create", num_features), "statistics")
        self._address = self._handle.address
        self._length: int = _api.value("bn2d_statistics_export_length", self._address)

    @property
    def num_features(self) -> int:
        """Number of channels C."""
        return (self._length - 1) // 4

    @property
    def count(self) -> int:
        """Values of each channel."""
        return int(_api.value("bn2d_statistics_count", self._address))

    @property
    def mean(self) -> Doubles:
        """Means, C doubles. TooFewValuesError where there are no values."""
        return self._mean_var(0)

    @property
    def var(self) -> Doubles:
        """Biased variances, C doubles. TooFewValuesError where there are no values."""
        return self._mean_var(1)

    def _mean_var(self, wanted: int) -> Doubles:
        found = np.empty(self.num_features)
        places: list[Optional[int]] = [None, None]
        places[wanted] = address_of(found)
        _api.call("bn2d_statistics_mean_var", self._address, *places, self.num_features)
        return found

    def accumulate(self, x: Any) -> Statistics:
        """Adds the values of an array (N, C, H, W) of any floating dtype and strides. Returns self.

        Raises:
            ShapeError, DtypeError, LayoutError.
        """
        array = as_array(x, "x")
        view = view_of(array, "x")
        view.data = address_of(array)
        _api.call("bn2d_statistics_accumulate", self._address, _api.ctypes.addressof(view))
        return self

    def merge(self, other: Union[Statistics, Any]) -> Statistics:
        """Adds the values of other statistics, or of an array from :meth:`exported`. Returns self.

        Raises:
            ShapeError: Of other channels.
            DtypeError: An array of something else than doubles.
            InvalidArgumentError: An array that no statistics have.
        """
        if isinstance(other, Statistics):
            _api.call("bn2d_statistics_merge", self._address, other._address)
            return self
        values = as_doubles(other, "other")
        if values.ndim != 1:
            raise ShapeError("exported statistics have 1 dimension, these %d" % values.ndim)
        _api.call("bn2d_statistics_merge_exported", self._address, address_of(values), values.size)
        return self

    def reset(self) -> Statistics:
        """Forgets all values. Returns self."""
        _api.call("bn2d_statistics_reset", self._address)
        return self

    def exported(self) -> Doubles:
        """What travels between processes: 1 + 4*C doubles, for :meth:`merge`."""
        values = np.empty(self._length)
        _api.call("bn2d_statistics_export", self._address, address_of(values), self._length)
        return values

    def __repr__(self) -> str:
        return "Statistics(%d, count=%d)" % (self.num_features, self.count)

    def __getstate__(self) -> Doubles:
        return self.exported()

    def __setstate__(self, exported: Doubles) -> None:
        self.__init__((exported.size - 1) // 4)  # type: ignore[misc]
        self.merge(exported)
