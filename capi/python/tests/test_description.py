# SPDX-License-Identifier: MIT
"""The binding against bn2d-api.json: what would go unnoticed when the header grows."""

from __future__ import annotations

import ctypes

import bn2d
import pytest
from bn2d import _api, errors


def test_every_status_has_its_class():
    statuses = {
        one["name"] for one in _api.DESCRIPTION["constants"] if one["group"] == "bn2d_status"
    } - {"BN2D_OK"}
    assert statuses == set(errors.by_status_name())


def test_every_function_is_in_the_library_and_can_be_declared():
    for name in _api.FUNCTIONS:
        assert _api.has(name), name
        _api.declared(name)


def test_view_has_the_size_of_the_description():
    described = next(one for one in _api.DESCRIPTION["structs"] if one["name"] == "bn2d_view")
    assert ctypes.sizeof(_api.View) == described["size"]
    for field in described["fields"]:
        assert getattr(_api.View, field["name"]).offset == field["offset"], field["name"]


def test_constants_of_the_description_are_the_library_s():
    for name, number in _api.CONSTANTS.items():
        assert _api.value("bn2d_constant_by_name", name.encode()) == number, name


def test_a_call_refuses_a_parameter_that_does_not_exist():
    with pytest.raises(TypeError, match="has no parameter epsilon"):
        _api.Call("bn2d_batch_norm_forward", epsilon=1.0)


def test_version_and_places():
    assert bn2d.__version__ == "%d.%d.%d" % tuple(
        _api.CONSTANTS["BN2D_VERSION_" + part] for part in ("MAJOR", "MINOR", "PATCH")
    )
    assert bn2d.get_library().endswith(".so")
    assert "SIMD" in bn2d.build_info()
    assert bn2d.simd_target()
