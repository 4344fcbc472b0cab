"""Inputs have one form in every split and at prediction: nothing is rounded together, transposed or rescaled without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from epochal import resume, train
from epochal.data.inputs import scaled
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.scaled import chunks, measure
from epochal.data.load import Data, load
from epochal.data.spec import DataSpec
from epochal.errors import DataError, ModelError, RecipeError
from epochal.run.evaluate import evaluate_run
from tests.small import Items, Slow

SpecMaker = Callable[..., DataSpec]


def _labels(count: int) -> np.ndarray[Any, Any]:
    return np.arange(count) % 2


def _scaled(data: Data) -> Tensor:
    scaled: Tensor = data.spec.input.preprocess()(torch.stack([data.train.input(place) for place in range(len(data.train))]))
    return scaled


def _refused(what: Any, **options: Any) -> str:
    with pytest.raises(DataError) as raised:
        load(what, **options)
    return str(raised.value)


TIMES = 1.7e9 + np.arange(400)[:, None] * 0.05


class TestNumbersThatFloat32WouldBlur:
    @pytest.mark.parametrize("form", ["array", "tensor", "list", "dataset", "streamed", "npz", "npy", "safetensors"])
    def test_every_source_keeps_them(self, form: str, tmp_path: Path) -> None:
        y = _labels(400)
        np.savez(tmp_path / "times.npz", x=TIMES, y=y)
        np.save(tmp_path / "x.npy", TIMES)
        np.save(tmp_path / "y.npy", y)
        save_file({"x": torch.tensor(TIMES), "y": torch.tensor(y)}, tmp_path / "times.safetensors")
        what: Any = {
            "array": (TIMES, y),
            "tensor": (torch.tensor(TIMES), torch.tensor(y)),
            "list": (TIMES.tolist(), y.tolist()),
            "dataset": Items(list(zip(TIMES, y, strict=True))),
            "streamed": Items(list(zip(TIMES, y, strict=True))),
            "npz": tmp_path / "times.npz",
            "npy": tmp_path / "x.npy",
            "safetensors": tmp_path / "times.safetensors",
        }[form]
        data = load(what, memory=1e-7 if form == "streamed" else None)
        assert data.spec.dtype == "float64"
        scaled = _scaled(data)
        assert scaled.dtype == torch.float32
        expected = (TIMES - TIMES.mean()) / TIMES.std()
        np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-6)

    @pytest.mark.parametrize("offset", [1e4, -1e6, 1e8, 1e12])
    def test_a_feature_among_others(self, offset: float) -> None:
        x = np.random.default_rng(0).normal(size=(300, 3))
        data = load((x + np.array([0, offset, 0]), _labels(300)))
        assert data.spec.dtype == "float64"
        np.testing.assert_allclose(_scaled(data).numpy(), (x - x.mean(0)) / x.std(0), atol=abs(offset) * 1e-15 + 1e-5)

    def test_ordinary_numbers_become_float32_as_ever(self) -> None:
        x = np.random.default_rng(0).normal(20, 3, size=(300, 3))
        x[:, 1] = np.arange(300) + 2**23
        x[:, 2] = 1e9 / 3
        data = load((x, _labels(300)))
        assert data.spec.dtype == "float32"
        assert isinstance(data.train.inputs, Tensor)
        assert torch.equal(data.train.inputs, torch.tensor(x).float())

    def test_every_split_has_the_type_of_training(self) -> None:
        y = _labels(400)
        data = load({"train": (TIMES, y), "test": (TIMES[:1] - 5, y[:1]), "valid": (np.array([[1_700_000_000]]), y[:1])})
        assert [part.input(0).dtype for part in data.splits.values()] == [torch.float64] * 3
        assert load((TIMES[:2] * 1000, y[:2]), like=data.spec).train.input(0).dtype == torch.float64
        reported = "Inputs of test are float32; those of train are float64.\nPass them as float64: float32 cannot distinguish such numbers."
        assert _refused({"train": (TIMES, y), "test": (TIMES.astype(np.float32), y)}) == reported

    def test_pictures_by_channel(self) -> None:
        x = np.random.default_rng(0).normal(size=(20, 2, 5, 5))
        x[:, 1] += 1e7
        scaled = _scaled(load((x, _labels(20))))
        np.testing.assert_allclose(scaled.mean((0, 2, 3)), [0, 0], atol=1e-6)
        np.testing.assert_allclose(scaled.std((0, 2, 3), correction=0), [1, 1], rtol=1e-5)

    def test_sequences_have_one_scale_and_what_it_blurs_is_reported(self) -> None:
        x = np.random.default_rng(0).normal(size=(50, 6, 2))
        assert load((x, _labels(50))).notes == load((x * np.array([1, 1e4]), _labels(50))).notes == ()
        reported = (
            "inputs of shape (6, 2) share one mean and deviation; "
            "number 1 of a row varies so little compared with the others that it is lost: scale it first"
        )
        assert load((x + np.array([0, 1.7e9]), _labels(50))).notes == (reported.replace("number 1", "number 0"),)
        assert load((x[:, :, :1] * np.array([0, 1]) + np.array([1.7e9, 0]), _labels(50))).notes == (reported,)

    @pytest.mark.parametrize("scale", [1e-40, 1e-100, 5e37])
    def test_spreads_of_any_size(self, scale: float) -> None:
        x = np.random.default_rng(0).uniform(-1, 1, size=(100, 2))
        data = load((x * scale, _labels(100)))
        np.testing.assert_allclose(_scaled(data).numpy(), (x - x.mean(0)) / x.std(0), atol=1e-5)

    @pytest.mark.parametrize(("scale", "kind"), [(1e-200, "float64"), (1e-40, "float32")])
    def test_spreads_that_cannot_be_measured(self, scale: float, kind: str) -> None:
        x = (np.arange(10.0)[:, None] * scale).astype(kind)
        assert _refused((x, _labels(10))).startswith("There are inputs of train that differ by ")

    @pytest.mark.parametrize("sign", [1, -1])
    def test_whole_numbers_near_the_end_of_int64(self, sign: int) -> None:
        x = sign * (2**63 - 2000 + np.arange(100, dtype=np.int64)[:, None])
        data = load((x, _labels(100)))
        assert data.spec.dtype == "int64"
        assert len(_scaled(data).unique()) == 100

    def test_whole_numbers_from_end_to_end(self) -> None:
        x = np.linspace(-(2.0**62), 2.0**62, 100).astype(np.int64)[:, None]
        data = load((x * 2 - (x > 0), _labels(100)))
        assert data.spec.dtype == "float64"
        scaled = _scaled(data)[:, 0]
        assert torch.equal(scaled, scaled.sort().values)
        torch.testing.assert_close(scaled.std(correction=0), torch.tensor(1.0))


class TestOneTypeInAllSplits:
    @pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (8, 8, 3), (5,)])
    @pytest.mark.parametrize("kind", ["float64", "float32", "int64", "bool", "uint16"])
    def test_uint8_counts_differently(self, shape: tuple[int, ...], kind: str) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (10, *shape)).astype(np.uint8)
        scaled, y = (pixels / 255).astype(kind), _labels(10)
        name = {"uint16": "int64"}.get(kind, kind)
        fix = "Pass pixels as they are in the file, as uint8 from 0 to 255."
        reported = f"Inputs of test are {name}; those of train are uint8.\n{fix}"
        assert _refused({"train": (pixels, y), "test": (scaled, y)}) == reported
        spec = load((pixels, y)).spec
        assert _refused((scaled, y), like=spec) == f"Inputs of train are {name}; those of the model are uint8.\n{fix}"

    def test_and_the_other_way_round(self) -> None:
        pixels, y = np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8)).astype(np.uint8), _labels(10)
        reported = "Inputs of valid are uint8; those of train are float32.\nScale them as in training."
        assert _refused({"train": (pixels / 255, y), "valid": (pixels, y)}) == reported

    def test_whole_numbers_and_others(self) -> None:
        whole, y = np.arange(10)[:, None], _labels(10)
        mixed = load({"train": (whole, y), "test": (whole * 1.0, y)})
        assert (mixed.spec.dtype, mixed.splits["test"].input(9).tolist()) == ("int64", [9])
        reported = "Inputs of test are float64; those of train are int64.\nPass whole numbers."
        assert _refused({"train": (whole, y), "test": (whole / 2, y)}) == reported
        assert load({"train": (whole / 2, y), "test": (whole, y)}).splits["test"].input(3).tolist() == [3.0]
        assert load({"train": (whole > 4, y), "test": (whole / 2, y)}).spec.dtype == "float32"
        assert load({"train": (whole, y), "test": (whole.astype(np.uint8), y)}).splits["test"].input(9).tolist() == [9]

    def test_splits_take_the_layout_of_training(self) -> None:
        grey, y = np.random.default_rng(0).random((10, 1, 8, 8), np.float32), _labels(10)
        data = load({"train": (grey, y), "test": (grey[:, 0], y), "valid": (grey.transpose(0, 2, 3, 1), y)})
        for part in data.splits.values():
            assert torch.equal(part.input(3), torch.from_numpy(grey[3]))


class TestChannels:
    @pytest.mark.parametrize(
        ("shape", "where"),
        [
            ((32, 32, 13), "last"),
            ((32, 32, 2), "last"),
            ((4, 4, 1), "last"),
            ((4, 4, 3), "last"),
            ((8, 8, 12), "last"),
            ((3, 3, 32), "last"),
            ((28, 28, 1), "last"),
            ((224, 160, 3), "last"),
            ((64, 48, 13), "last"),
            ((13, 32, 32), "first"),
            ((12, 8, 8), "first"),
            ((1, 4, 4), "first"),
            ((1, 64, 3), "first"),
            ((1, 1, 5), "first"),
            ((5, 1, 1), "first"),
            ((64, 3, 3), "first"),
            ((3, 224, 160), "first"),
            ((13, 64, 48), "first"),
            ((3, 8, 3), "unclear"),
            ((4, 4, 4), "unclear"),
            ((4, 8, 3), "unclear"),
            ((20, 64, 16), "unclear"),
        ],
    )
    def test_where_they_are(self, shape: tuple[int, int, int], where: str) -> None:
        x = np.random.default_rng(0).random((6, *shape), np.float32)
        data = load((x, _labels(6)))
        expected = x.transpose(0, 3, 1, 2) if where == "last" else x
        assert np.array_equal(data.train.input(2).numpy(), expected[2])
        words = {
            "first": (),
            "last": ("the pictures have their channels last; they are used with channels first",),
            "unclear": (f"inputs of shape {shape} may have channels first or last; they are used as {shape[0]} channels",),
        }
        assert data.notes == words[where]

    @pytest.mark.parametrize("kind", ["float32", "int64", "uint16"])
    def test_grey_pictures_of_other_types_are_reported_how_to_become_some(self, kind: str) -> None:
        x = np.random.default_rng(0).integers(0, 9, (6, 8, 8)).astype(kind)
        name = {"uint16": "int64"}.get(kind, kind)
        data = load((x, _labels(6)))
        assert data.notes == (f"inputs of 8×8 {name} are used as tables of numbers; x[:, None] makes pictures of them",)
        assert load((x[:, None], _labels(6))).spec.input.kind == "picture"
        # Sequences of a few features have no such shape.
        assert load((x[:, :, :3], _labels(6))).notes == ()


def test_few_numbers_are_measured_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wide = pixels.double() / 255
    monkeypatch.setattr(scaled, "CHUNK", 2000)
    for inputs in (pixels, Slow(pixels)):
        some = list(chunks(inputs, 3 * 16 * 16))
        assert max(chunk.numel() for chunk in some) <= 2000
        assert torch.equal(torch.cat(some), pixels)
        mean, std = measure(inputs, [0, 2, 3])
        np.testing.assert_allclose(mean, wide.mean((0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(std, wide.std((0, 2, 3), correction=0), rtol=1e-9)


class TestTheUsersChoice:
    """What arrays are read as, where the user says it."""

    SPECTROGRAMS = np.random.default_rng(0).normal(5, 2, (20, 1, 64, 30)).astype(np.float32)

    def test_a_spectrogram_as_numbers(self) -> None:
        assert load((self.SPECTROGRAMS, _labels(20))).spec.input.kind == "picture"
        data = load((self.SPECTROGRAMS, _labels(20)), input="numbers")
        rule = data.spec.input
        assert isinstance(rule, NumbersRule)
        assert (rule.shape, rule.dtype, data.notes) == ((1, 64, 30), "float32", ())
        np.testing.assert_allclose((rule.mean[0], rule.std[0]), (self.SPECTROGRAMS.mean(), self.SPECTROGRAMS.std()), rtol=1e-5)
        run = train(data, epochs=1, quiet=True)
        assert run.recipe.model.name == "mlp"
        assert len(run.predict(self.SPECTROGRAMS)) == 20
        assert run.bundle.evaluate((self.SPECTROGRAMS, _labels(20)), include_training=True).count == 20
        with pytest.raises(
            ModelError, match='The model conv is for pictures; .*\ninput="picture" loads them as such; or use linear or mlp'
        ):
            train(data, model="conv", quiet=True)
        with pytest.raises(RecipeError, match="The settings augment.shift and augment.flip are for pictures"):
            train(data, flip=True, quiet=True)

    def test_a_run_from_a_file_goes_on_with_the_kind_it_began_with(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "sounds.npz", x=self.SPECTROGRAMS[:, 0, :, :3], y=_labels(20))
        data = load(tmp_path / "sounds.npz", input="picture")
        run = train(data, epochs=1, model="linear", out=tmp_path / "run", quiet=True)
        resumed = resume(tmp_path / "run", epochs=2, data=tmp_path / "sounds.npz", quiet=True)
        assert resumed is not None
        assert resumed.data.spec == run.data.spec
        assert evaluate_run(tmp_path / "run", tmp_path / "sounds.npz", include_training=True).count == 20

    def test_pictures_and_bytes(self) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (10, 8, 9)).astype(np.uint8)
        assert load((grey, _labels(10)), input="numbers").input == NumbersRule(shape=(8, 9), dtype="uint8")
        assert load((grey / 255, _labels(10)), input="picture").input == PictureRule(shape=(1, 8, 9), dtype="float32")
        assert load("digits", input="numbers").spec.describe().startswith("digits: 1×8×8 uint8")
        assert _refused((grey[:, 0], _labels(10)), input="picture") == (
            "Inputs of train have shape (9,), which is not that of pictures.\nPass [channels, height, width]."
        )

    def test_a_rule(self) -> None:
        rule = NumbersRule(shape=(1, 64, 30), dtype="float64")
        data = load((self.SPECTROGRAMS.astype(float), _labels(20)), input=rule)
        assert (data.input, data.train.input(0).dtype) == (rule, torch.float64)
        assert _refused((self.SPECTROGRAMS[:, :, :9], _labels(20)), input=NumbersRule(shape=(1, 64, 30))) == (
            "Inputs of train have shape (1, 9, 30); those of the rule have (1, 64, 30).\nPass inputs of that shape."
        )

    def test_a_folder_of_pictures(self, save_picture: Callable[..., Path], tmp_path: Path) -> None:
        save_picture("photos/cat/1.png")
        save_picture("photos/dog/1.png", seed=1)
        rule = PictureRule(shape=(1, 4, 6), fit="crop")
        assert load(tmp_path / "photos", input=rule).input == rule
        assert load(tmp_path / "photos", input="picture").input == load(tmp_path / "photos").input
        for kind, reported in (("numbers", "numbers"), (PictureRule(shape=(2, 4, 4)), r"uint8 picture of shape \(2, 4, 4\)")):
            with pytest.raises(DataError, match=rf"Picture files, as in .*photos, are not read as {reported}\.\nLeave input out"):
                load(tmp_path / "photos", input=kind)
        with pytest.raises(DataError, match="has a size and a fit already"):
            load(tmp_path / "photos", size=8, input=rule)
