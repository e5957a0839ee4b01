# SPDX-License-Identifier: MIT
"""The programs of README.md run as they stand there, each in a new interpreter."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest
from conftest import need, need_libraries

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
PRINTS = [
    "BatchNorm2d(64, ",
    "batches: 1 values of a channel: 8192 4",
    "(8, 3, 3, 3) (8,) largest",
    "ReLU()",
    "bn2d.torch._modules is off by ",
    "8 (1, 64, 56, 56) tbb",
    "ShapeError x has 3 channels, the module has num_features 64",
]


def test_there_are_as_many_as_are_checked():
    assert len(PROGRAMS) == len(PRINTS)


@pytest.mark.parametrize("number", range(len(PRINTS)))
def test_program(number, tmp_path):
    program = PROGRAMS[number]
    if "fold_into" in program:
        need_libraries("state", "fold")
    if "import torch" in program:
        need("torch")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert PRINTS[number] in done.stdout
