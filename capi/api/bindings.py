#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the raw declarations of the bindings in capi/<language>/ from bn2d-api.json.

    python3 capi/api/bindings.py            writes what has changed
    python3 capi/api/bindings.py --check    compares only, and fails where a file is stale

Rust, Fortran, Java, C#, Ruby and Lua. Go and Node.js compile against bn2d.h itself. A type that a
language has no word for is an error with its name. Python's standard library alone; a build never
runs this.
"""

import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CAPI = os.path.dirname(HERE)
NOTE = "Written by capi/api/bindings.py from bn2d-api.json: do not edit."


class Parameter:
    """A parameter of a function, or its result, taken apart."""

    def __init__(self, type_, name="", kind="value", direction="in", optional=False):
        self.name, self.kind, self.direction, self.optional = name, kind, direction, optional
        self.const = type_.startswith("const ")
        self.stars = type_.count("*")
        self.base = re.sub(r"\b(const|struct)\b|\*", " ", type_).split()[0]

    @property
    def is_handle(self):
        """A handle that is passed in."""
        return self.kind == "handle" and self.stars == 1

    @property
    def is_result(self):
        """A pointer through which one scalar or pointer comes back."""
        return self.direction == "out" and self.kind in (
            "scalar",
            "handle",
            "text",
            "pointer",
            "foreign",
        )

    @property
    def is_text(self):
        """A text passed in."""
        return self.kind == "text" and self.direction == "in"


class Function:
    """A function of the description."""

    def __init__(self, function):
        self.name = function["name"]
        self.result = Parameter(function["returns"]["type"])
        self.parameters = [
            Parameter(p["type"], p["name"], p["kind"], p["direction"], p.get("optional", False))
            for p in function["parameters"]
        ]


class Description:
    """bn2d-api.json."""

    def __init__(self, text):
        whole = json.loads(text)
        self.library = whole["library"]
        self.functions = [Function(function) for function in whole["functions"]]
        self.constants = [
            (c["name"], c["value"]) for c in whole["constants"] if c["group"] != "version"
        ]
        self.handles = [handle["name"] for handle in whole["handles"]]
        self.callbacks = whole["callbacks"]
        self.view = [struct for struct in whole["structs"] if struct["name"] == "bn2d_view"][0]

    def fields(self):
        """Type and name of each field of bn2d_view."""
        return [(Parameter(field["type"]), field["name"]) for field in self.view["fields"]]


def wrapped(head, words, tail, width, indent, continued=""):
    """`head` and the words, separated by commas, in lines of at most `width`; `continued` ends a
    broken line."""
    lines, line = [], head
    for index, word in enumerate(words):
        text = word + (", " if index + 1 < len(words) else tail)
        if len(line) + len(text.rstrip()) + len(continued) > width:
            lines.append(line.rstrip() + continued)
            line = indent
        line += text
    return "\n".join(lines + [line if words else line + tail])


# --------------------------------------------------------------------------------------------- Rust

RUST = {
    "char": "c_char",
    "void": "c_void",
    "int32_t": "i32",
    "int64_t": "i64",
    "uint8_t": "u8",
    "uint16_t": "u16",
}
RUST.update({"uint32_t": "u32", "uint64_t": "u64", "float": "f32", "double": "f64"})


def rust_type(parameter):
    """The type of a parameter or result."""
    base = RUST.get(parameter.base, parameter.base)
    if base.startswith("DLManaged") or base == "bn2d_api":
        base = "c_void"
    if not parameter.stars:
        return base
    # `const` is that of the innermost type: `T *const *` does not occur.
    return "*mut " * (parameter.stars - 1) + ("*const " if parameter.const else "*mut ") + base


def rust(description):
    """src/raw.rs"""
    out = ["// SPDX-License-Identifier: MIT", "//! The C ABI as it is. " + NOTE, ""]
    out += ["#![allow(non_camel_case_types, dead_code, clippy::all)]", ""]
    out += ["use std::os::raw::{c_char, c_void};", ""]
    for name in description.handles:
        out += ["#[repr(C)]", "pub struct %s {" % name, "    _opaque: [u8; 0],", "}"]
    out += ["#[repr(C)]", "pub struct bn2d_view {"]
    out += ["    pub %s: %s," % (name, rust_type(type_)) for type_, name in description.fields()]
    out += ["}"]
    for callback in description.callbacks:
        inner = callback["callback"]
        arguments = ", ".join(rust_type(Parameter(p["type"])) for p in inner["parameters"])
        result = "" if inner["result"] == "void" else " -> " + rust_type(Parameter(inner["result"]))
        out += [
            'pub type %s = Option<unsafe extern "C" fn(%s)%s>;'
            % (callback["name"], arguments, result)
        ]
    out += [
        "",
        *("pub const %s: i32 = %d;" % constant for constant in description.constants),
        "",
        'extern "C" {',
    ]
    for function in description.functions:
        result = (
            ""
            if function.result.base == "void" and not function.result.stars
            else " -> " + rust_type(function.result)
        )
        words = ["%s: %s" % (p.name, rust_type(p)) for p in function.parameters]
        out.append(
            wrapped("    pub fn %s(" % function.name, words, ")%s;" % result, 100, "        ")
        )
    return "\n".join(out + ["}", ""])


# ------------------------------------------------------------------------------------------ Fortran

FORTRAN = {
    "int32_t": "integer(c_int32_t)",
    "uint32_t": "integer(c_int32_t)",
    "int64_t": "integer(c_int64_t)",
}
FORTRAN.update(
    {"uint64_t": "integer(c_int64_t)", "double": "real(c_double)", "float": "real(c_float)"}
)
FORTRAN.update({"uint8_t": "integer(c_int8_t)", "uint16_t": "integer(c_int16_t)"})


def fortran_declaration(parameter):
    """The declaration of an argument."""
    if parameter.kind == "callback":
        return "type(c_funptr), value :: " + parameter.name
    if parameter.stars == 0:
        return "%s, value :: %s" % (FORTRAN[parameter.base], parameter.name)
    if parameter.is_text:
        return "character(kind=c_char), intent(in) :: %s(*)" % parameter.name
    if parameter.is_result and not parameter.optional:
        type_ = FORTRAN[parameter.base] if parameter.kind == "scalar" else "type(c_ptr)"
        return "%s, intent(out) :: %s" % (type_, parameter.name)
    return "type(c_ptr), value :: " + parameter.name


def fortran(description):
    """bn2d_raw.f90"""
    out = ["! SPDX-License-Identifier: MIT", "!> The C ABI as it is. " + NOTE, "module bn2d_raw"]
    out += ["  use, intrinsic :: iso_c_binding", "  implicit none", "  public", ""]
    out += [
        "  integer(c_int32_t), parameter :: %s = %d" % constant
        for constant in description.constants
    ]
    out += ["", "  type, bind(C) :: bn2d_view"]
    for type_, name in description.fields():
        pointer = "type(c_ptr)" if type_.stars else FORTRAN[type_.base]
        out.append("    %s :: %s" % (pointer, name))
    out += ["  end type", "", "  interface"]
    for function in description.functions:
        nothing = function.result.base == "void" and not function.result.stars
        kind = "subroutine" if nothing else "function"
        tail = ') bind(C, name="%s")' % function.name + ("" if nothing else " result(res)")
        names = [p.name for p in function.parameters]
        out.append(
            wrapped("    %s %s(" % (kind, function.name), names, tail, 120, "        ", " &")
        )
        out.append("      import")
        out += ["      " + fortran_declaration(p) for p in function.parameters]
        if not nothing:
            out.append(
                "      %s :: res"
                % ("type(c_ptr)" if function.result.stars else FORTRAN[function.result.base])
            )
        out.append("    end %s" % kind)
    return "\n".join(out + ["  end interface", "end module bn2d_raw", ""])


# --------------------------------------------------------------------------------------------- Java

JAVA = {
    "int32_t": "int",
    "uint32_t": "int",
    "int64_t": "long",
    "uint64_t": "long",
    "double": "double",
    "void": "void",
}
JAVA_FIELD = {**JAVA, "uint8_t": "byte", "uint16_t": "short"}
JAVA_REFERENCE = {"int": "IntByReference", "long": "LongByReference", "double": "DoubleByReference"}


def java_type(parameter):
    """The type of a parameter or result for JNA's direct mapping."""
    if parameter.kind == "callback":
        return "Callback"
    if parameter.stars == 0:
        return JAVA[parameter.base]
    if parameter.is_text or (parameter.kind == "value" and parameter.base == "char"):
        return "String"
    if parameter.is_result:
        return (
            JAVA_REFERENCE[JAVA[parameter.base]]
            if parameter.kind == "scalar"
            else "PointerByReference"
        )
    return "byte[]" if parameter.base == "char" else "Pointer"


def java(description):
    """org/bn2d/Raw.java"""
    out = ["// SPDX-License-Identifier: MIT", "package org.bn2d;", ""]
    out += [
        "import com.sun.jna.Callback;",
        "import com.sun.jna.Library;",
        "import com.sun.jna.Native;",
    ]
    out += ["import com.sun.jna.NativeLibrary;", "import com.sun.jna.Pointer;"]
    out += ["import com.sun.jna.Structure;"]
    out += [
        "import com.sun.jna.ptr.%s;" % name
        for name in ("DoubleByReference", "IntByReference", "LongByReference", "PointerByReference")
    ]
    out += ["import java.util.Map;", ""]
    out += ["/** The C ABI as it is. %s */" % NOTE, "final class Raw {"]
    out += ["  static final int %s = %d;" % constant for constant in description.constants]
    out += ["", "  static {"]
    out += ['    Map<String, ?> options = Map.of(Library.OPTION_STRING_ENCODING, "UTF-8");']
    out += [
        '    Native.register(Raw.class, NativeLibrary.getInstance("%s", options));'
        % description.library
    ]
    out += ["  }", "", "  private Raw() {}", ""]
    names = ['"%s"' % name for _, name in description.fields()]
    out += [wrapped("  @Structure.FieldOrder({", names, "})", 100, "      ")]
    # JNA sets the fields by reflection, which needs a public class.
    out += ["  public static final class bn2d_view extends Structure {"]
    out += [
        "    public %s %s;" % ("Pointer" if type_.stars else JAVA_FIELD[type_.base], name)
        for type_, name in description.fields()
    ]
    out += ["  }", ""]
    for function in description.functions:
        words = ["%s %s" % (java_type(p), p.name) for p in function.parameters]
        head = "  static native %s %s(" % (java_type(function.result), function.name)
        out.append(wrapped(head, words, ");", 100, "      "))
    text = "\n".join(out + ["}", ""])
    for imported in re.findall(r"import [\w.]+\.(\w+);", text):
        if len(re.findall(r"\b%s\b" % imported, text)) == 1:
            text = re.sub(r"import [\w.]+\.%s;\n" % imported, "", text)
    return text


# ----------------------------------------------------------------------------------------------- C#

CSHARP = {
    "int32_t": "int",
    "uint32_t": "uint",
    "int64_t": "long",
    "uint64_t": "ulong",
    "double": "double",
}
CSHARP.update({"float": "float", "void": "void", "uint8_t": "byte", "uint16_t": "ushort"})
CSHARP_WORDS = {"out": "result"}


def csharp_type(parameter, release):
    """The type of a parameter or result; handles are SafeHandles, but where they are given back."""
    if parameter.kind == "callback":
        return "IntPtr"
    if parameter.stars == 0:
        return CSHARP[parameter.base]
    if parameter.is_text:
        return "[MarshalAs(UnmanagedType.LPUTF8Str)] string"
    if parameter.is_result:
        type_ = CSHARP[parameter.base] if parameter.kind == "scalar" else "IntPtr"
        return "[Out] %s[]" % type_ if parameter.optional else "out " + type_
    if parameter.is_handle and not release:
        return "SafeHandle"
    return "[Out] byte[]" if parameter.base == "char" and parameter.direction == "out" else "IntPtr"


def csharp(description):
    """Raw.cs"""
    out = [
        "// SPDX-License-Identifier: MIT",
        "using System;",
        "using System.Runtime.InteropServices;",
        "",
    ]
    out += ["namespace Bn2d", "{", "    /// <summary>The C ABI as it is. %s</summary>" % NOTE]
    out += ["    internal static class Raw", "    {"]
    out += ["        internal const int %s = %d;" % constant for constant in description.constants]
    out += ["", '        private const string Library = "%s";' % description.library]
    # A program need not use it: 649 warns of fields that nobody sets.
    out += ["", "        #pragma warning disable 649"]
    out += ["        [StructLayout(LayoutKind.Sequential)]", "        internal struct bn2d_view"]
    out += ["        {"]
    out += [
        "            internal %s %s;" % ("IntPtr" if type_.stars else CSHARP[type_.base], name)
        for type_, name in description.fields()
    ]
    out += ["        }", "        #pragma warning restore 649"]
    for function in description.functions:
        release = function.name.endswith("_release")
        words = [
            "%s %s" % (csharp_type(p, release), CSHARP_WORDS.get(p.name, p.name))
            for p in function.parameters
        ]
        head = "        internal static extern %s %s(" % (
            csharp_type(function.result, False),
            function.name,
        )
        out += ["", "        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]"]
        out.append(wrapped(head, words, ");", 100, " " * 12))
    return "\n".join(out + ["    }", "}", ""])


# --------------------------------------------------------------------------------------------- Ruby

RUBY = {
    "int32_t": "INT32",
    "uint32_t": "UINT32",
    "int64_t": "INT64",
    "uint64_t": "UINT64",
    "double": "DOUBLE",
}
RUBY.update({"float": "FLOAT", "void": "VOID"})


def ruby_type(parameter):
    """The constant of Raw for a parameter or result."""
    return "PTR" if parameter.stars or parameter.kind == "callback" else RUBY[parameter.base]


def ruby(description):
    """lib/bn2d/raw.rb"""
    out = [
        "# frozen_string_literal: true",
        "",
        "# SPDX-License-Identifier: MIT",
        "",
        "require 'fiddle/import'",
        "",
    ]
    out += ["module Bn2d", "  # The C ABI as it is. " + NOTE, "  module Raw"]
    out += [
        "    PTR = Fiddle::TYPE_VOIDP",
        "    VOID = Fiddle::TYPE_VOID",
        "    FLOAT = Fiddle::TYPE_FLOAT",
    ]
    out += [
        "    DOUBLE = Fiddle::TYPE_DOUBLE",
        "    INT32 = Fiddle::TYPE_INT32_T",
        "    UINT32 = -Fiddle::TYPE_INT32_T",
    ]
    out += ["    INT64 = Fiddle::TYPE_INT64_T", "    UINT64 = -Fiddle::TYPE_INT64_T", ""]
    out += ["    %s = %d" % constant for constant in description.constants]
    words = [
        "'%s%s'" % ("void *" if type_.stars else type_.base + " ", name)
        for type_, name in description.fields()
    ]
    out += ["", wrapped("    View = Fiddle::Importer.struct([", words, "])", 100, "      ")]
    out += ["", "    # Name: [types of the parameters, type of the result]", "    FUNCTIONS = {"]
    for function in description.functions:
        words = [ruby_type(p) for p in function.parameters]
        tail = "], %s]," % ruby_type(function.result)
        out.append(wrapped("      %s: [[" % function.name, words, tail, 100, "        "))
    out[-1] = out[-1].rstrip(",")
    return "\n".join(out + ["    }.freeze", "  end", "end", ""])


# ---------------------------------------------------------------------------------------------- Lua


def lua(cdef):
    """bn2d_raw.lua"""
    return (
        "-- SPDX-License-Identifier: MIT\n-- bn2d.cdef as a Lua string. %s\nreturn [[\n%s]]\n"
        % (NOTE, cdef)
    )


# -------------------------------------------------------------------------------------------- files


def read(*path):
    """A file's text, or None."""
    try:
        with open(os.path.join(*path), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def main(arguments):
    """The program."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    description = Description(read(HERE, "bn2d-api.json"))
    made = {
        "rust/src/raw.rs": rust(description),
        "fortran/bn2d_raw.f90": fortran(description),
        "java/org/bn2d/Raw.java": java(description),
        "csharp/Raw.cs": csharp(description),
        "ruby/lib/bn2d/raw.rb": ruby(description),
        "lua/bn2d_raw.lua": lua(read(HERE, "bn2d.cdef")),
    }
    stale = [name for name, text in made.items() if read(CAPI, name) != text]
    if arguments == ["--check"]:
        if stale:
            print(
                "stale: %s; run: python3 capi/api/bindings.py" % ", ".join(stale), file=sys.stderr
            )
        return 1 if stale else 0
    for name in stale:
        os.makedirs(os.path.dirname(os.path.join(CAPI, name)), exist_ok=True)
        with open(os.path.join(CAPI, name), "w", encoding="utf-8") as file:
            file.write(made[name])
        print("written: capi/" + name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
