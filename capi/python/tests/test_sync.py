# SPDX-License-Identifier: MIT
"""SyncBatchNorm2d over processes of torch.distributed with gloo, against one process with the whole
batch."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle

import pytest
from conftest import need

torch = need("torch")

import bn2d  # noqa: E402
import bn2d.torch as bt  # noqa: E402
from torch import distributed, nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

C = 5
CASES = {
    "float32, even": ({"dtype": "float32"}, [3, 3, 3]),
    "float32, uneven, channels_last": ({"dtype": "float32", "layout": "channels_last"}, [1, 4, 2]),
    "float64, empty": ({"dtype": "float64"}, [4, 0, 1]),
    "bfloat16 with float32": ({"dtype": "float32", "data": "bfloat16"}, [2, 3, 1]),
    "no parameters, no buffers": ({"dtype": "float64", "affine": False, "track": False}, [2, 1, 2]),
    "cumulative": ({"dtype": "float64", "momentum": None}, [1, 2, 3]),
}


def made(how, kind=None):
    """A module, its weight and bias not 1 and 0."""
    dtype = getattr(torch, how["dtype"])
    kind = kind or bt.SyncBatchNorm2d
    affine, track = how.get("affine", True), how.get("track", True)
    module = kind(
        C, momentum=how.get("momentum", 0.1), affine=affine, track_running_stats=track, dtype=dtype
    )
    if affine:
        with torch.no_grad():
            module.weight.copy_(torch.linspace(0.5, 1.5, C))
            module.bias.copy_(torch.linspace(-1, 1, C))
    return module


# What torch lets a program assign, and how the rank that has it fails.
OTHERS = [
    ("running_mean", [0.0] * C, "float64", "DtypeError: running_mean is torch.float64, must be"),
    (
        "running_var",
        [1.0] * 3,
        "float32",
        "ShapeError: running_var has the shape (3,), must have (5,)",
    ),
    ("weight", [1.0] * 9000, "float32", "ShapeError: weight has the shape (9000,), must have (5,)"),
    ("num_batches_tracked", 0, "int32", "DtypeError: num_batches_tracked is torch.int32, must be"),
    ("running_var", None, None, "InvalidArgumentError: running_var is None, running_mean is not"),
]


def batch(how, samples, seed):
    """x and dy of the whole batch."""
    torch.manual_seed(seed)
    data = getattr(torch, how.get("data", how["dtype"]))
    tensors = [
        torch.randn(samples, C, 4, 3, dtype=torch.float64).mul_(1 + i).add_(1 - i).to(data)
        for i in range(2)
    ]
    if how.get("layout") == "channels_last":
        tensors = [one.contiguous(memory_format=torch.channels_last) for one in tensors]
    return tensors


def test_convert_refuses_an_activation():
    """Catches: a fused norm that stays what it is, with the statistics of its own process."""
    net = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    bt.convert(net, fuse=True)
    with pytest.raises(ValueError, match="2 is a BNReLU, and SyncBatchNorm2d has no activation"):
        bt.SyncBatchNorm2d.convert(net)
    assert type(net[0]) is bt.BatchNorm2d
    assert type(bt.SyncBatchNorm2d.convert(bt.revert(net))[2]) is bt.SyncBatchNorm2d


def steps(module, how, counts, ranks, in_double=False):
    """Two steps of training by the parts of these ranks: results in the order of the ranks."""
    results = []
    for seed in range(2):
        x, dy = batch(how, sum(counts), seed)
        if in_double:
            x, dy = x.double(), dy.double()
        first = sum(counts[: ranks[0]])
        last = first + sum(counts[rank] for rank in ranks)
        x = x[first:last].detach().requires_grad_()
        y = module(x)
        wanted = [x, *module.parameters()]
        results += [y.detach(), *torch.autograd.grad(y, wanted, dy[first:last])]
    return results + [one.clone() for one in module.buffers()]


def other_x(rank):
    """Gradients as ever, with hooks that keep a copy of x, and by a checkpoint that makes it again."""
    results = []
    for kind in ("plain", "copied", "again"):
        torch.manual_seed(rank)
        module, layer = made(CASES["float32, even"][0]), nn.Conv2d(3, C, 1)
        x, dy = torch.randn(2, 3, 8, 8), torch.randn(2, C, 8, 8)
        if kind == "copied":
            with torch.autograd.graph.saved_tensors_hooks(lambda one: one.clone(), lambda one: one):
                y = module(layer(x) * 1.0)
        elif kind == "again":
            y = checkpoint(lambda x: module(layer(x) * 1.0), x, use_reentrant=False)
        else:
            y = module(layer(x) * 1.0)
        with torch.no_grad():
            module.weight.add_(1)  # backward is that of the weight of forward
        overwritten = [torch.full_like(dy, 1e3) for _ in range(6)]
        y.backward(dy)
        del overwritten
        results.append([one.grad for one in (*layer.parameters(), *module.parameters())])
    return [all(map(torch.equal, results[0], one)) for one in results]


def default_device(rank):
    """A step, and the same under another default device: results and gradients."""
    results = []
    for device in (contextlib.nullcontext(), torch.device("meta")):
        torch.manual_seed(rank)
        module = made(CASES["float32, even"][0])
        x, dy = (torch.randn(2, C, 8, 8, requires_grad=True) for _ in range(2))
        with device:
            y = module(x)
            y.backward(dy.detach())
        results.append([y, x.grad, *(one.grad for one in module.parameters()), *module.buffers()])
    return all(map(torch.equal, *results))


def other_buffers(rank):
    """How a step fails on each rank where one has a buffer or weight of another kind."""
    texts = []
    for name, values, dtype, _ in OTHERS:
        module = made(CASES["float32, even"][0])
        if rank == 1:
            one = None if values is None else torch.tensor(values, dtype=getattr(torch, dtype))
            setattr(module, name, nn.Parameter(one) if name == "weight" else one)
        before = copy.deepcopy(module.state_dict())
        try:
            module(torch.randn(2, C, 3, 3))
            texts.append(None)
        except bn2d.Error as error:
            texts.append("%s: %s" % (type(error).__name__, error))
        unchanged = (torch.equal(one, before[name]) for name, one in module.state_dict().items())
        if not all(unchanged):
            texts[-1] = "changed"
    return texts


def spread_buffers(rank):
    """Whether buffers with gaps get what contiguous ones get."""
    results = []
    for step in (1, 2):
        torch.manual_seed(rank)
        module = made(CASES["float32, even"][0])
        for name in ("running_mean", "running_var"):
            setattr(module, name, torch.ones(C * step)[::step])
        module(torch.randn(2, C, 3, 3))
        results.append(list(module.buffers()))
    return all(map(torch.equal, *results))


def work(rank, world, folder):
    """One process: writes what it has got, or how it failed, for the test to look at."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method="file://%s/meet" % folder, rank=rank, world_size=world
    )
    found = {}
    for name, (how, counts) in CASES.items():
        found[name] = steps(made(how), how, counts[:world], [rank])

    # In eval mode a rank needs no other.
    module = made(CASES["float32, even"][0])
    x = torch.randn(2, C, 3, 3)
    if rank == 0:
        found["eval"] = module.eval()(x)
    module.train()
    # One rank cannot go on: all raise, nothing has changed, and the next call works.
    before = copy.deepcopy(module.state_dict())
    try:
        module(x[:, :4] if rank == 1 else x)
        found["error"] = None
    except bn2d.Error as error:
        found["error"] = (type(error).__name__, str(error))
    found["unchanged"] = all(
        torch.equal(one, before[name]) for name, one in module.state_dict().items()
    )
    found["after"] = module(x).detach()
    pickle.loads(pickle.dumps(module))
    # Gradients of gradients, of which grad() with respect to x or weight went around.
    x.requires_grad_()
    y = module(x)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    found["second order"] = []
    for one in (x, module.weight):
        try:
            torch.autograd.grad(dx.square().sum() + y.sum(), one, retain_graph=True)
        except RuntimeError as error:
            found["second order"].append(str(error))
    # Backward has another x than forward, whose memory is another's by then.
    found["other x"] = other_x(rank)
    found["default device"] = default_device(rank)
    found["other buffers"] = other_buffers(rank)
    found["spread buffers"] = spread_buffers(rank)
    # Together with DistributedDataParallel, and converted.
    torch.manual_seed(7)
    model = nn.Sequential(nn.Conv2d(3, C, 3), nn.BatchNorm2d(C), nn.ReLU())
    model = nn.parallel.DistributedDataParallel(bt.SyncBatchNorm2d.convert(model))
    model(torch.randn(2 + rank, 3, 6, 6)).sum().backward()
    found["gradients"] = [one.grad.clone() for one in model.parameters()]
    torch.save(found, "%s/%d" % (folder, rank))
    # The model first: where it held the last reference to the group, its end joined gloo's threads,
    # which waited for the interpreter's lock (one run in ten never ended).
    del model
    gc.collect()
    distributed.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_processes(world, tmp_path):
    """Catches a local count or sum, another order of ranks, an empty part that is left out, a rank
    that hangs."""
    torch.multiprocessing.spawn(work, (world, str(tmp_path)), world)
    found = [torch.load(str(tmp_path / str(rank))) for rank in range(world)]
    for name, (how, counts) in CASES.items():
        module = made(how, nn.BatchNorm2d)
        tolerance = {"float32": 2e-5, "float64": 1e-12}[how["dtype"]]
        in_double = "data" in how  # torch's own half arithmetic is no measure
        if in_double:
            module, tolerance = module.double(), 4e-3
        wanted = steps(module, how, counts[:world], list(range(world)), in_double)
        parameters = len(list(module.parameters()))
        for i, want in enumerate(wanted):
            parts = [one[name][i] for one in found]
            of_step = i % (2 + parameters)
            if i >= 2 * (2 + parameters):  # buffers: the same bits on every rank
                assert all(torch.equal(one, parts[0]) for one in parts), name
                got = parts[0]
            elif of_step < 2:  # y and dx
                got = torch.cat(parts)
            else:  # gradients of a rank's own part
                got = sum(parts)
            scale = max(1.0, want.abs().max().item())
            assert torch.allclose(
                got.double(), want.double(), rtol=0, atol=10 * scale * tolerance
            ), (name, i)
    for rank, one in enumerate(found):
        kind, text = one["error"]
        assert one["unchanged"]
        assert (kind == "ShapeError") == (rank == 1)
        assert rank == 1 or "rank 1" in text
        assert torch.isfinite(one["after"]).all()
        assert one["other x"] == [True, True, True]
        assert one["default device"]  # catches sums that are made there
        # Catches elements of another type taken for the worker's, and memory behind a shorter one.
        for (*_, wanted), text in zip(OTHERS, one["other buffers"]):
            assert text.startswith(
                wanted if rank == 1 else "StateError: rank 1 could not take part"
            )
        assert one["spread buffers"]  # catches values written into the gaps
        assert [text.split()[:3] for text in one["second order"]] == [
            ["SyncBatchNorm2d", "has", "no"]
        ] * 2
        assert all(torch.equal(a, b) for a, b in zip(one["gradients"], found[0]["gradients"]))
    assert torch.isfinite(found[0]["eval"]).all()


def test_one_process_is_a_batch_norm():
    module, plain = bt.SyncBatchNorm2d(C), bt.BatchNorm2d(C)
    x = torch.randn(2, C, 3, 3)
    assert torch.equal(module(x), plain(x))
    assert torch.equal(module.running_var, plain.running_var)


def test_state_of_torch():
    """Catches a state with other names or shapes than those of torch's modules."""
    module = bt.SyncBatchNorm2d(C)
    module(torch.randn(2, C, 3, 3))
    for other in (nn.BatchNorm2d(C), nn.SyncBatchNorm(C)):
        other.load_state_dict(module.state_dict())
        bt.SyncBatchNorm2d(C).load_state_dict(other.state_dict())
    assert repr(module).startswith("SyncBatchNorm2d(5, eps=1e-05, momentum=0.1, affine=True")
    copied = copy.deepcopy(module)
    assert torch.equal(copied.running_mean, module.running_mean)
