# SPDX-License-Identifier: MIT
"""bn2d.torch.GroupNorm and InstanceNorm2d against torch itself, live, over random
configurations."""

from __future__ import annotations

import copy
import inspect
import pickle
import random
import warnings

import pytest
from conftest import need

torch = need("torch")

import bn2d.torch as bt  # noqa: E402
from test_torch import laid_out, step, strides  # noqa: E402
from torch import nn  # noqa: E402

HALF = (torch.float16, torch.bfloat16)
# An older torch's norms do not have the argument.
HAS_BIAS = "bias" in inspect.signature(nn.InstanceNorm2d).parameters


def within(got, wanted, scale, dtype, what):
    """Within 8 roundings of the dtype, of a number as large as `scale`."""
    assert got.shape == wanted.shape, what
    assert got.dtype == dtype, what
    if wanted.numel() == 0:
        return
    error = (got.double() - wanted).abs().max().item()
    assert error <= 8 * torch.finfo(dtype).eps * max(float(scale), 1e-30), (what, error, scale)


def set_scale(x, module):
    """The largest 1/std of a set of statistics, in float64."""
    groups = module.num_groups if isinstance(module, nn.GroupNorm) else x.shape[1]
    var = x.reshape(x.shape[0], groups, -1).var(2, unbiased=False)
    return (1.0 / (var + module.eps).sqrt()).max()


def check(ours, theirs, x, dy, what):
    """One step of both; theirs is torch's module in float64."""
    got, wanted = step(ours, x, dy), step(theirs, x.double().contiguous(), dy.double().contiguous())
    parameters = next((one.dtype for one in (*ours.parameters(), *ours.buffers())), x.dtype)
    weight = 1.0 if ours.weight is None else ours.weight.detach().double().abs().max()
    inverse = set_scale(x.double(), ours)
    if getattr(ours, "running_var", None) is not None and not ours.training:
        inverse = (1.0 / (theirs.running_var + ours.eps).sqrt()).max()
    spread = max(
        float(wanted[0].abs().max()), float(inverse * weight * x.double().abs().max()) * 0.01
    )
    within(got[0], wanted[0], spread, x.dtype, (*what, "y"))
    within(got[1], wanted[1], weight * inverse * dy.double().abs().max(), x.dtype, (*what, "dx"))
    terms = dy.double().abs().sum((0, 2, 3)).max()
    for one, right, name in zip(got[2:], wanted[2:], ("dweight", "dbias")):
        xhat = 1.0 if name == "dbias" else max(1.0, float((x[0].numel() / x.shape[1]) ** 0.5))
        within(
            one,
            right,
            max(float(right.abs().max()), float(terms * xhat) * 0.02),
            parameters,
            (*what, name),
        )


@pytest.mark.parametrize("seed", range(240))
def test_random_configuration(seed):
    """dtype, layout, affine, tracking, mode: y, dx, dweight, dbias and the buffers against torch in
    float64."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    dtype = draw.choice(
        [torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16]
    )
    parameters = draw.choice([torch.float32, dtype]) if dtype in HALF else dtype
    channels = draw.choice([1, 2, 6, 16, 24])
    shape = (draw.choice([1, 2, 5]), channels, draw.choice([1, 3, 8]), draw.choice([2, 4, 9, 17]))
    eps, affine = draw.choice([1e-5, 0.1]), draw.choice([True, True, False])
    bias = {"bias": draw.choice([True, True, False])} if HAS_BIAS else {}
    if draw.choice([True, False]):
        groups = draw.choice([one for one in range(1, channels + 1) if channels % one == 0])
        arguments, named = (groups, channels), {"eps": eps, "affine": affine, **bias}
        kinds = bt.GroupNorm, nn.GroupNorm
    else:
        named = {
            "eps": eps,
            "affine": affine,
            **bias,
            "track_running_stats": draw.choice([True, False]),
        }
        named["momentum"] = draw.choice([0.1, 1.0, None])
        arguments, kinds = (channels,), (bt.InstanceNorm2d, nn.InstanceNorm2d)
    ours, theirs = (kind(*arguments, **named).to(parameters) for kind in kinds)
    for one in theirs.parameters():
        nn.init.normal_(one, 1.0, 0.3)
    ours.load_state_dict(theirs.state_dict())
    theirs.double()
    layouts = ["", "channels_last", "sliced", "transposed"]
    for mode in (True, False, True):
        ours.train(mode)
        theirs.train(mode)
        x = laid_out(torch.randn(shape).mul(2).add(0.5).to(dtype), draw.choice(layouts))
        dy = laid_out(torch.randn(shape).to(dtype), draw.choice(layouts[:2]))
        what = (seed, str(ours), tuple(shape), dtype, parameters, mode)
        check(ours, theirs, x, dy, what)
        for name, buffer in theirs.named_buffers():
            mine = dict(ours.named_buffers())[name]
            if buffer.is_floating_point():
                within(mine, buffer, max(1.0, float(buffer.abs().max())), parameters, (*what, name))
            else:
                assert mine == buffer == 0, what
        with torch.no_grad():
            y = ours(x)
            assert strides(y) == strides(x) or not x.is_contiguous()
            wanted = theirs(x.double().contiguous())
            scale = max(float(wanted.abs().max()), 0.01 * float(x.abs().max() / eps**0.5))
            within(y, wanted, scale, dtype, (*what, "without gradients"))


@pytest.mark.parametrize("kind", ["group", "layer", "instance", "tracking", "eval"])
@pytest.mark.parametrize("operator", [False, True])
def test_gradients_and_their_gradients(kind, operator):
    torch.manual_seed(1)
    if kind in ("group", "layer"):
        module = bt.GroupNorm(2 if kind == "group" else 1, 4)
    else:
        module = bt.InstanceNorm2d(
            4, affine=True, track_running_stats=kind != "instance", momentum=0.0
        )
    module = module.double().train(kind != "eval")
    x = torch.randn(2, 4, 2, 3, dtype=torch.double, requires_grad=True)
    weight, bias = (torch.randn(4, dtype=torch.double, requires_grad=True) for _ in range(2))

    def call(x, weight, bias):
        if operator:
            running, groups = (None, None), {"group": 2, "layer": 1, "eval": 0}.get(kind, 4)
            if kind == "eval":
                running = (module.running_mean, module.running_var)
            return torch.ops.bn2d.batch_norm(
                x, None, weight, bias, *running, kind != "eval", 0.0, 1e-5, 0, 0.0, True, groups
            )[0]
        return torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(call, (x, weight, bias))
    assert torch.autograd.gradgradcheck(call, (x, weight, bias))


def test_operators_are_what_torch_expects():
    """What forward saves is compared, too: it has no element that nobody writes."""
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    weight, bias = (torch.randn(4, requires_grad=True) for _ in range(2))
    for groups in (1, 2, 4):
        for running in (
            ((None, None), (torch.zeros(4), torch.ones(4))) if groups == 4 else ((None, None),)
        ):
            arguments = (x, None, weight, bias, *running, True, 0.1, 1e-5, 1, 0.0, True, groups)
            torch.library.opcheck(torch.ops.bn2d.batch_norm.default, arguments)


def small_net():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.GroupNorm(4, 8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.InstanceNorm2d(4),
        nn.BatchNorm2d(4),
    )


class Mine(nn.GroupNorm):
    """A subclass, which convert leaves alone."""


def test_convert_and_back():
    net = nn.Sequential(*small_net(), Mine(2, 4))
    before, text = copy.deepcopy(net), repr(net)
    assert bt.convert(net) is net
    kinds = [type(one) for one in net]
    assert [kinds[i] for i in (1, 4, 5, 6, 7)] == [
        bt.GroupNorm,
        bt.InstanceNorm2d,
        bt.InstanceNorm2d,
        bt.BatchNorm2d,
        Mine,
    ]
    assert kinds[2] is nn.ReLU
    assert repr(net) == text
    assert list(net.state_dict()) == list(before.state_dict())
    net.load_state_dict(before.state_dict())
    before.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 6, 6)
    for training in (True, False):
        assert torch.allclose(net.train(training)(x), before.train(training)(x), atol=1e-4)
    others = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for other in others:
        assert torch.equal(other(x), net(x))
        assert type(other[1]) is bt.GroupNorm
    bt.revert(net)
    assert [type(one) for one in net] == [type(one) for one in before]


@pytest.mark.parametrize("training", [True, False])
def test_compiled(training):
    theirs = small_net().train(training)
    ours = bt.convert(copy.deepcopy(theirs))
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    for size in (6, 7):
        x = torch.randn(4, 3, size, size)
        dy = torch.randn(4, 4, size - 2, size - 2)
        for got, wanted in zip(step(compiled, x, dy), step(theirs, x, dy)):
            assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-3)
    for name, buffer in theirs.named_buffers():
        assert torch.allclose(ours.state_dict()[name], buffer, atol=1e-5), name


def test_exported():
    net = small_net().eval()
    ours = bt.convert(copy.deepcopy(net))
    x = torch.randn(4, 3, 6, 6)
    program = torch.export.export(ours, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    assert str(program.graph).count("bn2d.batch_norm") == 4
    other = torch.randn(7, 3, 6, 6)
    assert torch.allclose(program.module()(other), net(other), atol=1e-4)


@pytest.mark.parametrize(
    "make", [lambda k: k.GroupNorm(2, 8), lambda k: k.InstanceNorm2d(8, affine=True)]
)
def test_autocast(make):
    torch.manual_seed(3)
    conv = nn.Conv2d(3, 8, 3)
    ours, theirs = (nn.Sequential(conv, make(kind)) for kind in (bt, nn))
    x, dy = torch.randn(4, 3, 6, 6), torch.randn(4, 8, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        dtype = theirs(x).dtype
        got, wanted = step(ours, x, dy.to(dtype)), step(theirs, x, dy.to(dtype))
    for one, other in zip(got, wanted):
        assert one.dtype == other.dtype
        assert torch.allclose(
            one.double(), other.double(), rtol=0.05, atol=0.05 * float(other.abs().max())
        )


def test_what_the_library_cannot_do_torch_does():
    pairs = [
        (bt.GroupNorm(2, 4), nn.GroupNorm(2, 4)),
        (bt.InstanceNorm2d(4), nn.InstanceNorm2d(4)),
    ]
    x = torch.randn(2, 4, 3, 3)
    for ours, theirs in pairs:
        got = torch.func.vmap(ours)(torch.stack([x, x]))
        assert torch.allclose(got[1], theirs(x), atol=1e-5)
        assert torch.allclose(torch.jit.trace(ours, x)(x), theirs(x), atol=1e-5)
        assert torch.allclose(torch.fx.symbolic_trace(nn.Sequential(ours))(x), theirs(x), atol=1e-5)
        if isinstance(theirs, nn.GroupNorm):  # of the others torch traces none as the root
            assert torch.allclose(torch.fx.symbolic_trace(ours)(x), theirs(x), atol=1e-5)
        assert torch.allclose(
            ours(x[:1].expand(3, 4, 3, 3)), theirs(x[:1].expand(3, 4, 3, 3)), atol=1e-5
        )
        assert ours.to("meta")(x.to("meta")).shape == x.shape
    ours, theirs = bt.GroupNorm(2, 4), nn.GroupNorm(2, 4)
    for shape in ((3, 4), (3, 4, 5), (3, 4, 2, 3, 2)):  # torch's are of any rank
        other = torch.randn(shape)
        assert torch.equal(ours(other), theirs(other))
    assert torch.equal(bt.InstanceNorm2d(4)(x[0]), nn.InstanceNorm2d(4)(x[0]))


def test_errors_are_torch_s():
    with pytest.raises(ValueError, match="divisible"):
        bt.GroupNorm(3, 4)
    x = torch.randn(2, 6, 3, 3)
    for kind in (bt.GroupNorm, nn.GroupNorm):
        with pytest.raises(RuntimeError):
            kind(4, 4)(x)
    for kind in (bt.InstanceNorm2d, nn.InstanceNorm2d):
        with pytest.raises(ValueError, match="num_features"):
            kind(4, affine=True)(x)
        with pytest.raises(ValueError, match="spatial|value"):
            kind(6)(torch.randn(2, 6, 1, 1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert kind(4)(x).shape == x.shape
        assert len(caught) == 1


def test_eval_without_the_statistics_that_are_tracked_is_torch_s_error():
    for kind in (nn.InstanceNorm2d, bt.InstanceNorm2d):
        module = kind(2, track_running_stats=True).eval()
        module.running_mean = module.running_var = None
        with pytest.raises(RuntimeError, match="running_mean"):
            module(torch.randn(2, 2, 3, 3))


def test_group_norm_has_no_running_statistics():
    """Catches: an attribute that loops over modules find, and torch's does not have."""
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert not hasattr(bt.GroupNorm(2, 4), name)
        assert not hasattr(nn.GroupNorm(2, 4), name)


def test_one_value_alone_and_empty_batches():
    gn = bt.GroupNorm(3, 3)
    nn.init.normal_(gn.bias)
    x = torch.randn(2, 3, 1, 1, requires_grad=True)
    y = gn(x)
    assert torch.equal(y[:, :, 0, 0], gn.bias.expand(2, 3))
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx, torch.zeros_like(x))
    tracking = bt.InstanceNorm2d(4, affine=True, track_running_stats=True)
    for module in (bt.GroupNorm(2, 4), tracking):
        x = torch.randn(0, 4, 3, 3, requires_grad=True)
        y = module(x)
        assert y.shape == x.shape
        y.sum().backward()
        assert torch.equal(module.weight.grad, torch.zeros(4))
    assert torch.equal(tracking.running_mean, torch.zeros(4))
    assert torch.equal(tracking.running_var, torch.ones(4))


@pytest.mark.parametrize("shape", [(2, 4, 0, 3), (2, 4, 3, 0), (1, 4, 0, 5), (0, 4, 3, 3)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_tensors_without_elements(shape, channels_last):
    """Catches: statistics from memory that nobody wrote; strides of 0 that contiguous() leaves."""
    x = torch.empty(shape, requires_grad=True)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for module in (
        bt.BatchNorm2d(4),
        bt.BatchNorm2d(4).eval(),
        bt.GroupNorm(2, 4),
        bt.InstanceNorm2d(4, track_running_stats=True),
        bt.BNReLU(4),
    ):
        for _ in range(3):  # whatever the memory held
            torch.full((2 * x.shape[0] * 4,), 777.0, dtype=torch.float64)
            y = module(x)
        assert y.shape == x.shape
        (dx,) = torch.autograd.grad(y.sum(), x)
        assert dx.shape == x.shape
        if hasattr(module, "running_mean"):
            assert torch.equal(module.running_mean, torch.zeros(4))
            assert torch.equal(module.running_var, torch.ones(4))


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e12])
@pytest.mark.parametrize("deviation", [1e-10, 1.0])
def test_running_variance_beside_a_larger_eps(eps, deviation):
    """Catches: a variance that comes from 1/sqrt(var + eps) alone."""
    torch.manual_seed(3)
    x = deviation * torch.randn(3, 2, 5, 5, dtype=torch.float64)
    settings = {"eps": eps, "momentum": 1.0, "track_running_stats": True, "dtype": torch.float64}
    ours, theirs = bt.InstanceNorm2d(2, **settings), nn.InstanceNorm2d(2, **settings)
    ours(x), theirs(x)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-12, atol=0)


def test_a_momentum_of_1_ends_a_nan():
    ours = bt.InstanceNorm2d(2, track_running_stats=True, momentum=1.0)
    ours.running_mean.fill_(float("nan"))
    ours.running_var.fill_(float("nan"))
    ours(torch.randn(2, 2, 3, 3))
    assert ours.running_mean.isfinite().all()
    assert ours.running_var.isfinite().all()


def test_autograd_knows_that_the_running_statistics_move():
    module = bt.InstanceNorm2d(3, track_running_stats=True)
    scale = torch.ones(3, requires_grad=True)
    product = scale * module.running_mean  # keeps running_mean for its backward
    module(torch.randn(2, 3, 4, 4))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()
