# SPDX-License-Identifier: MIT
"""bn2d on NumPy arrays: numbers against NumPy's own, memory, state, errors, threads."""

from __future__ import annotations

import copy
import gc
import math
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref

import bn2d
import numpy as np
import pytest
from bn2d import _api

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

DTYPES = ["float32", "float64", "float16"] + (["bfloat16"] if ml_dtypes else [])
TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "float16": 4e-3, "bfloat16": 3e-2}


def numpy_dtype(name):
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def layouts(shape, dtype, seed=0):
    """The same values in every kind of memory layout, by name."""
    n, c, h, w = shape
    values = np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(dtype)
    wide = np.zeros((n, c, 2 * h, w + 3), dtype)[:, :, ::2, 1 : 1 + w]
    wide[...] = values
    return {
        "contiguous": values,
        "channels_last": np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "sliced": wide,
        "chwn": np.ascontiguousarray(values.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2),
    }


def reference(x, z=None, eps=1e-5):
    """y before an activation, mean and variance, in double precision; weight 1, bias 0."""
    x = x.astype("f8")
    mean = x.mean((0, 2, 3), keepdims=True)
    var = x.var((0, 2, 3), keepdims=True)
    y = (x - mean) / np.sqrt(var + eps) + (0.0 if z is None else z.astype("f8"))
    return y, mean.ravel(), var.ravel()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "chwn"])
@pytest.mark.parametrize(
    ("activation", "slope"), [(None, 1.0), ("relu", 0.0), ("leaky_relu", -0.5)]
)
def test_training_of_every_dtype_and_layout(dtype, layout, activation, slope):
    x = layouts((3, 5, 4, 7), numpy_dtype(dtype))[layout]
    z = layouts((3, 5, 4, 7), numpy_dtype(dtype), seed=1)[layout]
    bn = bn2d.BatchNorm2d(5, dtype=dtype if dtype == "float64" else None)
    y, record = bn.forward(x, z, activation=activation, slope=slope, record=True)
    before, mean, var = reference(x, z)
    expected = np.where(before > 0, before, slope * before)
    assert y.dtype == x.dtype
    assert np.allclose(y.astype("f8"), expected, atol=4 * TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    if layout != "sliced":
        assert y.strides == x.strides
    count = x.size // 5
    assert np.allclose(bn.running_mean, 0.1 * mean, rtol=1e-5, atol=1e-6)
    assert np.allclose(bn.running_var, 0.9 + 0.1 * var * count / (count - 1), rtol=1e-5)
    assert bn.num_batches_tracked == 1

    dy = layouts((3, 5, 4, 7), numpy_dtype(dtype), seed=2)["contiguous"]
    dx, dz = record.backward(dy)
    side = np.where(before > 0, 1.0, slope) * dy.astype("f8")
    normal, _, _ = reference(x)
    axes = (0, 2, 3)
    invstd = 1.0 / np.sqrt(var + 1e-5).reshape(1, -1, 1, 1)
    wanted = invstd * (
        side - side.mean(axes, keepdims=True) - normal * (side * normal).mean(axes, keepdims=True)
    )
    assert np.allclose(dz.astype("f8"), side, rtol=TOLERANCE[dtype], atol=1e-6)
    assert np.allclose(dx.astype("f8"), wanted, atol=4 * TOLERANCE[dtype])
    assert np.allclose(bn.bias_grad, side.sum(axes), rtol=1e-3, atol=1e-3)
    assert np.allclose(
        bn.weight_grad, (side * normal).sum(axes), rtol=1e-3, atol=60 * TOLERANCE[dtype]
    )


def test_eval_uses_the_running_statistics_and_changes_nothing():
    x = layouts((2, 3, 4, 5), "f8")["contiguous"]
    bn = bn2d.BatchNorm2d(3, dtype="float64").eval()
    bn.running_mean = [1.0, 2.0, 3.0]
    bn.running_var = [4.0, 1.0, 0.25]
    bn.weight[:] = 2.0
    bn.bias[:] = 0.5
    before = bn.state_dict()
    wanted = (
        2.0
        * (x - bn.running_mean.reshape(1, 3, 1, 1))
        / np.sqrt(bn.running_var.reshape(1, 3, 1, 1) + 1e-5)
        + 0.5
    )
    assert np.allclose(bn(x), wanted, rtol=1e-12, atol=1e-12)
    assert all(np.array_equal(array, before[name]) for name, array in bn.state_dict().items())


POINTWISE = ["relu6", "clamp", "hardswish", "silu", "gelu", "sigmoid"]
SIDED = [("relu", None), ("leaky_relu", None), ("leaky_relu", 0.2)]
# activation, slope, what a record keeps beside x: with z in training, with z in eval mode, without
# z in training, without z in eval mode
BORROWED = [
    (None, None, ["", "", "", ""]),
    *((name, slope, ["y", "y", "", "y"]) for name, slope in SIDED),
    ("leaky_relu", -0.5, ["", "", "", ""]),
    *((name, 2.0, ["z", "z", "", ""]) for name in POINTWISE),
]


@pytest.mark.parametrize(("activation", "slope", "kept"), BORROWED)
@pytest.mark.parametrize("make", ["batch", "frozen", "group", "instance", "tracking"])
def test_a_record_keeps_what_it_borrows_and_no_more(activation, slope, kept, make):
    """Gradients of memory that has become something else; memory that is held for nothing."""
    norm = {
        "batch": lambda: bn2d.BatchNorm2d(4),
        "frozen": lambda: bn2d.BatchNorm2d(4),
        "group": lambda: bn2d.GroupNorm(2, 4),
        "instance": lambda: bn2d.InstanceNorm2d(4),
        "tracking": lambda: bn2d.InstanceNorm2d(4, track_running_stats=True),
    }[make]()
    if make == "frozen":
        norm.frozen = True
    for residual, training in ((True, True), (True, False), (False, True), (False, False)):
        norm.train(training)
        on_running = make == "frozen" or (make in ("batch", "tracking") and not training)
        expected = kept[(0 if residual else 2) + on_running]
        rng = np.random.default_rng(1)
        x = rng.normal(size=(4, 4, 16, 16)).astype("f4")
        dy, z = (rng.normal(size=x.shape).astype("f4") for _ in range(2))

        def call():
            """A record, and weak references to what has been given; z and y are temporary."""
            given, residue = x.copy(), z.copy() if residual else None
            y, record = norm.forward(
                given, residue, activation=activation, slope=slope, record=True
            )
            found = {"x": weakref.ref(given), "y": weakref.ref(y)}
            if residue is not None:
                found["z"] = weakref.ref(residue)
            wanted = record.backward(dy)
            return record, found, wanted

        record, found, wanted = call()
        gc.collect()
        alive = {name for name, one in found.items() if one() is not None}
        assert alive == {"x", *expected}, (residual, training)
        junk = [np.full(x.shape, 777, "f4") for _ in range(20)]
        got = record.backward(dy)
        for one, other in zip(*((got, wanted) if residual else ((got,), (wanted,)))):
            assert np.array_equal(one, other)
        del junk, record
        assert all(one() is None for one in found.values())


def test_a_record_keeps_y_where_another_thread_changes_the_mode():
    """Catches: the mode is asked for after the call, and y is gone before the backward."""
    bn = bn2d.BatchNorm2d(4).eval()
    x = layouts((2, 4, 8, 8), "f4")["contiguous"]
    bn.forward(x, activation="relu", record=True)
    ((plan,),) = bn._plans.values()
    call = plan.function

    def interrupted(*arguments):
        status = call(*arguments)
        bn.train()
        return status

    plan.function = interrupted
    y, record = bn.forward(x, activation="relu", record=True)
    kept = weakref.ref(y)
    del y
    gc.collect()
    assert kept() is not None
    assert record.backward(x).shape == x.shape


def test_a_function_has_its_result_before_its_arguments(monkeypatch):
    """Catches: a thread that sees the arguments' types calls with ctypes' own type of result."""
    order = []

    class Undeclared:
        argtypes = None

        def __setattr__(self, name, value):
            order.append(name)

    class Library:
        bn2d_last_error = Undeclared()

    monkeypatch.setitem(_api.OWNERS, "bn2d_last_error", Library)
    _api.declared("bn2d_last_error")
    assert order == ["restype", "argtypes"]


def test_nothing_is_copied():
    x = layouts((8, 16, 32, 32), "f4")["channels_last"]
    bn = bn2d.BatchNorm2d(16).eval()
    y = np.empty_like(x)
    assert bn(x, out=y) is y
    assert bn(x, out=x) is x
    assert np.array_equal(x, y)
    weight = bn.weight
    assert bn.weight is weight
    weight[0] = 3.0
    assert bn.state_dict()["weight"][0] == 3.0


def test_an_expanded_input_is_read_and_no_expanded_output_written():
    x = np.broadcast_to(layouts((2, 3, 4, 5), "f4")["contiguous"][:, :, :, :1], (2, 3, 4, 5))
    one, other = bn2d.BatchNorm2d(3), bn2d.BatchNorm2d(3)
    y, record = one.forward(x, record=True)
    expected, plain = other.forward(np.ascontiguousarray(x), record=True)
    assert np.array_equal(y, expected)
    dy = np.broadcast_to(np.float32(0.5), x.shape)
    assert np.array_equal(record.backward(dy), plain.backward(np.ascontiguousarray(dy)))
    expanded = np.lib.stride_tricks.as_strided(
        np.empty(5, "f4"), x.shape, (0, 0, 0, 4), writeable=True
    )
    with pytest.raises(bn2d.LayoutError):
        one(x, out=expanded)


def test_a_result_is_taken_where_it_lies():
    bn = bn2d.BatchNorm2d(3)
    x = layouts((2, 3, 4, 5), "f4")["contiguous"]
    _, record = bn.forward(x, record=True)
    dy, dx = np.ones_like(x), np.empty((2, 4, 5, 3), "f4").transpose(0, 3, 1, 2)
    assert record.backward(dy, dx=dx) is dx
    assert np.array_equal(record.backward(dy), dx)
    assert record.backward(dy, dx=False) is None
    assert record.backward(dy, dx=dy) is dy


def test_arrays_live_longer_than_the_module():
    bn = bn2d.BatchNorm2d(1000)
    mean, weight = bn.running_mean, bn.weight[10:]
    x = layouts((2, 1000, 2, 2), "f4")["contiguous"]
    _, record = bn.forward(x, record=True)
    expected = mean.copy()
    del bn
    gc.collect()
    for _ in range(50):
        bn2d.BatchNorm2d(1000).weight[:] = 7.0
    assert np.array_equal(mean, expected)
    assert np.array_equal(weight, np.ones(990, "f4"))
    record.backward(np.ones_like(x))


def test_a_record_serves_again_and_keeps_its_arrays():
    bn = bn2d.BatchNorm2d(3)
    _, record = bn.forward(layouts((2, 3, 4, 5), "f4")["contiguous"].copy(), record=True)
    gc.collect()
    dy = layouts((2, 3, 4, 5), "f4", seed=3)["contiguous"]
    first = record.backward(dy)
    grad = bn.weight_grad.copy()
    assert np.array_equal(record.backward(dy), first)
    assert np.allclose(bn.weight_grad, 2 * grad)
    bn.zero_grad()
    assert not bn.weight_grad.any()
    bn.requires_grad_(False)
    record.backward(dy)
    assert not bn.weight_grad.any()


def test_double_backward_against_differences():
    rng = np.random.default_rng(4)
    x, dy, ddx = rng.normal(size=(3, 2, 3, 2, 2))
    ddweight, ddbias = rng.normal(size=(2, 3))

    def gradients(x, dy):
        bn = bn2d.BatchNorm2d(3, dtype="float64")
        bn.weight = [1.5, -0.5, 2.0]
        _, record = bn.forward(x, record=True)
        return bn, record, record.backward(dy)

    def loss(x, dy):
        bn, _, dx = gradients(x, dy)
        return (dx * ddx).sum() + (bn.weight_grad * ddweight).sum() + (bn.bias_grad * ddbias).sum()

    _, record, _ = gradients(x, dy)
    ddy, dx = record.double_backward(dy, ddx, ddweight, ddbias)
    for got, index in ((dx, 0), (ddy, 1)):
        for place in [(0, 0, 0, 0), (1, 2, 1, 1), (0, 1, 1, 0)]:
            both = []
            for step in (1e-5, -1e-5):
                moved = [x.copy(), dy.copy()]
                moved[index][place] += step
                both.append(loss(*moved))
            assert got[place] == pytest.approx((both[0] - both[1]) / 2e-5, rel=1e-5, abs=1e-7)


def test_double_backward_of_a_residual():
    """A loss of dz through silu: ddz left out, dz not returned, bias without a gradient."""
    rng = np.random.default_rng(5)
    x, z, dy, ddx, ddz = rng.normal(size=(5, 2, 3, 2, 2))

    def gradients(x, z, dy, bias):
        bn = bn2d.BatchNorm2d(3, dtype="float64")
        bn.bias = bias
        _, record = bn.forward(x, z, activation="silu", record=True)
        return bn, record, record.backward(dy)

    def loss(*inputs):
        _, _, (dx, dz) = gradients(*inputs)
        return (dx * ddx).sum() + (dz * ddz).sum()

    inputs = [x, z, dy, np.array([0.5, -1.0, 0.25])]
    bn, record, _ = gradients(*inputs)
    bn.zero_grad()
    ddy, dx, dz = record.double_backward(dy, ddx, ddz=ddz, dz=True)
    for got, index in ((dx, 0), (dz, 1), (ddy, 2), (bn.bias_grad, 3)):
        for place in np.ndindex(got.shape):
            both = []
            for step in (1e-5, -1e-5):
                moved = [one.copy() for one in inputs]
                moved[index][place] += step
                both.append(loss(*moved))
            assert got[place] == pytest.approx((both[0] - both[1]) / 2e-5, rel=1e-5, abs=1e-7)
    assert len(record.double_backward(dy, ddx, ddz=ddz)) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_travels(dtype):
    bn = bn2d.BatchNorm2d(4, momentum=None, dtype=dtype, bias=False)
    if dtype != "bfloat16" or ml_dtypes:
        bn(layouts((2, 4, 3, 3), numpy_dtype(dtype))["contiguous"])
    for other in (copy.deepcopy(bn.eval()), pickle.loads(pickle.dumps(bn))):
        assert repr(other) == repr(bn)
        assert other.bias is None
        assert not other.training
        for name, array in bn.state_dict().items():
            assert other.state_dict()[name].tobytes() == array.tobytes()
    other = bn2d.BatchNorm2d(4, dtype=dtype, bias=False)
    other.load_state_dict(bn.state_dict())
    assert other.running_var.tobytes() == bn.running_var.tobytes()


def test_a_state_that_does_not_fit_changes_nothing():
    bn = bn2d.BatchNorm2d(4)
    state = bn.state_dict()
    state["weight"][:] = 9.0
    with pytest.raises(
        bn2d.ShapeError, match=r"running_var has the shape \(4,\), the state \(5,\)"
    ):
        bn.load_state_dict({**state, "running_var": np.ones(5, "f4")})
    with pytest.raises(bn2d.NotFoundError, match="missing: bias; unknown: gamma"):
        bn.load_state_dict(
            {"gamma": 1, **{name: array for name, array in state.items() if name != "bias"}}
        )
    with pytest.raises(
        bn2d.NotFoundError,
        match=r"missing: bias, running_mean, running_var; unknown: none; "
        r"weight has the shape \(4,\), the state \(3,\)",
    ):  # one call tells all that is wrong
        bn.load_state_dict({"weight": np.zeros(3, "f4")})
    assert np.array_equal(bn.weight, np.ones(4, "f4"))
    bn.load_state_dict({"weight": state["weight"]}, strict=False)
    assert np.array_equal(bn.weight, np.full(4, 9.0, "f4"))


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("bias", np.array(list("abcd")), bn2d.DtypeError, "bias is <U1, must be real numbers"),
        ("bias", np.ones(4, "c8"), bn2d.DtypeError, "bias is complex64, must be real numbers"),
        ("num_batches_tracked", 2.7, bn2d.InvalidArgumentError, "is 2.7, must be a whole number"),
        ("num_batches_tracked", np.nan, bn2d.InvalidArgumentError, "is nan, must be a whole"),
        ("num_batches_tracked", np.inf, bn2d.InvalidArgumentError, "is inf, must be a whole"),
        ("num_batches_tracked", 2.0**63, bn2d.InvalidArgumentError, r"int64 ends at 2\*\*63 - 1"),
        ("num_batches_tracked", np.uint64(2**64 - 1), bn2d.InvalidArgumentError, "int64 ends at"),
    ],
)
def test_a_state_of_other_numbers_changes_nothing(name, value, error, text):
    """Catches: arrays that were stored before the one that cannot be; numbers that are cut."""
    bn = bn2d.BatchNorm2d(4)
    before = bn.state_dict()
    with pytest.raises(error, match=text):
        bn.load_state_dict({key: 1 + array for key, array in before.items()} | {name: value})
    with pytest.raises(error, match=text):
        setattr(bn, name, value)
    for key, array in bn.state_dict().items():
        assert np.array_equal(array, before[key])
    bn.load_state_dict({"num_batches_tracked": np.float32(7)}, strict=False)
    assert bn.num_batches_tracked == 7


def test_properties_and_repr():
    bn = bn2d.BatchNorm2d(64)
    assert (
        repr(bn)
        == "BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    )
    assert (bn.num_features, bn.eps, bn.momentum, bn.affine, bn.track_running_stats) == (
        64,
        1e-5,
        0.1,
        True,
        True,
    )
    assert (bn.training, bn.dtype, bn.num_threads) == (True, np.float32, 0)
    bn.num_threads = 2
    assert bn.num_threads == 2
    bare = bn2d.BatchNorm2d(3, momentum=None, affine=False, track_running_stats=False)
    assert bare.momentum is None
    assert (bare.weight, bare.bias, bare.running_mean, bare.num_batches_tracked) == (
        None,
        None,
        None,
        None,
    )
    with pytest.raises(bn2d.NotFoundError, match="no weight"):
        bare.weight = [1.0]


@pytest.mark.parametrize(
    ("make", "kinds", "text"),
    [
        (lambda: bn2d.BatchNorm2d(0), (bn2d.InvalidArgumentError, ValueError), "num_features"),
        (lambda: bn2d.BatchNorm2d("8"), (bn2d.InvalidArgumentError, ValueError), "not an integer"),
        (lambda: bn2d.BatchNorm2d(8, eps=-1.0), (bn2d.InvalidArgumentError, ValueError), "-1"),
        (lambda: bn2d.BatchNorm2d(8, device="cuda"), (bn2d.DeviceError, ValueError), "cuda"),
        (lambda: bn2d.BatchNorm2d(8, dtype="int32"), (bn2d.DtypeError, TypeError), "int32"),
        (lambda: bn2d.BatchNorm2d(2**60), (bn2d.Error,), None),
    ],
)
def test_a_module_that_cannot_be(make, kinds, text):
    for kind in kinds:
        with pytest.raises(kind, match=text):
            make()


class Index:
    """An integer as other libraries have them."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("num_features", lambda n: bn2d.BatchNorm2d(n)),
        ("num_features", lambda n: bn2d.InstanceNorm2d(n)),
        ("num_features", lambda n: bn2d.Statistics(n)),
        ("num_groups", lambda n: bn2d.GroupNorm(n, 4)),
        ("num_channels", lambda n: bn2d.GroupNorm(1, n)),
        ("ghost_batch_size", lambda n: bn2d.BatchNorm2d(2, ghost_batch_size=n)),
        ("num_threads", lambda n: bn2d.BatchNorm2d(2, num_threads=n)),
        ("num_threads", lambda n: setattr(bn2d.BatchNorm2d(2), "num_threads", n)),
        ("num_threads", lambda n: bn2d.set_num_threads(n)),
    ],
)
def test_an_integer_that_c_cannot_hold_is_refused(name, use):
    """ctypes cuts it to its lowest bits: 2**64 + 1 channels were 1."""
    bits = 32 if name == "num_threads" else 64
    for number in (2**bits + 1, 2 ** (bits - 1), -(2**bits) + 1, 2**100 + 1):
        for given in (number, Index(number)):
            with pytest.raises(
                bn2d.InvalidArgumentError, match="^%s is %d, must be from " % (name, number)
            ):
                use(given)
    with pytest.raises(bn2d.InvalidArgumentError, match="%s is an integer of 33220 bits" % name):
        use(10**10000)  # has more digits than Python writes down
    for given in (1.0, "1", None, np.float32(1)):
        with pytest.raises(bn2d.InvalidArgumentError, match="%s is .* not an integer" % name):
            use(given)
    use(Index(1))
    use(np.int32(1))
    bn2d.set_num_threads(0)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("eps", lambda n: bn2d.BatchNorm2d(2, eps=n)),
        ("momentum", lambda n: bn2d.BatchNorm2d(2, momentum=n)),
        ("momentum", lambda n: setattr(bn2d.BatchNorm2d(2), "momentum", n)),
        ("slope", lambda n: bn2d.BatchNorm2d(1)(np.ones((2, 1, 1, 1), "f4"), slope=n)),
    ],
)
def test_what_is_no_number_is_refused(name, use):
    for given in ("0.1", 1j, (0.1,), 10**400):
        with pytest.raises(bn2d.InvalidArgumentError, match="^%s is .*not a number$" % name):
            use(given)
    use(np.float32(0.5))


def test_a_masked_array_is_refused():
    """Its masked values would count like any others."""
    x = layouts((2, 3, 4, 5), "f4")["contiguous"]
    masked = np.ma.masked_array(x.copy(), mask=x > 1)
    channels = np.ma.masked_array(np.ones(3, "f4"), mask=[0, 1, 0])
    bn = bn2d.BatchNorm2d(3)
    _, record = bn.forward(x, record=True)  # and its plan is kept for arrays of this layout
    for name, call in {
        "x": lambda: bn(masked),
        "z": lambda: bn(x, masked),
        "out": lambda: bn(x, out=masked),
        "dy": lambda: record.backward(masked),
        "dx": lambda: record.backward(x, dx=masked),
        "ddx": lambda: record.double_backward(x, masked),
        "ddbias": lambda: record.double_backward(x, ddbias=channels),
        "sums": lambda: record.backward_with_sums(x, np.ma.zeros(6)),
        "weight": lambda: setattr(bn, "weight", channels),
        "bias": lambda: bn.load_state_dict({"bias": channels}, strict=False),
        "other": lambda: bn2d.Statistics(3).merge(np.ma.zeros(13)),
    }.items():
        with pytest.raises(bn2d.InvalidArgumentError, match="^%s is a masked array" % name):
            call()
    with pytest.raises(bn2d.InvalidArgumentError, match="x is a masked array"):
        bn2d.Statistics(3).accumulate(masked)
    assert np.array_equal(bn.weight, np.ones(3, "f4"))
    assert bn(masked.data).shape == x.shape


class NoArray:
    def __array__(self, *_, **__):
        raise RuntimeError("no memory to show")


def test_an_object_that_gives_no_array_is_refused():
    with pytest.raises(bn2d.InvalidArgumentError, match="^x is a NoArray, .*no memory to show"):
        bn2d.BatchNorm2d(3)(NoArray())


class OnlyDLPack:
    """An array of a library that NumPy knows by DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **named):
        return self.array.__dlpack__(**named)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_an_object_with_dlpack_is_taken():
    x, z = np.random.default_rng(3).standard_normal((2, 2, 3, 4, 4)).astype("f4")
    module = bn2d.BatchNorm2d(3)
    module.eval()
    assert np.array_equal(module(OnlyDLPack(x), OnlyDLPack(z)), module(x, z))
    with pytest.raises(bn2d.DtypeError, match="x has dtype int32"):
        module(OnlyDLPack(x.astype("i4")))


def test_a_stride_of_half_an_element_is_refused():
    """Catches a message that leaves open which array it is of."""
    memory = np.zeros((1, 3, 2, 2), np.dtype([("a", "f4"), ("b", "i2")]))
    with pytest.raises(bn2d.LayoutError, match="^z has a stride of 6 bytes, no multiple of .* 4$"):
        bn2d.BatchNorm2d(3).forward(np.zeros((1, 3, 2, 2), "f4"), memory["a"])


def test_state_that_is_none_is_refused():
    with pytest.raises(bn2d.InvalidArgumentError, match="state_dict is a NoneType, must be a map"):
        bn2d.BatchNorm2d(3).load_state_dict(None)


def test_the_header_is_there():
    with open(bn2d.get_include() + "/bn2d/bn2d.h", encoding="utf-8") as file:
        assert "bn2d_module_create" in file.read()


def test_a_record_of_another_module_is_refused():
    x = np.random.default_rng(1).standard_normal((4, 3, 2, 2))
    first, second = bn2d.BatchNorm2d(3), bn2d.BatchNorm2d(3)
    y, record = first.forward(x.astype("f4"), record=True)
    with pytest.raises(bn2d.StateError, match="another module"):
        second.backward(record, y)
    assert not first.weight_grad.any()
    first.backward(record, y)
    assert first.weight_grad.any()


@pytest.mark.parametrize("dtype", ["float99", "int8", 7, object()])
def test_an_unknown_dtype_is_refused(dtype):
    with pytest.raises(bn2d.DtypeError, match="a module has float32"):
        bn2d.BatchNorm2d(8, dtype=dtype)


def test_a_counter_below_0_is_refused():
    bn = bn2d.BatchNorm2d(3)
    state = {**bn.state_dict(), "weight": np.full(3, 2.0), "num_batches_tracked": np.int64(-5)}
    with pytest.raises(bn2d.InvalidArgumentError, match="num_batches_tracked is -5, must be 0"):
        bn.load_state_dict(state)
    assert (bn.weight == 1).all() and bn.num_batches_tracked == 0


@pytest.mark.parametrize("given", ["x", None, 1.5, 2, [True]])
def test_a_mode_is_true_or_false(given):
    bn = bn2d.BatchNorm2d(3)
    with pytest.raises(bn2d.InvalidArgumentError, match="^mode is .* not True or False"):
        bn.train(given)
    with pytest.raises(bn2d.InvalidArgumentError, match="^frozen is .* not True or False"):
        bn.frozen = given
    with pytest.raises(bn2d.InvalidArgumentError, match="^requires_grad is "):
        bn.requires_grad_(given)
    assert bn.training and not bn.frozen
    bn.train(np.bool_(False)).frozen = 1
    assert not bn.training and bn.frozen


def test_dz_that_is_asked_for_comes_back():
    x = np.random.default_rng(2).standard_normal((4, 3, 2, 2)).astype("f4")
    y, record = bn2d.BatchNorm2d(3).forward(x, activation="relu", record=True)
    dx, dz = record.backward(np.ones_like(x), dz=True)
    assert np.array_equal(dz, np.where(y > 0, np.float32(1), np.float32(0)))
    own = np.empty_like(x)
    sums = record.backward_sums(np.ones_like(x))
    again = record.backward_with_sums(np.ones_like(x), sums, dz=own)
    assert again[1] is own and np.array_equal(own, dz)
    assert np.array_equal(record.backward(np.ones_like(x)), dx)


def test_a_record_does_not_travel():
    bn = bn2d.BatchNorm2d(3)
    _, record = bn.forward(layouts((2, 3, 4, 5), "f4")["contiguous"], record=True)
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="a Record cannot be pickled or copied"):
            travel(record)


def hostile():
    x = layouts((2, 3, 4, 5), "f4")["contiguous"]
    read_only = x.copy()
    read_only.flags.writeable = False
    odd = np.zeros(x.nbytes + 1, "u1")[1:].view("f4").reshape(x.shape)
    fields = np.zeros(x.shape, [("a", "f4"), ("b", "u1")])["a"]
    big = np.dtype("f4").newbyteorder()
    return [
        ((x[:, :2],), {}, bn2d.ShapeError, "2 channels"),
        ((x[0],), {}, bn2d.ShapeError, "x has rank 3, must be 4"),
        ((x, x[0]), {}, bn2d.ShapeError, "z has rank 3, must be 4"),
        ((x.astype("f8"),), {}, bn2d.DtypeError, None),
        ((x.astype("i4"),), {}, bn2d.DtypeError, "int32"),
        ((x.astype(big),), {}, bn2d.DtypeError, "byte order"),
        ((x[..., ::-1],), {}, bn2d.LayoutError, None),
        ((odd,), {}, bn2d.LayoutError, "aligned"),
        ((x, odd), {}, bn2d.LayoutError, "aligned"),
        ((x,), {"out": odd}, bn2d.LayoutError, "aligned"),
        ((fields,), {}, bn2d.LayoutError, "multiple"),
        ((x[:1, :, :1, :1],), {}, bn2d.TooFewValuesError, None),
        (([[1.0]],), {}, bn2d.InvalidArgumentError, "not an array"),
        ((x,), {"out": read_only}, bn2d.LayoutError, "read-only"),
        ((x,), {"out": x[:1]}, bn2d.ShapeError, None),
        ((x,), {"out": [0.0]}, bn2d.InvalidArgumentError, "out is a list"),
        ((x[:, :, 1:],), {"out": x[:, :, :-1]}, bn2d.OverlapError, None),
        ((x, x[:1]), {}, bn2d.ShapeError, None),
        ((x,), {"activation": "tanh"}, bn2d.InvalidArgumentError, "tanh"),
        (
            (x,),
            {"activation": "leaky_relu", "slope": float("nan")},
            bn2d.InvalidArgumentError,
            None,
        ),
    ]


@pytest.mark.parametrize(("arguments", "named", "kind", "text"), hostile())
def test_a_call_that_cannot_be_changes_nothing(arguments, named, kind, text):
    bn = bn2d.BatchNorm2d(3)
    before = bn.state_dict()
    for _ in range(2):  # the second time from the prepared call
        with pytest.raises(kind, match=text) as caught:
            bn(*arguments, **named)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(array, before[name]) for name, array in bn.state_dict().items())


@pytest.mark.parametrize(
    ("change", "named", "kind"),
    [
        (lambda dy: dy[:1], {}, bn2d.ShapeError),
        (lambda dy: dy.astype("f8"), {}, bn2d.DtypeError),
        (lambda dy: dy[..., ::-1], {}, bn2d.LayoutError),
        (lambda dy: dy.tolist(), {}, bn2d.InvalidArgumentError),
        (lambda dy: dy, {"dx": np.empty((2, 3, 4, 4), "f4")}, bn2d.ShapeError),
        (lambda dy: dy, {"dx": np.broadcast_to(np.float32(0), (2, 3, 4, 5))}, bn2d.LayoutError),
        (lambda dy: dy, {"dx": "yes"}, bn2d.InvalidArgumentError),
    ],
)
def test_a_backward_that_cannot_be_changes_nothing(change, named, kind):
    bn = bn2d.BatchNorm2d(3)
    x = layouts((2, 3, 4, 5), "f4")["contiguous"]
    _, record = bn.forward(x, record=True)
    for _ in range(2):
        with pytest.raises(kind):
            record.backward(change(np.ones_like(x)), **named)
    assert not bn.weight_grad.any()
    assert not bn.bias_grad.any()
    with pytest.raises(bn2d.ShapeError, match="ddbias"):
        record.double_backward(np.ones_like(x), ddbias=np.ones(4, "f4"))
    with pytest.raises(bn2d.DtypeError, match="ddweight is float64"):
        record.double_backward(np.ones_like(x), ddweight=np.ones(3))


def test_arrays_of_others_are_taken_without_a_copy():
    class Other:
        def __init__(self, array):
            self.__array_interface__ = array.__array_interface__
            self.array = array

    x = layouts((2, 3, 4, 5), "f4")["contiguous"]
    x.flags.writeable = False
    bn = bn2d.BatchNorm2d(3).eval()
    assert np.array_equal(bn(Other(x)), bn(x))
    assert np.array_equal(bn(memoryview(x)), bn(x))


def test_ever_new_shapes_keep_a_bounded_number_of_plans():
    bn = bn2d.BatchNorm2d(1).eval()
    for width in range(1, 600):
        bn(np.zeros((1, 1, 1, width), "f4"))
    assert len(bn._plans) <= 256


def test_eval_runs_in_many_threads_and_lets_go_of_the_lock():
    bn = bn2d.BatchNorm2d(8).eval()
    bn.running_mean[:] = np.arange(8)
    inputs = [layouts((4, 8, 16, 16), "f4", seed=n)["contiguous"] for n in range(4)]
    expected = [bn(x) for x in inputs]
    faults = []

    def work(n):
        for _ in range(100):
            if not np.array_equal(bn(inputs[n]), expected[n]):
                faults.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not faults


def test_a_call_in_progress_excludes_another():
    bn = bn2d.BatchNorm2d(64)
    x = np.zeros((64, 64, 64, 64), "f4")
    y = [np.empty_like(x) for _ in range(2)]
    seen = []
    stop = time.monotonic() + 20

    def work(n):
        while not seen and time.monotonic() < stop:
            try:
                bn(x, out=y[n])
            except bn2d.BusyError as fault:
                seen.append(fault)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert seen
    assert isinstance(seen[0], RuntimeError)


def test_it_works_in_a_child_process():
    x = layouts((8, 8, 32, 32), "f4")["contiguous"]
    bn = bn2d.BatchNorm2d(8).eval()
    expected = bn(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(bn(x), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_importing_is_quick_and_brings_no_torch():
    program = "import sys, bn2d; assert 'torch' not in sys.modules; assert not bn2d.BatchNorm2d(1).weight - 1"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_threads_of_the_process():
    bn2d.set_num_threads(1)
    assert bn2d.get_num_threads() == 1
    bn2d.set_num_threads(0)
    with pytest.raises(ValueError, match="thread pool 'fast'"):
        bn2d.set_thread_pool("fast")
    assert bn2d.get_thread_pool() in ("tbb", "openmp")


def test_the_slope_of_leaky_relu_is_that_of_torch():
    bn = bn2d.BatchNorm2d(1, eps=0, dtype="float64").eval()
    y = bn(np.array([-4.0, 8.0]).reshape(2, 1, 1, 1), activation="leaky_relu")
    assert y.ravel().tolist() == [-0.04, 8.0]


POINTWISE = {
    "relu6": lambda v: np.minimum(np.maximum(v, 0), 6),
    "clamp": lambda v: np.minimum(np.maximum(v, 0), 1.5),
    "hardswish": lambda v: v * np.minimum(np.maximum(v + 3, 0), 6) / 6,
    "silu": lambda v: v / (1 + np.exp(-v)),
    "gelu": lambda v: v * np.vectorize(math.erfc)(-v / math.sqrt(2)) / 2,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
}


@pytest.mark.parametrize("activation", POINTWISE)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_pointwise_activations(activation, layout):
    function = POINTWISE[activation]
    x = layouts((3, 5, 4, 7), "f8")[layout]
    z = layouts((3, 5, 4, 7), "f8", seed=1)[layout]
    bn = bn2d.BatchNorm2d(5, dtype="float64")
    bound = 1.5 if activation == "clamp" else None
    y, record = bn.forward(x, z, activation=activation, slope=bound, record=True)
    v = reference(x, z)[0]
    np.testing.assert_allclose(y, function(v), rtol=1e-12, atol=1e-12)
    dy = np.ones_like(x)
    dz = np.empty_like(x)
    record.backward(dy, dz=dz)
    step = 1e-6
    np.testing.assert_allclose(
        dz, (function(v + step) - function(v - step)) / (2 * step), rtol=1e-6, atol=1e-6
    )
    if activation == "clamp":  # a bound that nobody has given
        with pytest.raises(ValueError, match="clamp needs slope"):
            bn.forward(x, activation=activation)
