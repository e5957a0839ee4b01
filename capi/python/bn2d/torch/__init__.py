# SPDX-License-Identifier: MIT
"""bn2d inside PyTorch: modules that take the place of torch's, and operators for its compiler.

    import torch, bn2d.torch
    model = bn2d.torch.convert(model)           # every nn.BatchNorm2d, GroupNorm, InstanceNorm2d; model.state_dict() as before
    model = bn2d.torch.SyncBatchNorm2d.convert(model)   # over the processes of torch.distributed
    layer = bn2d.torch.BNReLU(64)               # relu(bn(x)), or relu(bn(x) + z) with layer(x, z)
    layer = bn2d.torch.BatchNormAct2d(64, activation="silu")    # and GroupNormAct

`python -m bn2d.torch.build` compiles what a call does around the library; `native()` tells whether
that is in use.

Importing this makes bn2d run its threads in torch's OpenMP pool, for the whole process: workers of
two pools would take the cores from each other. `bn2d.set_thread_pool("tbb")` undoes that.
"""

from __future__ import annotations

from .. import _library
from ..errors import NotFoundError
from ._convert import convert, revert
from ._fused import BatchNormAct2d, BNReLU, GroupNormAct
from ._modules import BatchNorm2d, GroupNorm, InstanceNorm2d, native
from ._sync import SyncBatchNorm2d

__all__ = [
    "BNReLU",
    "BatchNorm2d",
    "BatchNormAct2d",
    "GroupNorm",
    "GroupNormAct",
    "InstanceNorm2d",
    "SyncBatchNorm2d",
    "convert",
    "native",
    "revert",
]

try:
    _library.set_thread_pool("openmp")
except NotFoundError:  # a torch without OpenMP
    pass
