"""The library from another language: Python's standard library alone, and signatures from
capi/api/bn2d-api.json.

    BN2D_LIBRARY=<libbn2d.so> BN2D_SOURCE=<checkout> python3 ffi_test.py

What it would catch: a function that ctypes cannot call (a struct by value, a macro), a description
that is not enough for a binding, handles whose order of release matters to a garbage collector.
NumPy and PyTorch are no requirement; where they are importable, tensors are exchanged with them,
too.
"""

import ctypes
import gc
import json
import math
import os
import random
import re
import struct
import subprocess
import sys
import threading
import unittest

SOURCE = os.environ["BN2D_SOURCE"]
LIBRARY = os.environ["BN2D_LIBRARY"]

with open(os.path.join(SOURCE, "capi", "api", "bn2d-api.json"), encoding="utf-8") as file:
    API = json.load(file)

SCALARS = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


def field_type(text):
    """The ctypes type of a struct's field."""
    if "*" not in text:
        return SCALARS[text]
    return ctypes.POINTER(ctypes.c_int64) if text == "const int64_t *" else ctypes.c_void_p


class View(ctypes.Structure):
    """bn2d_view, which is DLPack's DLTensor."""

    _fields_ = [
        (field["name"], field_type(field["type"]))
        for struct in API["structs"]
        if struct["name"] == "bn2d_view"
        for field in struct["fields"]
    ]


class ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned of DLPack 1.x."""


ManagedVersioned._fields_ = [
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", ctypes.CFUNCTYPE(None, ctypes.POINTER(ManagedVersioned))),
    ("flags", ctypes.c_uint64),
    ("dl_tensor", View),
]


class Managed(ctypes.Structure):
    """DLManagedTensor, the older one."""


Managed._fields_ = [
    ("dl_tensor", View),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", ctypes.CFUNCTYPE(None, ctypes.POINTER(Managed))),
]


def ctype(text, kind=None):
    """The ctypes type of a parameter or result; unknown ones raise, so nothing that FFI cannot say
    gets in."""
    if text == "void":
        return None
    if kind == "callback":
        return ctypes.c_void_p
    if "*" not in text:
        return SCALARS[text]
    if text == "const char *":
        return ctypes.c_char_p
    if kind == "struct":
        return ctypes.POINTER(View)
    return ctypes.c_void_p  # handles, arrays, out parameters, callbacks


def load():
    """The library with every function declared as the description says."""
    library = ctypes.CDLL(LIBRARY)
    for entry in API["functions"]:
        function = getattr(library, entry["name"])
        function.restype = ctype(entry["returns"]["type"])
        function.argtypes = [ctype(p["type"], p["kind"]) for p in entry["parameters"]]
    return library


LIB = load()


class Bn2dError(Exception):
    """A failed call as a binding would raise it."""


def check(status):
    """Raises for a negative status, with the library's message."""
    if status != 0:
        raise Bn2dError(
            "%s: %s" % (LIB.bn2d_status_name(status).decode(), LIB.bn2d_last_error().decode())
        )


def floats(values):
    """A C array of float."""
    return (ctypes.c_float * len(values))(*values)


class Handle:
    """A handle that its finaliser gives back, whenever that comes."""

    release = None  # where the constructor did not get that far

    def __init__(self, pointer, release):
        self.pointer = pointer
        self.release = release

    def __del__(self):
        if self.release is not None:
            self.release(self.pointer)


class Module(Handle):
    """The least that a binding does."""

    def __init__(self, features, **options):
        out = ctypes.c_void_p()
        check(LIB.bn2d_options_create(ctypes.byref(out)))
        settings = Handle(out, LIB.bn2d_options_release)
        for name, value in options.items():
            check(
                LIB.bn2d_options_set_by_name(settings.pointer, name.encode(), str(value).encode())
            )
        out = ctypes.c_void_p()
        check(LIB.bn2d_module_create(features, settings.pointer, ctypes.byref(out)))
        super().__init__(out, LIB.bn2d_module_release)

    def __repr__(self):
        length = ctypes.c_uint64()
        check(LIB.bn2d_module_repr(self.pointer, None, 0, ctypes.byref(length)))
        buffer = ctypes.create_string_buffer(length.value + 1)
        check(LIB.bn2d_module_repr(self.pointer, buffer, len(buffer), None))
        return buffer.value.decode()

    def tensor(self, name):
        """A tensor by its name."""
        out = ctypes.c_void_p()
        check(LIB.bn2d_module_tensor_by_name(self.pointer, name.encode(), ctypes.byref(out)))
        return Tensor(out)

    def forward(self, x, n, h, w, record=False):
        """y, or y and the record; the caller keeps x until the record's last backward."""
        y = floats([0.0] * len(x))
        out = ctypes.c_void_p()
        check(
            LIB.bn2d_forward_f32(self.pointer, x, n, h, w, y, ctypes.byref(out) if record else None)
        )
        return (y, Handle(out, LIB.bn2d_record_release)) if record else y


class Tensor(Handle):
    """A tensor whose elements are read through its pointer."""

    def __init__(self, pointer):
        super().__init__(pointer, LIB.bn2d_tensor_release)

    def values(self):
        """The elements, float32 or int64, as a list."""
        data, size, dtype = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_int32()
        check(LIB.bn2d_tensor_data(self.pointer, ctypes.byref(data)))
        check(LIB.bn2d_tensor_nbytes(self.pointer, ctypes.byref(size)))
        check(LIB.bn2d_tensor_dtype(self.pointer, ctypes.byref(dtype)))
        name = LIB.bn2d_dtype_name(dtype.value).decode()
        element = {"float32": ctypes.c_float, "int64": ctypes.c_int64}[name]
        return list((element * (size.value // ctypes.sizeof(element))).from_address(data.value))

    def dlpack(self, legacy=False):
        """An export; the caller calls its deleter."""
        out = ctypes.c_void_p()
        if legacy:
            check(LIB.bn2d_tensor_to_dlpack_legacy(self.pointer, ctypes.byref(out)))
            return ctypes.cast(out, ctypes.POINTER(Managed))
        check(LIB.bn2d_tensor_to_dlpack(self.pointer, ctypes.byref(out)))
        return ctypes.cast(out, ctypes.POINTER(ManagedVersioned))


class Training(unittest.TestCase):
    """A module as a binding uses it."""

    def test_train_evaluate_and_read(self):
        module = Module(2, eps="0.5", momentum="0.25")
        self.assertEqual(
            repr(module),
            "BatchNorm2d(2, eps=0.5, momentum=0.25, affine=True, track_running_stats=True)",
        )
        x = floats([1.0, 3.0, 10.0, 20.0, 5.0, 7.0, 30.0, 40.0])  # (2, 2, 1, 2)
        channels = [[x[0], x[1], x[4], x[5]], [x[2], x[3], x[6], x[7]]]
        y, record = module.forward(x, 2, 1, 2, record=True)
        dy = floats([1.0, 0.0, 2.0, 0.0, 0.0, -1.0, 0.0, 1.0])
        dx = floats([0.0] * 8)
        check(LIB.bn2d_backward_f32(module.pointer, record.pointer, dy, dx))
        for c, values in enumerate(channels):
            mean = sum(values) / 4
            var = sum((v - mean) ** 2 for v in values) / 4
            expected = [(v - mean) / math.sqrt(var + 0.5) for v in values]
            got = [y[2 * c], y[2 * c + 1], y[4 + 2 * c], y[4 + 2 * c + 1]]
            for one, other in zip(got, expected):
                self.assertAlmostEqual(one, other, places=5)
            self.assertAlmostEqual(module.tensor("running_mean").values()[c], 0.25 * mean, places=4)
            self.assertAlmostEqual(
                module.tensor("running_var").values()[c], 0.75 + 0.25 * var * 4 / 3, places=3
            )
            grads = [dy[2 * c], dy[2 * c + 1], dy[4 + 2 * c], dy[4 + 2 * c + 1]]
            self.assertAlmostEqual(module.tensor("bias.grad").values()[c], sum(grads), places=5)
            dweight = sum(g * e for g, e in zip(grads, expected))
            self.assertAlmostEqual(module.tensor("weight.grad").values()[c], dweight, places=5)
        self.assertEqual(module.tensor("num_batches_tracked").values(), [1])
        self.assertAlmostEqual(sum(dx), 0.0, places=5)
        check(LIB.bn2d_module_eval(module.pointer))
        y = module.forward(x, 2, 1, 2)
        mean, var = (
            module.tensor("running_mean").values()[0],
            module.tensor("running_var").values()[0],
        )
        self.assertAlmostEqual(y[0], (x[0] - mean) / math.sqrt(var + 0.5), places=5)
        self.assertEqual(module.tensor("num_batches_tracked").values(), [1])

    def test_errors_become_exceptions(self):
        module = Module(64)
        with self.assertRaisesRegex(Bn2dError, "BN2D_ERROR_TOO_FEW_VALUES: .+"):
            module.forward(floats([1.0] * 64), 1, 1, 1)
        with self.assertRaisesRegex(Bn2dError, "BN2D_ERROR_NOT_FOUND: .*gamma"):
            module.tensor("gamma")
        with self.assertRaisesRegex(Bn2dError, "BN2D_ERROR_INVALID_ARGUMENT: .*1.5"):
            Module(3, momentum="1.5")
        with self.assertRaisesRegex(Bn2dError, "BN2D_ERROR_INVALID_HANDLE"):
            check(LIB.bn2d_module_eval(module.tensor("weight").pointer))
        seen = []
        threading.Thread(target=lambda: seen.append(LIB.bn2d_last_error())).start()
        while not seen:
            pass
        self.assertEqual(seen, [b""])  # each thread has its own

    def test_views(self):
        module = Module(2)
        values = [float(i * i % 7) for i in range(24)]
        plain = module.forward(floats(values), 3, 2, 2)
        x, y = floats(values), floats([0.0] * 24)
        shape = (ctypes.c_int64 * 4)(3, 2, 2, 2)
        views = [View(ctypes.addressof(a), 1, 0, 4, 2, 32, 1, shape, None, 0) for a in (x, y)]
        check(LIB.bn2d_forward(module.pointer, views[0], views[1], None))
        self.assertEqual(list(y), list(plain))
        views[0].shape = (ctypes.c_int64 * 4)(3, 41, 2, 2)
        with self.assertRaisesRegex(Bn2dError, "BN2D_ERROR_SHAPE: .*41"):
            check(LIB.bn2d_forward(module.pointer, views[0], views[1], None))


class DLPack(unittest.TestCase):
    """Exports, consumed as a struct and, where there is one, by a library that knows DLPack."""

    def test_consumed_as_a_struct(self):
        for legacy in (False, True):
            module = Module(5)
            exported = module.tensor("running_var").dlpack(legacy)
            tensor = exported.contents.dl_tensor
            if not legacy:
                self.assertEqual(exported.contents.major, 1)
            self.assertEqual((tensor.device_type, tensor.device_id, tensor.ndim), (1, 0, 1))
            self.assertEqual((tensor.dtype_code, tensor.dtype_bits, tensor.dtype_lanes), (2, 32, 1))
            self.assertEqual(tensor.shape[0], 5)
            values = (ctypes.c_float * 5).from_address(tensor.data + tensor.byte_offset)
            self.assertEqual(list(values), [1.0] * 5)
            values[3] = 4.5
            self.assertEqual(module.tensor("running_var").values()[3], 4.5)
            del module
            gc.collect()
            self.assertEqual(values[3], 4.5)  # the export outlives the module
            thread = threading.Thread(target=lambda: exported.contents.deleter(exported))
            thread.start()
            thread.join()

    def exchange(self, library, from_dlpack):
        """A tensor as an array of `library`, which then owns the export."""

        class Exporter:
            """What from_dlpack asks of a producer, with the capsule that it can take."""

            def __init__(self, tensor):
                self.tensor = tensor

            def __dlpack_device__(self):
                return (1, 0)

            def __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None):
                del stream, dl_device, copy
                legacy = max_version is None or max_version[0] < 1
                name = b"dltensor" if legacy else b"dltensor_versioned"
                new = ctypes.pythonapi.PyCapsule_New
                new.restype = ctypes.py_object
                new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
                self.names = getattr(self, "names", []) + [
                    name
                ]  # a capsule keeps the pointer to its name
                return new(
                    ctypes.cast(self.tensor.dlpack(legacy), ctypes.c_void_p), NAMES[name], None
                )

        module = Module(4)
        exporter = Exporter(module.tensor("weight"))
        array = from_dlpack(exporter)
        self.assertEqual([float(v) for v in array], [1.0] * 4)
        data = ctypes.c_void_p()
        check(LIB.bn2d_tensor_data(exporter.tensor.pointer, ctypes.byref(data)))
        (ctypes.c_float * 4).from_address(data.value)[2] = 2.5
        self.assertEqual(float(array[2]), 2.5)  # no copy
        del module
        exporter.tensor = None
        gc.collect()
        self.assertEqual([float(v) for v in array], [1.0, 1.0, 2.5, 1.0])
        del array
        gc.collect()
        print(
            "exchanged with %s %s by %s"
            % (library.__name__, library.__version__, exporter.names[0].decode())
        )

    def test_numpy(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("no NumPy: the exchange with it is not tried")
        self.exchange(numpy, numpy.from_dlpack)
        # And the other way: an array's own DLTensor is a view, by a cast.
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype = ctypes.c_void_p
        get.argtypes = [ctypes.py_object, ctypes.c_char_p]
        module, reference = Module(3), Module(3)
        x = numpy.arange(2 * 3 * 4 * 5, dtype=numpy.float32).reshape(2, 3, 4, 5)
        y = numpy.zeros((2, 4, 5, 3), dtype=numpy.float32).transpose(0, 3, 1, 2)  # channels last
        capsules = [x.__dlpack__(), y.__dlpack__()]
        views = [ctypes.cast(get(c, b"dltensor"), ctypes.POINTER(View)) for c in capsules]
        check(LIB.bn2d_forward(module.pointer, views[0], views[1], None))
        expected = reference.forward(floats(x.ravel().tolist()), 2, 4, 5)
        self.assertTrue(numpy.allclose(y.ravel(), list(expected), atol=1e-6))
        del capsules

    def test_torch(self):
        try:
            import torch
        except ImportError:
            self.skipTest("no PyTorch: the exchange with it is not tried")
        self.exchange(torch, torch.from_dlpack)


NAMES = {name: ctypes.create_string_buffer(name) for name in (b"dltensor", b"dltensor_versioned")}


class Lifetimes(unittest.TestCase):
    """A garbage collector gives handles back when it likes."""

    def family(self):
        """All that can be had from a module, as objects with finalisers."""
        module = Module(3)
        x = floats([float(i * i) for i in range(12)])
        y, record = module.forward(x, 2, 1, 2, record=True)
        check(LIB.bn2d_backward_f32(module.pointer, record.pointer, y, None))
        members = [module, record]
        for name in (
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "num_batches_tracked",
            "weight.grad",
            "bias.grad",
        ):
            members.append(module.tensor(name))
        for legacy in (False, True):
            exported = members[3].dlpack(legacy)
            members.append(Handle(exported, lambda e: e.contents.deleter(e)))
        return members

    def test_shuffled(self):
        random.seed(1)
        for _ in range(300):
            members = self.family()
            random.shuffle(members)
            while members:
                members.pop()
                for member in members:
                    if isinstance(member, Tensor):
                        member.values()

    def test_cycles(self):
        for _ in range(100):
            members = self.family()
            for member, other in zip(members, members[1:] + members[:1]):
                member.other = other  # a ring, which only the collector can break
            del members, member, other
        gc.collect()

    def test_on_other_threads(self):
        for _ in range(20):
            members = self.family()
            threads = [threading.Thread(target=lambda m: None, args=(m,)) for m in members]
            del members
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def test_at_exit(self):
        # Objects that are alive when the interpreter ends are released by it, or never.
        code = "import ffi_test, atexit; kept = ffi_test.Lifetimes('family').family(); kept.append(kept)"
        environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class Environment(unittest.TestCase):
    """BN2D_SIMD names the target; what is unknown is ignored."""

    def run_with(self, simd):
        """(target, y as bytes) of a new process."""
        code = (
            "import ffi_test as t; m = t.Module(2);"
            "y = m.forward(t.floats([float(i * 37 % 19) for i in range(2 * 2 * 9 * 9)]), 2, 9, 9);"
            "print(t.LIB.bn2d_simd_target().decode(), bytes(y).hex())"
        )
        environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
        environment.pop("BN2D_SIMD", None)
        if simd is not None:
            environment["BN2D_SIMD"] = simd
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def test_target(self):
        best = self.run_with(None)
        for unknown in ("", "nonsense", "avx", "AVX2 ", "SVE2_OF_2050", "x" * 5000):
            self.assertEqual(self.run_with(unknown), best, unknown)
        self.assertEqual(self.run_with(best[0]), best)
        expected = struct.unpack("<324f", bytes.fromhex(best[1]))
        built = set(
            re.findall(
                r"\b(AVX3|AVX2|SSE4|SCALAR|NEON)\b",
                LIB.bn2d_build_info().decode(),
            )
        )
        self.assertIn(best[0], built)
        for target in built:
            name, values = self.run_with(target)
            self.assertIn(name, (target, best[0]))  # the CPU may not have it
            for one, other in zip(struct.unpack("<324f", bytes.fromhex(values)), expected):
                self.assertAlmostEqual(one, other, places=5)


if __name__ == "__main__":
    unittest.main(verbosity=2)
