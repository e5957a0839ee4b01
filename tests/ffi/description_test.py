"""capi/api/bn2d-api.json and bn2d.cdef against the header, the library, a C compiler, cffi and
LuaJIT.

    BN2D_LIBRARY=<libbn2d.so> BN2D_SOURCE=<checkout> CC=<C compiler> python3 description_test.py

What it would catch: files that were not generated anew, a table whose slots are not in the
described order, a constant or a struct of other numbers, a parameter that is described as optional
and is not, a cdef that an FFI cannot parse.
"""

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["BN2D_SOURCE"]
LIBRARY = os.environ["BN2D_LIBRARY"]
HERE = os.path.dirname(os.path.abspath(__file__))


def read(*path):
    """A file of the checkout."""
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


def lacks(test, what):
    """Skips the test; where everything must be tested, that is a failure."""
    if os.environ.get("BN2D_REQUIRE_ALL") == "1":
        test.fail("BN2D_REQUIRE_ALL is set, and there is no " + what)
    test.skipTest("no " + what)


def load_generator():
    """capi/api/generate.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "generate", os.path.join(SOURCE, "capi", "api", "generate.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = load_generator()
HEADER = read("include", "bn2d", "bn2d.h")
LIST = read("capi", "functions.inc")
API = json.loads(read("capi", "api", "bn2d-api.json"))
CDEF = read("capi", "api", "bn2d.cdef")
FUNCTIONS = {function["name"]: function for function in API["functions"]}
LIB = ctypes.CDLL(LIBRARY)


class Files(unittest.TestCase):
    """What is committed is what the header says."""

    def test_nothing_is_stale(self):
        command = [sys.executable, os.path.join(SOURCE, "capi", "api", "generate.py"), "--check"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_each_function_by_other_eyes(self):
        # The generator reads C; this only counts parentheses and commas.
        bare = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)
        for name, parameters in re.findall(r"BN2D_API[^;]*?\b(bn2d_\w+)(\([^;]*\));", bare):
            self.assertIn(
                "%s%s;" % (name, " ".join(parameters.split()).replace("( ", "(")),
                FUNCTIONS[name]["prototype"],
            )
        self.assertEqual(len(re.findall(r"^BN2D_API\b", bare, flags=re.M)), len(FUNCTIONS))
        for since, name in re.findall(r'^BN2D_FUNCTION\("([\d.]+)", (\w+)\)', LIST, flags=re.M):
            self.assertEqual(FUNCTIONS["bn2d_" + name]["since"], since)


def with_function(declaration, slot, line):
    """What is generated with one more function at the end."""
    header = HEADER.replace("} bn2d_api;", "  %s\n} bn2d_api;" % slot)
    at = re.search(r"/\* -+ plugin \*/", header).start()
    return GENERATE.generate(header[:at] + declaration + "\n\n" + header[at:], LIST + line + "\n")


class Growth(unittest.TestCase):
    """One line, a declaration with its comment, a slot: no more is needed for a new function."""

    RUN = "void (*run)(void *user, int32_t workers, void (*work)(void *context, int32_t worker), void *context)"
    COMMENT = (
        "/**\n * The host's threads.\n * @param run Calls work for each worker; NULL: none.\n * @param user Handed to run."
        "\n * @param[in] sizes What for.\n * @return BN2D_OK, BN2D_ERROR_STATE. Threads: free. Since 1.1.\n */"
    )
    LINE = 'BN2D_FUNCTION("1.1", set_runner)'

    def grown(self, comment=COMMENT, parameters="", slot_parameters="", line=LINE):
        """With a function that takes a callback, since 1.1."""
        arguments = "%s, void *user, const int64_t *sizes" % self.RUN
        declaration = "%s\nBN2D_API int32_t bn2d_set_runner(%s%s);" % (
            comment,
            arguments,
            parameters,
        )
        return with_function(
            declaration, "int32_t (*set_runner)(%s%s);" % (arguments, slot_parameters), line
        )

    def test_a_callback_of_a_later_version(self):
        made = self.grown()
        function = [
            f
            for f in json.loads(made["bn2d-api.json"])["functions"]
            if f["name"] == "bn2d_set_runner"
        ][0]
        self.assertEqual((function["since"], function["slot"]), ("1.1", len(FUNCTIONS) - 1))
        run, user, sizes = function["parameters"]
        self.assertEqual(
            (run["kind"], run["optional"], user["kind"]), ("callback", True, "context")
        )
        self.assertEqual(
            (sizes["kind"], sizes["direction"], sizes["optional"]), ("array", "in", False)
        )
        self.assertEqual(
            run["type"], "void (*)(void *, int32_t, void (*)(void *, int32_t), void *)"
        )
        self.assertEqual(
            run["callback"]["parameters"][2]["callback"]["parameters"][1]["name"], "worker"
        )
        self.assertIn("BN2D_ERROR_INVALID_ARGUMENT", function["returns"]["statuses"])
        self.assertIn(
            "int32_t bn2d_set_runner(%s, void *user, const int64_t *sizes);" % self.RUN,
            made["bn2d.cdef"],
        )
        self.assertIn(
            "  int32_t (*set_runner)(%s, void *user, const int64_t *sizes);" % self.RUN,
            made["bn2d.cdef"],
        )

    def test_what_is_missing_is_named(self):
        for message, change in (
            ("sizes needs @param", {"comment": self.COMMENT.replace("[in] sizes", " sizes")}),
            ("has no parameter sices", {"comment": self.COMMENT.replace("sizes", "sices")}),
            ('no "Threads', {"comment": self.COMMENT.replace("Threads: free. ", "")}),
            ("does not end in", {"comment": self.COMMENT.replace("Since 1.1.", "")}),
            ("since 1.1 in functions.inc, 1.2", {"comment": self.COMMENT.replace("1.1", "1.2")}),
            ("declared otherwise", {"parameters": ", int32_t more"}),
            (
                "an array; use a pointer",
                {"parameters": ", int32_t more[2]", "slot_parameters": ", int32_t more[2]"},
            ),
            ("another order", {"line": 'BN2D_FUNCTION("1.1", set_ruler)'}),
            ("no comment", {"comment": ""}),
        ):
            with self.assertRaisesRegex(GENERATE.Fault, re.escape(message)):
                self.grown(**change)


class Above(unittest.TestCase):
    """The same of the libraries above, as far as they are built: they lie beside the main one."""

    def test_slots(self):
        for name in GENERATE.ABOVE:
            path = os.path.join(os.path.dirname(LIBRARY), "libbn2d_%s.so.1" % name)
            if not os.path.exists(path):
                continue
            above = ctypes.CDLL(path)
            api = json.loads(read("capi", "api", "bn2d-%s-api.json" % name))
            table = api["structs"][-1]
            getter = getattr(above, "bn2d_%s_get_api" % name)
            getter.restype = ctypes.POINTER(ctypes.c_uint64)
            words = getter(api["api_version"])
            self.assertEqual(words[0], table["size"])
            self.assertEqual(table["slots"]["count"], len(api["functions"]) - 1)
            for function in api["functions"]:
                address = ctypes.cast(getattr(above, function["name"]), ctypes.c_void_p).value
                if function["slot"] is not None:
                    self.assertEqual(
                        words[table["slots"]["offset"] // 8 + function["slot"]],
                        address,
                        function["name"],
                    )

    def test_each_function_by_other_eyes(self):
        for name in GENERATE.ABOVE:
            bare = re.sub(r"/\*.*?\*/", "", read("include", "bn2d", name + ".h"), flags=re.S)
            api = json.loads(read("capi", "api", "bn2d-%s-api.json" % name))
            prototypes = {function["name"]: function["prototype"] for function in api["functions"]}
            for function, parameters in re.findall(r"BN2D_API[^;]*?\b(bn2d_\w+)(\([^;]*\));", bare):
                self.assertIn(
                    "%s%s;" % (function, " ".join(parameters.split())), prototypes[function]
                )
            self.assertEqual(len(re.findall(r"^BN2D_API\b", bare, flags=re.M)), len(prototypes))


class Reality(unittest.TestCase):
    """The description against the library."""

    def test_slots(self):
        table = API["structs"][-1]
        LIB.bn2d_get_api.restype = ctypes.POINTER(ctypes.c_uint64)
        words = LIB.bn2d_get_api(API["api_version"])
        self.assertEqual(words[0], table["size"])
        self.assertEqual(table["slots"]["count"], len(FUNCTIONS) - 1)
        for function in API["functions"]:
            address = ctypes.cast(getattr(LIB, function["name"]), ctypes.c_void_p).value
            if function["slot"] is not None:
                self.assertEqual(
                    words[table["slots"]["offset"] // 8 + function["slot"]],
                    address,
                    function["name"],
                )

    def test_constants(self):
        value, name = ctypes.c_int64(), ctypes.c_char_p()
        listed = []
        for index in range(LIB.bn2d_constant_count()):
            self.assertEqual(
                LIB.bn2d_constant_at(index, ctypes.byref(name), ctypes.byref(value)), 0
            )
            listed.append((name.value.decode(), value.value))
        self.assertEqual(sorted(listed), sorted((c["name"], c["value"]) for c in API["constants"]))
        for constant in API["constants"]:
            self.assertEqual(
                LIB.bn2d_constant_by_name(constant["name"].encode(), ctypes.byref(value)), 0
            )
            self.assertEqual(value.value, constant["value"], constant["name"])
        numbers = [int(n) for n in API["version"].split(".")]
        self.assertEqual(LIB.bn2d_version(), numbers[0] * 1000000 + numbers[1] * 1000 + numbers[2])

    def test_what_may_be_null(self):
        # contract_null.cc calls every function with NULL in each place; its table says where that
        # is allowed.
        allowed = {}
        entries = re.findall(
            r'BN2D_ENTRY\(\s*(\w+),\s*((?:"[^"]*"\s*)+)',
            read("tests", "support", "contract_functions.h"),
        )
        for name, literals in entries:
            words = "".join(re.findall(r'"([^"]*)"', literals))
            pointers = allowed.setdefault("bn2d_" + name, {})
            for word in words.split():
                pointers[word.rstrip("?")] = pointers.get(word.rstrip("?"), False) or word.endswith(
                    "?"
                )
        for name, function in FUNCTIONS.items():
            described = {
                p["name"]: p["optional"] for p in function["parameters"] if "optional" in p
            }
            if function["slot"] is not None:
                self.assertEqual(described, allowed[name], name)

    def test_what_is_released(self):
        for handle in API["handles"]:
            self.assertIn(handle["retain"], FUNCTIONS)
            self.assertEqual(
                FUNCTIONS[handle["release"]]["parameters"][0]["ownership"], "given back"
            )
            self.assertGreater(len(handle["made_by"]), 0)
        for function in API["functions"]:
            for parameter in function["parameters"]:
                if parameter.get("ownership") == "owned" and parameter["kind"] == "handle":
                    self.assertIn(parameter["release"], FUNCTIONS)

    def test_what_is_kept(self):
        # Catches: a host frees what the library still calls or writes to.
        kept = {
            (function["name"], parameter["name"])
            for name in ("bn2d", "bn2d-state", "bn2d-fold")
            for function in json.loads(read("capi", "api", name + "-api.json"))["functions"]
            for parameter in function["parameters"]
            if parameter.get("ownership") == "kept"
        }
        pools = ("bn2d_set_host_thread_pool", "bn2d_module_set_host_thread_pool")
        self.assertEqual(
            kept,
            {(pool, parameter) for pool in pools for parameter in ("run", "user")}
            | {("bn2d_loader_add", "target"), ("bn2d_loader_add_flat", "data")},
        )

    def test_what_a_pointer_lets_write(self):
        for type_, const in (
            ("double *", False),
            ("const char **", False),
            ("const void **", False),
            ("const double *", True),
            ("char *const *", True),
        ):
            self.assertEqual(GENERATE.points_to_const(type_), const, type_)

    def test_structs_by_the_c_compiler(self):
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            lacks(self, "C compiler")
        checks = []
        for struct in API["structs"]:
            checks.append("CHECK(sizeof(%s) == %d)" % (struct["name"], struct["size"]))
            for field in struct["fields"]:
                member = (struct["name"], field["name"])
                checks.append("CHECK(offsetof(%s, %s) == %d)" % (*member, field["offset"]))
                checks.append("CHECK(sizeof(((%s *)0)->%s) == %d)" % (*member, field["size"]))
        for function in API["functions"]:
            if function["slot"] is not None:
                offset = API["structs"][-1]["slots"]["offset"] + 8 * function["slot"]
                checks.append(
                    "CHECK(offsetof(bn2d_api, %s) == %d)"
                    % (function["name"][len("bn2d_") :], offset)
                )
            checks.append(function["prototype"])  # must agree with the header's
        checks += ["CHECK(%s == %d)" % (c["name"], c["value"]) for c in API["constants"]]
        program = (
            "#include <bn2d/bn2d.h>\n#define CHECK(what) _Static_assert(what, #what);\n"
            + "\n".join(checks)
            + "\n"
        )
        self.compile(compiler, program)
        with self.assertRaises(AssertionError):  # it would notice
            self.compile(
                compiler,
                program.replace(
                    "offsetof(bn2d_view, ndim) == 16", "offsetof(bn2d_view, ndim) == 20"
                ),
            )
        # The cdef is C, too: the same types where both are seen.
        self.compile(compiler, "#include <stdint.h>\n" + CDEF)

    def compile(self, compiler, program):
        """A C program that must compile."""
        command = [compiler, "-x", "c", "-std=c11", "-pedantic", "-Werror", "-fsyntax-only", "-"]
        command.insert(1, "-I" + os.path.join(SOURCE, "include"))
        done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


class Cdef(unittest.TestCase):
    """bn2d.cdef as those take it who cannot read a header."""

    def test_no_directives_and_no_comments(self):
        self.assertNotRegex(CDEF, r"#|/\*|//")

    def test_cffi(self):
        try:
            import cffi
        except ImportError:
            lacks(self, "cffi")
        ffi = cffi.FFI()
        ffi.cdef(CDEF)
        library = ffi.dlopen(LIBRARY)
        for name in FUNCTIONS:
            self.assertTrue(getattr(library, name))
        for constant in API["constants"]:
            self.assertEqual(getattr(library, constant["name"]), constant["value"])
        for struct in API["structs"]:
            self.assertEqual(ffi.sizeof(struct["name"]), struct["size"])
            for field in struct["fields"]:
                self.assertEqual(ffi.offsetof(struct["name"], field["name"]), field["offset"])
        out = ffi.new("bn2d_module **")
        self.assertEqual(library.bn2d_module_create(2, ffi.NULL, out), library.BN2D_OK)
        module = ffi.gc(out[0], library.bn2d_module_release)
        x, y = ffi.new("float[]", [1, 3, 10, 20, 5, 7, 30, 40]), ffi.new("float[8]")
        self.assertEqual(library.bn2d_forward_f32(module, x, 2, 1, 2, y, ffi.NULL), library.BN2D_OK)
        self.assertAlmostEqual(y[0], -3 / 5**0.5, places=5)

    def test_luajit(self):
        luajit = shutil.which("luajit")
        if luajit is None:
            lacks(self, "LuaJIT")
        with tempfile.NamedTemporaryFile("w", suffix=".cdef") as file:
            file.write(CDEF)
            file.flush()
            command = [luajit, os.path.join(HERE, "description_test.lua"), file.name, LIBRARY]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main(verbosity=2)
