# SPDX-License-Identifier: MIT
"""Statistics from outside in NumPy, and the setters of a living module."""

from __future__ import annotations

import pickle

import bn2d
import numpy as np
import pytest
from conftest import need

SHAPE = (6, 5, 4, 3)


def arrays(dtype="float64", seed=0):
    """x, z and dy of a batch."""
    random = np.random.default_rng(seed)
    return [random.normal(mean, 1.5, SHAPE).astype(dtype) for mean in (1.0, 0.0, 0.25)]


def module(dtype="float64", **named):
    """A module with a weight of its own in each channel."""
    made = bn2d.BatchNorm2d(SHAPE[1], dtype=dtype, **named)
    made.weight = np.linspace(0.5, 1.5, SHAPE[1])
    return made


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_one_part_has_the_bits_of_a_plain_call(dtype):
    x, z, dy = arrays(dtype)
    plain, given = module(dtype), module(dtype)
    y, record = plain.forward(x, z, activation="relu", record=True)
    dx, dz = record.backward(dy)
    statistics = bn2d.Statistics(5).accumulate(x)
    got, of_given = given.forward(x, z, activation="relu", record=True, statistics=statistics)
    assert np.array_equal(got, y)
    sums = of_given.backward_sums(dy)
    assert sums.shape == (10,)
    found = of_given.backward_with_sums(dy, sums)
    assert np.array_equal(found[0], dx)
    assert np.array_equal(found[1], dz)
    for name in ("running_mean", "running_var", "num_batches_tracked", "weight_grad", "bias_grad"):
        assert np.array_equal(getattr(plain, name), getattr(given, name)), name


@pytest.mark.parametrize("cuts", [[2, 6], [0, 1, 1, 4, 6]])
def test_parts_of_a_batch(cuts):
    """Catches local counts, parts in another order, sums that are lost."""
    x, _, dy = arrays()
    whole = module()
    y, record = whole.forward(x, record=True)
    dx = record.backward(dy)
    parts = list(zip([0, *cuts], cuts))
    sent = [bn2d.Statistics(5).accumulate(x[first:last]).exported() for first, last in parts]
    modules, records, ys = [module() for _ in parts], [], []
    for one, (first, last) in zip(modules, parts):
        total = bn2d.Statistics(5)
        for exported in sent:
            total.merge(exported)
        assert total.count == 72
        made, of_part = one.forward(x[first:last], record=True, statistics=total)
        ys.append(made)
        records.append(of_part)
    assert np.allclose(np.concatenate(ys), y, rtol=0, atol=1e-14)
    sums = sum(one.backward_sums(dy[first:last]) for one, (first, last) in zip(records, parts))
    found = [
        one.backward_with_sums(dy[first:last], sums) for one, (first, last) in zip(records, parts)
    ]
    assert np.allclose(np.concatenate(found), dx, rtol=0, atol=1e-14)
    assert np.allclose(
        sum(one.weight_grad for one in modules), whole.weight_grad, rtol=0, atol=1e-12
    )
    for one in modules:
        assert np.array_equal(one.running_var, modules[0].running_var)
        assert np.allclose(one.running_var, whole.running_var, rtol=1e-14)
        assert one.num_batches_tracked == 1


def test_object():
    x, z, _ = arrays()
    statistics = bn2d.Statistics(5)
    assert repr(statistics) == "Statistics(5, count=0)"
    with pytest.raises(bn2d.TooFewValuesError):
        _ = statistics.mean
    statistics.accumulate(x.astype("float32")).accumulate(z.transpose(0, 1, 3, 2))
    both = np.concatenate([x.astype("float32").astype("float64"), z])
    assert np.allclose(statistics.mean, both.mean((0, 2, 3)), rtol=0, atol=1e-6)
    assert np.allclose(statistics.var, both.var((0, 2, 3)), rtol=1e-6)
    exported = statistics.exported()
    assert exported.shape == (21,)
    assert exported[0] == statistics.count == 144
    copied = pickle.loads(pickle.dumps(statistics))
    assert np.array_equal(copied.exported(), exported)
    assert copied.merge(statistics).count == 288
    assert copied.num_features == 5
    assert statistics.reset().count == 0


def test_refused():
    x, _, _ = arrays()
    statistics = bn2d.Statistics(5)
    with pytest.raises(bn2d.ShapeError):
        statistics.accumulate(x[:, :4])
    with pytest.raises(bn2d.DtypeError):
        statistics.accumulate(x.astype("int64"))
    with pytest.raises(bn2d.ShapeError):
        statistics.merge(np.zeros(20))
    with pytest.raises(bn2d.ShapeError):
        statistics.merge(np.zeros((1, 21)))
    with pytest.raises(bn2d.InvalidArgumentError):
        statistics.merge(np.full(21, np.nan))
    with pytest.raises(bn2d.DtypeError, match="other is float32, must be float64"):
        statistics.merge(np.zeros(21, "f4"))
    with pytest.raises(bn2d.DtypeError, match="other is object, must be float64"):
        statistics.merge(np.array([None] * 21))
    for wrong in ("a", statistics.exported):  # the method itself, its parentheses forgotten
        with pytest.raises(bn2d.Error, match="other is "):
            statistics.merge(wrong)
    with pytest.raises(bn2d.InvalidArgumentError):
        bn2d.Statistics(0)
    with pytest.raises(bn2d.InvalidArgumentError):
        bn2d.Statistics(2.5)
    one = module()
    with pytest.raises(bn2d.TooFewValuesError):
        one.forward(x, statistics=statistics)
    _, record = one.forward(x, record=True)
    with pytest.raises(bn2d.ShapeError):
        record.backward_with_sums(x, np.zeros(9))
    with pytest.raises(bn2d.DtypeError, match="sums is float32, must be float64"):
        record.backward_with_sums(x, np.zeros(10, "f4"))
    with pytest.raises(bn2d.StateError):
        one.eval().forward(x, statistics=statistics.accumulate(x))


def test_precise_running_statistics():
    x, z, _ = arrays()
    statistics = bn2d.Statistics(5).accumulate(x).accumulate(z)
    one = module(momentum=0.25)
    one.set_running_stats(statistics)
    both = np.concatenate([x, z])
    assert np.allclose(one.running_mean, both.mean((0, 2, 3)), rtol=0, atol=1e-14)
    assert np.allclose(one.running_var, both.var((0, 2, 3), ddof=1), rtol=1e-14)
    assert one.num_batches_tracked == 0
    assert one.momentum == 0.25


def test_momentum_and_frozen():
    x, _, dy = arrays()
    one = module()
    one.momentum = 0.5
    assert one.momentum == 0.5
    one.momentum = None
    assert one.momentum is None
    assert "momentum=None" in repr(one)
    with pytest.raises(bn2d.InvalidArgumentError):
        one.momentum = 1.5
    y, record = one.eval().forward(x, record=True)
    dx = record.backward(dy)
    assert not one.frozen
    one.frozen = True
    one.train()
    got, record = one.forward(x, record=True)
    assert np.array_equal(got, y)
    assert np.array_equal(record.backward(dy), dx)
    assert one.num_batches_tracked == 0
    assert pickle.loads(pickle.dumps(one)).frozen
    one.frozen = False
    assert not np.array_equal(one(x), y)
    with pytest.raises(bn2d.StateError):
        bn2d.BatchNorm2d(5, track_running_stats=False).frozen = True


def test_micro_batches_move_the_running_statistics_once():
    """A batch in parts by README.md's second module is a batch at once, as torch has it."""
    torch = need("torch")
    x, _, dy = arrays("float32")
    bn, others = module("float32"), module("float32", track_running_stats=False)
    theirs = torch.nn.BatchNorm2d(5)
    theirs.weight.data[:] = torch.from_numpy(bn.weight)
    of_torch = torch.from_numpy(x).requires_grad_()
    whole = theirs(of_torch)
    whole.backward(torch.from_numpy(dy))
    parts, dys = np.split(x, 3), np.split(dy, 3)
    statistics = bn2d.Statistics(5)
    for part in parts:
        statistics.accumulate(part)
    done = [
        one.forward(part, statistics=statistics, record=True)
        for one, part in zip([bn, others, others], parts)
    ]
    sums = sum(record.backward_sums(dy) for (_, record), dy in zip(done, dys))
    dxs = [record.backward_with_sums(dy, sums) for (_, record), dy in zip(done, dys)]
    bn.weight_grad[:] += others.weight_grad
    bn.bias_grad[:] += others.bias_grad
    assert bn.num_batches_tracked == theirs.num_batches_tracked == 1
    for got, want in (
        (np.concatenate([y for y, _ in done]), whole),
        (np.concatenate(dxs), of_torch.grad),
        (bn.weight_grad, theirs.weight.grad),
        (bn.bias_grad, theirs.bias.grad),
        (bn.running_mean, theirs.running_mean),
        (bn.running_var, theirs.running_var),
    ):
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-5, atol=1e-5)
