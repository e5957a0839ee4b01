# SPDX-License-Identifier: MIT
"""bn2d: batch normalisation for the CPU, on NumPy arrays without a copy.

    import numpy as np, bn2d
    bn = bn2d.BatchNorm2d(64)
    y, record = bn.forward(x, record=True)      # training
    dx = record.backward(dy)                    # adds to bn.weight_grad, bn.bias_grad
    y = bn.eval()(x)                            # running statistics

For PyTorch see `bn2d.torch`, which `import bn2d` does not import. What the library refuses is a
`bn2d.Error`; an argument of another Python type may be Python's own TypeError or AttributeError.
"""

from __future__ import annotations

import os

from . import _api
from ._fold import Folded, fold_into_next, fold_into_previous
from ._library import (
    build_info,
    get_num_threads,
    get_thread_pool,
    set_num_threads,
    set_thread_pool,
    simd_target,
)
from ._module import BatchNorm2d, GroupNorm, InstanceNorm2d, Norm, Record
from ._state import Listed, Problems, list_state, load_state, save_state
from ._statistics import Statistics
from .errors import *  # noqa: F403
from .errors import __all__ as _errors

__version__: str = _api.declared("bn2d_version_string")().decode()

__all__ = [
    "BatchNorm2d",
    "Folded",
    "GroupNorm",
    "InstanceNorm2d",
    "Listed",
    "Norm",
    "Problems",
    "Record",
    "Statistics",
    "build_info",
    "fold_into_next",
    "fold_into_previous",
    "get_include",
    "get_library",
    "get_num_threads",
    "get_thread_pool",
    "list_state",
    "load_state",
    "save_state",
    "set_num_threads",
    "set_thread_pool",
    "simd_target",
    *_errors,
]


def get_include() -> str:
    """The folder that holds bn2d/bn2d.h, for programs in C that use this package's library."""
    inside = os.path.join(_api.HERE, "include")
    checkout = os.path.join(_api.HERE, "..", "..", "..", "include")
    return inside if os.path.exists(inside) else os.path.abspath(checkout)


def get_library() -> str:
    """The path of the shared library in use."""
    return _api.library_path()
