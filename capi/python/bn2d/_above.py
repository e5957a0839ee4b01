# SPDX-License-Identifier: MIT
"""The libraries above libbn2d, state and fold: loaded at the first call that needs one, described
by their JSON."""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any

from . import _api
from .errors import NotFoundError

_HERE = _api.HERE
_LOADED: dict[str, dict[str, int]] = {}


def _description(name: str) -> dict[str, Any]:
    file_name = "bn2d-%s-api.json" % name
    inside = os.path.join(_HERE, file_name)
    checkout = os.path.join(_HERE, "..", "..", "api", file_name)
    with open(inside if os.path.exists(inside) else checkout, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
        return found


def _load(name: str) -> ctypes.CDLL:
    """$BN2D_STATE_LIBRARY and the like, the one beside libbn2d, or the system's."""
    beside = os.path.join(os.path.dirname(_api.library_path()), "libbn2d_%s.so" % name)
    paths = [beside, beside + ".1", "libbn2d_%s.so.1" % name]
    given = os.environ.get("BN2D_%s_LIBRARY" % name.upper())
    reasons = []
    for path in [given] if given else paths:
        try:
            return ctypes.CDLL(path)
        except OSError as fault:
            reasons.append(str(fault))
    raise NotFoundError("libbn2d_%s does not load: %s" % (name, reasons[0])) from None


def constants(name: str) -> dict[str, int]:
    """The constants of a library above, which is loaded if it has not been: `_api.call` then knows
    its functions."""
    if name not in _LOADED:
        description = _description(name)
        library = _load(name)
        for function in description["functions"]:
            _api.FUNCTIONS[function["name"]] = function
            _api.OWNERS[function["name"]] = library
        _LOADED[name] = {one["name"]: one["value"] for one in description["constants"]}
    return _LOADED[name]
