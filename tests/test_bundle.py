import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from epochal.bundle import DESCRIPTION, WEIGHTS, Bundle
from epochal.data.load import load
from epochal.errors import BundleError, DataError, ModelError, NotFiniteError, OutputError
from epochal.io.checksums import with_checksum
from epochal.predictor import Predictor
from epochal.recipe import Recipe
from epochal.run.prepare import build
from epochal.run.train import train
from tests.photos import write_photos


def pictures(folder: Path, count: int = 6, size: tuple[int, int] = (20, 14)) -> Path:
    """Two classes of colour pictures: noise around dark, and noise around bright."""
    return write_photos(folder, {"dark": 40, "bright": 180}, count, *size, spread=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return train(folder, epochs=2, valid=0, size=16, fit="pad", watchers=()).bundle


@pytest.fixture
def saved(bundle: Bundle, tmp_path: Path) -> Path:
    return bundle.save(tmp_path / "bundle")


def table() -> Bundle:
    x = torch.randn(40, 3)
    return build(Recipe(), load((x, (x[:, 0] > 0).long())))[1]


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    bundle = train((torch.rand(12, 2), torch.arange(12) % 2), epochs=1, model="mlp", watchers=()).bundle
    with torch.no_grad():
        next(bundle.model.parameters())[0, 0] = torch.inf
    with pytest.raises(NotFiniteError, match=r"The weight net\.1\.weight has a value that is not finite"):
        bundle.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_file_array_and_picture_predict_the_same_to_the_bit(bundle: Bundle, folder: Path) -> None:
    for file in sorted(folder.rglob("*.png")):
        from_file = bundle.predict(file)[0]
        with Image.open(file) as picture:
            from_picture = bundle.predict(picture)[0]
            from_array = bundle.predict(np.asarray(picture))[0]
        assert from_file.values == from_picture.values == from_array.values
        assert bundle.predict(str(file))[0].values == from_file.values
        assert bundle.predict(bundle.inputs(file))[0].values == from_file.values


def test_prediction_agrees_with_training_inputs(bundle: Bundle, folder: Path) -> None:
    data = load(folder, size=16, fit="pad")
    assert isinstance(data.train.inputs, Tensor)
    for index in range(len(data.train)):
        assert torch.equal(bundle.inputs(folder / data.train.where(index))[0], data.train.input(index))


def test_many_inputs_keep_their_order(bundle: Bundle, folder: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    together = bundle.predict(files)
    assert [prediction.label for prediction in together] == [bundle.predict(file)[0].label for file in files]
    assert bundle.predict([]) == []


def test_a_prediction_says_label_probability_and_runner_up(bundle: Bundle, folder: Path) -> None:
    prediction = bundle.predict(folder / "dark" / "0.png")[0]
    first, second = sorted(prediction.values.values(), reverse=True)
    assert prediction.probability == first
    assert prediction.runner_up is not None
    assert prediction.runner_up[1] == second
    assert set(prediction.values) == {"bright", "dark"}
    assert repr(prediction) == f"Prediction({prediction.label!r}, {first:.3f})"
    assert str(prediction) == f"{prediction.label} ({100 * first:.1f} %)"


def test_a_loaded_bundle_predicts_the_same_bits(bundle: Bundle, saved: Path, folder: Path) -> None:
    again = Bundle.load(saved)
    assert again.spec == bundle.spec
    for file in folder.rglob("*.png"):
        assert again.predict(file)[0].values == bundle.predict(file)[0].values


def test_loading_leaves_the_global_random_state(saved: Path) -> None:
    before = torch.random.get_rng_state()
    Bundle.load(saved)
    assert torch.equal(before, torch.random.get_rng_state())


def test_saving_over_something_is_refused(bundle: Bundle, saved: Path) -> None:
    with pytest.raises(OutputError, match="exists already.\nChoose another name; or pass replace=True"):
        bundle.save(saved)


def test_a_bundle_may_be_replaced_and_nothing_else(bundle: Bundle, saved: Path, tmp_path: Path) -> None:
    (saved / WEIGHTS).write_bytes(b"old")
    assert bundle.save(saved, replace=True) == saved
    assert Bundle.load(saved).classes == bundle.classes == bundle.spec.outputs
    bundle.save(tmp_path / "new", replace=True)
    (saved / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (saved, tmp_path / "file", tmp_path):
        before = sorted(tmp_path.rglob("*")), sorted(saved.rglob("*"))
        with pytest.raises(OutputError, match="is not a bundle, so it is not replaced"):
            bundle.save(path, replace=True)
        assert (sorted(tmp_path.rglob("*")), sorted(saved.rglob("*"))) == before


@pytest.mark.parametrize("keep", [0, 1, 100, 5000])
def test_truncated_weights_are_named(saved: Path, keep: int) -> None:
    weights = saved / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged"):
        Bundle.load(saved)


def test_a_flipped_bit_is_noticed(saved: Path) -> None:
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(BundleError, match="is damaged"):
        Bundle.load(saved)


def change(saved: Path, **changes: Any) -> None:
    described = json.loads((saved / DESCRIPTION).read_text())
    (saved / DESCRIPTION).write_text(json.dumps(with_checksum({**described, **changes})))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "is a bundle of version 1; this Epochal reads version 5"),
        ({"format": "other"}, "does not describe an Epochal bundle"),
        ({"model": {"name": "convv", "options": {}}}, "cannot be rebuilt: Unknown model 'convv'"),
        (
            {"model": {"name": "mlp", "options": {}}},
            r"cannot be rebuilt: its weights do not match: net\.0\.0\.weight is not part of it",
        ),
        ({"model": {}}, "is not a complete bundle"),
        ({"weights": None}, "is not a complete bundle"),
        ({"layers": None}, "is not a complete bundle"),
        ({"layers": [["net"]]}, "is not a complete bundle"),
        ({"data": {"name": "x"}}, "is not a complete bundle"),
        ({"batch_size": 0}, "is not a complete bundle"),
    ],
)
def test_a_strange_description_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    change(saved, **changes)
    with pytest.raises(BundleError, match=message):
        Bundle.load(saved)


def test_a_changed_number_in_the_description_is_noticed(saved: Path) -> None:
    described = json.loads((saved / DESCRIPTION).read_text())
    described["data"]["input"]["mean"][0] += 0.1
    (saved / DESCRIPTION).write_text(json.dumps(described))
    with pytest.raises(BundleError, match=r"bundle\.json is damaged: it has changed since it was written"):
        Bundle.load(saved)


@pytest.mark.parametrize(
    ("task", "settings", "layers"),
    [
        ("classes", {}, ["preprocess", "net"]),
        ("quantities", {}, ["preprocess", "net", "rescale"]),
        ("quantities", {"scale_targets": False}, ["preprocess", "net"]),
    ],
)
def test_a_bundle_says_its_layers_and_can_decode(task: str, settings: dict[str, Any], layers: list[str], tmp_path: Path) -> None:
    x = torch.randn(40, 3)
    recipe = Recipe().updated({"eval_batch_size": 7, **settings})
    bundle = build(recipe, load((x, (x[:, 0] > 0).long() if task == "classes" else x[:, :2] * 100)))[1]
    saved = bundle.save(tmp_path / "bundle")
    assert json.loads((saved / DESCRIPTION).read_text())["layers"] == layers
    loaded = Bundle.load(saved)
    assert [name for name, _ in loaded.model.named_children()] == layers
    assert (loaded.batch_size, Predictor(loaded).batch_size) == (7, 7)
    with torch.no_grad():
        decoded = loaded.with_decoder()(x)
    torch.testing.assert_close(decoded, torch.tensor([list(prediction.values.values()) for prediction in bundle.predict(x)]))


@pytest.mark.parametrize("layers", [["net"], ["net", "preprocess"], ["preprocess", "net", "rescale"], ["preprocess", "net", "decode"], []])
def test_layers_that_no_such_model_has_are_refused(saved: Path, layers: list[str]) -> None:
    change(saved, layers=layers)
    with pytest.raises(BundleError, match=r"cannot be rebuilt: its layers are .*, which is not possible for this model"):
        Bundle.load(saved)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", "[" * 100_000])
def test_a_broken_description_is_refused(saved: Path, text: str) -> None:
    (saved / DESCRIPTION).write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(saved)


def test_missing_things_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no .*nowhere"):
        Bundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="has no model in it"):
        Bundle.load(tmp_path)
    (saved / WEIGHTS).unlink()
    with pytest.raises(BundleError, match="is not a complete bundle"):
        Bundle.load(saved)


def test_a_network_of_ones_own_must_be_passed_again(tmp_path: Path) -> None:
    data = load((torch.randn(40, 3), torch.arange(40) % 2))
    own = nn.Linear(3, 2)
    bundle = build(Recipe(), data, own)[1]
    saved = bundle.save(tmp_path / "own")
    with pytest.raises(
        BundleError, match=r"weights of your own network Linear, but not its code\.\nPass it again: --model my_file.py:Linear"
    ):
        Bundle.load(saved)
    assert Bundle.load(saved, nn.Linear(3, 2)).predict([0.5, 1.0, 2.0]) == bundle.predict([0.5, 1.0, 2.0])
    with pytest.raises(BundleError, match="cannot be rebuilt"):
        Bundle.load(saved, nn.Linear(4, 2))
    with pytest.raises(
        BundleError, match=r"do not fit your network: Missing key\(s\) in state_dict: .*\.\nPass the network that was trained"
    ):
        Bundle.load(saved, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    with pytest.raises(ModelError, match=r"^There is no file none\.py\.\nCheck the path"):
        Bundle.load(saved, "none.py:Net")


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch" * 9)
    with pytest.raises(
        BundleError, match=r"model\.onnx cannot be read as a \.safetensors file: .*\nGive the folder of a run or of a bundle, or"
    ):
        Bundle.load(tmp_path / "model.onnx")


class Buffers(nn.Linear):
    """A layer with a buffer of each dtype that masks, indices and counts have."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
            self.register_buffer(str(dtype).removeprefix("torch."), torch.ones(2, dtype=dtype))


def test_buffers_may_be_of_any_dtype(tmp_path: Path) -> None:
    bundle = build(Recipe(), load((torch.randn(40, 3), torch.arange(40) % 2)), Buffers())[1]
    loaded = Bundle.load(bundle.save(tmp_path / "own"), Buffers())
    assert loaded.predict([0.5, 1.0, 2.0]) == bundle.predict([0.5, 1.0, 2.0])


def test_code_is_not_asked_for_where_none_is_needed(saved: Path) -> None:
    with pytest.raises(BundleError, match="contains the model conv, which needs no code of yours"):
        Bundle.load(saved, nn.Linear(1, 1))


def test_numbers_are_predicted_from_arrays_tensors_lists_and_files(tmp_path: Path) -> None:
    bundle = table()
    rows = np.random.default_rng(0).normal(size=(5, 3))
    np.save(tmp_path / "rows.npy", rows)
    expected = [prediction.values for prediction in bundle.predict(rows)]
    assert len(expected) == 5
    assert [prediction.values for prediction in bundle.predict(tmp_path / "rows.npy")] == expected
    assert [prediction.values for prediction in bundle.predict(torch.tensor(rows))] == expected
    assert bundle.predict(rows.tolist())[0].label == bundle.predict(rows[0])[0].label


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (np.zeros(4), r"takes inputs of shape \(3,\), not an input of shape \(4,\)"),
        ("a.png", r"takes inputs of shape \(3,\), not a.png"),
        (np.array([1.0, np.nan, 0.0]), "NaN"),
    ],
)
def test_wrong_numbers_are_refused(what: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table().predict(what)


class _Table:
    """A table as a DataFrame is one: it gives its rows as an array, but goes over its columns."""

    columns = ("a", "b", "c")

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.rows, object)

    def __iter__(self) -> Any:
        return iter(self.columns)


@pytest.mark.parametrize("kind", ["f8", "f4", ">f4", "f2", "i1", "i8", "u1", "u2", "u8"])
def test_numbers_of_every_type_are_predicted(kind: str) -> None:
    bundle = table()
    rows = np.array([[1, 2, 3], [4, 5, 6]])
    expected = [prediction.values for prediction in bundle.predict(rows)]
    typed = rows.astype(kind)
    for what in (typed, list(typed), tuple(typed), typed.tolist(), _Table(rows), iter(typed), [torch.tensor(row) for row in rows]):
        assert [prediction.values for prediction in bundle.predict(what)] == expected
    forms: list[Any] = [typed[1], typed[1].tolist(), [torch.tensor(4.0), torch.tensor(5.0), torch.tensor(6.0)], [np.float32(4), 5, 6]]
    for one in forms:
        assert bundle.predict(one)[0].values == bundle.predict(rows[1])[0].values


@pytest.mark.parametrize(
    ("what", "reported"),
    [
        (_Table([[1.0, 2.0]]), r"takes inputs of shape \(3,\), not an input of shape \(1, 2\)"),
        (_Table([[1.0, 2.0, None]]), "There is a missing value in the inputs, at row 0, column 'c'"),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, "A dict of inputs cannot be used"),
        (np.array([["1", "2", "3"]]), "The inputs cannot be turned into numbers: it contains words"),
        (np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False]), r"There is a masked value in the inputs, at \[1\]"),
        (torch.eye(3).to_sparse(), "that is sparse"),
        (np.array([[1.0, 1e300, 0.0]]), r"The input \[0\] has 1e\+300 at \[1\], which is beyond float32"),
    ],
)
def test_what_prediction_cannot_take(what: Any, reported: str) -> None:
    with pytest.raises(DataError, match=reported):
        table().predict(what)


def test_a_bundle_of_numbers_far_from_zero_keeps_them_apart(tmp_path: Path) -> None:
    start = 1.7e9
    times = np.linspace(0, 100, 300)[:, None]
    labels = (times[:, 0] > 50).astype(int)
    run = train((times + start, labels), epochs=8, lr=0.02, model="mlp", watchers=())
    assert run.bundle.spec.dtype == "float64"
    assert run.test is not None
    assert run.test.accuracy is not None
    assert run.test.accuracy > 0.9
    loaded = Bundle.load(run.bundle.save(tmp_path / "model"))
    assert loaded.spec == run.bundle.spec
    for what in (np.array([[48.0], [52.0]]) + start, [start + 48, start + 52], [[start + 48], [start + 52]]):
        assert [prediction.label for prediction in loaded.predict(what)] == ["0", "1"]
    assert loaded.summary().parameters == run.summary().parameters
    with pytest.raises(DataError, match="float32 cannot distinguish such numbers"):
        loaded.predict((times + start).astype(np.float32))


def test_pictures_of_16_bits_are_read_as_files_of_any_size_are(folder: Path) -> None:
    bundle = build(Recipe(), load(folder, size=16, fit="pad"))[1]
    for size in (16, 20):
        grey = np.random.default_rng(0).integers(0, 256, (size, size)).astype(np.uint8)
        assert bundle.predict(grey.astype(np.uint16) * 257)[0].values == bundle.predict(grey)[0].values


def test_channels_last_of_any_number_and_type() -> None:
    x = np.random.default_rng(0).random((20, 6, 6, 5), np.float32)
    bundle = build(Recipe(), load((x, np.arange(20) % 2)))[1]
    expected = [prediction.values for prediction in bundle.predict(x)]
    assert [prediction.values for prediction in bundle.predict(x.transpose(0, 3, 1, 2))] == expected
    assert [bundle.predict(one)[0].values for one in x[:3]] == expected[:3]


def test_data_that_were_not_loaded_for_the_model_are_refused(bundle: Bundle) -> None:
    x = np.random.default_rng(0).random((10, *bundle.spec.shape))
    with pytest.raises(DataError, match=r"are float32 of shape .* the model takes uint8 of shape .*\nLoad them for this model"):
        bundle.evaluate(load((x, np.arange(10) % 2)))


def test_inputs_of_another_scale_are_reported() -> None:
    x, y = torch.rand(20, 3), torch.arange(20) % 2
    bundle = build(Recipe(), load((x, y)))[1]
    assert len(bundle.predict(x[:1])) == len(bundle.predict(x[:1] / 255)) == 1
    for scaled in (x * 255, x[:2] * 255, x / 255):
        with pytest.warns(UserWarning, match=r"the inputs vary .* times (more|less) than those that the model was trained on"):
            bundle.predict(scaled)
    with pytest.warns(UserWarning, match="the inputs vary 255 times more"):
        bundle.evaluate((x * 255, y))


def test_wrong_pictures_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uint8"):
        bundle.predict(np.zeros((3, 16, 16), dtype=np.float32))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        bundle.predict(tmp_path / "bad.png")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy cannot be read"):
        bundle.predict(tmp_path / "objects.npy")


def test_a_description_that_asks_for_too_much_is_refused_without_the_memory(tmp_path: Path) -> None:
    saved = table().save(tmp_path / "table")
    change(saved, model={"name": "mlp", "options": {"widths": [2_000_000, 2_000_000]}})
    with pytest.raises(BundleError, match="cannot be rebuilt"):
        Bundle.load(saved)


@pytest.mark.parametrize("model", ["own", ["own"], 3])
def test_a_model_that_is_no_description_is_refused(saved: Path, model: Any) -> None:
    change(saved, model=model)
    with pytest.raises(BundleError, match="does not say which model it is"):
        Bundle.load(saved)


def test_raw_inputs_may_have_the_layouts_that_load_takes(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8)
    labels = np.arange(20) % 2
    bundle = build(Recipe(), load((grey, labels)))[1]
    assert [p.values for p in bundle.predict(grey)] == [p.values for p in bundle.predict(grey[:, None])]
    colour = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    bundle = build(Recipe(), load((colour, labels)))[1]
    assert [p.values for p in bundle.predict(colour)] == [p.values for p in bundle.predict(colour.transpose(0, 3, 1, 2))]
    numbers = np.arange(20.0)
    bundle = build(Recipe(), load((numbers, labels)))[1]
    assert len(bundle.predict(numbers)) == 20


def test_pictures_in_another_unit_are_refused() -> None:
    pictures = torch.rand(20, 1, 6, 6)
    bundle = build(Recipe(), load((pictures, torch.arange(20) % 2)))[1]
    with pytest.raises(DataError, match=r"The inputs are uint8; this model takes float32\.\nScale them as in training"):
        bundle.predict(np.zeros((1, 6, 6), dtype=np.uint8))


def test_nothing_is_not_an_input(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="The inputs cannot be turned into numbers: it is of type NoneType"):
        bundle.predict(None)  # type: ignore[arg-type]


def test_several_labels_and_quantities() -> None:
    x = torch.randn(60, 3)
    several = build(Recipe(), load((x, (x > 0).long())))[1].predict(torch.zeros(3))[0]
    assert several.probability is None
    assert several.label == (", ".join(name for name, value in several.values.items() if value >= 0.5) or "none")
    one = build(Recipe(), load((x, x[:, 0] * 1000)))[1].predict(torch.zeros(3))[0]
    assert one.label == f"{one.values['y']:.6g}"
    two = build(Recipe(), load((x, x[:, :2] * 1000)))[1].predict(torch.zeros(3))[0]
    assert two.label == f"y0 {two.values['y0']:.6g}, y1 {two.values['y1']:.6g}"
    assert repr(two) == f"Prediction({two.label!r})"
