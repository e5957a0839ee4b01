# SPDX-License-Identifier: MIT
"""What counts for the whole process: threads, thread pool, what was built."""

from __future__ import annotations

from . import _api
from .errors import InvalidArgumentError, NotFoundError

_POOLS = {
    "default": "BN2D_POOL_DEFAULT",
    "tbb": "BN2D_POOL_TBB",
    "openmp": "BN2D_POOL_OPENMP",
    "host": "BN2D_POOL_HOST",
}


def build_info() -> str:
    """Compiler, libraries and SIMD targets of the library, one line."""
    return str(_api.declared("bn2d_build_info")().decode())


def simd_target() -> str:
    """Name of the SIMD target in use, for example "AVX2"."""
    return str(_api.declared("bn2d_simd_target")().decode())


def set_num_threads(threads: int) -> None:
    """Most threads of one call, for the whole process; 0: as many as the pool has."""
    _api.call("bn2d_set_num_threads", threads)


def get_num_threads() -> int:
    """The limit set by set_num_threads, 0 where there is none."""
    return int(_api.declared("bn2d_get_num_threads")())


def set_thread_pool(kind: str) -> None:
    """Who runs the threads, for the whole process.

    Args:
        kind: "tbb" or "default": oneTBB. "openmp": the OpenMP runtime that is already in the
        process,
            as torch brings it; `bn2d.torch` chooses it by itself.

    Raises:
        NotFoundError: No OpenMP runtime is loaded, or the library is older than 1.1.
        InvalidArgumentError: An unknown kind.
    """
    if kind not in _POOLS or kind == "host":
        raise InvalidArgumentError(
            "thread pool %r; known are 'default', 'tbb' and 'openmp'" % (kind,)
        )
    if not _api.has("bn2d_set_thread_pool"):
        raise NotFoundError("this library is older than 1.1 and has oneTBB alone")
    _api.call("bn2d_set_thread_pool", _api.CONSTANTS[_POOLS[kind]])


def get_thread_pool() -> str:
    """The kind in use: "tbb", "openmp" or "host"."""
    if not _api.has("bn2d_get_thread_pool"):
        return "tbb"
    number = _api.declared("bn2d_get_thread_pool")()
    return next(name for name, constant in _POOLS.items() if _api.CONSTANTS[constant] == number)
