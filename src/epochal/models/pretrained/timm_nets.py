"""Networks of timm (PyTorch Image Models), for those who have that package: any that it has by name, with weights from a file.

Only the architecture comes from timm. Nothing is downloaded, and a name from a stranger's file can only be one of its registered ones.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from torch import nn

from epochal.data.inputs.preprocess import Preprocess
from epochal.data.spec import DataSpec
from epochal.errors import MissingError, ModelError
from epochal.models.pretrained.head import with_head
from epochal.user_code import in_words

PREFIX = "timm:"

# The first version whose networks can be built without memory, to be compared with a file.
_LEAST = 1, 0, 22

_INSTALL = 'Install it: pip install "epochal[timm]"'


def timm_net(name: str, spec: DataSpec, *, weights: str = "", sha256: str = "") -> nn.Sequential:  # noqa: ARG001
    """Return a network by timm's name for it: `trunk`, which scales pixels as it was trained with, and `head` for these outputs.

    `weights` and `sha256` name what it is given before training (see `WeightsFile`); they do not change the network.
    """
    config = _config(name)
    return with_trunk(name, config.input_size[0], config.mean, config.std, spec)


def timm_settings(name: str) -> dict[str, Any]:
    """Return the settings of data that a network asks for. Raises `ModelError` if timm does not have it, or is not installed."""
    config = _config(name)
    return input_settings(config.input_size)


def input_settings(size: Sequence[int]) -> dict[str, Any]:
    """Return the settings of data for pictures of `size` (channels, height, width); the network scales pixels of 0 to 1 itself."""
    _, height, width = size
    return {"data.size": height if height == width else (height, width), "data.mean": 0.0, "data.std": 1.0}


def with_trunk(name: str, channels: int, mean: Sequence[float], std: Sequence[float], spec: DataSpec) -> nn.Sequential:
    """Return a network of timm behind its scaling: pixels of 0 to 1, less `mean`, divided by `std`."""
    # Scaled here, and not before: grey pictures become three channels by it.
    middle, spread = (torch.tensor(values, dtype=torch.float64, device="cpu").reshape(-1, 1, 1) for values in (mean, std))
    scale = Preprocess(middle, spread, "float32")
    net = _timm(name).create_model(registered(name), pretrained=False, num_classes=0, in_chans=channels)
    features = getattr(net, "head_hidden_size", None) or net.num_features
    return with_head(nn.Sequential(OrderedDict(scale=scale, net=net)), features, spec)


def _config(name: str) -> Any:
    """Return what timm knows of a network's input, which depends on the weights that its name may end in: "resnet18.a1_in1k"."""
    wanted, timm = registered(name), _timm(name)
    try:
        return timm.get_pretrained_cfg(wanted, allow_unregistered=False)
    except RuntimeError:
        base = wanted.partition(".")[0]
        known = timm.list_models(f"{base}.*", include_tags=True)
        raise ModelError(f"timm {timm.__version__} has no weights '{wanted}'.", f"Known: {', '.join(known) or base}.") from None


def registered(name: str) -> str:
    """Return the name without its prefix. Raises `ModelError` if timm has no such network: no address or path gets past this."""
    timm, wanted = _timm(name), name.removeprefix(PREFIX)
    base = wanted.partition(".")[0]
    known = timm.list_models()
    if base in known:
        return wanted
    from difflib import get_close_matches

    near = get_close_matches(base, known, n=1)
    fix = f"Did you mean '{PREFIX}{near[0]}'?" if near else "timm.list_models() lists them."
    raise ModelError(f"timm {timm.__version__} has no model '{wanted}'.", fix)


def _timm(name: str) -> ModuleType:
    try:
        with warnings.catch_warnings(), _torchvision_or_none():
            # Older versions use what PyTorch has deprecated since.
            warnings.simplefilter("ignore")
            timm = importlib.import_module("timm")
    except Exception as error:  # importing a package may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == "timm":
            raise MissingError(f"The model {name} is built by the package timm, which is not installed.", _INSTALL) from None
        raise MissingError(f"The model {name} is built by timm, which cannot be imported: {in_words(error)}.", _INSTALL) from error
    if tuple(map(int, re.findall(r"\d+", timm.__version__)[:3])) < _LEAST:
        least = ".".join(map(str, _LEAST))
        fix = 'Update it: pip install --upgrade "epochal[timm]"'
        raise MissingError(f"The model {name} needs timm {least} or later; {timm.__version__} is installed.", fix)
    return timm


@contextmanager
def _torchvision_or_none() -> Iterator[None]:
    """Let timm be imported where torchvision is missing, or was built for another PyTorch: timm's networks need nothing of it.

    What takes its place can be named, as timm's data loading does at import, but not used; other imports do not see it.
    """
    if "timm" in sys.modules:
        yield
        return
    try:
        importlib.import_module("torchvision")
    except Exception:  # also of what its operators do to PyTorch  # noqa: BLE001
        absent = _Absent()
        _forget()
        sys.meta_path.insert(0, absent)
        try:
            yield
        finally:
            sys.meta_path.remove(absent)
            _forget()
    else:
        yield


def _forget() -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[module]


class _Absent:
    """A finder and loader of modules called torchvision, in which every name is a class that cannot be instantiated."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "torchvision" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AbsentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _AbsentModule(ModuleType):
    def __getattr__(self, name: str) -> type:
        return _absent(name)


class _AbsentClass(type):
    def __getattr__(cls, name: str) -> type:
        return _absent(name)

    def __call__(cls, *_: object, **__: object) -> None:
        raise ImportError(f"{cls.__name__} is a part of torchvision, which cannot be imported.")


def _absent(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return _AbsentClass(name, (nn.Module,), {})
