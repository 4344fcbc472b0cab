"""Sounds: samples of one rate and length, which networks get as spectrograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from epochal.data.inputs.base import MAX_NUMBERS, InputRule, Items
from epochal.data.inputs.changes import asked_changes
from epochal.data.inputs.sound.augment import SoundAugment
from epochal.data.inputs.sound.mel import LogMel, grid
from epochal.data.inputs.sound.read import measure_sound, read_content, read_sound, sound_of, to_input
from epochal.data.inputs.sound.refused import sound_errors
from epochal.data.inputs.sound.wav import MAX_RATE, MIN_RATE
from epochal.data.inputs.values import Inputs, in_memory
from epochal.data.walk import SOUNDS, files_below
from epochal.errors import DataError, RecipeError
from epochal.recipe import AugmentSettings
from epochal.shown import are, counted

# The bands of a spectrogram.
BANDS = 40

# Sounds that are longer than what is read by less than this have lost nothing worth a note.
_SLIGHTLY = 1.02

# Means and deviations are measured on this many sounds, so many at a time.
_MEASURED, _AT_ONCE = 4000, 100


class SoundRule(InputRule):
    """How any sound becomes an input: the same for training, evaluation and prediction.

    `shape` is (samples,), `rate` of them in a second; channels are averaged. Shorter sounds have silence on both sides; longer ones
    lose both ends alike. With the shape (windows, samples), longer sounds are cut into up to so many windows instead, which overlap by
    half if they suffice for that, and the others are silent: a model predicts from each, and averages. `mean` and `std` are those of the
    logarithm of the energy in each band of training sounds.
    """

    noun: ClassVar[str] = "sound"
    preset: ClassVar[str] = "sound"
    is_distinct: ClassVar[bool] = True
    can_augment: ClassVar[bool] = True
    measured: ClassVar[tuple[str, ...]] = ("mean", "std")

    kind: Literal["sound"] = "sound"
    shape: tuple[PositiveInt, ...]
    dtype: Literal["int16"] = "int16"
    rate: Annotated[int, Field(ge=MIN_RATE, le=MAX_RATE)] = 16_000
    mean: tuple[float, ...] = (0.0,) * BANDS
    std: tuple[PositiveFloat, ...] = (1.0,) * BANDS

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if len(self.shape) > 2:
            raise ValueError("the shape of a sound is (samples,), or (windows, samples)")
        if len(self.mean) != len(self.std) or not 1 <= len(self.mean) <= 512:
            raise ValueError("mean and std must have a number for each band, 1 to 512 of them")
        return self

    @classmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:
        """Return the rule for sounds [n, samples] of int16, at 16,000 samples per second."""
        if sample.ndim != 2:
            raise DataError(f"Inputs of {split} have shape {tuple(sample.shape[1:])}, which is not that of sounds.", "Pass [samples].")
        notes.append("sounds are taken to have 16,000 samples per second; pass (samples, rate) for each if they have others")
        return cls(shape=(sample.shape[1],))

    @property
    def length(self) -> int:
        """The samples of a window."""
        return self.shape[-1]

    @property
    def windows(self) -> int:
        """How many windows an input has."""
        return self.shape[0] if len(self.shape) == 2 else 1

    def with_windows(self, count: int) -> Self:
        """Return the same rule for inputs of up to `count` windows."""
        if count < 1 or count * self.length > MAX_NUMBERS:
            raise DataError(
                f"{count:,} windows of {self.length:,} samples cannot be read.", f"Take 1 to {MAX_NUMBERS // self.length:,} windows."
            )
        return self.model_copy(update={"shape": window_shape(count, self.length)})

    @property
    def seconds(self) -> float:
        """How long a window is."""
        return self.length / self.rate

    @property
    def key(self) -> bytes:
        """A key that differs between rules that produce different samples from files."""
        return f"sound {self.rate} {'x'.join(map(str, self.shape))}".encode()

    @property
    def features(self) -> tuple[int, ...]:
        """A picture with one channel: (1, bands, columns), of each window."""
        return 1, len(self.mean), grid(self.length, self.rate).columns

    @property
    def networks(self) -> str:
        """Networks for pictures, which is what spectrograms are."""
        return "picture"

    @property
    def sample(self) -> tuple[str, ...]:
        """A sound."""
        return ("sound.wav",)

    @property
    def script(self) -> tuple[str, ...]:
        """WAV files of the same rate."""
        return ("sound",)

    @property
    def default_model(self) -> str:
        """A convolutional network."""
        return "conv"

    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> LogMel:
        """Return the layer that makes spectrograms."""
        if mean is not None or std is not None:
            raise RecipeError("The settings data.mean and data.std are not for sounds.", "Leave them out: they are measured.")
        return LogMel(self.length, self.rate, self.mean, self.std)

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with the mean and deviation of each band."""
        plain = LogMel(self.length, self.rate, [0.0] * len(self.mean), [1.0] * len(self.mean))
        total = square = torch.zeros((), dtype=torch.float64)
        count = 0
        with torch.no_grad():
            for some in torch.arange(0, len(inputs), -(-len(inputs) // _MEASURED)).split(_AT_ONCE):
                sounds = inputs[some]
                bands = plain(sounds).double()
                bands = bands[sounds.any(-1)] if self.windows > 1 else bands.flatten(0, 1)
                total, square = total + bands.sum((0, 2)), square + bands.square().sum((0, 2))
                count += bands.shape[0] * bands.shape[2]
        deviation = (square / count - (total / count).square()).clamp(min=1e-6).sqrt()
        return self.model_copy(update={"mean": tuple((total / count).tolist()), "std": tuple(deviation.tolist())})

    def is_item(self, what: Any) -> bool:
        """Whether `what` is one sound: (samples, rate)."""
        return isinstance(what, tuple) and len(what) == 2 and isinstance(what[1], int | np.integer)

    def accept(self, item: Any) -> Tensor:
        """Return the sounds [n, samples] in a file, in (samples, rate), or in an array of samples at the rule's own rate."""
        if isinstance(item, str | Path):
            return torch.from_numpy(read_sound(str(item), self))[None]
        if self.is_item(item):
            return self._one(*item)
        if isinstance(item, np.ndarray | Tensor | list) and not _are_inputs(item, self.shape):
            return self._one(item, self.rate)
        return super().accept(item)

    def read_content(self, content: bytes, name: str) -> Tensor:
        """Return the sound [1, *shape] in the content of a file."""
        return torch.from_numpy(read_content(content, name, self))[None]

    def _one(self, samples: Any, rate: int) -> Tensor:
        with sound_errors("The sound"):
            return torch.from_numpy(to_input(sound_of(samples, int(rate)), self))[None]

    def items(self, item: Any) -> Items:
        """Return the sounds in a folder, or the item itself."""
        if isinstance(item, str | Path) and Path(item).is_dir():
            inside, skipped = files_below(SOUNDS, Path(item))
            return Items(list(inside), tuple(skipped))
        return Items([item])

    def lost(self, items: Sequence[Any]) -> tuple[str, ...]:
        """Return how much of long sounds is cut off, and how many windows have it all."""
        lengths = []
        for item in items:
            # What cannot be read is reported as that.
            with suppress(DataError, ValueError):
                if isinstance(item, str | Path):
                    lengths.append(measure_sound(str(item)).seconds)
                elif self.is_item(item):
                    lengths.append(sound_of(item[0], int(item[1])).measured.seconds)
        read = self.seconds * self.windows
        longer = [length for length in lengths if length > read * _SLIGHTLY]
        if not longer:
            return ()
        share = sum(length - read for length in longer) / sum(longer)
        needed = math.ceil(max(longer) / self.seconds)
        return (
            f"{len(longer):,} of {counted(len(items), 'sound')} {are(len(longer))} longer than the {read:.2f} s that are read: "
            f"{100 * share:.0f} % of these is left out; --windows {needed} reads all",
        )

    def blank(self, inputs: Inputs) -> tuple[str, str]:
        """Return what is wrong if all sounds are silent. The search ends at the first that is not."""
        if any(bool((inputs[place] != 0).any()) for place in torch.arange(len(inputs)).split(1)):
            return "", ""
        return "every sample of all training sounds is 0", "check how they were recorded and converted"

    def augment(self, settings: AugmentSettings, seed: int) -> SoundAugment | None:
        """Return the function that changes single sounds."""
        super().augment(settings, seed)
        return SoundAugment(settings, seed, self.rate) if any(asked_changes(settings)) else None

    def draw(self, example: Tensor) -> NDArray[np.uint8]:
        """Return the spectrogram of a sound, high frequencies at the top, uint8 [bands, columns]; windows are side by side."""
        with torch.no_grad():
            bands = torch.cat(list(self.preprocess()(example[None].cpu())[0]), 1)
        low, high = float(bands.min()), float(bands.max())
        levels = (bands - low) / max(high - low, 1e-6) * 255
        return np.asarray(levels.round().to(torch.uint8).flip(0))


def window_shape(windows: int, length: int) -> tuple[int, ...]:
    """Return the shape of an input of so many windows."""
    return (length,) if windows == 1 else (windows, length)


def _are_inputs(item: Any, inputs: tuple[int, ...]) -> bool:
    """Whether an array has finished inputs: int16 of the shape of `inputs`, or several of these."""
    dtype, shape = getattr(item, "dtype", None), tuple(getattr(item, "shape", ()))
    return str(dtype).removeprefix("torch.") == "int16" and shape[-len(inputs) :] == inputs and len(shape) <= len(inputs) + 1


def loudest(inputs: Inputs) -> Tensor | None:
    """Return the largest sample of each sound in memory, without its sign: int32 [n]."""
    values = in_memory(inputs)
    return None if values is None else values.int().abs().flatten(1).amax(1)
