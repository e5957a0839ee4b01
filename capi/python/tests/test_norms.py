# SPDX-License-Identifier: MIT
"""GroupNorm, InstanceNorm2d and ghost batches on NumPy arrays, against NumPy in float64."""

from __future__ import annotations

import copy
import pickle

import bn2d
import numpy as np
import pytest

TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "float16": 4e-3}


def normalised(x, groups, eps=1e-5):
    """(x - mean)/std of each group of channels of each sample; mean and unbiased variance."""
    n, c = x.shape[:2]
    rows = x.astype("f8").reshape(n, groups, -1)
    mean, var = rows.mean(2, keepdims=True), rows.var(2, keepdims=True)
    m = rows.shape[2]
    return (
        ((rows - mean) / np.sqrt(var + eps)).reshape(x.shape),
        mean[..., 0],
        var[..., 0] * m / max(m - 1, 1),
    )


def random(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("channels_last", [False, True])
def test_group_norm(dtype, groups, channels_last):
    x, dy = random((3, 6, 4, 5), dtype), random((3, 6, 4, 5), dtype, 1)
    if channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    gn = bn2d.GroupNorm(groups, 6, dtype="float64" if dtype == "float64" else None)
    gn.weight[:], gn.bias[:] = random(6, seed=2), random(6, seed=3)
    weight, bias = (one.astype("f8")[:, None, None] for one in (gn.weight, gn.bias))
    y, record = gn.forward(x, record=True)
    dx = record.backward(dy)
    xhat, _, _ = normalised(x, groups)
    right = xhat * weight + bias
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(y, right, rtol=tolerance, atol=tolerance * np.abs(right).max())
    g = (dy * weight).reshape(3, groups, -1)
    h = xhat.reshape(3, groups, -1)
    std = np.sqrt(x.astype("f8").reshape(3, groups, -1).var(2, keepdims=True) + 1e-5)
    right = ((g - g.mean(2, keepdims=True) - h * (g * h).mean(2, keepdims=True)) / std).reshape(
        x.shape
    )
    np.testing.assert_allclose(dx, right, rtol=tolerance, atol=tolerance * np.abs(right).max())
    np.testing.assert_allclose(
        gn.weight_grad, (dy * xhat).sum((0, 2, 3)), rtol=1e-3, atol=tolerance * 100
    )
    np.testing.assert_allclose(
        gn.bias_grad, dy.astype("f8").sum((0, 2, 3)), rtol=1e-3, atol=tolerance * 100
    )
    np.testing.assert_array_equal(gn.eval()(x), y)


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_instance_norm_and_its_running_statistics(momentum):
    x = random((4, 3, 5, 6))
    norm = bn2d.InstanceNorm2d(3, momentum=momentum, track_running_stats=True)
    xhat, mean, var = normalised(x, 3)
    np.testing.assert_allclose(norm(x), xhat, rtol=1e-4, atol=1e-5)
    moved = 0.0 if momentum is None else momentum
    np.testing.assert_allclose(norm.running_mean, moved * mean.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, 1 - moved + moved * var.mean(0), rtol=1e-5)
    assert norm.num_batches_tracked == 0
    batch = bn2d.BatchNorm2d(3, affine=False).eval()
    batch.running_mean, batch.running_var = norm.running_mean, norm.running_var
    np.testing.assert_array_equal(norm.eval()(x), batch(x))
    plain = bn2d.InstanceNorm2d(3)
    np.testing.assert_array_equal(plain(x), plain.eval()(x))
    assert plain.weight is None
    assert plain.running_mean is None


def test_ghost_batches_are_a_loop():
    x = random((7, 3, 4, 4))
    ghosts, plain = bn2d.BatchNorm2d(3, ghost_batch_size=3), bn2d.BatchNorm2d(3)
    y = ghosts(x)
    np.testing.assert_array_equal(y, np.concatenate([plain(x[i : i + 3]) for i in (0, 3, 6)]))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        np.testing.assert_array_equal(getattr(ghosts, name), getattr(plain, name))
    assert ghosts.ghost_batch_size == 3
    assert plain.ghost_batch_size == 0


def test_texts_and_types():
    gn, norm = bn2d.GroupNorm(2, 4), bn2d.InstanceNorm2d(4)
    assert repr(gn) == "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)"
    assert (
        repr(norm)
        == "InstanceNorm2d(4, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)"
    )
    assert (gn.num_groups, gn.num_channels, gn.num_features) == (2, 4, 4)
    assert all(isinstance(one, bn2d.Norm) for one in (gn, norm, bn2d.BatchNorm2d(4)))
    assert not isinstance(gn, bn2d.BatchNorm2d)


@pytest.mark.parametrize(
    "made",
    [
        lambda: bn2d.GroupNorm(2, 4, eps=0.5, dtype="float64", num_threads=2),
        lambda: bn2d.GroupNorm(1, 4, affine=False),
        lambda: bn2d.GroupNorm(1, 4, bias=False),
        lambda: bn2d.InstanceNorm2d(
            4, momentum=None, affine=True, track_running_stats=True, biased_running_var=True
        ),
        lambda: bn2d.InstanceNorm2d(4),
        lambda: bn2d.BatchNorm2d(4, ghost_batch_size=2),
    ],
)
def test_copies_pickles_and_states(made):
    module = made()
    x = random((2, 4, 3, 3), module.dtype)
    if module.weight is not None:
        module.weight[:] = [1, 2, 3, 4]
    module(x)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(other) is type(module)
        assert repr(other) == repr(module)
        assert other.num_threads == module.num_threads
        np.testing.assert_array_equal(other(x), module(x))
    fresh = made()
    fresh.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(fresh.eval()(x), module.eval()(x))


def test_errors():
    with pytest.raises(
        bn2d.InvalidArgumentError, match="num_channels is 4, no multiple of num_groups 3"
    ):
        bn2d.GroupNorm(3, 4)
    with pytest.raises(bn2d.InvalidArgumentError, match="num_groups is 2.0, not an integer"):
        bn2d.GroupNorm(2.0, 4)
    with pytest.raises(TypeError):
        bn2d.GroupNorm(2, 4, momentum=0.1)
    with pytest.raises(bn2d.InvalidArgumentError, match="ghost_batch_size"):
        bn2d.BatchNorm2d(4, ghost_batch_size=-1)
    with pytest.raises(bn2d.TooFewValuesError):
        bn2d.InstanceNorm2d(4)(np.zeros((3, 4, 1, 1), "f4"))
    ghosts = bn2d.BatchNorm2d(4, ghost_batch_size=2)
    with pytest.raises(bn2d.TooFewValuesError):
        ghosts(np.zeros((3, 4, 1, 1), "f4"))
    assert ghosts.num_batches_tracked == 0
    with pytest.raises(bn2d.StateError):
        bn2d.GroupNorm(2, 4).forward(np.zeros((1, 4, 2, 2), "f4"), statistics=bn2d.Statistics(4))
