# SPDX-License-Identifier: MIT
"""Where BN2D_REQUIRE_ALL is 1, a package that is missing is a failure and no skip."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def need(name: str) -> Any:
    """An optional package; without it the module of tests is skipped."""
    if os.environ.get("BN2D_REQUIRE_ALL") == "1" and not (
        name == "torch" and os.environ.get("BN2D_TORCH") == "0"
    ):
        return importlib.import_module(name)
    return pytest.importorskip(name)


def need_libraries(*names: str) -> None:
    """Libraries above libbn2d, which a wheel has where their dependencies were there when it was
    built."""
    import bn2d
    from bn2d import _above

    for name in names:
        try:
            _above.constants(name)
        except bn2d.NotFoundError as fault:
            if os.environ.get("BN2D_REQUIRE_ALL") == "1":
                raise
            pytest.skip(str(fault))
