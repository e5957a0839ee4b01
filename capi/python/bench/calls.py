# SPDX-License-Identifier: MIT
"""What a call costs in Python beyond the same call in C, and a small layer beside torch's own.

    python capi/python/bench/calls.py

The C column repeats the prepared call from ctypes and takes off what ctypes needs for a call with the
same arguments that fails at its first check. Processor time of the calling thread, best of many rounds,
the candidates in turn: so that other programs on the machine disturb little.
"""

from __future__ import annotations

import time
from typing import Callable

import numpy as np

import bn2d
from bn2d import _api


def best(*candidates: Callable[[], object], number: int = 300, rounds: int = 40) -> list[float]:
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
    bn(x, out=y)
    plan = next(iter(bn._plans.values()))[0]
    plan.views[0].data, plan.views[1].data = x.ctypes.data, y.ctypes.data
    refused = _api.Call("bn2d_forward_act", module=0, x=plan.views[0], y=plan.views[1], activation=0, slope=0.0)
    c, ctypes_alone, into, new = best(
        lambda: plan.function(*plan.arguments),
        lambda: refused.function(*refused.arguments),
        lambda: bn(x, out=y),
        lambda: bn(x),
    )
    c -= ctypes_alone
    print("NumPy, eval (1, 8, 4, 4): C %.2f us; Python with out= %.2f us (+%.2f), without %.2f us (+%.2f)" % (c, into, into - c, new, new - c))


def torch_layers() -> None:
    """Training step and inference of one layer, ours and torch's."""
    import torch
    from torch import nn

    import bn2d.torch as bt

    print("%-18s %28s %28s %28s" % ("torch, us", "forward (torch, bn2d)", "forward+backward", "eval"))
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


if __name__ == "__main__":
    numpy_calls()
    try:
        torch_layers()
    except ImportError as fault:
        print(fault)
