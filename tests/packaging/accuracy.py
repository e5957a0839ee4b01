#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""README.md's accuracy table against what the command beside it prints: accuracy.py README PROGRAM

No measured error is larger than the table says, no number of the table is more than twice what was
measured (on a target with a fused multiply-add, or for a number of SSE4), and the bounds are those
that the tests hold the library to.
"""

import re
import subprocess
import sys

# Columns of the table, and what the program calls their operations; a label in the table has
# operations of its own.
COLUMNS = {
    "y": ["y"],
    "dx": ["dx", "dz"],
    "dweight": ["dweight"],
    "dbias": ["dbias"],
    "double backward": ["ddy", "dx2", "dweight2"],
    "mean": ["saved_mean", "running_mean"],
    "variance": ["running_var", "saved_invstd"],
}
LABELS = {"running": "running_mean", "1/std": "saved_invstd"}
WITHOUT_FMA = ("SSE4", "SCALAR")


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table_of(readme):
    """{row name: {column: {label or "": number}}}"""
    lines = open(readme, encoding="utf-8").read().splitlines()
    head = next(i for i, line in enumerate(lines) if cells(line)[1:] == list(COLUMNS))
    rows = {}
    for line in lines[head + 2 : head + 5]:
        name, *values = cells(line)
        rows[name] = {}
        for column, value in zip(COLUMNS, values):
            found = re.fullmatch(r"([\d.]+)(?: \((.+): ([\d.]+)\))?", value)
            if not found:
                sys.exit("README.md: cannot read %r, %s of %s" % (value, column, name))
            rows[name][column] = {"": float(found.group(1))}
            if found.group(2):
                rows[name][column][found.group(2)] = float(found.group(3))
    return rows


def measured_by(program):
    """The SIMD target, and {(dtype, operation): (largest error, largest bound)}."""
    printed = subprocess.run([program, "[numerics]"], capture_output=True, text=True, check=False)
    if printed.returncode != 0:
        sys.exit(printed.stdout + printed.stderr + "\nthe numerical tests fail")
    target = re.search(r"^Largest errors, (\w+)\.", printed.stdout, flags=re.M).group(1)
    largest = {}
    row = re.compile(r"^(f32|f64) +(?:.*: )?(\w+) +([\d.]+) +([\d.]+) +\d+$", flags=re.M)
    for dtype, operation, error, bound in row.findall(printed.stdout):
        old = largest.get((dtype, operation), (0, 0))
        largest[dtype, operation] = (max(old[0], float(error)), max(old[1], float(bound)))
    return target, largest


def main(readme, program):
    table = table_of(readme)
    target, largest = measured_by(program)
    faults = []

    def compare(what, told, error, close=True):
        print("%-28s README %.1f, measured %.3f" % (what, told, error))
        if error > told:
            faults.append("%s: README.md tells %.1f ulp, measured were %.3f" % (what, told, error))
        if close and told > 2 * error:
            faults.append(
                "%s: README.md tells %.1f ulp, only %.3f were measured" % (what, told, error)
            )

    print("target", target)
    for dtype, name in (("f32", "float32"), ("f64", "float64")):
        for column, operations in COLUMNS.items():
            told = table[name + ": largest error"][column]
            own = {label: operation for label, operation in LABELS.items() if label in told}
            rest = [operation for operation in operations if operation not in own.values()]
            without = target in WITHOUT_FMA
            number = told.get("SSE4", told[""]) if without else told[""]
            close = (
                "SSE4" in told or not without
            )  # these targets may well be better than the others
            compare(
                "%s %s" % (name, column), number, max(largest[dtype, o][0] for o in rest), close
            )
            for label, operation in own.items():
                compare(
                    "%s %s (%s)" % (name, column, label), told[label], largest[dtype, operation][0]
                )
            bounds = table["bound"][column]
            bound = bounds["f64"] if dtype == "f64" else bounds[""]
            held = max(largest[dtype, o][1] for o in operations)
            if bound != held:
                faults.append(
                    "%s %s: README.md promises %.1f, the tests hold %.1f"
                    % (name, column, bound, held)
                )
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(*sys.argv[1:])
