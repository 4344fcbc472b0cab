"""What of the Hugging Face hub can be trained further: networks of timm for pictures, and BERT encoders for texts.

A recipe, and a bundle, hold all that the network is built from (`hub_settings`), so that neither needs the hub again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator
from torch import nn

from epochal.data.inputs.text.rule import TextRule
from epochal.data.spec import DataSpec
from epochal.data.storage.hub import Repository, noted_sha256
from epochal.errors import ModelError, reason_of
from epochal.io.safe_read import parse_json
from epochal.models.pretrained.bert import Bert
from epochal.models.pretrained.head import with_head
from epochal.models.pretrained.texts import MINILM
from epochal.models.pretrained.timm_nets import PREFIX, input_settings, registered, with_trunk
from epochal.models.pretrained.weights_file import WeightsFile

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"

_SUPPORTED = (
    "Supported are, with model.safetensors, networks of library timm for pictures (hub:timm/resnet18.a1_in1k) and BERT encoders for texts "
    "(hub:BAAI/bge-small-zh-v1.5)."
)

_BERT = "bert"

# What begins the names of tensors of BERT that only other tasks need.
_UNUSED = ("pooler.", "cls.", "embeddings.position_ids")

_SIZES = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")

_Count = Annotated[int, Field(ge=1, le=1_000_000)]


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


class _Bert(BaseModel):
    """What BERT's config.json says that it is built from."""

    vocab_size: _Count
    hidden_size: _Count
    num_hidden_layers: _Count
    num_attention_heads: _Count
    intermediate_size: _Count
    max_position_embeddings: _Count

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is no multiple of num_attention_heads")
        return self


class _BertConfig(_Bert):
    FIXED: ClassVar = {"hidden_act", "layer_norm_eps", "type_vocab_size", "position_embedding_type", "is_decoder"}

    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: Annotated[float, Field(ge=1e-12, le=1e-12)] = 1e-12
    type_vocab_size: Literal[2] = 2
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False


def hub_settings(model: str, options: Mapping[str, Any], log: Callable[[str], object]) -> dict[str, Any]:
    """Return the settings that name exactly one state of `hub:OWNER/NAME`, and all that is needed to build it; {} if they are there.

    Raises `ModelError` for a model that is not supported, and `DownloadError`.
    """
    if "architecture" in options and "revision" in options:
        return {}
    repository = Repository.of(model)
    commit = str(options.get("revision", "")) or repository.commit(log)
    repository = Repository(repository.name, commit)
    architecture, shape = _read_config(repository, repository.file(_CONFIG))
    if architecture != _BERT:
        registered(PREFIX + architecture)
    what = "a BERT encoder" if architecture == _BERT else f"{architecture} of timm"
    log(f"note: {model} is {what}, at revision {commit[:8]}")
    shapes = {f"model.{name}": value for name, value in shape.model_dump(exclude=_BertConfig.FIXED).items()}
    return {"model.architecture": architecture, **shapes, "model.revision": commit}


def _read_config(repository: Repository, path: Path) -> tuple[str, BaseModel]:
    """Return the architecture, and what it is built from."""
    refused = f"{repository.name} cannot be used"
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{refused}: its {_CONFIG} cannot be read: {reason_of(error)}.", f"Remove {path}, and try again.") from error
    try:
        if isinstance(found, dict) and found.get("model_type") == _BERT:
            return _BERT, _BertConfig.model_validate(found)
        config = _timm_config(repository, found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{refused}: {place} in its {_CONFIG}: {first['msg']}.", _SUPPORTED) from error
    if config.model_args:
        raise ModelError(f"{refused}: it changes timm's {config.architecture} by {', '.join(config.model_args)}.", _SUPPORTED)
    return config.architecture, config.pretrained_cfg


def _timm_config(repository: Repository, found: Any) -> _Config:
    if not isinstance(found, dict) or not isinstance(found.get("architecture"), str):
        kind = found.get("model_type") if isinstance(found, dict) else None
        what = f"of type {kind}" if kind else "no network of timm"
        raise ModelError(f"{repository.name} cannot be used: it is {what}.", _SUPPORTED)
    # Older files have it all in one.
    return _Config.model_validate({"pretrained_cfg": found, **found})


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


def hub_bert(
    spec: DataSpec,
    *,
    vocab_size: int = 0,
    hidden_size: int = 0,
    num_hidden_layers: int = 0,
    num_attention_heads: int = 0,
    intermediate_size: int = 0,
    max_position_embeddings: int = 0,
    architecture: str = _BERT,  # noqa: ARG001
    revision: str = "",  # noqa: ARG001
    sha256: str = "",  # noqa: ARG001
) -> nn.Sequential:
    """Return a BERT encoder of the sizes in its config.json: `trunk`, and `head` for these outputs. Nothing is downloaded for it."""
    sizes = vocab_size, max_position_embeddings, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size
    _Bert(**dict(zip(_SIZES, sizes, strict=True)))
    rule = spec.input
    assert isinstance(rule, TextRule)
    if rule.rows > vocab_size or rule.features[0] > max_position_embeddings:
        raise ValueError(f"it is for {vocab_size:,} pieces of words, and {max_position_embeddings:,} in a text")
    return with_head(Bert(*sizes), hidden_size, spec)


def is_bert(options: Mapping[str, Any]) -> bool:
    """Whether the options of a model of the hub are those of a BERT encoder."""
    return options.get("architecture") == _BERT


def hub_input(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of data that a model of the hub asks for."""
    if is_bert(options):
        return {"data.tokens": "wordpiece", "data.vocabulary": f"{model.partition('@')[0]}@{options.get('revision')}"}
    return input_settings(options["input_size"]) if "input_size" in options else {}


def _ours(name: str) -> str:
    # Whole networks have the encoder as "bert", and those that came from TensorFlow its names.
    return MINILM.ours(name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias"))


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
        file = WeightsFile(self.model, str(path), self.sha256 or noted_sha256(path), restore)
        exact = file.give(trunk, _UNUSED, _ours) if isinstance(trunk, Bert) else file.load_into(trunk)
        return {"model.sha256": exact["model.sha256"]}
