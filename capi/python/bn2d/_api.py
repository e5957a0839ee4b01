# SPDX-License-Identifier: MIT
"""The C library through ctypes, declared from bn2d-api.json: no signature and no constant is
written here.

A call costs what ctypes needs to convert its arguments. Where that counts, `Call` makes the
argument objects once; later calls only store the pointers that changed: bn2d_mask_nbytes() with its
5 arguments takes 0.33 us so, and 0.66 us with declared types.
"""

from __future__ import annotations

import ctypes
import json
import operator
import os
import re
import site
import sys
from typing import Any, NoReturn

from . import errors

HERE = os.path.dirname(os.path.abspath(__file__))

SCALARS: dict[str, Any] = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


def _description() -> dict[str, Any]:
    """bn2d-api.json: inside the package, or in the checkout."""
    inside = os.path.join(HERE, "bn2d-api.json")
    checkout = os.path.join(HERE, "..", "..", "api", "bn2d-api.json")
    with open(inside if os.path.exists(inside) else checkout, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
        return found


def library_path() -> str:
    """The shared library that this package uses: $BN2D_LIBRARY, or the one inside the package."""
    return os.environ.get("BN2D_LIBRARY") or os.path.join(HERE, "libbn2d.so")


def _load_tbb() -> None:
    """oneTBB of the PyPI package `tbb` of this environment, if it is there.

    It lies in the environment's lib folder, where the system's loader does not look. A copy that is
    already in the process wins all the same: the loader goes by the name libtbb.so.12.
    """
    roots = [
        sys.prefix,
        sys.exec_prefix,
        os.path.join(HERE, "..", "..", "..", ".."),
        sys.base_prefix,
    ]
    if site.ENABLE_USER_SITE:
        roots.append(site.getuserbase())
    for root in roots:
        path = os.path.join(root, "lib", "libtbb.so.12")
        if os.path.exists(path):
            try:
                ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
                return
            except OSError:  # of another architecture, say: the system's may do
                continue


def _load() -> ctypes.CDLL:
    path = library_path()
    _load_tbb()
    try:
        return ctypes.CDLL(path)
    except OSError as fault:
        raise ImportError(
            "bn2d: %s does not load: %s (oneTBB comes with 'pip install tbb', or the system's libtbb12)"
            % (path, fault)
        ) from None


DESCRIPTION = _description()
LIBRARY = _load()
CONSTANTS: dict[str, int] = {one["name"]: one["value"] for one in DESCRIPTION["constants"]}
FUNCTIONS: dict[str, Any] = {one["name"]: one for one in DESCRIPTION["functions"]}
# Functions of other libraries than LIBRARY (_above.py).
OWNERS: dict[str, ctypes.CDLL] = {}


def ctype(text: str) -> Any:
    """The ctypes type of a type of C; all pointers are addresses here, but texts."""
    if "*" in text or text in POINTERS:
        return ctypes.c_char_p if re.fullmatch(r"const char \*", text) else ctypes.c_void_p
    return None if text == "void" else SCALARS[text]


POINTERS = {one["name"] for one in DESCRIPTION.get("callbacks", [])}


class View(ctypes.Structure):
    """bn2d_view, which is DLPack's DLTensor."""

    _fields_ = [
        (field["name"], ctype(field["type"]))
        for one in DESCRIPTION["structs"]
        if one["name"] == "bn2d_view"
        for field in one["fields"]
    ]


def has(name: str) -> bool:
    """Whether description and library both know a function: an older library may be in use."""
    return name in FUNCTIONS and hasattr(OWNERS.get(name, LIBRARY), name)


def declared(name: str) -> Any:
    """A function with its types, for calls whose cost does not count."""
    function = getattr(OWNERS.get(name, LIBRARY), name)
    if function.argtypes is None:
        # The argtypes last: another thread that sees them takes the function for declared.
        function.restype = ctype(FUNCTIONS[name]["returns"]["type"])
        function.argtypes = [ctype(one["type"]) for one in FUNCTIONS[name]["parameters"]]
    return function


def _integer(name: str, given: Any, kind: Any) -> int:
    """`given` where it is an integer that the type of C holds: ctypes would cut it silently."""
    bits = 8 * ctypes.sizeof(kind)
    is_truth = isinstance(given, bool) and bits < 64  # flags are int32_t, counts are int64_t
    if not hasattr(given, "__index__") or (isinstance(given, bool) and not is_truth):
        raise errors.InvalidArgumentError("%s is %r, not an integer" % (name, given))
    number = operator.index(given)
    least = -(1 << (bits - 1)) if kind(-1).value < 0 else 0
    most = least + (1 << bits) - 1
    if not least <= number <= most:
        # Python refuses to write down an integer of many thousand digits.
        long = number.bit_length() > 128
        shown = "an integer of %d bits" % number.bit_length() if long else str(number)
        raise errors.InvalidArgumentError(
            "%s is %s, must be from %d to %d" % (name, shown, least, most)
        )
    return number


def _number(name: str, given: Any) -> float:
    try:
        if hasattr(given, "__float__") or hasattr(given, "__index__"):
            return float(given)
    except (TypeError, ValueError, OverflowError):
        pass
    raise errors.InvalidArgumentError("%s is %s, not a number" % (name, repr(given)[:80]))


def _checked(function: str, parameter: dict[str, Any], given: Any) -> Any:
    """The argument for a parameter of C, which has to hold it. Addresses are ours."""
    kind = SCALARS.get(parameter["type"])
    if kind is None:
        if isinstance(given, bytes) and b"\0" in given:
            # C would take what is before it: another file, or two names that are one.
            raise errors.InvalidArgumentError("%s has a null byte: %r" % (parameter["name"], given))
        return given
    # As the library's own messages: a setter's value is called what it sets.
    setter = re.fullmatch(r"bn2d_(?:options_|module_)?set_(\w+)", function)
    name = setter.group(1) if setter else parameter["name"]
    if kind in (ctypes.c_double, ctypes.c_float):
        return _number(name, given)
    return _integer(name, given, kind)


def call(name: str, *arguments: Any) -> Any:
    """Calls a function by its name. A status that is an error raises; results come back."""
    parameters = FUNCTIONS[name]["parameters"]
    result = declared(name)(
        *(_checked(name, parameter, one) for parameter, one in zip(parameters, arguments))
    )
    if FUNCTIONS[name]["returns"].get("kind") == "status" and result != 0:
        fail(result)
    return result


def value(name: str, *arguments: Any) -> Any:
    """Calls a function whose last parameter is an `out` scalar, text or handle, and returns
    that."""
    parameter = FUNCTIONS[name]["parameters"][-1]
    out = ctype(re.sub(r" ?\*$", "", parameter["type"]))()
    call(name, *arguments, ctypes.byref(out))
    return out.value


_CLASSES = {
    CONSTANTS[name]: kind for name, kind in errors.by_status_name().items() if name in CONSTANTS
}


def fail(status: int) -> NoReturn:
    """Raises the exception of a status with the text of this thread's last failure."""
    text = declared("bn2d_last_error")().decode("utf-8", "replace")
    raise _CLASSES.get(status, errors.Error)(text, status) from None


class Call:
    """One call whose arguments are made once, by the names and types of the description.

    `function(*arguments)` makes the call; it returns the status. To change an argument, store to
    `slots[name].value` (scalars, pointers) or to the fields of `slots[name]` (views). Not for two
    threads at a time: ctypes reads the arguments when it has let go of the interpreter's lock.
    """

    __slots__ = ("arguments", "function", "keep", "slots")

    def __init__(self, name: str, **given: Any) -> None:
        self.function = LIBRARY[name]  # its own object, without declared types
        self.function.restype = ctypes.c_int32
        self.slots: dict[str, Any] = {}
        self.keep: list[Any] = []
        arguments: list[Any] = []
        for parameter in FUNCTIONS[name]["parameters"]:
            kind = ctype(parameter["type"])
            slot = given.pop(parameter["name"], None)
            if isinstance(slot, View):
                arguments.append(ctypes.byref(slot))
            elif parameter["type"] == "const bn2d_view *" and slot is None:
                arguments.append(ctypes.c_void_p())
            else:
                slot = kind() if slot is None else kind(_checked(name, parameter, slot))
                arguments.append(slot)
            self.slots[parameter["name"]] = slot
        if given:
            raise TypeError("%s has no parameter %s" % (name, ", ".join(given)))
        self.arguments = tuple(arguments)

    def out(self, name: str) -> ctypes.c_void_p:
        """Points an `out` parameter for a handle at a place of this call, and returns that
        place."""
        place = ctypes.c_void_p()
        self.keep.append(place)
        self.slots[name].value = ctypes.addressof(place)
        return place


def view(shape: tuple[int, ...], strides: tuple[int, ...], code: int, bits: int) -> View:
    """A view without data: extents, strides in elements, dtype by DLPack's code and bits."""
    rank = len(shape)
    made = View(
        device_type=CONSTANTS["BN2D_CPU"],
        ndim=rank,
        dtype_code=code,
        dtype_bits=bits,
        dtype_lanes=1,
    )
    extents = (ctypes.c_int64 * (2 * rank))(*shape, *strides)
    made.shape = ctypes.addressof(extents)
    made.strides = made.shape + 8 * rank
    made._extents = extents  # keeps them alive
    return made


class Handle:
    """One reference to an object of the library, given back when the last user is gone."""

    __slots__ = ("__weakref__", "address", "release")

    def __init__(self, address: int, kind: str) -> None:
        self.address = address
        self.release = declared("bn2d_%s_release" % kind)

    def __del__(self) -> None:
        self.release(self.address)
