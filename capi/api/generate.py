#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes bn2d-api.json and bn2d.cdef from include/bn2d/bn2d.h and capi/functions.inc, and for each
library above bn2d-<name>-api.json and bn2d-<name>.cdef from include/bn2d/<name>.h and
capi/<name>/functions.inc.

    python3 capi/api/generate.py            writes them beside this script
    python3 capi/api/generate.py --check    compares only, and fails where they are stale

The header stays the one source. What it has to say so that a machine can read it, too:

 - "Threads: ... Since 1.0." ends each comment; "@return BN2D_OK, ..." names the statuses beyond those of every function.
 - A view or an array is documented with its direction: @param[in], @param[out] or @param[in,out].
   Handles, texts, numbers and results (out, out_*, length) need no tag.
 - A pointer may be NULL exactly where the text of its @param says NULL.
 - "One of bn2d_dtype" and "Bits of bn2d_flag" give a number its enum. "Borrowed by the record", "must stay valid" and
   "has to stay" outlive the call.
 - A sentence that begins "As bn2d_forward_f32()": what is not told here (parameters, statuses,
   threads) is as there. "@return as bn2d_f(), and BN2D_ERROR_A", "@return as bn2d_f() but
   BN2D_ERROR_B" add and take away.

What is missing is an error with the line's name. Python's standard library alone; a build never
runs this.
"""

import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

SIZES = {
    "char": 1,
    "int8_t": 1,
    "uint8_t": 1,
    "int16_t": 2,
    "uint16_t": 2,
    "int32_t": 4,
    "uint32_t": 4,
    "int64_t": 8,
    "uint64_t": 8,
    "float": 4,
    "double": 8,
}
POINTER = 8
# Libraries on top of libbn2d. Their headers include bn2d.h, and their descriptions refer to its.
ABOVE = ("state", "fold")
TOKEN = re.compile(r"/\*.*?\*/|\w+|\"[^\"]*\"|[^\s\w]", re.S)
RESULT = re.compile(r"out(_\w+)?|length")
THREADS = re.compile(r"\b(free|shared|exclusive|one per object)\b")


# What the words of the JSON mean.
ABOUT = {
    "kind": "scalar; handle; struct (a bn2d_view); array; text (UTF-8 with a NUL); pointer (out); callback; "
    "context (handed to the callback); foreign (a struct of DLPack)",
    "direction": "in: read; out: written; inout: both. Of a handle: inout where the object may change",
    "optional": "true: may be NULL, at least in the cases that the text tells",
    "ownership": "borrowed: used during the call only, or, handed out, valid as long as what it belongs to; "
    "borrowed by the record: in place and unchanged until the record's last backward; kept: after the call, too, for "
    "as long as the text tells; "
    "owned: the caller's, to be given back with release; given back: by this call; static: valid for ever",
    "statuses": "all that the function may return",
    "threads": "the rules of bn2d.h that apply; where there are two, threads_text tells which when",
    "slot": "index among the functions of bn2d_api; null: not in it",
    "structs": "offsets and sizes in bytes where a pointer has pointer_size",
}


class Fault(Exception):
    """The header does not say something, or says two things."""


# ----------------------------------------------------------------------------------------- comments


def plain(comment):
    """A comment's text in one line, without its stars."""
    inner = re.sub(r"^/\*\*?<?|\*/$", "", comment)
    return " ".join(re.sub(r"^\s*\* ?", "", inner, flags=re.M).split())


def points_to_const(type_):
    """Whether nothing can be written through a pointer: `const double *` and `char *const *`, but
    not `const char **`."""
    target = type_.rpartition("*")[0].rstrip()
    return target.endswith("const") or (target.startswith("const ") and "*" not in target)


class Comment:
    """What a function's comment says."""

    def __init__(self, name, comment):
        if not comment:
            raise Fault(name + ": no comment")
        text = plain(comment)
        found = re.search(r"\s*(?:Threads: (.+?)\.\s+)?Since (\d+\.\d+)\.$", text)
        if not found:
            raise Fault(name + ': the comment does not end in "Since <version>."')
        self.threads, self.since = found.groups()
        head, *tags = re.split(r"\s*@(?=param|return)", text[: found.start()])
        self.text = head
        self.returns = None
        self.parameters = {}
        for tag in tags:
            if tag.startswith("return"):
                self.returns = tag[len("return") :].strip()
                continue
            found = re.match(r"param(?:\[([a-z,]+)\])? ([\w,]+) (.*)", tag)
            if not found:
                raise Fault("%s: cannot read @%s" % (name, tag))
            for parameter in found.group(2).split(","):
                direction = {"in,out": "inout"}.get(found.group(1), found.group(1))
                self.parameters[parameter] = (direction, found.group(3))
        likes = re.search(r"(?:^|\. )As (bn2d_\w+\(\)(?:(?:,| and) bn2d_\w+\(\))*)", head)
        self.likes = re.findall(r"bn2d_\w+", likes.group(1)) if likes else []


# ------------------------------------------------------------------------------------- declarations


class Header:
    """The declarations of bn2d.h. Knows just as much C as the header uses."""

    def __init__(self, text):
        self.defines = []
        self.enums = []
        self.handles = []
        self.structs = []
        self.foreign = []
        self.callbacks = []
        self.functions = []
        text = re.sub(r"^#ifdef __cplusplus\n.*?^#endif\n", "", text, flags=re.S | re.M)
        for comment, name, value in re.findall(
            r"(/\*\*(?:[^*]|\*(?!/))*\*/\s*)?^#define (\w+) (\d+)$", text, flags=re.M
        ):
            self.defines.append((name, int(value), plain(comment.strip()) if comment else ""))
        text = re.sub(r"^#.*(?:\\\n.*)*\n", "", text, flags=re.M)
        self.tokens = TOKEN.findall(text)
        self.at = 0
        while self.at < len(self.tokens):
            self.declaration()

    # Tokens. Comments count where they document, and are skipped elsewhere.
    def peek(self, ahead=0):
        left = [t for t in self.tokens[self.at : self.at + ahead + 20] if not t.startswith("/*")]
        return left[ahead] if ahead < len(left) else ""

    def take(self, expected=None):
        while self.tokens[self.at].startswith("/*"):
            self.at += 1
        token = self.tokens[self.at]
        if expected is not None and token != expected:
            around = " ".join(self.tokens[max(0, self.at - 8) : self.at + 4])
            raise Fault("expected %s, found %s in: %s" % (expected, token, around))
        self.at += 1
        return token

    def comment_before(self):
        """The /** */ right before the next token, or None."""
        comment = None
        while self.at < len(self.tokens) and self.tokens[self.at].startswith("/*"):
            comment = self.tokens[self.at]
            self.at += 1
        return (
            comment
            if comment and comment.startswith("/**") and not comment.startswith("/**<")
            else None
        )

    def comment_after(self):
        """The /**< */ behind a member."""
        if self.at < len(self.tokens) and self.tokens[self.at].startswith("/**<"):
            self.at += 1
            return plain(self.tokens[self.at - 1])
        return ""

    def declaration(self):
        comment = self.comment_before()
        if self.at == len(self.tokens):
            return
        first = self.take()
        if first == "enum":
            self.enum(comment)
        elif first == "struct":
            self.foreign.append(self.take())
            self.take(";")
        elif first == "typedef" and self.peek() == "struct" and self.peek(2) in ("{", self.peek(1)):
            self.struct(comment)
        elif first == "typedef":
            kind, name = self.declarator()
            self.take(";")
            if "callback" not in kind:
                raise Fault("typedef %s: only handles, structs and callbacks have names" % name)
            self.callbacks.append({"name": name, "text": plain(comment or ""), **kind})
        elif first == "BN2D_API":
            kind, name = self.declarator()
            self.functions.append((name, kind, self.parameter_list(), comment))
            self.take(";")
        else:
            raise Fault("cannot read the declaration that begins with " + first)

    def enum(self, comment):
        name = self.take()
        self.take("{")
        values, value = [], -1
        while self.peek() != "}":
            constant = self.take()
            value += 1
            if self.peek() == "=":
                self.take()
                sign = -1 if self.peek() == "-" and self.take() else 1
                value = sign * int(self.take(), 0)
            if self.peek() == ",":
                self.take()
            values.append((constant, value, self.comment_after()))
        self.take("}")
        self.take(";")
        self.enums.append((name, plain(comment or ""), values))

    def struct(self, comment):
        self.take("struct")
        name = self.take()
        if self.peek() == name:  # typedef struct name name;
            self.take()
            self.take(";")
            self.handles.append((name, plain(comment or "")))
            return
        self.take("{")
        fields = []
        while self.peek() != "}":
            kind, field = self.declarator()
            self.take(";")
            fields.append((field, kind, self.comment_after()))
        self.take("}")
        self.take(name)
        self.take(";")
        self.structs.append((name, plain(comment or ""), fields))

    def declarator(self):
        """({"type": ..., "callback": ...}, name) of `const T *name` or `R (*name)(...)`."""
        words = []
        while True:
            words.append(self.take())
            if words[-1] not in ("const", "struct"):
                break
        text = " ".join(words)
        stars = ""
        while self.peek() == "*":
            stars += self.take()
        text += " " + stars if stars else ""
        if self.peek() != "(":
            name = self.take()
            if self.peek() == "[":
                raise Fault(name + ": an array; use a pointer")
            return {"type": text}, name
        self.take("(")
        self.take("*")
        name = self.take()
        self.take(")")
        parameters = self.parameter_list()
        signature = ", ".join(kind["type"] for _, kind in parameters) or "void"
        members = [dict(name=parameter, **kind) for parameter, kind in parameters]
        return {
            "type": "%s (*)(%s)" % (text, signature),
            "callback": {"result": text, "parameters": members},
        }, name

    def parameter_list(self):
        self.take("(")
        if self.peek() == "void" and self.peek(1) == ")":
            self.take()
            self.take()
            return []
        parameters = []
        while True:
            kind, name = self.declarator()
            parameters.append((name, kind))
            if self.take() == ")":
                return parameters


# -------------------------------------------------------------------------------------- description


class Description:
    """bn2d-api.json as a dictionary; bn2d-<above>-api.json, where `below` is the header that it is
    on top of."""

    def __init__(self, header, listed, above="", below=None):
        self.header = header
        self.above = above
        self.below = below
        self.getter = "bn2d_%sget_api" % (above and above + "_")
        self.table = "bn2d_%sapi" % (above and above + "_")
        known = [below, header] if below else [header]
        self.statuses_in_order = [constant for constant, _, _ in known[0].enums[0][2]]
        self.handle_names = [name for one in known for name, _ in one.handles]
        self.struct_names = [name for one in known for name, _, _ in one.structs]
        self.callback_names = [callback["name"] for callback in header.callbacks]
        self.comments = {name: Comment(name, comment) for name, _, _, comment in header.functions}
        self.signatures = {name: dict(parameters) for name, _, parameters, _ in header.functions}
        self.slots = {"bn2d_" + name: (index, since) for index, (since, name) in enumerate(listed)}
        self.check_list()
        self.functions = [self.function(*entry) for entry in header.functions]

    def check_list(self):
        declared = [name for name, _, _, _ in self.header.functions]
        if declared != list(self.slots) + [self.getter]:
            raise Fault("functions.inc and the header have other functions, or another order")
        table = [fields for name, _, fields in self.header.structs if name == self.table][0]
        members = [field for field, _, _ in table]
        first = members.index(declared[0][len("bn2d_") :])
        if ["bn2d_" + member for member in members[first:]] != list(self.slots):
            raise Fault("the slots of %s are not functions.inc in its order" % self.table)
        for name, kind, parameters, comment in self.header.functions[:-1]:
            slot = table[first + self.slots[name][0]][1]["callback"]
            listed = [(member["name"], member["type"]) for member in slot["parameters"]]
            if (slot["result"], listed) != (kind["type"], [(p, k["type"]) for p, k in parameters]):
                raise Fault("%s: its slot in %s is declared otherwise" % (name, self.table))
            if self.slots[name][1] != Comment(name, comment).since:
                raise Fault(
                    "%s: since %s in functions.inc, %s in its comment"
                    % (name, self.slots[name][1], Comment(name, comment).since)
                )

    # What a function does not say itself, it has from those it is like.
    def lookup(self, name, find):
        found = find(self.comments[name])
        for like in self.comments[name].likes:
            if not found:
                found = self.lookup(like, find)
        return found

    def threads(self, name):
        text = self.lookup(name, lambda comment: comment.threads)
        if text is None:
            raise Fault(name + ': no "Threads: ..."')
        like = re.fullmatch(r"as (bn2d_\w+)\(\)", text)
        return self.threads(like.group(1)) if like else text

    def statuses(self, name):
        """The statuses that a comment names, without those of every function."""
        text = self.comments[name].returns
        found = set()
        if text is None:
            for like in self.comments[name].likes:
                found |= self.statuses(like)
            return found
        for like in re.findall(r"\bas (bn2d_\w+)\(\)", text):
            found |= self.statuses(like)
        taken = set(re.findall(r"\bbut (BN2D_\w+)", text))
        return (found | set(re.findall(r"\bBN2D_(?:OK|ERROR_\w+)", text))) - taken

    def returns(self, name, kind, parameters):
        text = self.comments[name].returns
        statuses = self.statuses(name)
        if "BN2D_OK" in statuses:
            statuses |= {"BN2D_ERROR_OUT_OF_MEMORY", "BN2D_ERROR_INTERNAL"}
            if any(p["kind"] == "handle" and p["direction"] != "out" for p in parameters):
                statuses.add("BN2D_ERROR_INVALID_HANDLE")
            if any("*" in p["type"] and not p["optional"] for p in parameters):
                statuses.add("BN2D_ERROR_INVALID_ARGUMENT")
            ordered = sorted(statuses, key=self.statuses_in_order.index)
            return {
                "type": kind["type"],
                "kind": "status",
                "statuses": ordered,
                **({"text": text} if text else {}),
            }
        if kind["type"] == "void":
            return {"type": "void", "kind": "nothing"}
        result = {"type": kind["type"], "kind": "value"}
        if "*" in kind["type"]:
            static = re.search(r"\bstatic\b", self.comments[name].text)
            result["ownership"] = "static" if static else "borrowed"
        return {**result, **({"text": text} if text else {})}

    def parameter(self, function, name, kind):
        # Documented here, or where this function is like another that has such a parameter.
        direction, text = self.lookup(function, lambda comment: comment.parameters.get(name)) or (
            None,
            "",
        )
        type_ = kind["type"]
        base = re.sub(r"\b(const|struct)\b|\*", " ", type_).split()[0]
        stars = type_.count("*")
        result = {"name": name, "type": type_}
        prose = text or (self.comments[function].text if RESULT.fullmatch(name) else "")
        enum = re.search(r"\b(?:[Oo]ne|[Bb]its) of (bn2d_\w+)", prose)
        if "callback" in kind or base in self.callback_names:
            result.update(kind="callback", direction="in")
        elif stars == 0:
            result.update(kind="scalar", direction="in")
        elif base in self.handle_names:
            result.update(
                kind="handle",
                direction="out" if stars == 2 else "in" if "const" in type_ else "inout",
            )
        elif base in self.header.foreign:
            result.update(kind="foreign", direction="out")
        elif base in self.struct_names:
            result.update(kind="struct", direction=direction)
        elif type_ == "const char *":
            result.update(kind="text", direction="in")
        elif RESULT.fullmatch(name) and type_ != "void *" and stars and not points_to_const(type_):
            is_scalar = base in SIZES and stars == 1
            result.update(
                kind="text" if base == "char" else "scalar" if is_scalar else "pointer",
                direction="out",
            )
        elif base == "void" and any(
            "callback" in other or other["type"] in self.callback_names
            for other in self.signatures[function].values()
        ):
            result.update(kind="context", direction="in")
        else:
            result.update(kind="array", direction=direction)
        if result["direction"] is None:
            raise Fault("%s: %s needs @param[in], [out] or [in,out]" % (function, name))
        if direction is not None and result["direction"] not in (direction, "inout"):
            raise Fault(
                "%s: %s is %s by its type, @param says %s"
                % (function, name, result["direction"], direction)
            )
        if result["kind"] == "array" and "const" in type_ and result["direction"] != "in":
            raise Fault("%s: %s is written, but const" % (function, name))
        if stars or result["kind"] == "callback":
            result["optional"] = bool(re.search(r"\bNULL\b", text)) or function.endswith("_release")
            result["ownership"] = self.ownership(function, result, text, prose)
        if result.get("ownership") == "owned":
            result["release"] = base + "_release" if base in self.handle_names else "its deleter"
        if enum:
            result["enum"] = enum.group(1)
        if "callback" in kind:
            result["callback"] = kind["callback"]
        if text:
            result["text"] = text
        return result

    @staticmethod
    def ownership(function, parameter, text, prose):
        if parameter["kind"] in ("handle", "foreign"):
            if parameter["direction"] == "out":
                return "owned"
            return "given back" if function.endswith("_release") else "borrowed"
        if re.search(r"[Bb]orrowed by the record", text):
            return "borrowed by the record"
        if re.search(r"\bmust stay valid\b|\b[Hh]as to stay\b", text):
            return "kept"
        if parameter["kind"] == "text" and parameter["direction"] == "out":
            return "static" if re.search(r"\bstatic\b", prose) else "borrowed"
        return "borrowed"

    def function(self, name, kind, parameters, _):
        comment = self.comments[name]
        unknown = set(comment.parameters) - {parameter for parameter, _ in parameters}
        if unknown:
            raise Fault("%s: has no parameter %s" % (name, ", ".join(sorted(unknown))))
        for like in comment.likes:
            if like not in self.comments:
                raise Fault("%s: there is no %s" % (name, like))
        described = [self.parameter(name, parameter, kind_) for parameter, kind_ in parameters]
        rule = self.threads(name)
        classes = THREADS.findall(rule)
        if not classes:
            raise Fault('%s: "Threads: %s" names no rule' % (name, rule))
        arguments = (
            ", ".join(declared(parameter, kind_) for parameter, kind_ in parameters) or "void"
        )
        return {
            "name": name,
            "prototype": "%s(%s);" % (joined(kind["type"], name), arguments),
            "slot": self.slots[name][0] if name in self.slots else None,
            "since": comment.since,
            "text": comment.text,
            "parameters": described,
            "returns": self.returns(name, kind, described),
            "threads": classes,
            "threads_text": rule,
        }

    def layout(self, name, text, fields):
        """Offsets and sizes as every 64-bit ABI lays them out; of the table, the part before the
        functions."""
        described, offset, largest = [], 0, 1
        slots = None
        for field, kind, comment in fields:
            pointer = "*" in kind["type"]
            size = POINTER if pointer else SIZES[kind["type"].replace("const ", "")]
            largest = max(largest, size)
            offset = -(-offset // size) * size
            if "callback" in kind and slots is None:
                slots = offset
            if slots is None:
                described.append(
                    {
                        "name": field,
                        "type": kind["type"],
                        "offset": offset,
                        "size": size,
                        "text": comment,
                    }
                )
            offset += size
        result = {
            "name": name,
            "size": -(-offset // largest) * largest,
            "fields": described,
            "text": text,
        }
        if slots is not None:
            result["slots"] = {
                "offset": slots,
                "size": POINTER,
                "count": (offset - slots) // POINTER,
            }
        return result

    def handle(self, name, text):
        made = [
            f["name"]
            for f in self.functions
            for p in f["parameters"]
            if p["kind"] == "handle" and p["type"] == name + " **"
        ]
        return {
            "name": name,
            "made_by": made,
            "retain": name + "_retain",
            "release": name + "_release",
            "text": text,
        }

    def constants(self):
        groups = [(name, text, values) for name, text, values in self.header.enums]
        groups.append(("version", "Numbers of the header's version.", self.header.defines))
        found = []
        for group, _, values in groups:
            for name, value, text in values:
                found.append({"name": name, "value": value, "group": group, "text": text})
        return found, [{"name": name, "text": text} for name, text, _ in groups]

    def whole(self):
        constants, groups = self.constants()
        value = {constant["name"]: constant["value"] for constant in constants}
        if self.above:
            return {
                "name": "bn2d_" + self.above,
                "api_version": value["BN2D_%s_API_VERSION" % self.above.upper()],
                "library": "libbn2d_%s.so.1" % self.above,
                "header": "bn2d/%s.h" % self.above,
                "above": "bn2d-api.json",
                "pointer_size": POINTER,
                "about": ABOUT,
                "groups": groups,
                "constants": constants,
                "handles": [self.handle(name, text) for name, text in self.header.handles],
                "structs": [self.layout(*struct) for struct in self.header.structs],
                "functions": self.functions,
            }
        version = "%d.%d.%d" % tuple(
            value["BN2D_VERSION_" + part] for part in ("MAJOR", "MINOR", "PATCH")
        )
        return {
            "name": "bn2d",
            "version": version,
            "api_version": value["BN2D_API_VERSION"],
            "library": "libbn2d.so.%d" % value["BN2D_VERSION_MAJOR"],
            "header": "bn2d/bn2d.h",
            "pointer_size": POINTER,
            "about": ABOUT,
            "groups": groups,
            "constants": constants,
            "handles": [self.handle(name, text) for name, text in self.header.handles],
            "structs": [self.layout(*struct) for struct in self.header.structs],
            "callbacks": self.header.callbacks,
            "functions": self.functions,
        }


# ------------------------------------------------------------------------------------------- output


def joined(type_, name):
    """`type_ name` with the star at the name."""
    return type_ + ("" if type_.endswith("*") else " ") + name


def declared(name, kind):
    """A declaration of a parameter or member."""
    if "callback" not in kind:
        return joined(kind["type"], name)
    inner = ", ".join(declared(p["name"], p) for p in kind["callback"]["parameters"]) or "void"
    return "%s(%s)" % (joined(kind["callback"]["result"], "(*%s)" % name), inner)


def as_json(value, indent=0):
    """JSON with one line for what fits one."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or indent > 0 and len(line) + indent <= 120:
        return line
    pad = " " * (indent + 2)
    if isinstance(value, list):
        return (
            "[\n"
            + ",\n".join(pad + as_json(item, indent + 2) for item in value)
            + "\n"
            + " " * indent
            + "]"
        )
    members = [
        "%s%s: %s" % (pad, json.dumps(key), as_json(item, indent + 2))
        for key, item in value.items()
    ]
    return "{\n" + ",\n".join(members) + "\n" + " " * indent + "}"


def as_cdef(header, description):
    """The header for cffi.FFI().cdef() and LuaJIT's ffi.cdef: no directives, no comments."""
    lines = []
    values = ", ".join("%s = %d" % (name, value) for name, value, _ in header.defines)
    lines.append("enum { %s };" % values)
    for name, _, constants in header.enums:
        lines.append("enum %s {" % name)
        lines.append(
            ",\n".join("  %s = %d" % (constant, value) for constant, value, _ in constants)
        )
        lines.append("};")
    lines += ["typedef struct %s %s;" % (name, name) for name, _ in header.handles]
    lines += ["struct %s;" % name for name in header.foreign]
    for callback in header.callbacks:
        lines.append("typedef %s;" % declared(callback["name"], callback))
    view, table = header.structs[:-1], header.structs[-1:]
    for name, _, fields in view + table:
        lines.append("typedef struct %s {" % name)
        lines += ["  %s;" % declared(field, kind) for field, kind, _ in fields]
        lines.append("} %s;" % name)
    lines += [function["prototype"] for function in description.functions]
    return "\n".join(lines) + "\n"


def generate(header_text, list_text):
    """{file name: text} of what is generated."""
    header = Header(header_text)
    listed = re.findall(r'^BN2D_FUNCTION\("([\d.]+)", (\w+)\)', list_text, flags=re.M)
    description = Description(header, listed)
    return {
        "bn2d-api.json": as_json(description.whole()) + "\n",
        "bn2d.cdef": as_cdef(header, description),
    }


def generate_above(name, header_text, list_text, below_text):
    """The same of a library above; `below_text` is bn2d.h."""
    header = Header(header_text)
    listed = re.findall(r'^BN2D_FUNCTION\("([\d.]+)", (\w+)\)', list_text, flags=re.M)
    description = Description(header, listed, name, Header(below_text))
    return {
        "bn2d-%s-api.json" % name: as_json(description.whole()) + "\n",
        "bn2d-%s.cdef" % name: as_cdef(header, description),
    }


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def main(arguments):
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    at = "bn2d"
    try:
        below = read(ROOT, "include", "bn2d", "bn2d.h")
        made = generate(below, read(ROOT, "capi", "functions.inc"))
        for at in ABOVE:
            header = read(ROOT, "include", "bn2d", at + ".h")
            made.update(generate_above(at, header, read(ROOT, "capi", at, "functions.inc"), below))
    except Fault as fault:
        print("%s.h: %s" % (at, fault), file=sys.stderr)
        return 1
    stale = [
        name
        for name, text in made.items()
        if not os.path.exists(os.path.join(HERE, name)) or read(HERE, name) != text
    ]
    if arguments == ["--check"]:
        if stale:
            print(
                "stale: %s; run: python3 capi/api/generate.py" % ", ".join(stale), file=sys.stderr
            )
        return 1 if stale else 0
    for name in stale:
        with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
            file.write(made[name])
        print("written: capi/api/" + name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
