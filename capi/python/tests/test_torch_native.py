# SPDX-License-Identifier: MIT
"""The compiled eager path of bn2d.torch: how it is built, kept and loaded, and that it does what
Python does.

ctest runs all tests of torch once with the extension and once without. What needs it is skipped
where it is not there; BN2D_TEST_NATIVE (1 or 0) says what must be.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import os
import re
import stat
import subprocess
import sys
import threading
import warnings

import pytest
from conftest import need

torch = need("torch")

import bn2d  # noqa: E402
import bn2d.torch as bt  # noqa: E402
from bn2d import _api  # noqa: E402
from bn2d.torch import _autograd, _calls, _extension, _modules, _operators, build  # noqa: E402
from test_torch import laid_out  # noqa: E402
from torch import nn  # noqa: E402

needs_native = pytest.mark.skipif(not bt.native(), reason="the extension was not built")
BOTH = pytest.mark.parametrize("path", ["native", "python"])


@contextlib.contextmanager
def taking(path):
    """Calls go through the extension, or through Python."""
    if path == "native" and not bt.native():
        pytest.skip("the extension was not built")
    before = _modules._native
    _modules._native = before if path == "native" else None
    try:
        yield
    finally:
        _modules._native = before


def test_the_path_that_is_tested():
    """Two runs of the tests that take the same path."""
    wanted = os.environ.get("BN2D_TEST_NATIVE")
    if wanted is None:
        pytest.skip("BN2D_TEST_NATIVE does not say")
    assert bt.native() == (wanted == "1")


# -------------------------------------------------------------------------------- built and loaded


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache in a folder that is safe."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BN2D_TORCH_NATIVE", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


@pytest.fixture
def compiler(cache, monkeypatch, request):
    """A compiler that takes no time: it copies the extension that is there."""
    if not bt.native():
        pytest.skip("the extension was not built")
    script = cache / "compiler"
    script.write_text(
        '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nsleep 0.2\ncp "%s" "$2"\n' % BUILT
    )
    script.chmod(0o700)
    monkeypatch.setenv("CXX", str(script))
    return script


BUILT = _extension.path() if bt.native() else ""


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def files(folder):
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


@pytest.mark.parametrize("fault", ["no compiler", "fails", "makes nonsense", "no headers"])
def test_a_build_that_fails_leaves_nothing(fault, cache, monkeypatch, capsys):
    """A cache with a file that does not load, or an error that does not say what is missing."""
    monkeypatch.setattr(sys, "argv", ["build"])
    if fault == "no headers":
        monkeypatch.setattr(build.sysconfig, "get_paths", lambda: {"include": str(cache)})
        text = "Python.h"
    elif fault == "no compiler":
        monkeypatch.setenv("CXX", "c++-of-nobody")
        text = "there is no C++ compiler c++-of-nobody"
    else:
        script = cache / "compiler"
        action = (
            "echo wrong >&2; exit 3"
            if fault == "fails"
            else 'while [ "$1" != -o ]; do shift; done; echo 1 >"$2"'
        )
        script.write_text("#!/bin/sh\n%s\n" % action)
        script.chmod(0o700)
        monkeypatch.setenv("CXX", str(script))
        text = "wrong" if fault == "fails" else "_native.so"
    assert build.main() == 1
    assert text in capsys.readouterr().err
    assert [one for one in files(cache) if one != "compiler"] == []
    assert _extension.load() is None


def test_one_that_computes_other_numbers_is_not_taken(compiler, monkeypatch):
    """try_out() that looks at nothing."""
    real = _extension.open_file
    monkeypatch.setattr(_extension, "open_file", lambda name: lambda *a: 2 * real(name)(*a))
    with pytest.raises(build.BuildError, match="other numbers than torch"):
        build.build()
    assert not os.path.exists(_extension.path())


def test_two_processes_build_at_once(compiler, cache):
    """A half-written file that another process loads; a folder made by both."""
    before = [subprocess.Popen([sys.executable, "-m", "bn2d.torch.build"]) for _ in range(3)]
    assert [one.wait() for one in before] == [0, 0, 0]
    place = os.path.relpath(_extension.path(), cache)
    assert files(cache) == sorted([place, "compiler"])
    for folder in (cache / "bn2d", cache / "bn2d" / "torch"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    told = run("-c", "import bn2d.torch; print(bn2d.torch.native())")
    assert (told.stdout, told.stderr) == ("True\n", "")
    os.environ["BN2D_TORCH_NATIVE"] = "0"
    try:
        assert run("-c", "import bn2d.torch; print(bn2d.torch.native())").stdout == "False\n"
    finally:
        del os.environ["BN2D_TORCH_NATIVE"]
    removed = run("-m", "bn2d.torch.build", "--remove")
    assert removed.stdout == "removed: %s\n" % (cache / "bn2d" / "torch")
    again = run("-m", "bn2d.torch.build", "--remove")
    assert again.stdout == "nothing to remove: %s\n" % (cache / "bn2d" / "torch")
    assert files(cache) == ["compiler"]


def test_each_torch_has_its_own(cache, monkeypatch, tmp_path):
    """A file that is loaded by another torch, another Python, or made from another source."""
    seen = {_extension.path()}
    source = tmp_path / "other.cc"
    source.write_text("//")
    for owner, name, value in (
        (torch, "__version__", "9.9"),
        (torch.version, "git_version", "0000"),
        (torch.version, "cuda", "99"),
        (_extension.sysconfig, "get_config_var", lambda name: "cpython-399"),
        (_extension, "SOURCE", str(source)),
        (_extension, "header", lambda: str(source)),
    ):
        with monkeypatch.context() as other:
            other.setattr(owner, name, value)
            seen.add(_extension.path())
    assert len(seen) == 7
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # its specification: ignore
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert _extension.cache() == str(tmp_path / "home" / ".cache" / "bn2d" / "torch")


def test_a_file_that_others_can_write_is_not_loaded(cache, monkeypatch):
    """Another user's code in this user's process."""
    place = _extension.path()
    build.make_folders(os.path.dirname(place))
    with open(place, "w") as file:
        file.write("not a library")
    with pytest.warns(RuntimeWarning, match="goes on in Python"):  # safe, and not loadable
        assert _extension.load() is None
    _extension.check_owner(place)
    for name in (place, os.path.dirname(place), str(cache)):
        for mode in (0o770, 0o702):
            os.chmod(name, mode)
            with pytest.raises(PermissionError, match=re.escape("can write to " + name)):
                _extension.check_owner(place)
            os.chmod(name, 0o700)
    os.chmod(cache, 0o1777)  # as /tmp
    _extension.check_owner(place)
    os.chmod(cache, 0o777)
    with pytest.warns(RuntimeWarning, match="another user can write"):
        assert _extension.load() is None
    os.chmod(cache, 0o700)
    if os.getuid() == 0:
        os.chown(place, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match=re.escape("can write to " + place)):
        _extension.check_owner(place)


def test_a_link_in_a_folder_of_others(cache, tmp_path):
    """A link that another user can exchange, to a file that nobody else can write."""
    safe, open_to_all = tmp_path / "safe", tmp_path / "open"
    safe.mkdir(mode=0o700)
    open_to_all.mkdir()
    (safe / "file").write_text("")
    (safe / "file").chmod(0o600)
    (open_to_all / "link").symlink_to(safe)
    open_to_all.chmod(0o777)
    _extension.check_owner(str(safe / "file"))
    with pytest.raises(PermissionError, match="open"):
        _extension.check_owner(str(open_to_all / "link" / "file"))


@needs_native
def test_an_older_library(monkeypatch):
    """A table that is shorter than the extension was compiled for."""
    real = _api.declared
    monkeypatch.setattr(
        _api, "declared", lambda name: (lambda _: None) if name == "bn2d_get_api" else real(name)
    )
    with pytest.warns(RuntimeWarning, match="older than version"):
        assert _extension.load() is None


# ---------------------------------------------------------------------------------- the same result

DTYPES = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.float16, torch.float32),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
]
ACTIVATIONS = [None, "relu", "leaky_relu", "relu6", "hardswish", "silu", "gelu", "sigmoid"]


def make(kind, activation, affine, dtype, slope=0.1):
    """A norm of 4 channels with parameters and buffers that are not those of a new one."""
    torch.manual_seed(4)
    if kind == "instance":
        module = bt.InstanceNorm2d(4, affine=affine, track_running_stats=affine)
    elif activation is None:
        module = (
            bt.BatchNorm2d(4, affine=affine)
            if kind == "batch"
            else bt.GroupNorm(2, 4, affine=affine)
        )
    else:
        named = {"activation": activation, "affine": affine}
        if activation == "leaky_relu":
            named["negative_slope"] = slope
        module = (
            bt.BatchNormAct2d(4, **named) if kind == "batch" else bt.GroupNormAct(2, 4, **named)
        )
    for one in itertools.chain(module.parameters(), module.buffers()):
        if one.is_floating_point():
            one.data.uniform_(0.5, 1.5)
    return module.to(dtype)


def record(module, x, z, dy):
    """All that a call leaves, and what it saved for backward."""
    saved = []

    def pack(tensor):
        saved.append((tensor.shape, tensor.dtype, tensor.stride()))
        return tensor

    inputs = [x.detach().requires_grad_()]
    if z is not None:
        inputs.append(z.detach().requires_grad_())
    versions = [one._version for one in module.buffers()]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(*inputs)
    wanted = [*inputs, *module.parameters()]
    gradients = torch.autograd.grad(y, wanted, dy)
    with torch.no_grad():
        without = module(*inputs)
    moved = [one._version - before for one, before in zip(module.buffers(), versions)]
    return [y.detach(), without, *gradients, *module.buffers()], saved, moved


def equal(got, wanted):
    return (
        got.dtype == wanted.dtype
        and got.stride() == wanted.stride()
        and torch.equal(got.nan_to_num(), wanted.nan_to_num())
    )


@needs_native
@pytest.mark.parametrize(
    ("kind", "activation"),
    [("instance", None), *itertools.product(("batch", "group"), ACTIVATIONS)],
)
def test_the_same_bits(kind, activation):
    """Other bits, strides, versions, counts, or other tensors that are kept for backward: of dtypes,
    layouts, affine or not, training or not, with a residual or not."""
    layouts = ["", "channels_last", "sliced", "transposed"]
    number = 0
    for (dtype, parameters), affine, training in itertools.product(
        DTYPES, (True, False), (True, False)
    ):
        for layout, residual in itertools.product(layouts, (False, True)):
            if residual and activation is None:
                continue
            number += 1
            torch.manual_seed(number)
            x, z, dy = (torch.randn(3, 4, 5, 7).to(dtype) for _ in range(3))
            x, z = laid_out(x, layout), laid_out(z, layouts[number % 4])
            dy = laid_out(dy, layouts[number // 4 % 4])
            results = []
            for path in ("native", "python"):
                module = make(kind, activation, affine, parameters).train(training)
                with taking(path):
                    results.append(record(module, x, z if residual else None, dy))
            (got, kept, moved), (wanted, kept_there, moved_there) = results
            what = (dtype, parameters, affine, training, layout, residual)
            assert all(equal(one, other) for one, other in zip(got, wanted)), what
            assert kept == kept_there, what
            assert moved == moved_there, what


@needs_native
def test_a_mask_and_an_empty_batch_too():
    for slope, shape in itertools.product((-0.3, 0.3), ((3, 4, 5, 7), (2, 4, 1, 1), (0, 4, 3, 3))):
        x, dy = torch.randn(shape), torch.randn(shape)
        results = []
        for path in ("native", "python"):
            with taking(path):
                results.append(
                    record(make("batch", "leaky_relu", True, torch.float32, slope), x, None, dy)
                )
        assert results[0][1:] == results[1][1:]
        assert all(equal(one, other) for one, other in zip(results[0][0], results[1][0]))


@needs_native
@pytest.mark.parametrize(
    "settings", [{"momentum": None}, {"track_running_stats": False}, {"affine": False}]
)
def test_modes(settings):
    x, dy = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    results = []
    for path in ("native", "python"):
        module = bt.BatchNorm2d(4, **settings)
        with taking(path):
            results.append(
                [record(module.train(mode), x, None, dy) for mode in (True, True, False)]
            )
    for one, other in zip(*results):
        assert all(equal(mine, theirs) for mine, theirs in zip(one[0], other[0]))
        assert one[1:] == other[1:]


def taken(module, x, z=None, activation=0):
    arrays = (module.weight, module.bias, module.running_mean, module.running_var)
    return _modules._native(module, x, z, *arrays, activation, 0.0) is not None


class Mine(torch.Tensor):
    """A subclass, which may mean anything."""


@needs_native
def test_what_it_takes_and_what_it_leaves_to_python():
    """A path that is never taken, or one that reads memory which is not what it seems."""
    x, module = torch.randn(2, 4, 3, 3), bt.BatchNorm2d(4)
    assert taken(module, x)
    assert taken(module, x, torch.randn(2, 4, 3, 3), 1)
    assert taken(module, nn.Parameter(x))
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert taken(bt.BatchNorm2d(4), torch.randn(2, 4, 3, 3))
    for other in (
        x.as_subclass(Mine),
        x[0],
        x.expand(5, 2, 4, 3, 3),
        x[:1].expand(2, 4, 3, 3),
        torch.randn(2, 3, 3, 3),
        x.int(),
        x.half().to(torch.float8_e5m2),
        x.to("meta"),
        x.to_sparse(),
        x.to_mkldnn(),
        torch.randn(2, 4, 3, 3, dtype=torch.cfloat).conj().imag,
        x.double(),
        torch._efficientzerotensor(2, 4, 3, 3),
        torch._to_functional_tensor(x),
    ):
        assert not taken(module, other), other.layout
    for z in (x[:1], x.double(), x.as_subclass(Mine), x[:1].expand(2, 4, 3, 3)):
        assert not taken(module, x, z, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        for wrong in (torch.ones(3), torch.ones(8)[::2], torch.ones(4).double(), torch.ones(4, 1)):
            broken = bt.BatchNorm2d(4)
            getattr(broken, name).data = wrong
            assert not taken(broken, x), (name, wrong)
    for counter in (torch.tensor(0.0), torch.zeros(2, dtype=torch.long)):
        broken = bt.BatchNorm2d(4)
        broken.num_batches_tracked = counter
        assert not taken(broken, x)
    with torch.inference_mode():
        frozen = bt.BatchNorm2d(4)
    assert not taken(frozen, x)
    assert not taken(bt.InstanceNorm2d(4, track_running_stats=True), x)  # Python moves them


@needs_native
def test_where_torch_looks_on_it_is_not_taken():
    """Transforms, modes and traces that see nothing of a call."""
    x, module, seen = torch.randn(2, 4, 3, 3), bt.BatchNorm2d(4).eval(), []

    def call(x):
        seen.append(taken(module, x))
        return x.sum()

    torch.func.grad(call)(x)
    torch.func.vmap(call)(x[None])
    torch.jit.trace(call, x, check_trace=False)
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        call(x)
    with torch.autograd.forward_ad.dual_level():
        call(torch.autograd.forward_ad.make_dual(x, x))
    assert seen == [False] * 5
    torch.export.export(nn.ReLU(), (x,))  # which may leave something behind
    torch.export.export(nn.BatchNorm2d(4).eval(), (x,))
    call(x)
    assert seen[-1]


# ------------------------------------------------------------------------- another default device


class Meta:
    """torch.set_default_device("meta"), for a block."""

    def __enter__(self):
        torch.set_default_device("meta")

    def __exit__(self, *_):
        torch.set_default_device(None)


def all_of(module, x, z, dy, device):
    """Results, gradients, gradients of gradients, and what has moved, under a default device."""
    inputs = [x.detach().requires_grad_()]
    if z is not None:
        inputs.append(z.detach().requires_grad_())
    wanted = [*inputs, *module.parameters()]
    with device():
        y = module(*inputs)
        plain = torch.autograd.grad(y, wanted, dy, retain_graph=True)
        first = torch.autograd.grad(y, wanted, dy, create_graph=True)
        second = torch.autograd.grad(sum(one.square().sum() for one in first), wanted[:1])
        with torch.no_grad():
            without = module(*inputs)
    return [
        y.detach(),
        *plain,
        *(one.detach() for one in first),
        *second,
        without,
        *module.buffers(),
    ]


@BOTH
@pytest.mark.parametrize("device", [lambda: torch.device("meta"), Meta], ids=["with", "set"])
@pytest.mark.parametrize(
    ("kind", "activation"),
    [("instance", None), *itertools.product(("batch", "group"), ACTIVATIONS)],
)
def test_another_default_device(path, device, kind, activation):
    """Catches what is allocated on torch's default device, of which the library got the address of
    8 bytes: it wrote over what lies behind them. Also: statistics on meta that .item() refuses."""
    # -0.3 needs a mask.
    slopes = (0.1, -0.3) if activation == "leaky_relu" else (0.1,)
    for affine, training, slope in itertools.product((True, False), (True, False), slopes):
        torch.manual_seed(5)
        x, z, dy = (torch.randn(3, 4, 5, 7) for _ in range(3))
        for residual in (None,) if activation is None else (None, z):
            results = []
            for other in (device, contextlib.nullcontext):
                module = make(kind, activation, affine, torch.float32, slope).train(training)
                with taking(path):
                    results.append(all_of(module, x, residual, dy, other))
            assert all(map(equal, *results)), (affine, training, slope, residual is None)


def test_an_operator_under_another_default_device():
    """Catches a result that was not wanted and is made there."""
    arrays = [None] * 4
    with torch.device("meta"):
        found = _operators._batch_norm(
            torch.empty(3, 4, 5, 7, device="cpu"), None, *arrays, True, 0.0, 1e-5, 0, 0.0, False
        )
    assert all(one.is_cpu for one in found)


def test_an_import_under_another_default_device():
    """Catches what import makes on that device: then no tensor of the CPU was a plain one."""
    code = """
import torch
with torch.device("meta"):
    import bn2d.torch
from bn2d.torch import _calls
assert _calls.are_plain(torch.ones(1)) and not _calls.are_plain(torch.ones(1, device="meta"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@BOTH
def test_only_memory_has_an_address(path):
    """Catches an address of nothing: of a tensor of another device, which a hook gives backward, and
    of a weight whose memory is freed, with which the library computed as if there was no weight."""
    for one in (torch.ones(4, device="meta"), torch.ones(0, device="meta")):
        with pytest.raises(bn2d.DeviceError):
            _calls.address_of(one)
    assert _calls.address_of(torch.ones(0)) == 0
    x = torch.randn(3, 4, 5, 7, requires_grad=True)
    for dtype in (torch.float32, torch.float64):  # weight; what forward saved
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda one: one,
            lambda one, dtype=dtype: (
                one.to("meta") if one.dtype is dtype and one.dim() == 1 else one
            ),
        )
        with taking(path):
            with hooks:
                y = make("batch", "relu", True, torch.float32)(x)
            with pytest.raises(bn2d.DeviceError):
                y.sum().backward()
    for name in ("weight", "running_mean", "num_batches_tracked"):
        module = make("batch", None, True, torch.float32)
        getattr(module, name).untyped_storage().resize_(0)
        with taking(path), pytest.raises(bn2d.DeviceError):
            module(x)


# ------------------------------------------------------------------------------------------ autograd


def go_back(y, **named):
    """Backward of a gradient that is no expanded tensor, as that of y.sum() is."""
    y.backward(torch.ones_like(y), **named)


def fault(call):
    """Class and text of what a call raises."""
    with pytest.raises(Exception) as caught:
        call()
    return type(caught.value), str(caught.value)


def changed_x(module, x):
    x = x.clone()
    y = module(x)
    x.add_(1)
    go_back(y)


def changed_y(module, x):
    y = module(x)
    y.mul_(2)
    go_back(y)


def twice(module, x):
    y = module(x)
    go_back(y)
    go_back(y)


def exchanged(module, x):
    y = module(x)
    module.weight.data = torch.ones(1)
    go_back(y)


def third_order(module, x):
    (dx,) = torch.autograd.grad(module(x).pow(3).sum(), x, create_graph=True)
    (ddx,) = torch.autograd.grad(dx.pow(3).sum(), x, create_graph=True)
    ddx.sum().backward()


def inference(module, x):
    with torch.inference_mode():
        x = torch.randn(2, 4, 3, 3)
    module(x)


FAULTS = {
    "one value": (
        lambda module, x: module(x[:1, :, :1, :1]),
        "Expected more than 1 value per channel",
    ),
    "eps": (lambda module, x: (setattr(module, "eps", -1.0), module(x)), "batch_norm eps must be"),
    "factor that is none": (lambda module, x: (setattr(module, "momentum", "a"), module(x)), ""),
    "changed x": (changed_x, "modified by an inplace operation"),
    "changed y": (changed_y, "modified by an inplace operation"),
    "inference": (inference, "Inference tensors cannot be saved for backward"),
    "twice": (twice, "backward through the graph a second time"),
    "exchanged": (exchanged, "an array has the shape"),
    "third order": (third_order, "no gradients of third order"),
}


@needs_native
@pytest.mark.parametrize("name", FAULTS)
def test_the_same_errors(name):
    """Another class or another text; a module that a failed call has changed."""
    call, text = FAULTS[name]
    found = []
    for path in ("native", "python"):
        torch.manual_seed(1)
        module, x = bt.BNReLU(4), torch.randn(2, 4, 3, 3, requires_grad=True)
        before = [(one.clone(), one._version) for one in module.buffers()]
        with taking(path):
            found.append(fault(lambda: call(module, x)))
        if not {"go_back", "grad"} & {*call.__code__.co_names}:  # forward itself has failed
            for one, (value, version) in zip(module.buffers(), before):
                assert torch.equal(one, value)
                assert one._version == version or one is module.num_batches_tracked
    # The name of the operation is that of its class, and differs.
    native, python = ((kind, re.sub(r"output 0 of [^,]*", "", told)) for kind, told in found)
    assert native == python
    assert text in native[1]


@needs_native
def test_a_backward_that_the_library_refuses():
    """A crash, or a gradient: only a library that lacks memory refuses what forward took."""
    extension = _modules._native.__self__
    real = _api.declared("bn2d_get_api")(extension.API_VERSION)
    table = ctypes.create_string_buffer(
        ctypes.string_at(real, ctypes.c_uint64.from_address(real).value)
    )
    refuse = ctypes.CFUNCTYPE(ctypes.c_int32)(lambda: _api.CONSTANTS["BN2D_ERROR_OUT_OF_MEMORY"])
    offset = 16 + 8 * _api.FUNCTIONS["bn2d_batch_norm_backward_act"]["slot"]
    ctypes.c_void_p.from_buffer(table, offset).value = ctypes.cast(refuse, ctypes.c_void_p).value
    module, x = bt.BNReLU(4), torch.randn(2, 4, 3, 3, requires_grad=True)
    y = module(x)
    extension.setup(ctypes.addressof(table), _api.fail, _autograd.gradients)
    try:
        with pytest.raises(bn2d.OutOfMemoryError):
            go_back(y)
    finally:
        extension.setup(real, _api.fail, _autograd.gradients)
    assert x.grad is None
    go_back(module(x))


@BOTH
@pytest.mark.parametrize(
    "make_module", [lambda: bt.BNReLU(3), lambda: bt.BatchNormAct2d(3, activation="silu")]
)
def test_hooks_that_give_other_strides(path, make_module):
    """Gradients of elements in the wrong order: what a hook unpacks may lie otherwise."""
    torch.manual_seed(2)
    module = make_module()
    x = laid_out(torch.randn(2, 3, 4, 5), "channels_last").requires_grad_()
    z, dy = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5)
    wanted = torch.autograd.grad(module(x, z), (x, z), dy)
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: tensor.detach().clone(memory_format=torch.contiguous_format),
        lambda tensor: tensor,
    )
    with taking(path), hooks:
        got = torch.autograd.grad(module(x, z), (x, z), dy)
    for one, other in zip(got, wanted):
        assert torch.allclose(one, other, atol=1e-6)


@BOTH
def test_hooks_that_give_something_else(path):
    """Memory beyond a tensor of another shape or dtype."""
    for position, change in itertools.product(
        range(4), (lambda t: t.flatten()[:1], lambda t: t.double().half())
    ):
        module, x = bt.BNReLU(3), torch.randn(2, 3, 4, 5, requires_grad=True)
        count = itertools.count()
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t, p=position, c=change, n=count: c(t.detach()) if next(n) == p else t,
            lambda t: t,
        )
        with taking(path), hooks:
            y = module(x)
        with pytest.raises((bn2d.Error, RuntimeError)):
            go_back(y)


@BOTH
def test_what_is_not_wanted_and_what_there_is_twice(path):
    """needs_input_grad, retain_graph, an undefined gradient, hooks on tensors and nodes."""
    with taking(path):
        for frozen in itertools.product((True, False), repeat=4):
            module = bt.BNReLU(3)
            x, z = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
            inputs = [x, z, module.weight, module.bias]
            for one, is_frozen in zip(inputs, frozen):
                one.requires_grad_(not is_frozen)
            y = module(x, z)
            assert y.requires_grad == (not all(frozen))
            if y.requires_grad:
                go_back(y, retain_graph=True)
                first = [None if one.grad is None else one.grad.clone() for one in inputs]
                assert [one is None for one in first] == list(frozen)
                go_back(y)
                for one, before in zip(inputs, first):
                    assert before is None or torch.equal(one.grad, 2 * before)
        module, x = bt.BNReLU(3), torch.randn(2, 3, 4, 4, requires_grad=True)
        y = module(x)
        seen = []
        y.register_hook(lambda dy: seen.append("tensor") or 2 * dy)
        y.grad_fn.register_prehook(lambda dys: seen.append("before"))
        y.grad_fn.register_hook(lambda dxs, dys: seen.append("after"))
        (dx,) = torch.autograd.grad(y, x, torch.randn_like(y))
        assert sorted(seen) == ["after", "before", "tensor"]

        class Undefined(torch.autograd.Function):
            @staticmethod
            def forward(ctx, y):
                return y.clone()

            @staticmethod
            def backward(ctx, dy):
                return None

        (dx,) = torch.autograd.grad(
            Undefined.apply(module(x)), x, torch.ones_like(y), allow_unused=True
        )
        assert dx is None or not dx.any()


@BOTH
def test_a_gradient_that_is_no_plain_tensor(path):
    """Memory that is read as if it were the gradient's."""
    module, x = bt.BNReLU(3), torch.randn(2, 3, 4, 4, requires_grad=True)
    with taking(path):
        (wanted,) = torch.autograd.grad(module(x), x, torch.ones(2, 3, 4, 4))
        for dy in (
            torch.ones(()).expand(2, 3, 4, 4),
            torch.ones(2, 3, 4, 4).as_subclass(Mine),
            (1j * torch.ones(2, 3, 4, 4)).conj().imag.neg(),
        ):
            (got,) = torch.autograd.grad(module(x), x, dy)
            assert torch.equal(torch.as_tensor(got), wanted)
        if path == "native":  # a node of Python's cannot be called
            with pytest.raises((bn2d.Error, RuntimeError)):
                module(x).grad_fn(torch.ones(2, 3, 4, 5))


@needs_native
@pytest.mark.parametrize("slope", [None, 0.0, -0.3])
def test_gradients_and_their_gradients(slope):
    """A derivative of the extension, or one that Python computes of what it saved."""
    torch.manual_seed(1)
    module = (bt.BatchNorm2d(3) if slope is None else bt.BNReLU(3, negative_slope=slope)).double()
    x, z = (torch.randn(2, 3, 2, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    inputs = (x,) if slope is None else (x, z)
    assert taken(module, x, None if slope is None else z)
    assert torch.autograd.gradcheck(module, inputs)
    assert torch.autograd.gradgradcheck(module, inputs)


@needs_native
@pytest.mark.skipif(
    not hasattr(torch._dynamo.compiled_autograd, "_enable"), reason="an older torch"
)
def test_compiled_autograd():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), bt.BNReLU(4), nn.Conv2d(4, 4, 1))
    x = torch.randn(2, 3, 5, 5)
    wanted = torch.autograd.grad(net(x).pow(2).sum(), list(net.parameters()))
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        net(x).pow(2).sum().backward()
    for one, other in zip(net.parameters(), wanted):
        assert torch.allclose(one.grad, other, atol=1e-5)


# --------------------------------------------------------------------------------- memory and threads


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@BOTH
def test_nothing_is_kept(path):
    """References or memory that a call, a backward or an error does not give back."""
    module, silu = bt.BNReLU(64), bt.BatchNormAct2d(64, activation="silu")
    x, z = (torch.randn(4, 64, 32, 32, requires_grad=True) for _ in range(2))

    def work():
        for one in (module, silu):
            y = one(x, z)
            go_back(y)
            one(x, z)  # a graph that nobody goes through
            (dx,) = torch.autograd.grad(one(x), x, torch.ones_like(x), create_graph=True)
            x.grad = z.grad = None
        with pytest.raises(ValueError, match="more than 1 value"):
            module(x[:1, :, :1, :1])

    watched = [module, x, z, module.weight, module.running_mean, _autograd.gradients, _api.fail]
    growths = []
    with taking(path):
        for _ in range(3):
            work()
        # A leak grows each time. What the allocator keeps for itself grows now and then, by 12 MB once.
        for _ in range(4):
            gc.collect()
            counts, memory = [sys.getrefcount(one) for one in watched], resident()
            for _ in range(20):
                work()
            gc.collect()
            assert [sys.getrefcount(one) for one in watched] == counts
            growths.append(resident() - memory)
            if growths[-1] < 20 * x.nbytes / 2:
                break
        else:
            pytest.fail(f"each 20 calls keep memory: {growths} bytes more")


@BOTH
def test_threads(path):
    """One module in eval mode, and one module each in training, in four threads."""
    torch.manual_seed(3)
    shared = bt.BNReLU(8).eval()
    own = [bt.BNReLU(8) for _ in range(4)]
    x, dy = torch.randn(4, 8, 9, 9), torch.randn(4, 8, 9, 9)
    wanted_y = shared(x)
    wanted = torch.autograd.grad(bt.BNReLU(8)(x.requires_grad_()), x, dy)[0]
    faults = []

    def work(module):
        for _ in range(50):
            if not torch.equal(shared(x), wanted_y):
                faults.append("eval")
            if not torch.equal(torch.autograd.grad(module(x), x, dy)[0], wanted):
                faults.append("training")

    with taking(path):
        threads = [threading.Thread(target=work, args=(one,)) for one in own]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert faults == []
    assert [int(one.num_batches_tracked) for one in own] == [50] * 4


def test_import_is_silent_without_it(cache):
    """A warning for all who never built it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _extension.load() is None
