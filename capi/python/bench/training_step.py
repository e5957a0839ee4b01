# SPDX-License-Identifier: MIT
"""The training step of a small ResNet: torch's own batch norm against bn2d's, in pairs in one
process.

    python capi/python/bench/training_step.py [--pairs N] [--layers] [--compare] [--pool openmp|tbb]

3 stages, batch 64, 32x32, SGD; torch's defaults. Rows: NCHW and channels_last; converted (each batch
norm exchanged) and fused (with its ReLU, and with the residual before it). Each pair runs both
models on the same data in turn, the order changing; the ratio is torch's time by bn2d's, above 1 is
faster. The median of the pairs, and the quartiles beside it, say what it is worth. --layers adds
each layer alone. --compare adds to each row one with the compiled extension switched off, where it
is in use (`python -m bn2d.torch.build` makes it); all three take turns.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Callable, Optional

import torch
from torch import Tensor, nn

import bn2d
import bn2d.torch as bt


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and a residual."""

    def __init__(self, inputs: int, outputs: int, stride: int, fused: bool) -> None:
        super().__init__()
        norm = bt.BNReLU if fused else nn.BatchNorm2d
        self.fused = fused
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.down: Optional[nn.Module] = None
        if stride != 1 or inputs != outputs:
            plain = bt.BatchNorm2d if fused else nn.BatchNorm2d
            self.down = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), plain(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        z = x if self.down is None else self.down(x)
        if self.fused:
            return self.bn2(self.conv2(self.bn1(self.conv1(x))), z)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + z)


def resnet(fused: bool) -> nn.Module:
    """Stem, 3 stages of 2 blocks (16, 32, 64 channels), pooling, 10 classes."""
    torch.manual_seed(0)
    stem = [bt.BNReLU(16)] if fused else [nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    blocks: list[nn.Module] = []
    inputs = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        blocks += [Block(inputs, outputs, stride, fused), Block(outputs, outputs, 1, fused)]
        inputs = outputs
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        *stem,
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def training(model: nn.Module, x: Tensor, target: Tensor) -> Callable[[], None]:
    """One step of SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()

    return step


def in_turns(
    calls: list[Callable[[], object]], rounds: int
) -> tuple[float, list[tuple[float, float, float]]]:
    """Milliseconds of the first call, and its time by that of each other: median and quartiles."""
    for _ in range(3):
        for call in calls:
            call()
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        order = list(range(len(calls)))
        for turn in order if number % 2 == 0 else reversed(order):
            start = time.perf_counter()
            calls[turn]()
            times[turn].append(time.perf_counter() - start)
    ratios = []
    for ours in times[1:]:
        low, middle, high = statistics.quantiles([a / b for a, b in zip(times[0], ours)], n=4)
        ratios.append((middle, low, high))
    return 1e3 * statistics.median(times[0]), ratios


def rows(
    name: str,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    pairs: int,
    compare: bool,
) -> None:
    """Prints the pairs of one row; with `compare` another one for what is not compiled."""
    extension = bt._modules._native

    def by(native: object) -> Callable[[], object]:
        def call() -> None:
            bt._modules._native = native
            ours()
            bt._modules._native = extension

        return call

    paths = [extension, None] if compare and extension else [extension]
    spent, ratios = in_turns([theirs, *(by(one) for one in paths)], pairs)
    for path, ratio in zip(paths, ratios):
        kind = "extension" if path else "python"
        print(
            "%-36s %-9s torch %8.3f ms   torch/bn2d %5.3f (%.3f to %.3f)"
            % (name, kind, spent, *ratio),
            flush=True,
        )


def models(pairs: int, compare: bool) -> None:
    for layout, name in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "channels_last")):
        x = torch.randn(64, 3, 32, 32).contiguous(memory_format=layout)
        target = torch.randint(0, 10, (64,))
        plain = resnet(False).to(memory_format=layout)
        theirs = training(plain, x, target)
        for kind in ("converted", "fused"):
            model = (
                bt.convert(copy.deepcopy(plain))
                if kind == "converted"
                else resnet(True).to(memory_format=layout)
            )
            rows("%s %s" % (name, kind), theirs, training(model, x, target), pairs, compare)


def layers(pairs: int, compare: bool) -> None:
    """Each layer alone between two convolutions, as a network has it, forward and backward."""
    for shape in (
        (64, 16, 32, 32),
        (64, 32, 16, 16),
        (64, 64, 8, 8),
        (32, 512, 7, 7),
        (1, 64, 112, 112),
        (8, 64, 8, 8),
    ):
        for layout, name in (
            (torch.contiguous_format, "NCHW"),
            (torch.channels_last, "channels_last"),
        ):
            x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
            dy = torch.randn(shape).contiguous(memory_format=layout)
            other = nn.Conv2d(shape[1], shape[1], 1, groups=shape[1]).to(memory_format=layout)
            steps = []
            for module in (nn.BatchNorm2d(shape[1]), bt.BatchNorm2d(shape[1])):
                steps.append(lambda module=module: torch.autograd.grad(module(other(x)), x, dy))
            rows("%s %s" % (shape, name), *steps, pairs * 5, compare)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    arguments.add_argument("--pairs", type=int, default=40, help="pairs of each row")
    arguments.add_argument("--layers", action="store_true", help="each layer alone, too")
    arguments.add_argument("--compare", action="store_true", help="without the extension, too")
    arguments.add_argument(
        "--pool", choices=("openmp", "tbb"), help="another pool than bn2d.torch chose"
    )
    given = arguments.parse_args()
    if given.pool:
        bn2d.set_thread_pool(given.pool)
    print(
        "torch %s, bn2d %s (%s), %d threads, pool %s"
        % (
            torch.__version__,
            bn2d.__version__,
            "compiled extension" if bt.native() else "Python alone",
            torch.get_num_threads(),
            bn2d.get_thread_pool(),
        )
    )
    models(given.pairs, given.compare)
    if given.layers:
        layers(given.pairs, given.compare)


if __name__ == "__main__":
    main()
