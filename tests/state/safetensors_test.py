#!/usr/bin/env python3
"""State files against Python's safetensors: what one writes, the other reads, bit by bit.

With torch, a state_dict of the shape of ResNet-18 and a module of it that is loaded by its prefix.
"""

import ctypes
import os
import struct
import sys
import tempfile
import unittest

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

try:
    import torch
    import safetensors.torch
except ImportError:
    torch = None

STATE = ctypes.CDLL(os.environ["BN2D_STATE_LIBRARY"])
BN2D = ctypes.CDLL(os.path.join(os.path.dirname(os.environ["BN2D_STATE_LIBRARY"]), "libbn2d.so.1"))
BN2D.bn2d_last_error.restype = ctypes.c_char_p

F32, F64, F16, BF16, I64 = 1, 2, 3, 4, 5
CODES = {
    F32: ("F32", np.float32),
    F64: ("F64", np.float64),
    F16: ("F16", np.float16),
    BF16: ("BF16", ml_dtypes.bfloat16),
    I64: ("I64", np.int64),
}


def call(library, name, *arguments):
    status = getattr(library, name)(*arguments)
    if status != 0:
        raise RuntimeError("%s: %d, %s" % (name, status, BN2D.bn2d_last_error().decode()))


def made(library, name, *arguments):
    out = ctypes.c_void_p()
    call(library, name, *arguments, ctypes.byref(out))
    return out


def number(library, name, *arguments, kind=ctypes.c_int64):
    out = kind()
    call(library, name, *arguments, ctypes.byref(out))
    return out.value


def extents(shape):
    return (ctypes.c_int64 * max(len(shape), 1))(*shape)


def set_array(state, name, dtype, array):
    array = np.ascontiguousarray(array) if array.ndim else array
    call(
        STATE,
        "bn2d_state_set_flat",
        state,
        name.encode(),
        dtype,
        extents(array.shape),
        array.ndim,
        ctypes.c_void_p(array.ctypes.data),
    )


def read_all(state):
    """{name: (dtype's name, shape, bytes)}"""
    found = {}
    for i in range(number(STATE, "bn2d_state_count", state)):
        index = ctypes.c_int64(i)
        name, dtype, data = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_void_p()
        call(STATE, "bn2d_state_name", state, index, ctypes.byref(name))
        call(STATE, "bn2d_state_dtype_name", state, index, ctypes.byref(dtype))
        call(STATE, "bn2d_state_data", state, index, ctypes.byref(data))
        rank = number(STATE, "bn2d_state_rank", state, index, kind=ctypes.c_int32)
        shape = tuple(number(STATE, "bn2d_state_dim", state, index, d) for d in range(rank))
        nbytes = number(STATE, "bn2d_state_nbytes", state, index, kind=ctypes.c_uint64)
        found[name.value.decode()] = (
            dtype.value.decode(),
            shape,
            ctypes.string_at(data, nbytes) if nbytes else b"",
        )
    return found


def module(channels, dtype=F32):
    options = made(BN2D, "bn2d_options_create")
    call(BN2D, "bn2d_options_set_dtype", options, dtype)
    bn = made(BN2D, "bn2d_module_create", ctypes.c_int64(channels), options)
    BN2D.bn2d_options_release(options)
    return bn


def doubles(bn, name, channels):
    tensor = made(BN2D, "bn2d_module_tensor_by_name", bn, name.encode())
    values = np.empty(channels)
    call(
        BN2D,
        "bn2d_tensor_copy_to_flat",
        tensor,
        F64,
        ctypes.c_void_p(values.ctypes.data),
        ctypes.c_int64(channels),
    )
    BN2D.bn2d_tensor_release(tensor)
    return values


class Both(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "file.safetensors")

    def tearDown(self):
        self.folder.cleanup()

    def arrays(self):
        random = np.random.default_rng(16)
        arrays = {}
        for code, (name, kind) in CODES.items():
            for shape in ((), (1,), (3, 4, 5), (0, 2), (7,)):
                values = random.standard_normal(shape) * 100
                arrays["%s.%s" % (name, "x".join(map(str, shape)))] = (
                    code,
                    np.asarray(values).astype(kind),
                )
        arrays['\u20ac "quoted\\ \n'] = (
            F32,
            np.array([1, -0.0, np.inf, np.nan, 1e-45], np.float32),
        )
        return arrays

    def test_ours_read_by_python(self):
        state = made(STATE, "bn2d_state_create")
        arrays = self.arrays()
        for name, (code, array) in arrays.items():
            set_array(state, name, code, array)
        call(STATE, "bn2d_state_save", state, self.path.encode())
        STATE.bn2d_state_release(state)
        with safetensors.safe_open(self.path, framework="np") as file:
            self.assertEqual(file.metadata(), {"format": "pt"})
            self.assertEqual(set(file.keys()), set(arrays))
            for name, (_, array) in arrays.items():
                got = file.get_tensor(name)
                self.assertEqual((got.dtype, got.shape), (array.dtype, array.shape), name)
                self.assertEqual(got.tobytes(), array.tobytes(), name)
        # Aligned, as the format's own library writes: data from a multiple of 8 bytes on.
        with open(self.path, "rb") as file:
            self.assertEqual(struct.unpack("<Q", file.read(8))[0] % 8, 0)

    def test_python_read_by_us(self):
        arrays = {name: array for name, (_, array) in self.arrays().items()}
        for kind in (
            np.bool_,
            np.int8,
            np.uint8,
            np.int16,
            np.uint16,
            np.int32,
            np.uint32,
            np.uint64,
        ):
            arrays["other." + np.dtype(kind).name] = np.arange(5).astype(kind)
        safetensors.numpy.save_file(arrays, self.path, metadata={"a": "\u20ac", "b": ""})
        state = made(STATE, "bn2d_state_open", self.path.encode())
        read = read_all(state)
        self.assertEqual(set(read), set(arrays))
        for name, (dtype, shape, data) in read.items():
            self.assertEqual((shape, data), (arrays[name].shape, arrays[name].tobytes()), name)
            if not name.startswith(("other", "\u20ac")):
                self.assertEqual(dtype, name.split(".")[0])
        # And once more through us.
        again = self.path + ".again"
        call(STATE, "bn2d_state_save", state, again.encode())
        STATE.bn2d_state_release(state)
        loaded = safetensors.numpy.load_file(again)
        for name, array in arrays.items():
            got = loaded[name]
            self.assertEqual((got.dtype, got.shape), (array.dtype, array.shape), name)
            self.assertEqual(got.tobytes(), array.tobytes(), name)

    def test_module_of_each_dtype_from_each(self):
        channels = 33
        random = np.random.default_rng(3)
        for code, (_, kind) in CODES.items():
            if code == I64:
                continue
            values = {
                name: np.asarray(random.standard_normal(channels)).astype(kind)
                for name in ("weight", "bias", "running_mean", "running_var")
            }
            values["num_batches_tracked"] = np.array(12345678901, np.int64)
            safetensors.numpy.save_file(
                {"net.bn." + name: value for name, value in values.items()}, self.path
            )
            for own, (_, own_kind) in CODES.items():
                if own == I64:
                    continue
                bn = module(channels, own)
                state = made(STATE, "bn2d_state_open", self.path.encode())
                loader = made(STATE, "bn2d_loader_create", state)
                call(STATE, "bn2d_loader_add_module", loader, b"net.bn.", bn)
                call(STATE, "bn2d_loader_load", loader, 1)
                for name in ("weight", "bias", "running_mean", "running_var"):
                    # From double: one rounding, and NumPy's is to nearest even.
                    want = values[name].astype(np.float64).astype(own_kind).astype(np.float64)
                    self.assertEqual(
                        doubles(bn, name, channels).tobytes(), want.tobytes(), (name, code, own)
                    )
                STATE.bn2d_loader_release(loader)
                STATE.bn2d_state_release(state)
                # Back to Python.
                state = made(STATE, "bn2d_state_create")
                call(STATE, "bn2d_state_set_module", state, b"", bn)
                call(STATE, "bn2d_state_save", state, self.path.encode() + b".back")
                back = safetensors.numpy.load_file(self.path + ".back")
                self.assertEqual(int(back["num_batches_tracked"]), 12345678901)
                self.assertEqual(back["weight"].dtype, np.dtype(own_kind))
                STATE.bn2d_state_release(state)
                BN2D.bn2d_module_release(bn)


@unittest.skipIf(torch is None, "no torch")
class ResNet(unittest.TestCase):
    """What PyTorch writes, at the size of a real network."""

    @staticmethod
    def resnet18():
        nn = torch.nn

        class Block(nn.Module):
            def __init__(self, before, after, stride):
                super().__init__()
                self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
                self.bn1 = nn.BatchNorm2d(after)
                self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
                self.bn2 = nn.BatchNorm2d(after)
                if stride != 1:
                    self.downsample = nn.Sequential(
                        nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
                    )

        net = nn.Module()
        net.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        net.bn1 = nn.BatchNorm2d(64)
        width = 64
        for i, after in enumerate((64, 128, 256, 512)):
            blocks = [Block(width, after, 1 if i == 0 else 2), Block(after, after, 1)]
            setattr(net, "layer%d" % (i + 1), nn.Sequential(*blocks))
            width = after
        net.fc = nn.Linear(512, 1000)
        return net

    def test_state_dict(self):
        net = self.resnet18()
        torch.manual_seed(1)
        with torch.no_grad():
            for part in net.modules():
                if isinstance(part, torch.nn.BatchNorm2d):
                    for values in (part.weight, part.bias, part.running_mean):
                        values.normal_()
                    part.running_var.uniform_(0.1, 2)
                    part.num_batches_tracked.fill_(77)
        state_dict = net.state_dict()
        norms = {
            name: part
            for name, part in net.named_modules()
            if isinstance(part, torch.nn.BatchNorm2d)
        }
        self.assertEqual(len(norms), 20)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "resnet18.safetensors")
            safetensors.torch.save_file(state_dict, path)
            state = made(STATE, "bn2d_state_open", path.encode())
            loader = made(STATE, "bn2d_loader_create", state)
            ours = {}
            for name, part in norms.items():
                ours[name] = module(part.num_features)
                call(STATE, "bn2d_loader_add_module", loader, (name + ".").encode(), ours[name])
            call(STATE, "bn2d_loader_load", loader, 1)
            for name, part in norms.items():
                for key in ("weight", "bias", "running_mean", "running_var"):
                    got = doubles(ours[name], key, part.num_features)
                    self.assertTrue(
                        (got == getattr(part, key).detach().double().numpy()).all(), (name, key)
                    )
            # Our norms into the file in the place of theirs, all else as it was; and torch loads
            # it.
            for name, part in norms.items():
                call(STATE, "bn2d_state_set_module", state, (name + ".").encode(), ours[name])
            call(STATE, "bn2d_state_save", state, path.encode())
            again = safetensors.torch.load_file(path)
            fresh = self.resnet18()
            fresh.load_state_dict(again, strict=True)
            for key, value in state_dict.items():
                self.assertTrue(torch.equal(again[key], value), key)
                self.assertEqual(again[key].shape, value.shape)


if __name__ == "__main__":
    print(
        "safetensors %s, torch %s" % (safetensors.__version__, torch and torch.__version__),
        file=sys.stderr,
    )
    unittest.main()
