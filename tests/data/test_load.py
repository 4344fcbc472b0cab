"""From what a program holds to checked, described examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from epochal.data import load as module
from epochal.data.examples import Examples, Found, Part
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import Inputs, access
from epochal.data.load import Data, load, make_data
from epochal.data.spec import DataSpec
from epochal.errors import DataError, RecipeError
from epochal.tasks.regression import Regression
from tests.small import Items, Slow

SpecMaker = Callable[..., DataSpec]


def _labels(count: int) -> Tensor:
    return torch.arange(count) % 2


def _refused(what: Any, **options: Any) -> str:
    with pytest.raises(DataError) as raised:
        load(what, **options)
    return str(raised.value)


def _measured(what: Any) -> Any:
    """The rule of data, with what was measured on them."""
    return load(what).spec.input


def _inputs(data: Data, split: str = "train") -> Tensor:
    inputs = data.splits[split].inputs
    assert isinstance(inputs, Tensor)
    return inputs


def test_arrays(blobs: tuple[Tensor, Tensor]) -> None:
    data = load(blobs)
    assert (data.name, data.task.name, data.outputs, data.notes) == ("arrays", "single-label", ("0", "1", "2"), ())
    assert (data.valid, data.test, data.batch_size) == (None, None, None)
    assert torch.equal(_inputs(data), blobs[0])
    assert torch.equal(data.train.targets, blobs[1])
    spec = data.spec
    assert (spec.shape, spec.dtype, spec.counts, spec.task.class_counts) == ((2,), "float32", {"train": 60}, {"train": (20, 20, 20)})
    assert spec.fingerprint == data.fingerprint


def test_data_are_data(blobs: tuple[Tensor, Tensor]) -> None:
    data = load(blobs)
    assert load(data) is data


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.uint8, "uint8"),
        (torch.int32, "int64"),
        (torch.int64, "int64"),
        (torch.bool, "float32"),
        (torch.float16, "float32"),
        (torch.bfloat16, "float32"),
        (torch.float64, "float32"),
    ],
)
def test_dtypes_that_remain(dtype: torch.dtype, kept: str) -> None:
    values = torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]])
    data = load((values.to(dtype), _labels(4)))
    assert data.spec.dtype == kept
    assert torch.equal(_inputs(data).long(), values)


def test_uint16_arrays_keep_their_values() -> None:
    data = load((numpy.array([[1], [65535]], dtype=numpy.uint16), [0, 1]))
    assert _inputs(data).tolist() == [[1], [65535]]


@pytest.mark.parametrize(
    ("shape", "dtype", "became"),
    [
        ((6,), torch.float32, (1,)),
        ((6, 3), torch.float32, (3,)),
        ((6, 4, 5), torch.uint8, (1, 4, 5)),
        ((6, 4, 5), torch.float32, (4, 5)),
        ((6, 3, 4, 5), torch.uint8, (3, 4, 5)),
        ((6, 1, 4, 4), torch.float32, (1, 4, 4)),
        ((6, 4, 4, 3), torch.uint8, (3, 4, 4)),
        ((6, 3, 4, 3), torch.uint8, (3, 4, 3)),
        ((6, 8, 9, 3), torch.uint8, (3, 8, 9)),
        ((6, 8, 9, 1), torch.float32, (1, 8, 9)),
    ],
)
def test_shapes(shape: tuple[int, ...], dtype: torch.dtype, became: tuple[int, ...]) -> None:
    data = load(((torch.rand(shape) * 255).to(dtype), _labels(6)))
    assert data.spec.shape == became


def test_channels_come_first_and_the_user_hears_of_it() -> None:
    pixels = torch.randint(0, 256, (6, 8, 9, 3), dtype=torch.uint8)
    data = load((pixels, _labels(6)))
    assert data.notes == ("the pictures have their channels last; they are used with channels first",)
    assert torch.equal(_inputs(data), pixels.permute(0, 3, 1, 2))
    assert data.input == PictureRule(shape=(3, 8, 9))


@pytest.mark.parametrize(
    ("shape", "dtype", "mode"), [((6, 4, 5), torch.uint8, "L"), ((6, 2, 4, 5), torch.uint8, None), ((6, 3, 4, 5), torch.float32, None)]
)
def test_picture_rule_of_arrays(shape: tuple[int, ...], dtype: torch.dtype, mode: str | None) -> None:
    rule = load(((torch.rand(shape) * 255).to(dtype), _labels(6))).input
    assert isinstance(rule, PictureRule)
    assert rule.mode == mode


@pytest.mark.parametrize(
    ("what", "reported"),
    [
        ((torch.rand(4, 2), [0, 1, 0]), "arrays: train has 4 inputs but 3 targets.\nPass one target for each input."),
        ((torch.rand(0, 2), torch.zeros(0).long()), "arrays: train is empty.\nAdd examples, or leave the split out."),
        (
            {"train": (torch.rand(4, 2), [0, 1, 0, 1]), "test": (torch.rand(4, 3), [0, 1, 0, 1])},
            "Inputs of test have shape (3,); those of train have (2,).\nPass inputs of that shape.",
        ),
        ((torch.rand(4, 0), [0, 1, 0, 1]), "The input train[0] is empty: its shape is (0,).\nPass inputs with at least one number."),
        (
            (torch.zeros(4, 2, dtype=torch.complex64), [0, 1, 0, 1]),
            "There are complex numbers in the inputs of train.\nPass real numbers, such as x.real and x.imag side by side.",
        ),
    ],
)
def test_refused(what: Any, reported: str) -> None:
    assert _refused(what) == reported


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("split", ["train", "test"])
def test_no_number_in_inputs(value: float, split: str) -> None:
    x = {"train": torch.rand(4, 2), "test": torch.rand(4, 2)}
    x[split][2, 1] = value
    reported = _refused({name: (values, _labels(4)) for name, values in x.items()})
    assert reported == f"The input {split}[2] has a NaN or infinite value at [1].\nFix or remove that example."


def test_float64_that_does_not_fit_is_reported() -> None:
    x = torch.tensor([[1.0], [1e300]], dtype=torch.float64)
    reported = "The input train[1] has 1e+300 at [0], which is beyond float32 (up to 3.4e+38).\nScale such numbers first."
    assert _refused((x, _labels(2))) == reported


def test_a_bad_example_is_named_by_its_file() -> None:
    part = Part(torch.tensor([[0.0], [float("nan")]]), torch.tensor([0, 1]), files=("a/1.png", "b/2.png"))
    with pytest.raises(DataError, match=r"The input b/2\.png has a NaN"):
        make_data(Found("f", {"train": part}), None)


def test_tables_on_their_side_are_reported() -> None:
    reported = "arrays: train has 2 inputs but 5 targets.\nTranspose the inputs: they have shape (2, 5), and an example is a row."
    assert _refused((torch.rand(2, 5), [0, 1, 0, 1, 1])) == reported
    reported = "arrays: train has 5 inputs but 3 targets.\nTranspose the targets: they have shape (3, 5), and an example is a row."
    assert _refused((torch.rand(5, 2), torch.rand(3, 5))) == reported


def test_inputs_and_targets_that_seem_to_be_swapped_are_reported() -> None:
    x, y = torch.rand(60, 4), torch.arange(60) % 3
    assert load((y, x)).notes == ("the inputs look like labels and the targets like inputs: if they are swapped, pass (inputs, targets)",)
    for pair in ((x, y), (y, x[:, 0]), (torch.arange(60), x), (y, (x > 0.5).float())):
        assert not any("swapped" in note for note in load(pair).notes)


def test_task_and_words_pass_through() -> None:
    assert load((torch.rand(4, 2), [1, 2, 3, 4]), task="regression").task.name == "regression"
    assert load((torch.rand(4, 2), ["b", "a", "b", "a"])).outputs == ("a", "b")


def test_target_statistics_of_quantities() -> None:
    y = torch.tensor([[1e6 + 1, 5.0], [1e6 + 3, 5.0]])
    # A quantity that never changes is only shifted.
    assert load((torch.rand(2, 1), y)).spec.task == Regression(outputs=("y0", "y1"), mean=(1e6 + 2, 5.0), std=(1.0, 1.0), dtype="float64")


def test_several_labels_are_counted() -> None:
    data = load((torch.rand(3, 1), torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 0]])))
    assert data.spec.task.class_counts == {"train": (1, 3, 0)}


@given(
    st.integers(1, 40),
    st.sampled_from([(1,), (3,), (3, 2, 5), (1, 5, 5)]),
    st.floats(-1e4, 1e4),
    st.floats(1e-2, 1e3),
    st.integers(0, 2**31),
)
def test_statistics_are_numpys(count: int, shape: tuple[int, ...], center: float, spread: float, seed: int) -> None:
    x = numpy.random.default_rng(seed).normal(center, spread, (count + 1, *shape)).astype("float32")
    rule = _measured((x, numpy.arange(count + 1) % 2))
    axes = (0, 2, 3) if len(shape) == 3 else (0,)
    wide = x.astype("float64")
    numpy.testing.assert_allclose(rule.mean, wide.mean(axes), rtol=1e-6, atol=1e-6)
    std = wide.std(axes)
    numpy.testing.assert_allclose(rule.std, numpy.where(std > 0, std, 1.0), rtol=1e-6)


@pytest.mark.parametrize("center", [0.0, 1e6, -1e7])
def test_statistics_far_from_zero_and_over_chunks(center: float) -> None:
    x = (torch.randn(9000, 2, generator=torch.Generator().manual_seed(0)) * 3 + center).float()
    rule = _measured((x, _labels(9000)))
    numpy.testing.assert_allclose(rule.mean, x.double().mean(0), rtol=1e-12, atol=1e-12)
    numpy.testing.assert_allclose(rule.std, x.double().std(0, correction=0), rtol=1e-9)


def test_pixels_count_0_to_1() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 2, 5, 5)
    rule = _measured((pixels, _labels(2)))
    assert (rule.mean, rule.std) == ((0.5, 0.5), (0.5, 0.5))


@pytest.mark.parametrize("value", [0.1, 1e-30, 3e7])
@pytest.mark.parametrize("shape", [(7, 2), (7, 2, 5, 5)])
def test_what_never_changes_is_only_shifted(value: float, shape: tuple[int, ...]) -> None:
    x = torch.full(shape, value)
    rule = _measured((x, _labels(7)))
    assert rule.std == (1.0, 1.0)
    assert rule.mean == (float(x.flatten()[0]),) * 2


def _fingerprint(x: Tensor, y: Any, **splits: Any) -> str:
    return load({"train": (x, y), **splits}).fingerprint


def test_fingerprint_knows_every_bit() -> None:
    x, y = torch.rand(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1])
    first = _fingerprint(x, y)
    assert len(first) == 64
    assert _fingerprint(x.clone(), y.clone()) == first
    bit = x.clone()
    bit.view(torch.int32)[3, 1] ^= 1
    zero = torch.zeros(5, 2)
    others = [
        _fingerprint(bit, y),
        _fingerprint(x, torch.tensor([0, 1, 0, 1, 0])),
        _fingerprint(x, y + 1),
        _fingerprint(x.flip(0), y),
        _fingerprint(x, y, test=(x, y)),
        _fingerprint(x, y, valid=(x, y)),
        _fingerprint(x.reshape(5, 1, 2), y),
        _fingerprint(x, ["a", "b", "a", "b", "b"]),
        _fingerprint(zero, y),
        _fingerprint(-zero, y),
        _fingerprint(zero.long(), y),
    ]
    assert len({first, *others}) == len(others) + 1


@given(st.integers(0, 9), st.integers(0, 7))
def test_fingerprint_changes_with_a_bit_of_a_picture(place: int, bit: int) -> None:
    pixels = torch.arange(10, dtype=torch.uint8).reshape(2, 1, 5, 1)
    before = _fingerprint(pixels, _labels(2))
    pixels.view(-1)[place] ^= 1 << bit
    assert _fingerprint(pixels, _labels(2)) != before


def _lazily(values: Tensor, files: tuple[str, ...] | None = None) -> Data:
    return make_data(Found("slow", {"train": Part(Slow(values), _labels(len(values)), files)}), None)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((6, 2), torch.float64), ((6,), torch.float32), ((6, 4, 5), torch.uint8), ((6, 8, 9, 3), torch.uint8), ((6, 2), torch.int16)],
)
def test_inputs_read_one_by_one_take_the_same_form(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255).to(dtype)
    slow, quick = _lazily(values), load((values, _labels(6)))
    assert not isinstance(slow.train.inputs, Tensor)
    assert slow.notes == quick.notes
    for place in range(6):
        assert torch.equal(slow.train.input(place), quick.train.input(place))
    assert (slow.input, slow.spec.input) == (quick.input, quick.spec.input)


def test_no_number_in_inputs_read_one_by_one() -> None:
    data = _lazily(torch.tensor([[0.0], [float("nan")], [1.0]]))
    with pytest.raises(DataError, match=r"The input train\[1\] has a NaN or infinite value at \[0\]\."):
        data.train.input(1)
    with pytest.raises(DataError, match=r"The input train\[1\] has a NaN"):
        _ = data.spec


def test_fingerprint_of_inputs_from_files_is_of_their_content() -> None:
    def fingerprint(inputs: Inputs, digest: bytes) -> str:
        return make_data(Found("made", {"train": Part(inputs, _labels(3), digest=digest)}), None).fingerprint

    values = torch.rand(3, 2)
    assert fingerprint(Slow(values), b"a") == fingerprint(values, b"a") != fingerprint(values, b"b")


def test_take_and_where() -> None:
    values = torch.arange(5).float()[:, None]
    for inputs in (values, Slow(values)):
        examples = Examples(inputs, torch.arange(5), "train", torch.arange(5))
        some = examples.take(torch.tensor([4, 0, 2]))
        assert [float(some.input(place)) for place in range(3)] == [4.0, 0.0, 2.0]
        assert (len(some), some.targets.tolist(), some.where(0)) == (3, [4, 0, 2], "train[4]")
        again = some.take(torch.tensor([2]))
        assert (len(again.inputs), float(again.input(0)), again.where(0)) == (1, 2.0, "train[2]")
    named = Examples(values, torch.arange(5), "train", torch.arange(5), files=tuple("abcde"))
    assert named.take(torch.tensor([3])).where(0) == "d"


def test_like_a_trained_model(make_spec: SpecMaker) -> None:
    spec = make_spec(outputs=("a", "b"))
    assert load((torch.rand(2, 2), ["b", "b"]), like=spec).train.targets.tolist() == [1, 1]
    reported = _refused((torch.rand(2, 3), ["b", "b"]), like=spec)
    assert reported == "Inputs of train have shape (3,); those of the model have (2,).\nPass inputs of that shape."


def test_data_are_frozen(blobs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(blobs).name = "other"  # type: ignore[misc]


def test_whole_numbers_are_measured_exactly() -> None:
    nanoseconds = 1_700_000_000_000_000_000 + torch.arange(100)[:, None]
    numpy.testing.assert_allclose(_measured((nanoseconds, _labels(100))).std, numpy.arange(100).std(), rtol=1e-12)


@pytest.mark.parametrize("kind", [lambda pixels: pixels, Slow])
def test_pictures_in_which_there_is_nothing_to_see(kind: Callable[[Tensor], Any]) -> None:
    pixels = torch.zeros(4, 1, 3, 3, dtype=torch.uint8)
    reported = "every pixel of all training pictures is 0"
    fix = "only the high byte of 16-bit pictures is used: if that loses everything, rescale them to 0-65535, or save them with 8 bits"
    found = Found("f", {"train": Part(kind(pixels), _labels(4))}, input=PictureRule(shape=(1, 3, 3)))
    with pytest.raises(DataError) as raised:
        make_data(found, None)
    assert str(raised.value) == f"f: {reported}.\n{fix[0].upper()}{fix[1:]}."
    assert load((pixels, _labels(4))).notes == (f"{reported}; {fix}",)
    pixels[2, 0, 1, 1] = 1
    assert make_data(found, None).notes == load((pixels, _labels(4))).notes == ()


def test_inputs_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NUMBERS", 5)
    reported = "arrays: inputs of shape (2, 3) have more than 5 numbers.\nMake them smaller."
    assert _refused((torch.rand(4, 2, 3), _labels(4))) == reported


def test_memory_that_data_without_a_file_would_exceed() -> None:
    values = torch.zeros(1000, 2)
    values[0] = 1
    assert len(load((values, _labels(1000)), memory=8000e-9).train) == 1000
    reported = "The setting data.memory = 7e-06 does not work with arrays: its examples take 8e-06 GB.\nOnly files of pictures"
    with pytest.raises(RecipeError, match=reported):
        load((values, _labels(1000)), memory=7e-6)


def test_a_dataset_beyond_memory_is_read_one_by_one() -> None:
    dataset = [(torch.tensor([float(place)]), place % 2) for place in range(10)]
    assert isinstance(load(Items(dataset), memory=1e-6).train.inputs, Tensor)
    data = load(Items(dataset), memory=1e-8)
    assert not isinstance(data.train.inputs, Tensor)
    assert data.notes == ("the dataset for train is read again in each epoch: it does not fit in memory",)


class TestEdgeColour:
    """The colour at the edges of training pictures, which fills what random changes leave open."""

    @pytest.mark.parametrize(("levels", "colour"), [((255, 250, 255), (255, 250, 255)), ((0, 0, 0), ()), ((0, 0, 90), (0, 0, 90))])
    def test_of_pictures_with_edges_of_one_colour(self, levels: tuple[int, ...], colour: tuple[int, ...]) -> None:
        pixels = torch.tensor(levels, dtype=torch.uint8)[None, :, None, None].repeat(100, 1, 8, 6)
        pixels[:, :, 2:-2, 2:-2] = torch.randint(0, 256, (100, 3, 4, 2), dtype=torch.uint8)
        pixels[:20] = torch.randint(0, 256, (20, 3, 8, 6), dtype=torch.uint8)  # Some are otherwise.
        assert _measured((pixels, torch.arange(100) % 2)).edge_colour == colour

    def test_wherever_they_are(self) -> None:
        pixels = torch.full((10, 3, 8, 6), 200, dtype=torch.uint8)
        pixels[:, :, 2:-2, 2:-2] = torch.randint(0, 256, (10, 3, 4, 2), dtype=torch.uint8)
        rows = [*zip(pixels, (torch.arange(10) % 2).tolist(), strict=True)]
        streamed = load(Items(rows), memory=1e-9)
        assert access(streamed.train.inputs) == "items"
        assert streamed.spec.input == load((pixels, torch.arange(10) % 2)).spec.input

    def test_others_have_none(self) -> None:
        noise = torch.randint(0, 256, (100, 3, 8, 6), dtype=torch.uint8)
        assert _measured((noise, torch.arange(100) % 2)).edge_colour == ()
        assert _measured((torch.ones(100, 1, 8, 6), torch.arange(100) % 2)).edge_colour == ()
        assert _measured("digits").edge_colour == ()
