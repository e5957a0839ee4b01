# SPDX-License-Identifier: MIT
"""What a call costs in Python beyond the same call in C, and a small layer beside torch's own.

    python capi/python/bench/calls.py [--threads N]

Processor time of the calling thread, best of many rounds, the candidates in turn: so that other
programs on the machine disturb little. The loop in C is compiled by cc, to call the same library in
this process.
"""

from __future__ import annotations

import argparse
import ctypes
import pathlib
import subprocess
import tempfile
import time
from typing import Callable

import numpy as np

import bn2d

LOOP = """
#include <bn2d/bn2d.h>
int loop(int (*call)(bn2d_module *, const float *, int64_t, int64_t, int64_t, float *,
                     bn2d_record **),
         bn2d_module *module, const float *x, int64_t n, int64_t h, int64_t w, float *y, int times) {
  int status = 0;
  for (int i = 0; i < times; ++i) status |= call(module, x, n, h, w, y, 0);
  return status;
}
"""


def in_c(bn: bn2d.BatchNorm2d, x: np.ndarray, y: np.ndarray, times: int) -> Callable[[], object]:
    """A function that calls bn2d_forward_f32 many times."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = pathlib.Path(folder, "loop.c"), pathlib.Path(folder, "loop.so")
        source.write_text(LOOP)
        headers = [bn2d.get_include(), str(pathlib.Path(__file__).resolve().parents[3] / "include")]
        flags = ["-I" + one for one in headers]
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", *flags, "-o", str(made), str(source)], check=True
        )
        loop = ctypes.CDLL(str(made)).loop
    forward = ctypes.cast(ctypes.CDLL(bn2d.get_library()).bn2d_forward_f32, ctypes.c_void_p)
    pointers = [ctypes.c_void_p(one) for one in (bn._address, x.ctypes.data, y.ctypes.data)]
    n, _, h, w = (ctypes.c_int64(extent) for extent in x.shape)
    return lambda: loop(forward, pointers[0], pointers[1], n, h, w, pointers[2], times)


def best(*candidates: Callable[[], object], number: int = 100, rounds: int = 40) -> list[float]:
    """Microseconds of each."""
    least = [float("inf")] * len(candidates)
    for _ in range(rounds):
        for index, call in enumerate(candidates):
            start = time.thread_time()
            for _ in range(number):
                call()
            least[index] = min(least[index], time.thread_time() - start)
    return [one / number * 1e6 for one in least]


def numpy_calls() -> None:
    """Eval and training of a tiny array: nearly all of it is the way in."""
    x = np.ones((1, 8, 4, 4), np.float32)
    y = np.empty_like(x)
    bn = bn2d.BatchNorm2d(8).eval()
    many = in_c(bn, x, y, 1000)
    c, into, new = best(many, lambda: bn(x, out=y), lambda: bn(x))
    c /= 1000
    print(
        "NumPy, eval (1, 8, 4, 4), us: C %.2f; Python with out= %.2f (+%.2f), without %.2f (+%.2f)"
        % (c, into, into - c, new, new - c)
    )


def torch_layers() -> None:
    """Training step and inference of one layer, ours and torch's."""
    import torch
    from torch import nn

    import bn2d.torch as bt

    print(
        "%-18s %28s %28s %28s" % ("torch, us", "forward (torch, bn2d)", "forward+backward", "eval")
    )
    for shape in [(1, 4, 2, 2), (2, 16, 8, 8), (8, 32, 8, 8), (8, 64, 16, 16)]:
        x, dy = torch.randn(shape, requires_grad=True), torch.randn(shape)
        pairs = []
        theirs, ours = nn.BatchNorm2d(shape[1]), bt.BatchNorm2d(shape[1])

        def step(module: nn.Module) -> Callable[[], object]:
            wanted = (x, *module.parameters())
            return lambda: torch.autograd.grad(module(x), wanted, dy)

        pairs.append(best(lambda: theirs(x), lambda: ours(x)))
        pairs.append(best(step(theirs), step(ours)))
        theirs.eval()
        ours.eval()
        with torch.no_grad():
            pairs.append(best(lambda: theirs(x), lambda: ours(x)))
        print("%-18s" % (shape,), " ".join("%13.1f %13.1f " % tuple(one) for one in pairs))


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    arguments.add_argument("--threads", type=int, default=0, help="threads of both libraries")
    given = arguments.parse_args()
    bn2d.set_num_threads(given.threads)
    numpy_calls()
    try:
        import torch
    except ImportError as fault:
        print(fault)
        return
    if given.threads:
        torch.set_num_threads(given.threads)
    torch_layers()


if __name__ == "__main__":
    main()
