# SPDX-License-Identifier: MIT
"""Where BN2D_REQUIRE_ALL is 1, a package that is missing is a failure and no skip."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def need(name: str) -> Any:
    """An optional package; without it the module of tests is skipped."""
    if os.environ.get("BN2D_REQUIRE_ALL") == "1" and not (name == "torch" and os.environ.get("BN2D_TORCH") == "0"):
        return importlib.import_module(name)
    return pytest.importorskip(name)
