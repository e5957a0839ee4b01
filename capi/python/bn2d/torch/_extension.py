# SPDX-License-Identifier: MIT
"""The compiled eager path: where `python -m bn2d.torch.build` puts it, and how it is loaded.

Nothing is compiled here. What fits this torch, this Python and this source has a folder of its own
in the user's cache, so that another of them does not find it. A file is loaded only where nobody
but this user (or root) can have written it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import stat
import sysconfig
import warnings
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any, Callable, Optional

import torch

from .. import _api
from ._autograd import gradients

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_native.cc")
FILE = "_native.so"


def cache() -> str:
    """The folder of all that was built: $XDG_CACHE_HOME/bn2d/torch, or ~/.cache/bn2d/torch.

    Raises:
        OSError: The user has no home.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(root):  # as its specification says
        root = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(root):
        raise OSError("there is no home, so there is no cache: set XDG_CACHE_HOME")
    return os.path.join(root, "bn2d", "torch")


def path() -> str:
    """Where the extension for this torch, this Python, this source and this header is, if it is."""
    digest = hashlib.sha256()
    for name in (SOURCE, header()):
        with open(name, "rb") as file:
            digest.update(file.read())
    # Builds of one version of torch differ: by their source, CUDA and C++ ABI.
    build = (torch.version.git_version, torch.version.cuda, torch._C._GLIBCXX_USE_CXX11_ABI)
    digest.update(repr((build, platform.machine())).encode())
    key = (
        "torch-" + torch.__version__,
        sysconfig.get_config_var("SOABI"),
        digest.hexdigest()[:16],
    )
    return os.path.join(cache(), "-".join(key), FILE)


def header() -> str:
    """bn2d.h, inside the package or in the checkout."""
    inside = os.path.join(_api.HERE, "include", "bn2d", "bn2d.h")
    checkout = os.path.join(_api.HERE, "..", "..", "..", "include", "bn2d", "bn2d.h")
    return inside if os.path.exists(inside) else checkout


def check_owner(name: str) -> None:
    """Raises a PermissionError where another user than this one and root can write a file or
    exchange it, or a folder on the way to it.

    Others may write to a folder such as /tmp, whose sticky bit keeps them from exchanging what is
    not theirs.
    """
    ways = {os.path.abspath(name), os.path.realpath(name)}  # links lie in folders, too
    for way in sorted(ways):
        while True:
            found = os.stat(way)
            is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
            if found.st_uid not in (os.geteuid(), 0) or (
                found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky
            ):
                raise PermissionError("%s: another user can write to %s" % (name, way))
            if way == os.path.dirname(way):
                break
            way = os.path.dirname(way)


def open_file(name: str) -> Callable[..., Any]:
    """Loads a file and makes it ready: its `forward`."""
    loader = ExtensionFileLoader("bn2d.torch._native", name)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    get_api = _api.declared("bn2d_get_api")
    table = get_api(module.API_VERSION)
    if not table:
        raise ImportError("the library is older than version %d of its table" % module.API_VERSION)
    module.setup(table, _api.fail, gradients)
    forward: Callable[..., Any] = module.forward
    return forward


def load() -> Optional[Callable[..., Any]]:
    """`forward` of the extension, or None where it was not built, or BN2D_TORCH_NATIVE=0 says so.

    One that is there and cannot be loaded gives a RuntimeWarning that tells why.
    """
    if os.environ.get("BN2D_TORCH_NATIVE") == "0":
        return None
    try:
        name = path()
        if not os.path.exists(name):
            return None
        check_owner(name)
        return open_file(name)
    except (OSError, ImportError) as fault:
        warnings.warn("bn2d.torch goes on in Python: %s" % fault, RuntimeWarning, stacklevel=2)
        return None
