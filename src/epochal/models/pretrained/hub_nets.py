"""What of the Hugging Face hub can be trained further: networks for pictures that timm builds, with weights in safetensors.

A recipe, and a bundle, hold all that the network is built from (`hub_settings`), so that neither needs the hub again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError
from torch import nn

from epochal.data.spec import DataSpec
from epochal.errors import ModelError, reason_of
from epochal.io.safe_read import parse_json
from epochal.models.pretrained.hub import Repository, noted_sha256
from epochal.models.pretrained.timm_nets import PREFIX, input_settings, registered, with_trunk
from epochal.models.pretrained.weights_file import WeightsFile

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"

_SUPPORTED = "Supported are networks for pictures of library timm, with model.safetensors, such as hub:timm/resnet18.a1_in1k."

# What a recipe has of a model of the hub, beside its name.
_PINS = ("architecture", "input_size", "mean", "std", "revision", "sha256")


class _Input(BaseModel):
    """What timm's config.json says of the pictures that a network was trained on: [channels, height, width], and their scale."""

    model_config = ConfigDict(allow_inf_nan=False)

    input_size: tuple[Annotated[int, Field(ge=1, le=16)], Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[PositiveFloat, ...] = Field(min_length=1)


class _Config(BaseModel):
    architecture: str
    pretrained_cfg: _Input
    model_args: dict[str, Any] = {}


def hub_settings(model: str, options: Mapping[str, Any], log: Callable[[str], object]) -> dict[str, Any]:
    """Return the settings that name exactly one state of `hub:OWNER/NAME`, and all that is needed to build it; {} if they are there.

    Raises `ModelError` for a model that is not supported, and `DownloadError`.
    """
    if all(name in options for name in _PINS[:-1]):
        return {}
    repository = Repository.of(model)
    commit = str(options.get("revision", "")) or repository.commit(log)
    repository = Repository(repository.name, commit)
    config = _read_config(repository, repository.file(_CONFIG))
    registered(PREFIX + config.architecture)
    log(f"note: {model} is timm's {config.architecture}, at revision {commit[:8]}")
    return {
        "model.architecture": config.architecture,
        **{f"model.{name}": value for name, value in config.pretrained_cfg.model_dump().items()},
        "model.revision": commit,
    }


def _read_config(repository: Repository, path: Path) -> _Config:
    refused = f"{repository.name} cannot be used"
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{refused}: its {_CONFIG} cannot be read: {reason_of(error)}.", f"Remove {path}, and try again.") from error
    if not isinstance(found, dict) or not isinstance(found.get("architecture"), str):
        kind = found.get("model_type") if isinstance(found, dict) else None
        what = f"of type {kind}" if kind else "no network of timm"
        raise ModelError(f"{repository.name} cannot be used: it is {what}.", _SUPPORTED)
    # Older files have it all in one.
    found.setdefault("pretrained_cfg", found)
    try:
        config = _Config.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{refused}: {place} in its {_CONFIG}: {first['msg']}.", _SUPPORTED) from error
    if config.model_args:
        raise ModelError(f"{refused}: it changes timm's {config.architecture} by {', '.join(config.model_args)}.", _SUPPORTED)
    return config


def hub_net(
    spec: DataSpec,
    *,
    architecture: str = "",
    input_size: Sequence[int] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    revision: str = "",  # noqa: ARG001
    sha256: str = "",  # noqa: ARG001
) -> nn.Sequential:
    """Return a network of timm, as its settings describe it: `trunk`, and `head` for these outputs. Nothing is downloaded for it."""
    described = _Input(input_size=tuple(input_size), mean=tuple(mean), std=tuple(std))
    return with_trunk(PREFIX + architecture, described.input_size[0], described.mean, described.std, spec)


def hub_input(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of data that a model of the hub asks for."""
    return input_settings(options["input_size"]) if "input_size" in options else {}


@dataclass(frozen=True)
class HubWeights:
    """The weights of a model of the hub, of one commit; `sha256` is that of their content, or "" before the first run with them."""

    model: str
    revision: str
    sha256: str = ""

    def path(self) -> Path:
        """Return where they are in a cache, after downloading them if they were not there. Raises `DownloadError`."""
        return Repository(Repository.of(self.model).name, self.revision).file(_WEIGHTS, self.sha256)

    def load_into(self, trunk: nn.Module) -> dict[str, Any]:
        """Give `trunk` these weights, and return the setting that names their content. Raises `ModelError` if they do not fit."""
        path = self.path()
        restore = f"Remove {path}, which lets it be downloaded again."
        exact = WeightsFile(self.model, str(path), self.sha256 or noted_sha256(path), restore).load_into(trunk)
        return {"model.sha256": exact["model.sha256"]}
