# SPDX-License-Identifier: MIT
"""State files and folding from Python, where the package has their libraries."""

from __future__ import annotations

import os

import bn2d
import numpy as np
import pytest
from conftest import need_libraries


def random_module(channels, dtype="float32", seed=1):
    random = np.random.default_rng(seed)
    bn = bn2d.BatchNorm2d(channels, dtype=dtype)
    bn.weight = random.normal(size=channels)
    bn.bias = random.normal(size=channels)
    bn.running_mean = random.normal(size=channels)
    bn.running_var = random.uniform(0.1, 2, channels)
    return bn


def test_scale_and_shift():
    bn = random_module(5, "float64")
    scale, shift = bn.scale_shift()
    want = bn.weight / np.sqrt(bn.running_var + bn.eps)
    np.testing.assert_allclose(scale, want, rtol=1e-15)
    np.testing.assert_allclose(shift, bn.bias - bn.running_mean * want, rtol=1e-13)
    assert bn.scale_shift("float16")[0].dtype == np.float16
    with pytest.raises(bn2d.StateError):
        bn2d.BatchNorm2d(3, track_running_stats=False).scale_shift()


def test_state_round_trip(tmp_path):
    need_libraries("state")
    path = tmp_path / "file.safetensors"
    saved, loaded = random_module(4), bn2d.BatchNorm2d(4, dtype="float64")
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    bn2d.save_state(
        path, {"a.bn.": saved, "w": plain.T, "i": np.array([1, 2], np.int8)}, {"by": "test"}
    )
    assert os.listdir(tmp_path) == [path.name]
    back, small = np.zeros((4, 3)), np.zeros(2, np.int8)
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    listed = bn2d.list_state(path)
    assert sorted(listed) == sorted(["a.bn." + name for name in names] + ["w", "i"])
    assert listed["w"] == ("F32", (4, 3)) and listed["i"].shape == (2,)
    assert listed["a.bn.num_batches_tracked"] == ("I64", ())
    assert bn2d.load_state(path, {"a.bn.": loaded, "w": back, "i": small}) == ([], [])
    np.testing.assert_array_equal(back, plain.T)
    np.testing.assert_array_equal(small, [1, 2])
    for name in names:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))


def test_a_masked_array_is_refused(tmp_path):
    masked = np.ma.masked_array(np.ones((3, 3), np.float32), mask=np.eye(3))
    for name, call in {
        "w": lambda: bn2d.save_state(tmp_path / "file", {"w": masked}),
        "weight": lambda: bn2d.fold_into_previous(random_module(3), masked),
        "bias": lambda: bn2d.fold_into_previous(random_module(3), masked.data, masked[0]),
    }.items():
        need_libraries("state" if name == "w" else "fold")
        with pytest.raises(bn2d.InvalidArgumentError, match="^%s is a masked array" % name):
            call()
    assert os.listdir(tmp_path) == []
    bn2d.save_state(tmp_path / "file", {"w": masked.data})
    with pytest.raises(bn2d.InvalidArgumentError, match="w is a masked array"):
        bn2d.load_state(tmp_path / "file", {"w": masked})


def test_state_errors_change_nothing(tmp_path):
    need_libraries("state")
    path = tmp_path / "file"
    bn2d.save_state(path, {"bn.": random_module(3), "bn.more": np.ones(2, np.float32)})
    bn, other = bn2d.BatchNorm2d(3), bn2d.BatchNorm2d(4)
    with pytest.raises(bn2d.NotFoundError, match="bn.more"):
        bn2d.load_state(path, {"bn.": bn})
    with pytest.raises(bn2d.ShapeError):
        bn2d.load_state(path, {"bn.": other}, strict=False)
    np.testing.assert_array_equal(bn.weight, 1)
    assert bn2d.load_state(path, {"bn.": bn, "none": np.ones(1)}, strict=False) == (
        ["none"],
        ["bn.more"],
    )
    with pytest.raises(bn2d.FileError):
        bn2d.load_state(tmp_path / "none", {"bn.": bn})
    assert bn2d.load_state(path, {"more.": bn}, strict=False).unexpected == []  # not asked for
    path.write_bytes(b"12345678{}")
    with pytest.raises(bn2d.FormatError):
        bn2d.list_state(path)
    with pytest.raises(bn2d.FormatError):
        bn2d.load_state(path, {"bn.": bn})
    with pytest.raises(bn2d.FileError):
        bn2d.save_state(tmp_path / "no" / "file", {"bn.": bn})
    with pytest.raises(bn2d.DtypeError):
        bn2d.save_state(path, {"text": np.array(["a"])})


def test_fold():
    need_libraries("fold")
    bn = random_module(6, "float64")
    random = np.random.default_rng(2)
    weight, bias = random.normal(size=(6, 3, 2, 2)), random.normal(size=6)
    scale, shift = bn.scale_shift()
    folded = bn2d.fold_into_previous(bn, weight, bias)
    np.testing.assert_allclose(folded.weight, weight * scale[:, None, None, None], rtol=1e-14)
    np.testing.assert_allclose(folded.bias, bias * scale + shift, rtol=1e-13)
    assert folded.change == pytest.approx(np.abs(scale - 1).max())
    linear = random.normal(size=(4, 6))
    after = bn2d.fold_into_next(bn, linear, dtype="float32")
    np.testing.assert_allclose(after.bias, linear @ shift, rtol=1e-6)
    assert after.weight.dtype == np.float32 and 0 < after.rounding < 2**-23
    with pytest.raises(bn2d.StateError):
        bn2d.fold_into_next(bn, linear, padded=True)
    with pytest.raises(bn2d.ShapeError):
        bn2d.fold_into_previous(bn, linear)


def test_fold_keeps_the_array_of_a_list():
    """Catches: the list's array is gone when the library reads it. Large, so that its memory goes
    back to the system: a small one would still have its values."""
    need_libraries("fold")
    bn = bn2d.BatchNorm2d(200000)
    folded = bn2d.fold_into_previous(bn, np.ones((200000, 1), np.float32), [3.0] * 200000)
    np.testing.assert_allclose(folded.bias, 3, rtol=1e-5)


def test_null_bytes(tmp_path):
    """Another file than the one that is named, or two names that become one: C's texts end there."""
    need_libraries("state")
    path, one = tmp_path / "file", np.ones(2)
    bn2d.save_state(path, {"a": one, "bn.": random_module(3)})
    before = path.read_bytes()
    for call in (
        lambda: bn2d.save_state("%s\0.old" % path, {"a": one}),
        lambda: bn2d.save_state(os.fsencode(path) + b"\0", {"a": one}),
        lambda: bn2d.load_state("%s\0.old" % path, {"a": one}, strict=False),
        lambda: bn2d.save_state(path, {"a\0b": one}),
        lambda: bn2d.save_state(path, {"a\0b.": random_module(3)}),
        lambda: bn2d.save_state(path, {"a": one}, {"by\0": "test"}),
        lambda: bn2d.save_state(path, {"a": one}, {"by": "\0test"}),
        lambda: bn2d.load_state(path, {"a\0zzz": one}, strict=False),
        lambda: bn2d.load_state(path, {"bn.\0": bn2d.BatchNorm2d(3)}, strict=False),
    ):
        with pytest.raises(ValueError, match="null byte"):  # as open() says
            call()
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == before
