# SPDX-License-Identifier: MIT
"""bn2d.torch.BatchNormAct2d and GroupNormAct against torch's norms and activations, live."""

from __future__ import annotations

import copy
import inspect
import pickle
import random

import pytest
from conftest import need

torch = need("torch")

import bn2d.torch as bt  # noqa: E402
from bn2d.torch import _calls  # noqa: E402
from test_torch import close, laid_out, step  # noqa: E402
from torch import nn  # noqa: E402

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}
SMOOTH = ("silu", "gelu", "sigmoid")


class Reference(nn.Module):
    """act(norm(x) + z) by torch."""

    def __init__(self, norm, activation):
        super().__init__()
        self.norm, self.act = norm, ACTIVATIONS[activation]()

    def forward(self, x, z=None):
        y = self.norm(x)
        return self.act(y if z is None else y + z)


def pair(kind, channels, activation, **settings):
    """Ours and torch's, with the same random parameters."""
    slope = 0.2 if activation == "leaky_relu" else None
    named = {"activation": activation, "negative_slope": slope}
    if kind == "batch":
        plain = nn.BatchNorm2d(channels, **settings)
        ours = bt.BatchNormAct2d(channels, **named, **settings)
    else:
        plain = nn.GroupNorm(2, channels, **settings)
        ours = bt.GroupNormAct(2, channels, **named, **settings)
    for one in plain.parameters():
        nn.init.normal_(one, 1.0, 0.3)
    ours.load_state_dict(plain.state_dict())
    return ours, Reference(plain, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(12))
def test_random_configuration(seed, activation):
    """dtype, layout, residual, affine, mode: y, dx, dz, dweight, dbias; z and bias that a backward
    forgets, or takes of another call."""
    draw = random.Random(100 * seed + len(activation))
    torch.manual_seed(seed)
    dtype = draw.choice([torch.float32, torch.float64, torch.float16, torch.bfloat16])
    half = dtype in (torch.float16, torch.bfloat16)
    channels = draw.choice([2, 8, 18])
    shape = (draw.choice([2, 5]), channels, draw.choice([3, 8]), draw.choice([2, 9]))
    kind = draw.choice(["batch", "group"])
    ours, theirs = pair(kind, channels, activation, affine=draw.choice([True, True, False]))
    exact = torch.float64 if half else dtype
    if not half:
        ours.to(dtype)
    theirs.to(exact)
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        layouts = ["", "channels_last", "sliced"]
        x, z, dy = (
            laid_out(torch.randn(shape).mul(2).to(dtype), draw.choice(layouts)) for _ in range(3)
        )
        z = draw.choice([z, None])
        arguments = [None if one is None else one.to(exact) for one in (x, dy, z)]
        for got, wanted in zip(step(ours, x, dy, z), step(theirs, *arguments)):
            close(got.to(exact), wanted, dtype, scale=8.0)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("kind", ["batch", "group"])
def test_gradients(activation, kind):
    """A backward that is not the derivative of forward, eagerly and as an operator."""
    torch.manual_seed(3)
    module = pair(kind, 4, activation)[0].double()
    module.momentum = 0.0
    x, z = (torch.randn(2, 4, 2, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    weight, bias = (torch.randn(4, dtype=torch.double, requires_grad=True) for _ in range(2))

    def call(x, z, weight, bias):
        return torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x, z))

    def operator(x, z, weight, bias):
        number = bt._activations.number_of(activation)
        groups = 2 if kind == "group" else 0
        return torch.ops.bn2d.batch_norm(
            x, z, weight, bias, None, None, True, 0.0, 1e-5, number, 0.0, True, groups
        )[0]

    for function in (call, operator):
        assert torch.autograd.gradcheck(function, (x, z, weight, bias))
        assert torch.autograd.gradgradcheck(function, (x, z, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["batch", "group"])
def test_gradients_of_gradients(activation, kind, dtype):
    """Other ones than torch's of its norm and its activation: for a penalty of the gradient."""
    torch.manual_seed(4)
    ours, theirs = pair(kind, 4, activation)
    theirs = theirs.double()
    x, z = (torch.randn(3, 4, 5, 2).to(dtype) for _ in range(2))
    found = []
    for module, exact in ((ours, dtype), (theirs, torch.double)):
        inputs = [one.to(exact).requires_grad_() for one in (x, z)]
        y = module(*inputs)
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        penalty = sum((one * one).sum() for one in first)
        wanted = [*inputs, *module.parameters()]
        found.append(torch.autograd.grad(penalty, wanted, allow_unused=True))
    for got, wanted in zip(*found):
        close(got.double(), wanted.double(), dtype, scale=32.0)


def test_inputs_that_change_before_backward():
    module = bt.BatchNormAct2d(3, activation="gelu")
    x, z = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    y = module(x, z)
    z.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = module(x, z)
    y.mul_(2).sum().backward()  # the output may: backward does not read it


def test_compiled():
    """Operators whose fake results or schemas are others than the real ones."""
    torch.manual_seed(5)
    for kind in ("batch", "group"):
        ours, theirs = pair(kind, 8, "silu")
        compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
        x, z, dy = (torch.randn(3, 8, 5, 5) for _ in range(3))
        for got, wanted in zip(step(compiled, x, dy, z), step(theirs, x, dy, z)):
            close(got, wanted, torch.float32, scale=8.0)
    for extra in ({}, {"z": torch.randn(2, 4, 3, 3)}):
        x = torch.randn(2, 4, 3, 3, requires_grad=True)
        weight, bias = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)
        number = bt._activations.number_of("hardswish")
        arguments = (
            x,
            extra.get("z"),
            weight,
            bias,
            None,
            None,
            True,
            0.0,
            1e-5,
            number,
            0.0,
            True,
        )
        torch.library.opcheck(torch.ops.bn2d.batch_norm.default, arguments)


class Stacked(nn.Sequential):
    """As torchvision's Conv2dNormActivation: a Sequential in all but its name."""


def test_convert_fuses_every_activation():
    torch.manual_seed(6)
    for name, make in ACTIVATIONS.items():
        for norm in (nn.BatchNorm2d(4), nn.GroupNorm(2, 4)):
            net = Stacked(nn.Conv2d(3, 4, 1), norm, make(), nn.Conv2d(4, 4, 1))
            before, text = copy.deepcopy(net), repr(net)
            bt.convert(net, fuse=True)
            is_batch = isinstance(norm, nn.BatchNorm2d)
            plain = "BNReLU" if name in ("relu", "leaky_relu") else "BatchNormAct2d"
            assert type(net[1]).__name__ == (plain if is_batch else "GroupNormAct")
            assert type(net[2]).__name__ == "Absorbed" + type(before[2]).__name__
            assert isinstance(net[2], type(before[2]))
            x = torch.randn(2, 3, 5, 5)
            close(net(x), before(x), torch.float32, scale=8.0)
            close(pickle.loads(pickle.dumps(net))(x), before(x), torch.float32, scale=8.0)
            assert list(net.state_dict()) == list(before.state_dict())
            bt.revert(net)
            assert repr(net) == text
            assert type(net[1]) is type(before[1])
            close(net(x), before(x), torch.float32, scale=8.0)
    approximate = nn.Sequential(nn.BatchNorm2d(3), nn.GELU(approximate="tanh"))
    assert type(bt.convert(approximate, fuse=True)[0]) is bt.BatchNorm2d


class Same(nn.Module):
    """A parametrization that changes nothing."""

    def forward(self, weight):
        return weight


def test_revert_never_splits_a_pair():
    """Catches an activation that is applied twice, or not at all."""
    torch.manual_seed(7)
    x = torch.randn(2, 4, 5, 5)
    net = nn.Sequential(nn.BatchNorm2d(4), nn.SiLU())
    expected, text = copy.deepcopy(net)(x), repr(net)
    bt.convert(net, fuse=True)
    close(net(x), expected, torch.float32, scale=8.0)
    # A half of the pair, which cannot know of the other.
    for half, other in ((net[0], "the activation after"), (net[1], "the norm before")):
        kind = type(half)
        with pytest.raises(ValueError, match="the model is fused with %s it" % other):
            bt.revert(half)
        assert type(half) is kind
    with pytest.raises(ValueError, match="^0 is fused with the norm before it"):
        bt.revert(nn.Sequential(net[1]))
    # A norm of another class by now keeps its activation until it is itself again.
    nn.utils.parametrize.register_parametrization(net[0], "weight", Same())
    bt.revert(net)
    close(net(x), expected, torch.float32, scale=8.0)
    nn.utils.parametrize.remove_parametrizations(net[0], "weight")
    assert repr(bt.revert(net)) == text
    # What has taken the place of a half has nothing of it.
    for place, module in enumerate((nn.BatchNorm2d(4), nn.SiLU())):
        bt.convert(net, fuse=True)
        net[place] = module
        bt.revert(net)
        assert repr(net) == text
        close(net(x), expected, torch.float32, scale=8.0)


def test_convert_leaves_a_forward_of_its_own_alone():
    """Catches a forward set on the object, as accelerate does, that goes on without activation."""
    torch.manual_seed(8)
    x = torch.randn(2, 4, 5, 5)
    for hooked in range(3):
        net = nn.Sequential(nn.BatchNorm2d(4), nn.SiLU())
        expected = copy.deepcopy(net)(x)
        module = [net, *net][hooked]
        module.forward = module.forward
        bt.convert(net, fuse=True)
        close(net(x), expected, torch.float32, scale=8.0)


def test_convert_of_no_module():
    for function in (bt.convert, bt.revert):
        with pytest.raises(TypeError, match="model is a list, not a torch.nn.Module"):
            function([nn.BatchNorm2d(3)])


def test_skip_init():
    """Catches a signature that hides torch's arguments."""
    for kind, arguments in (
        (bt.BNReLU, (4,)),
        (bt.BatchNormAct2d, (4,)),
        (bt.GroupNormAct, (2, 4)),
        (bt.SyncBatchNorm2d, (4,)),
    ):
        module = nn.utils.skip_init(kind, *arguments, dtype=torch.float64)
        assert "eps" in inspect.signature(kind).parameters
        assert module.weight.dtype is torch.float64
        assert module.weight.device.type == "cpu"


def test_arguments():
    assert "activation=silu" in repr(bt.GroupNormAct(2, 4, activation="silu"))
    assert "negative_slope=0.1" in repr(
        bt.BatchNormAct2d(4, activation="leaky_relu", negative_slope=0.1)
    )
    with pytest.raises(ValueError, match="activation is 'swish', known are relu, "):
        bt.BatchNormAct2d(4, activation="swish")
    leaky = bt.GroupNormAct(2, 4, activation="leaky_relu")
    assert leaky.negative_slope == nn.LeakyReLU().negative_slope
    with pytest.raises(ValueError, match="negative_slope is 0.1, but the activation is silu"):
        bt.GroupNormAct(2, 4, activation="silu", negative_slope=0.1)
    # What torch computes: another rank, a subclass, and their errors.
    module = bt.BatchNormAct2d(4, activation="sigmoid")
    with pytest.raises(ValueError, match="expected 4D"):
        module(torch.randn(3, 4))
    grouped = bt.GroupNormAct(2, 4, activation="silu")
    x = torch.randn(3, 4, 5)
    close(grouped(x), nn.functional.silu(nn.GroupNorm(2, 4)(x)), torch.float32)


@pytest.mark.parametrize(
    "module",
    [
        bt.BatchNorm2d(4),
        bt.GroupNorm(2, 4),
        bt.InstanceNorm2d(4),
        bt.BNReLU(4),
        bt.BatchNormAct2d(4, activation="silu"),
    ],
)
def test_as_torch_calls_it(module):
    """A parameter of another name, and forward-mode differentiation, which torch's norms know."""
    x, tangent = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    module.eval()
    y = module(input=x)
    with torch.autograd.forward_ad.dual_level():
        dual = module(torch.autograd.forward_ad.make_dual(x, tangent))
        primal, derivative = torch.autograd.forward_ad.unpack_dual(dual)
    close(primal, y, torch.float32)
    assert derivative.shape == x.shape
    step = 1e-3
    difference = (module(x + step * tangent) - module(x - step * tangent)) / (2 * step)
    assert (difference - derivative).abs().median() < 1e-2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_bias_shows_the_side_on_x(layout, slope):
    """Gradients that take another side than y has, with the help of bias or by y alone."""
    torch.manual_seed(4)
    x = torch.randn(4, 8, 16, 17).to(memory_format=layout).requires_grad_()
    dy = torch.randn(4, 8, 16, 17).to(memory_format=layout)
    module = bt.BNReLU(8, negative_slope=slope)
    with torch.no_grad():
        module.weight.uniform_(-1, 1)
        module.bias.uniform_(-1, 1)
    y = module(x)
    by_bias = torch.autograd.grad(y, (x, module.weight, module.bias), dy)
    how = (_calls.LEAKY_RELU if slope else _calls.RELU, slope)
    weight = module.weight.detach()
    y, saved, _, _ = torch.ops.bn2d.batch_norm(
        x.detach(), None, weight, module.bias.detach(), None, None, True, 0.1, 1e-5, *how, True
    )
    dx, _, dweight, dbias = torch.ops.bn2d.batch_norm_backward(
        dy, x.detach(), weight, saved, y, True, *how, True, False, True, True
    )
    for got, wanted in zip(by_bias, (dx, dweight, dbias)):
        assert torch.equal(got, wanted)
