# SPDX-License-Identifier: MIT
"""Compiles the eager path of bn2d.torch for the torch that is installed.

    python -m bn2d.torch.build              compile it, once for each torch and each Python
    python -m bn2d.torch.build --remove     remove all that was compiled

It takes the C++ compiler that $CXX names, or c++, g++ or clang++, and the headers of Python. The
result goes to the user's cache (_extension.py); `import bn2d.torch` loads it from there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from typing import Any, Callable

import torch

from . import _extension


class BuildError(RuntimeError):
    """There is no compiler, or it found a fault."""


def compiler() -> list[str]:
    """The command of a C++ compiler."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    for command in [wanted] if wanted else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    raise BuildError(
        "there is no C++ compiler %s: install one, or name it by CXX" % (wanted or ["c++"])[0]
    )


def command(output: str) -> list[str]:
    """The command that compiles the extension."""
    here = os.path.dirname(os.path.abspath(torch.__file__))
    python = sysconfig.get_paths()["include"]
    needed = os.path.join(python, "Python.h")
    if not os.path.exists(needed):
        raise BuildError("there is no %s: install Python's headers (python3-dev)" % needed)
    libraries = os.path.join(here, "lib")
    return [
        *compiler(),
        *("-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-s"),
        "-D_GLIBCXX_USE_CXX11_ABI=%d" % torch._C._GLIBCXX_USE_CXX11_ABI,
        *("-isystem", os.path.join(here, "include"), "-isystem", python),
        *("-I", os.path.dirname(os.path.dirname(_extension.header()))),
        *("-o", output, _extension.SOURCE),
        # No paths to look for them: torch has loaded them by then.
        *("-L" + libraries, "-lc10", "-ltorch_cpu", "-ltorch_python"),
    ]


def try_out(forward: Callable[..., Any]) -> None:
    """One step by a new extension, against torch, so that none that is broken gets into use."""
    with torch.device("cpu"):  # the default may be another
        module = torch.nn.BatchNorm2d(3)
        x, dy = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    module._mode = lambda *_: (None, None, True, 0.0, None, 0)  # type: ignore[assignment]
    y = forward(module, x, None, module.weight, module.bias, None, None, 0, 0.0)
    if y is None:
        raise BuildError("what was compiled takes no call")
    wanted = module(x)
    inputs = (x, module.weight, module.bias)
    pairs = zip(
        (y, *torch.autograd.grad(y, inputs, dy)), (wanted, *torch.autograd.grad(wanted, inputs, dy))
    )
    if not all(torch.allclose(one, other, atol=1e-4) for one, other in pairs):
        raise BuildError("what was compiled computes other numbers than torch")


def make_folders(name: str) -> None:
    """A folder and what is missing above it, for this user alone whatever the umask is."""
    if os.path.isdir(name):
        return
    make_folders(os.path.dirname(name))
    with contextlib.suppress(FileExistsError):  # by another process, just now
        os.mkdir(name, 0o700)


def build() -> str:
    """Compiles the extension, tries it out and moves it to its place, whole or not at all.

    Any number of processes may do so at once. Returns the place.

    Raises:
        BuildError: No compiler, no headers of Python, or a fault that the compiler prints.
        OSError: The cache cannot be written, or others could write to it.
    """
    name = _extension.path()
    folder = os.path.dirname(name)
    make_folders(folder)
    _extension.check_owner(folder)
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        output = os.path.join(unfinished, _extension.FILE)
        done = subprocess.run(command(output), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError("%s\n%s" % (shlex.join(done.args), done.stderr))
        os.chmod(output, 0o700)
        try_out(_extension.open_file(output))
        os.replace(output, name)
    return name


def remove() -> bool:
    """Removes the folder with all that was built, for whichever torch. Returns whether it was
    there."""
    folder = _extension.cache()
    if not os.path.isdir(folder):
        return False
    shutil.rmtree(folder)
    return True


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m bn2d.torch.build", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--remove", action="store_true", help="remove all that was compiled")
    if parser.parse_args().remove:
        print("%s: %s" % ("removed" if remove() else "nothing to remove", _extension.cache()))
        return 0
    start = time.monotonic()
    try:
        name = build()
    except (BuildError, ImportError, OSError) as fault:
        print("bn2d.torch.build: %s" % fault, file=sys.stderr)
        return 1
    print("%s, in %.0f s" % (name, time.monotonic() - start))
    return 0


if __name__ == "__main__":
    sys.exit(main())
