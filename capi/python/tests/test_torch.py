# SPDX-License-Identifier: MIT
"""bn2d.torch against torch itself, live, over random configurations; and all that a module meets in
torch."""

from __future__ import annotations

import copy
import io
import pickle
import random
import re

import bn2d
import numpy as np
import pytest
from conftest import need

torch = need("torch")

import bn2d.torch as bt  # noqa: E402
from bn2d import _api  # noqa: E402
from bn2d.torch import _calls  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def close(got, wanted, dtype, scale=1.0):
    """Within the dtype's rounding of the largest element: torch is not exact either."""
    if wanted is None or got is None:
        assert got is None
        assert wanted is None
        return
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    size = max(1.0, wanted.abs().max().item() if wanted.numel() else 1.0)
    assert torch.allclose(
        got.double(), wanted.double(), rtol=0.0, atol=scale * size * TOLERANCE[dtype]
    )


def laid_out(x, layout):
    """The same values in another layout; the result is no leaf of autograd."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        wide = torch.zeros(x.shape[0], x.shape[1], x.shape[2] * 2, x.shape[3] + 1, dtype=x.dtype)[
            :, :, ::2, 1:
        ]
        return wide.copy_(x)
    if layout == "transposed":
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    return x.contiguous()


def step(module, x, dy, z=None):
    """y, dx, dz, dweight, dbias; gradients only where something asks for them."""
    x = x.detach().requires_grad_()
    if z is None:
        y = module(x)
        wanted = [x, *module.parameters()]
    else:
        z = z.detach().requires_grad_()
        y = module(x, z)
        wanted = [x, z, *module.parameters()]
    return [y.detach(), *torch.autograd.grad(y, wanted, dy)]


class Reference(nn.Module):
    """relu(bn(x) + z) of torch's own operations."""

    def __init__(self, norm, slope):
        super().__init__()
        self.norm = norm
        self.slope = slope

    def forward(self, x, z=None):
        y = self.norm(x)
        return nn.functional.leaky_relu(y if z is None else y + z, self.slope)


@pytest.mark.parametrize("seed", range(60))
def test_random_configuration(seed):
    """float32 and float64 against torch's own; half types against torch in float64.

    torch rounds bn(x) to half before it adds z and looks at the sign, so that an element near 0 may
    fall to another side of the activation there.
    """
    draw = random.Random(seed)
    torch.manual_seed(seed)
    dtype = draw.choice(
        [torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16]
    )
    parameters = (
        draw.choice([torch.float32, dtype]) if dtype in (torch.float16, torch.bfloat16) else dtype
    )
    channels = draw.choice([1, 3, 8, 17])
    shape = (draw.choice([1, 2, 5]), channels, draw.choice([2, 7, 8]), draw.choice([1, 4, 9]))
    settings = {
        "eps": draw.choice([1e-5, 0.1]),
        "momentum": draw.choice([0.1, None, 1.0]),
        "affine": draw.choice([True, True, False]),
        "track_running_stats": draw.choice([True, True, False]),
    }
    plain = nn.BatchNorm2d(channels, **settings).to(parameters)
    for one in plain.parameters():
        nn.init.normal_(one, 1.0, 0.3)
    slope, residual = draw.choice([None, 0.0, 0.2]), draw.choice([True, False])
    if slope is None:
        ours, theirs, residual = bt.BatchNorm2d(channels, **settings).to(parameters), plain, False
    else:
        ours = bt.BNReLU(channels, negative_slope=slope, **settings).to(parameters)
        theirs = Reference(plain, slope)
    ours.load_state_dict(plain.state_dict())
    exact = torch.float64 if dtype in (torch.float16, torch.bfloat16) else dtype
    theirs.to(exact)
    for mode in (True, False, True):
        ours.train(mode)
        theirs.train(mode)
        x = laid_out(
            torch.randn(shape).mul(2).add(0.5).to(dtype),
            draw.choice(["", "channels_last", "sliced", "transposed"]),
        )
        dy = laid_out(torch.randn(shape).to(dtype), draw.choice(["", "channels_last"]))
        z = (
            laid_out(torch.randn(shape).to(dtype), draw.choice(["", "channels_last"]))
            if residual
            else None
        )
        scale = 8.0 if parameters == torch.bfloat16 else 4.0
        arguments = [None if one is None else one.to(exact) for one in (x, dy, z)]
        for got, wanted in zip(step(ours, x, dy, z), step(theirs, *arguments)):
            assert got.dtype in (dtype, parameters)
            close(got.to(exact), wanted, dtype, scale=scale)
        with torch.no_grad():
            residual_of = [(), ()] if z is None else [(z,), (arguments[2],)]
            close(
                ours(x, *residual_of[0]).to(exact),
                theirs(arguments[0], *residual_of[1]),
                dtype,
                scale,
            )
        for name, buffer in plain.named_buffers():
            if buffer.is_floating_point():
                close(dict(ours.named_buffers())[name].to(exact), buffer, parameters, scale)
            else:
                assert dict(ours.named_buffers())[name] == buffer


def test_channels_last_stays():
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = bt.BatchNorm2d(8)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (dx,) = torch.autograd.grad(y.pow(2).sum(), x)
    assert dx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("slope", [None, 0.0, -0.3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("operator", [False, True])
def test_gradients_and_their_gradients(slope, training, operator):
    torch.manual_seed(1)
    module = bt.BatchNorm2d(3) if slope is None else bt.BNReLU(3, negative_slope=slope)
    module = module.double().train(training)
    module.momentum = 0.0
    x, z = (torch.randn(2, 3, 2, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    weight, bias = (torch.randn(3, dtype=torch.double, requires_grad=True) for _ in range(2))

    def call(x, z, weight, bias):
        if operator:
            activation = 0 if slope is None else _calls.LEAKY_RELU if slope else _calls.RELU
            residual = None if slope is None else z
            return torch.ops.bn2d.batch_norm(
                x,
                residual,
                weight,
                bias,
                module.running_mean,
                module.running_var,
                training,
                0.0,
                1e-5,
                activation,
                slope or 0.0,
                True,
            )[0]
        arguments = (x,) if slope is None else (x, z)
        return torch.func.functional_call(module, {"weight": weight, "bias": bias}, arguments)

    inputs = (x, z, weight, bias)
    if slope is None:
        inputs, function = (x, weight, bias), lambda x, weight, bias: call(x, None, weight, bias)
    else:
        function = call
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


NORMS = {
    "batch": lambda kind: kind.BatchNorm2d(6),
    "eval": lambda kind: kind.BatchNorm2d(6).eval(),
    "group": lambda kind: kind.GroupNorm(3, 6),
    "instance": lambda kind: kind.InstanceNorm2d(6, affine=True),
    "tracking": lambda kind: kind.InstanceNorm2d(6, affine=True, track_running_stats=True).eval(),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize("wanted", ["x", "weight", "x before"])
def test_gradients_of_third_order(norm, operator, wanted):
    """Those of a part of the graph: torch.autograd.grad goes around a node that has no edge to what
    it is asked for, and returns the rest without a word."""
    torch.manual_seed(1)
    module = NORMS[norm](bt).double()
    start = torch.randn(2, 6, 2, 2, dtype=torch.double, requires_grad=True)
    x = start * 2 if wanted == "x before" else start
    if operator:
        groups = {"group": 3, "instance": 6}.get(norm, 0)
        running = [getattr(module, name, None) for name in ("running_mean", "running_var")]
        how = (norm in ("batch", "group", "instance"), 0.1, 1e-5, 0, 0.0, True, groups)
        y = torch.ops.bn2d.batch_norm(x, None, module.weight, module.bias, *running, *how)[0]
    else:
        y = module(x)
    inputs = (start, module.weight)
    first = torch.autograd.grad(y.pow(3).sum(), inputs, create_graph=True)
    loss = sum(one.pow(2).sum() for one in first)
    second = torch.autograd.grad(loss, inputs, create_graph=True)
    assert all(one.isfinite().all() for one in second)
    loss = second[0].pow(2).sum() + y.sum()
    with pytest.raises(RuntimeError, match="no gradients of third order"):
        torch.autograd.grad(loss, module.weight if wanted == "weight" else start)


@pytest.mark.parametrize("norm", NORMS)
def test_batched_gradients(norm):
    """The memory of a tensor that stands for many."""
    torch.manual_seed(1)
    ours, theirs = (NORMS[norm](kind).double() for kind in (bt, nn))
    x = torch.randn(2, 6, 3, 2, dtype=torch.double, requires_grad=True)
    dys = torch.randn(5, 2, 6, 3, 2, dtype=torch.double)
    inputs = [(x, module.weight, module.bias) for module in (ours, theirs)]
    named = {"is_grads_batched": True, "retain_graph": True}
    outputs = [module(x) for module in (ours, theirs)]
    results = [torch.autograd.grad(y, of, dys, **named) for y, of in zip(outputs, inputs)]
    for got, wanted in zip(*results):
        assert torch.allclose(got, wanted, atol=1e-9)
    results = [torch.autograd.functional.jacobian(m, x, vectorize=True) for m in (ours, theirs)]
    assert torch.allclose(*results, atol=1e-9)
    # torch's own group norm fails here.
    other = ours if norm == "group" else theirs
    hessians = [
        torch.autograd.functional.hessian(lambda x, m=m: m(x).pow(3).sum(), x, vectorize=v)
        for m, v in ((ours, True), (other, False))
    ]
    assert torch.allclose(*hessians, atol=1e-7)
    # The gradients of batched gradients, and of the third order.
    (dxs,) = torch.autograd.grad(outputs[0], x, dys, create_graph=True, **named)
    (first,) = torch.autograd.grad(dxs[0].pow(2).sum(), x)
    (dx,) = torch.autograd.grad(ours(x), x, dys[0], create_graph=True)
    (wanted,) = torch.autograd.grad(dx.pow(2).sum(), x)
    assert torch.allclose(first, wanted, atol=1e-9)
    assert torch.autograd.gradcheck(ours, (x,), check_batched_grad=True)


def test_batched_gradients_through_activations():
    torch.manual_seed(1)
    x, z = (torch.randn(2, 6, 3, 2, requires_grad=True) for _ in range(2))
    dys = torch.randn(5, 2, 6, 3, 2)
    for name in ("relu", "silu"):
        for module in (
            bt.BatchNormAct2d(6, activation=name),
            bt.GroupNormAct(3, 6, activation=name),
        ):
            inputs = (x, z, *module.parameters())
            y = module(x, z)
            named = {"is_grads_batched": True, "retain_graph": True}
            got = torch.autograd.grad(y, inputs, dys, **named)
            for number, dy in enumerate(dys):
                wanted = torch.autograd.grad(y, inputs, dy, retain_graph=True)
                assert all(torch.equal(one[number], other) for one, other in zip(got, wanted))


def test_gradients_that_have_no_memory():
    """A crash: the address of a tensor of zeros is 0."""
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    for module in (bt.BatchNorm2d(3), bt.BNReLU(3), bt.GroupNorm(3, 3)):
        (dx,) = torch.autograd.grad(module(x), x, torch._efficientzerotensor(2, 3, 4, 4))
        assert not dx.any()
    zeros = torch._efficientzerotensor(2, 3, 4, 4)
    assert torch.equal(bt.BatchNorm2d(3)(zeros), torch.zeros(2, 3, 4, 4))


LAST = torch.channels_last
INPUTS = {
    "contiguous": lambda c: torch.randn(4, c, 8, 5),
    "channels_last": lambda c: torch.randn(4, c, 8, 5).to(memory_format=LAST),
    "transpose(2, 3)": lambda c: torch.randn(4, c, 8, 5).transpose(2, 3),
    "transpose(2, 3) of channels_last": lambda c: (
        torch.randn(4, c, 8, 5).to(memory_format=LAST).transpose(2, 3)
    ),
    "transpose(0, 1)": lambda c: torch.randn(c, 4, 8, 5).transpose(0, 1),
    "permute": lambda c: torch.randn(8, 4, c, 5).permute(1, 2, 0, 3),
    "expand": lambda c: torch.randn(4, c, 1, 1).expand(4, c, 8, 5),
    "expand of a batch": lambda c: (
        torch.randn(1, c, 8, 5).to(memory_format=LAST).expand(4, c, 8, 5)
    ),
    "every second row": lambda c: torch.randn(4, c, 8, 5)[:, :, ::2],
    "every second row of channels_last": lambda c: torch.randn(4, c, 8, 5).to(memory_format=LAST)[
        :, :, ::2
    ],
    "every second channel of channels_last": lambda c: torch.randn(4, 2 * c, 8, 5).to(
        memory_format=LAST
    )[:, ::2],
    "one column": lambda c: torch.randn(4, c, 8, 1).to(memory_format=LAST),
    "one sample": lambda c: torch.randn(1, c, 8, 5).to(memory_format=LAST),
    "one pixel": lambda c: torch.randn(4, c, 1, 1).to(memory_format=LAST),
}


def strides(tensor):
    """Those that matter: `view` does not look at a stride of 1 element."""
    return [stride for stride, extent in zip(tensor.stride(), tensor.shape) if extent > 1]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layout", INPUTS)
@pytest.mark.parametrize("training", [False, True])
def test_layout_of_results(norm, layout, training):
    """`norm(x).view(len(x), -1)` that raises where it did not before convert(); eagerly, without
    gradients and compiled."""
    if norm == "instance" and layout == "one pixel":
        pytest.skip("torch refuses it")
    ours, theirs = (NORMS[norm](kind).train(training) for kind in (bt, nn))
    if norm == "tracking" and training and layout == "one pixel":
        pytest.skip("torch refuses it")
    x = INPUTS[layout](6).requires_grad_()
    dy = torch.randn_like(theirs(x))
    (wanted,) = torch.autograd.grad(theirs(x), x, dy)
    compiled = torch.compile(ours, backend="aot_eager")
    with torch.no_grad():
        assert strides(ours(x)) == strides(theirs(x))
    for module in (ours, compiled):
        y = module(x)
        assert strides(y) == strides(theirs(x))
        (dx,) = torch.autograd.grad(y, x, dy)
        assert strides(dx) == strides(wanted)
    assert _calls.format_of(x) == torch._prims_common.suggest_memory_format(x)
    if norm in ("batch", "eval", "group"):
        arrays = (ours.weight, ours.bias, None, None)
        how = (True, 0.1, 1e-5, 0, 0.0, True, 3 if norm == "group" else 0)
        torch.library.opcheck(torch.ops.bn2d.batch_norm.default, (x, None, *arrays, *how))


def test_a_model_that_views_what_a_norm_returns():
    class Net(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.norm, self.linear = norm, nn.Linear(6 * 64, 2)

        def forward(self, x):
            y = self.norm(x.transpose(2, 3))
            return self.linear(y.view(len(x), -1))

    for make in NORMS.values():
        net = Net(make(nn))
        x = torch.randn(4, 6, 8, 8)
        wanted = net(x)
        close(bt.convert(net)(x), wanted, torch.float32, scale=10)
        close(torch.compile(net, backend="aot_eager")(x), wanted, torch.float32, scale=10)


def test_frozen_parameters_get_no_gradient():
    module = bt.BatchNorm2d(3)
    module.weight.requires_grad_(False)
    x = torch.randn(2, 3, 4, 4)
    y = module(x)
    assert y.requires_grad
    y.sum().backward()
    assert module.weight.grad is None
    assert module.bias.grad is not None
    module.bias.requires_grad_(False)
    assert not module(x).requires_grad


def test_autograd_knows_that_the_running_statistics_move():
    module = bt.BatchNorm2d(3)
    scale = torch.ones(3, requires_grad=True)
    product = scale * module.running_mean  # keeps running_mean for its backward
    module(torch.randn(2, 3, 4, 4))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()
    assert module.num_batches_tracked == 1


def test_gradients_that_are_expanded_or_of_another_layout():
    ours, theirs = bt.BatchNorm2d(3).eval(), nn.BatchNorm2d(3).eval()
    x = torch.randn(2, 3, 4, 4)
    for dy in (torch.ones(1).expand(2, 3, 4, 4), torch.randn(2, 3, 1, 4).expand(2, 3, 4, 4)):
        for got, wanted in zip(step(ours, x, dy), step(theirs, x, dy)):
            close(got, wanted, torch.float32)
    expanded = torch.randn(2, 3, 1, 4).expand(2, 3, 4, 4)
    close(ours(expanded), theirs(expanded), torch.float32)


def test_state_dict_goes_both_ways():
    ours, theirs = bt.BNReLU(5), nn.BatchNorm2d(5)
    theirs.train()(torch.randn(3, 5, 2, 2))
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert isinstance(ours, nn.BatchNorm2d)
    assert repr(bt.BatchNorm2d(5)) == repr(theirs)


def test_copies_pickles_and_saved_models():
    net = bt.convert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), fuse=True)
    x = torch.randn(2, 3, 4, 4)
    net(x)
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    others = [
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
        torch.load(buffer, weights_only=False),
    ]
    expected = net.eval()(x)
    for one in others:
        assert torch.equal(one.eval()(x), expected)
        assert type(one[1]) is bt.BNReLU


def test_convert_and_revert():
    shared = nn.BatchNorm2d(4)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1),
        shared,
        nn.LeakyReLU(0.1),
        nn.Conv2d(4, 4, 1),
        shared,
    )
    hooked = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    calls = []
    hooked[0].register_forward_hook(lambda *_: calls.append(1))
    model = nn.ModuleList([net, hooked])
    before, text = copy.deepcopy(model), repr(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert bt.convert(model, fuse=True) is model
    assert [type(one).__name__ for one in net] == [
        "Conv2d",
        "BNReLU",
        "AbsorbedReLU",
        "Conv2d",
        "BatchNorm2d",
        "LeakyReLU",
        "Conv2d",
        "BatchNorm2d",
    ]
    assert type(shared) is bt.BatchNorm2d
    assert type(hooked[0]) is bt.BatchNorm2d  # a hook would see another output
    assert list(model.state_dict()) == list(before.state_dict())
    x, w = torch.randn(2, 3, 5, 5), torch.randn(2, 4, 5, 5)
    calls.clear()  # the copy has the hook, too
    close(hooked(net(x)), before[1](before[0](x)), torch.float32, scale=10)
    assert calls == [1, 1]
    hooked(net(x)).mul(w).sum().backward()
    old = model[0][1].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model[0][1].weight, old)
    bt.revert(model)
    assert repr(model) == text
    assert not any(isinstance(one, bt.BatchNorm2d) for one in model.modules())
    before.load_state_dict(model.state_dict())
    assert torch.equal(hooked.eval()(net.eval()(x)), before[1].eval()(before[0].eval()(x)))


def test_without_averages_the_counter_counts():
    """As torch's does, in training with track_running_stats."""
    ours, theirs = bt.BatchNorm2d(3), nn.BatchNorm2d(3)
    for one in (ours, theirs):
        one.running_mean = one.running_var = None
        one(torch.randn(2, 3, 4, 4))
    assert torch.equal(ours.num_batches_tracked, theirs.num_batches_tracked)


def test_convert_leaves_subclasses_alone_and_takes_the_model_itself():
    class Mine(nn.BatchNorm2d):
        pass

    mine = Mine(3)
    assert type(bt.convert(mine)) is Mine
    assert type(bt.convert(nn.BatchNorm2d(3))) is bt.BatchNorm2d


def small_net():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["", "channels_last"])
def test_compiled(training, layout):
    theirs = small_net().train(training)
    ours = bt.convert(copy.deepcopy(theirs), fuse=True)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    for size in (6, 7):
        x = laid_out(torch.randn(4, 3, size, size), layout)
        dy = torch.randn(4, 4, size - 2, size - 2)
        for got, wanted in zip(step(compiled, x, dy), step(theirs, x, dy)):
            close(got, wanted, torch.float32, scale=20)
    for name, buffer in theirs.named_buffers():
        assert torch.allclose(ours.state_dict()[name], buffer, atol=1e-5), name


def test_exported():
    net = small_net()
    ours = bt.convert(copy.deepcopy(net).eval())
    x = torch.randn(4, 3, 6, 6)
    program = torch.export.export(ours, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    assert "bn2d.batch_norm" in str(program.graph)
    other = torch.randn(7, 3, 6, 6)
    close(program.module()(other), net.eval()(other), torch.float32)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    assert torch.equal(torch.export.load(buffer).module()(x), program.module()(x))
    trained = torch.export.export(bt.convert(copy.deepcopy(net).train()), (x,)).module()
    trained(x)
    assert any(one.item() == 1 for name, one in trained.named_buffers() if name.endswith("tracked"))


def test_operators_are_what_torch_expects():
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    module = nn.BatchNorm2d(3)
    arrays = (module.weight, module.bias, module.running_mean, module.running_var)
    for z in (None, torch.randn(2, 3, 4, 4, requires_grad=True)):
        for batch_stats in (True, False):
            arguments = (x, z, *arrays, batch_stats, 0.1, 1e-5, 1, 0.0, True)
            torch.library.opcheck(torch.ops.bn2d.batch_norm.default, arguments)


def test_length_of_the_mask_is_the_library_s():
    for n, c, h, w in [(1, 1, 1, 1), (2, 3, 4, 5), (5, 17, 7, 9), (0, 3, 4, 4)]:
        bytes_ = _api.value("bn2d_mask_nbytes", n, c, h, w)
        assert _calls.saved_length(n, c, h, w, True) == 2 * c + -(-bytes_ // 8)


def test_autocast():
    torch.manual_seed(3)
    theirs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    ours = bt.convert(copy.deepcopy(theirs))
    x, dy = torch.randn(4, 3, 6, 6), torch.randn(4, 8, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        got, wanted = step(ours, x, dy), step(theirs, x, dy)
    for one, other in zip(got, wanted):
        close(one, other, torch.bfloat16, scale=2)


def test_what_the_library_cannot_do_torch_does():
    ours, theirs = bt.BatchNorm2d(3).eval(), nn.BatchNorm2d(3).eval()
    x = torch.randn(2, 3, 4, 4)
    assert bt.BatchNorm2d(3, device="meta")(torch.empty(2, 3, 4, 4, device="meta")).shape == x.shape
    got = torch.func.vmap(ours)(torch.stack([x, x]))
    close(got[1], theirs(x), torch.float32)
    gradient = torch.func.grad(lambda x: ours(x).pow(2).sum())(x)
    close(gradient, torch.func.grad(lambda x: theirs(x).pow(2).sum())(x), torch.float32)
    close(torch.jit.trace(ours, x)(x), theirs(x), torch.float32)
    close(torch.fx.symbolic_trace(nn.Sequential(ours))(x), theirs(x), torch.float32)
    negative = torch.randn(2, 3, 4, 4, dtype=torch.cfloat).conj().imag
    close(ours(negative), theirs(negative), torch.float32)
    fused, z = bt.BNReLU(3).eval(), torch.randn(1, 3, 1, 1)
    close(fused(x, z), torch.relu(theirs(x) + z), torch.float32)
    with FlopCounterMode(display=False):
        close(ours(x), theirs(x), torch.float32)
    with torch.inference_mode():
        close(ours(x), theirs(x), torch.float32)
    parametrized = nn.utils.parametrizations.weight_norm(bt.BatchNorm2d(3).eval(), dim=None)
    assert parametrized(x).shape == x.shape


@pytest.mark.parametrize("module", [bt.BatchNorm2d, nn.BatchNorm2d])
def test_errors_are_torch_s_and_change_nothing(module):
    bn = module(3)
    for x, kind in [
        (torch.randn(2, 3, 4), ValueError),
        (torch.randn(2, 4, 3, 3), RuntimeError),
        (torch.randn(1, 3, 1, 1), ValueError),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int32), (RuntimeError, NotImplementedError)),
    ]:
        with pytest.raises(kind):
            bn(x)
    if module is bt.BatchNorm2d:
        assert torch.equal(bn.running_mean, torch.zeros(3))
        assert bn.num_batches_tracked == 0  # torch counts calls that fail


@pytest.mark.parametrize("training", [True, False])
def test_one_running_statistic_alone(training):
    """Catches: a norm that computes where torch says that the other one is missing."""
    x = torch.randn(2, 3, 4, 4)
    for missing in ("running_mean", "running_var"):
        for name in ("BatchNorm2d", "InstanceNorm2d"):
            outcomes = []
            for kind in (bt, nn):
                module = getattr(kind, name)(3, track_running_stats=True).train(training)
                setattr(module, missing, None)
                outcomes.append(outcome(module, x))
            ours, theirs = outcomes
            assert isinstance(theirs, tuple)
            assert ours == theirs


def outcome(module, x):
    """What a call returns and leaves, or what it raises."""
    try:
        y = module(x)
    except Exception as fault:
        return type(fault), str(fault)
    return [y, *[one for one in module.buffers() if one.is_floating_point()]]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        *({"eps": eps} for eps in (-1e-3, 0.0, 1e-50, float("inf"), float("nan"))),
        *({"momentum": one} for one in (1.5, -0.5, float("inf"), float("nan"))),
        {"shape": (1, 6, 1, 1)},
        {"shape": (1, 6, 1, 1), "track_running_stats": False},
        {"shape": (2, 5, 3, 3)},
        {"shape": (2, 6, 3)},
    ],
    ids=str,
)
@pytest.mark.parametrize("compiled", [False, True])
def test_torch_decides_what_the_library_refuses(settings, training, compiled):
    """An error where torch has a result, a result where it has an error, or another text."""
    torch.manual_seed(1)
    settings = dict(settings)
    x = torch.randn(settings.pop("shape", (2, 6, 4, 4)))
    plain = {name: one for name, one in settings.items() if name == "eps"}
    makes = [
        lambda kind: kind.BatchNorm2d(6, **settings),
        lambda kind: kind.InstanceNorm2d(
            6, affine=True, **{"track_running_stats": True, **settings}
        ),
    ]
    if x.shape != (1, 6, 1, 1):
        makes.append(lambda kind: kind.GroupNorm(3, 6, **plain))
    for make in makes:
        ours, theirs = (make(kind).train(training) for kind in (bt, nn))
        if compiled and isinstance(outcome(theirs, x), tuple):
            continue  # the compiler wraps errors
        theirs = make(nn).train(training)
        called = torch.compile(ours, backend="aot_eager") if compiled else ours
        got, wanted = outcome(called, x), outcome(theirs, x)
        if isinstance(wanted, tuple):
            assert got == wanted
            assert not any(one.item() for name, one in ours.named_buffers() if "tracked" in name)
        else:
            for one, other in zip(got, wanted):
                assert torch.allclose(one, other, atol=1e-4, equal_nan=True)


def test_memory_is_guarded_where_parameters_do_not_fit():
    bn = bt.BatchNorm2d(8).eval()
    bn.running_mean = torch.zeros(3)
    with pytest.raises(RuntimeError, match="running_mean"):
        bn(torch.randn(2, 8, 4, 4))
    bn = bt.BatchNorm2d(8).eval()
    bn.weight.data = torch.ones(16)[::2]
    close(
        bn(torch.ones(2, 8, 4, 4)), nn.BatchNorm2d(8).eval()(torch.ones(2, 8, 4, 4)), torch.float32
    )


def test_a_checkpointed_and_a_data_parallel_model():
    net = bt.convert(small_net())
    x = torch.randn(4, 3, 6, 6, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)
    (got,) = torch.autograd.grad(y.pow(2).sum(), x)
    (wanted,) = torch.autograd.grad(bt.convert(small_net())(x).pow(2).sum(), x)
    assert torch.equal(got, wanted)


class Normalised(torch.utils.data.Dataset):
    """Calls the module inside a worker of a DataLoader."""

    def __init__(self, module, x):
        self.module, self.x = module, x

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.module(self.x)


def test_workers_of_a_data_loader():
    module, x = bt.BatchNorm2d(8).eval(), torch.randn(4, 8, 32, 32)
    with torch.no_grad():
        expected = module(x)  # threads run here before the fork
        loader = torch.utils.data.DataLoader(
            Normalised(module, x),
            batch_size=None,
            num_workers=2,
            multiprocessing_context="fork",
            timeout=60,
        )
        for y in loader:
            assert torch.equal(y, expected)


def test_torch_and_bn2d_in_one_pool():
    import bn2d

    if not _api.has("bn2d_set_thread_pool"):
        pytest.skip("this library is older than 1.1")
    assert bn2d.get_thread_pool() == "openmp"


def test_a_tensor_that_gives_no_array_is_refused():
    """The errors of NumPy's side are bn2d's, and say what to do."""
    x = np.ones((2, 3, 4, 5), "f4")
    bn = bn2d.BatchNorm2d(3)
    _, record = bn.forward(x, record=True)
    half = torch.ones(2, 3, 4, 5, dtype=torch.bfloat16)
    for name, call in {
        "x": bn,
        "z": lambda one: bn(x, one),
        "dy": record.backward,
        "weight": lambda one: setattr(bn, "weight", one),
        "bias": lambda one: bn.load_state_dict({"bias": one}, strict=False),
    }.items():
        for one, kind, words in [
            (half, bn2d.DtypeError, "of bfloat16: use bn2d.torch, or give %s.float()"),
            (
                half.clone().requires_grad_(),
                bn2d.InvalidArgumentError,
                "that requires grad: use bn2d.torch, or give %s.detach()",
            ),
            (half.to("meta"), bn2d.DeviceError, "on meta: use bn2d.torch, or give %s.cpu()"),
            (torch.ones(2, 3).to_sparse(), bn2d.LayoutError, "that gives no array: "),
        ]:
            expected = "%s is a torch tensor %s" % (name, words % name if "%" in words else words)
            with pytest.raises(kind, match="^" + re.escape(expected)):
                call(one)
    with pytest.raises(bn2d.DtypeError, match="x is a torch tensor of bfloat16"):
        bn2d.Statistics(3).accumulate(half)
    assert bn(torch.ones(2, 3, 4, 5)).shape == x.shape
