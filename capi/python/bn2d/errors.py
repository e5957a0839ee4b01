# SPDX-License-Identifier: MIT
"""What a failed call raises: one class for each status of the C library, all of them
``bn2d.Error``.

Each class also derives from the built-in exception that a Python programmer would expect, so that
``except ValueError`` and ``except MemoryError`` catch what they should. The text is the library's:
the fact and both values in one line. A call that raises has changed nothing.
"""

from __future__ import annotations

from typing import Optional

__all__ = [
    "BufferTooSmallError",
    "BusyError",
    "DeviceError",
    "DtypeError",
    "Error",
    "FileError",
    "FormatError",
    "ExtentOverflowError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidHandleError",
    "LayoutError",
    "NotFoundError",
    "OutOfMemoryError",
    "OverlapError",
    "ShapeError",
    "StateError",
    "TooFewValuesError",
]


class Error(Exception):
    """Any failure of this library.

    ``status`` is the number of the C status, or None where it was found on the Python side.
    """

    status_name = ""

    def __init__(self, text: str = "", status: Optional[int] = None) -> None:
        super().__init__(text)
        self.status = status


class InvalidArgumentError(Error, ValueError):
    """A value out of its range, or an unknown constant."""

    status_name = "BN2D_ERROR_INVALID_ARGUMENT"


class InvalidHandleError(Error, ValueError):
    """A handle of another kind, or one already released."""

    status_name = "BN2D_ERROR_INVALID_HANDLE"


class NotFoundError(Error, LookupError):
    """No tensor, option or thread pool of that name."""

    status_name = "BN2D_ERROR_NOT_FOUND"


class ShapeError(Error, ValueError):
    """Rank, number of channels or extents do not fit."""

    status_name = "BN2D_ERROR_SHAPE"


class DtypeError(Error, TypeError):
    """A dtype that does not fit, or is unknown."""

    status_name = "BN2D_ERROR_DTYPE"


class DeviceError(Error, ValueError):
    """Not the CPU's memory."""

    status_name = "BN2D_ERROR_DEVICE"


class LayoutError(Error, ValueError):
    """Strides that do not work, or an output that overlaps itself or cannot be written."""

    status_name = "BN2D_ERROR_LAYOUT"


class OverlapError(Error, ValueError):
    """Two arrays share memory in another way than exact in-place."""

    status_name = "BN2D_ERROR_OVERLAP"


class ExtentOverflowError(Error, OverflowError):
    """A product of extents or strides leaves 64 bits."""

    status_name = "BN2D_ERROR_OVERFLOW"


class TooFewValuesError(Error, ValueError):
    """Batch statistics asked of 1 value per channel."""

    status_name = "BN2D_ERROR_TOO_FEW_VALUES"


class StateError(Error, RuntimeError):
    """The module or record cannot do this: no such buffer, or nothing recorded for it."""

    status_name = "BN2D_ERROR_STATE"


class BusyError(Error, RuntimeError):
    """Another thread is using the module in a way that excludes this call."""

    status_name = "BN2D_ERROR_BUSY"


class BufferTooSmallError(Error, ValueError):
    """A text does not fit its buffer."""

    status_name = "BN2D_ERROR_BUFFER_TOO_SMALL"


class OutOfMemoryError(Error, MemoryError):
    """No memory."""

    status_name = "BN2D_ERROR_OUT_OF_MEMORY"


class InternalError(Error, RuntimeError):
    """A fault of the library."""

    status_name = "BN2D_ERROR_INTERNAL"


class FileError(Error, OSError):
    """A file cannot be read or written."""

    status_name = "BN2D_ERROR_IO"


class FormatError(Error, ValueError):
    """A file is not what it should be."""

    status_name = "BN2D_ERROR_FORMAT"


def by_status_name() -> dict[str, type[Error]]:
    """The class of each status, by the status's name."""
    return {kind.status_name: kind for kind in Error.__subclasses__()}
