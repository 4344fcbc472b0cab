"""Few photographs are learned by a pre-trained model, if it is installed and the user has not asked for another."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import epochal
from epochal.bench import bench
from epochal.data.inputs.picture import photographs
from epochal.errors import DataError, ModelError, RecipeError
from epochal.models.pretrained.pictures import LITE0
from epochal.recipe import Recipe, load_recipe
from epochal.run.dry_run import dry_run
from epochal.run.prepare import prepare
from tests.photos import write_photos

MODEL = "efficientnet-lite0"
LEVELS = {"dark": 0, "light": 120}


def _written(folder: Path, height: int = 100, width: int = 120, count: int = 6) -> Path:
    return write_photos(folder / "photos", LEVELS, count, height, width, spread=120)


pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six dark and six light pictures of 100x120 pixels, each in a folder."""
    return _written(tmp_path)


@pytest.fixture
def described(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of the weights seems to be installed, also where it is not."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / f"{photographs.PACKAGE.replace('-', '_')}-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {photographs.PACKAGE}\nVersion: 0\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such package is installed."""
    monkeypatch.setattr(photographs, "PACKAGE", "no-such-package")


@pytest.fixture
def installed() -> None:
    """The weights are there."""
    try:
        LITE0.path()
    except ModelError as error:
        pytest.skip(str(error))


class _Floats(nn.Module):
    """Makes numbers with a fraction of pixels, and keeps the shapes that it has seen."""

    def __init__(self, seen: list[torch.Size]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.shape)
        return x.float()


def _about(notes: Any) -> list[str]:
    return [note for note in notes if "so few pictures" in note]


@pytest.mark.usefixtures("installed")
class TestTraining:
    @pytest.mark.usefixtures("whole")
    def test_it_is_taken_and_said(self, photos: Path) -> None:
        said: list[str] = []
        recipe = prepare(photos, Recipe().updated({"epochs": 1}), log=said.append).recipe
        assert (recipe.model.name, recipe.data.size, recipe.tune) == (MODEL, 128, "head")
        assert [recipe.origin(name) for name in ("model.name", "data.size", "data.mean", "epochs")] == ["data", "data", "model", "given"]
        note = "so few pictures (12) are best learned by a pre-trained model: they are read at 128×128 pixels for efficientnet-lite0; "
        assert _about(said) == [f"note: {note}--model conv learns from them alone (in Python load(..., pretrained=False))"]

    def test_it_is_the_same_as_where_it_is_named(self, photos: Path) -> None:
        loaded = epochal.load(photos)
        runs = [epochal.train(what, epochs=2, quiet=True) for what in (photos, loaded, loaded.split(0.0))]
        runs.append(epochal.train(photos, model=MODEL, epochs=2, quiet=True))
        weights = [run.bundle.model.state_dict() for run in runs]
        for name, tensor in weights[0].items():
            assert all(torch.equal(tensor, others[name]) for others in weights[1:]), name

    def test_a_run_is_repeated_without_choosing_again(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = epochal.train(photos, epochs=2, schedule="constant", quiet=True, out=tmp_path / "run")
        monkeypatch.setattr(photographs, "PACKAGE", "no-such-package")
        assert not epochal.reproduce(tmp_path / "run").divergence
        assert (kept := load_recipe(tmp_path / "run" / "recipe.toml")).model.name == MODEL
        assert kept.data.size == 128
        assert run.predict(photos / "light" / "0.png")
        assert epochal.resume(tmp_path / "run", epochs=3, quiet=True) is not None

    def test_patience_has_validation_data(self, photos: Path) -> None:
        run = epochal.train(photos, epochs=2, patience=1, valid=0.3, quiet=True)
        assert run.data.valid is not None
        recipe, _ = dry_run(photos, Recipe().updated({"patience": 1, "test": 0.0, "epochs": 1}))
        assert (recipe.model.name, recipe.data.valid) == (MODEL, 0.1)

    def test_a_list_of_pictures(self, photos: Path) -> None:
        rows = [f"{name}/{n}.png,{name},{n % 2},{1 - n % 2},{n / 7}" for name in LEVELS for n in range(6)]
        path = photos / "list.csv"
        path.write_text("file,kind,odd,even,weight\n" + "\n".join(rows) + "\n")
        data = {"data.file": "file", "epochs": 1}
        for target, model in ((("kind",), MODEL), (("odd", "even"), MODEL), (("weight",), "conv")):
            assert prepare(path, Recipe().updated({**data, "data.target": target})).recipe.model.name == model

    def test_a_head_alone_is_one_of_pictures_of_any_size(self, tmp_path: Path) -> None:
        recipe, _ = dry_run(_written(tmp_path, 20, 20), Recipe().updated({"tune": "head", "epochs": 1}))
        assert (recipe.model.name, recipe.data.size) == (MODEL, 128)
        recipe, _ = dry_run(tmp_path / "photos", Recipe().updated({"tune": "head", "epochs": 1, "data.size": 32}))
        assert (recipe.model.name, recipe.data.size) == (MODEL, 32)


@pytest.mark.usefixtures("described")
class TestOthers:
    @pytest.mark.parametrize(
        ("given", "model"),
        [
            ({"model": "conv"}, "conv"),
            ({"model": "mlp"}, "mlp"),
            ({"size": 32}, "conv"),
            ({"model.widths": (4, 8)}, "conv"),
            ({"mixup": 0.2}, "conv"),
            ({"mean": 0.5}, "conv"),
        ],
    )
    def test_what_the_user_gave_stays(self, photos: Path, given: dict[str, Any], model: str) -> None:
        said: list[str] = []
        prepared = prepare(photos, Recipe().updated({**given, "epochs": 1}), log=said.append)
        assert (prepared.recipe.model.name, prepared.recipe.data.size) == (model, given.get("size"))
        assert prepared.data.input.shape[1:] != (128, 128)
        assert _about(said) == []

    def test_so_does_a_recipe(self, photos: Path) -> None:
        recipe, _ = dry_run(photos, load_recipe("photos"))
        assert recipe.model.name == "resnet"

    def test_so_does_a_network_of_the_users_own(self, photos: Path) -> None:
        net = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
        run = epochal.train(photos, model=net, epochs=1, quiet=True)
        assert run.data.input.shape == (3, 64, 77)
        rows: list[torch.Size] = []
        watched = nn.Sequential(_Floats(rows), nn.Flatten(), nn.LazyLinear(2))
        watched(torch.zeros(1, 3, 64, 77))
        epochal.fit(watched, photos, Recipe().updated({"epochs": 1}))
        assert {shape[1:] for shape in rows} == {(3, 64, 77)}

    @pytest.mark.parametrize(("height", "width", "model"), [(96, 300, MODEL), (95, 300, None)])
    def test_photographs_have_a_short_side_of_96(self, tmp_path: Path, height: int, width: int, model: str | None) -> None:
        assert epochal.load(_written(tmp_path, height, width, count=2)).model == model

    def test_many_are_enough_to_learn_from(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(photographs, "MANY", 11)
        data = epochal.load(photos)
        assert (data.model, data.input.shape) == (None, (3, 64, 77))

    @pytest.mark.parametrize("options", [{"pretrained": False}, {"size": 50}, {"task": "regression"}])
    def test_data_are_loaded_for_others(self, photos: Path, options: dict[str, Any]) -> None:
        (photos / "list.csv").write_text("file,n\n" + "".join(f"{name}/{n}.png,{n}\n" for name in LEVELS for n in range(6)))
        data = epochal.load(photos / "list.csv", file="file", target="n", **options)
        assert data.model is None
        assert data.input.shape[1:] == ((50, 50) if "size" in options else (64, 77))

    def test_it_can_be_asked_for(self, tmp_path: Path) -> None:
        photos = _written(tmp_path, 20, 20, count=2)
        assert epochal.load(photos, pretrained=True).input.shape == (3, 128, 128)
        assert epochal.load(photos, pretrained=True, size=64).input.shape == (3, 64, 64)

    def test_a_damaged_file_is_reported_as_ever(self, photos: Path) -> None:
        (photos / "dark" / "0.png").write_bytes(b"no picture")
        with pytest.raises(DataError, match=r"dark/0\.png"):
            epochal.load(photos)
        data = epochal.load(photos, unreadable="count")
        assert (data.model, len(data.train)) == (MODEL, 11)


@pytest.mark.usefixtures("absent")
def test_where_it_is_not_installed_one_note_says_how_it_would_be(photos: Path) -> None:
    said: list[str] = []
    recipe = prepare(photos, Recipe().updated({"epochs": 1}), log=said.append).recipe
    assert (recipe.model.name, recipe.data.size) == ("conv", None)
    wanted = 'so few pictures (12) are best learned by a pre-trained model, which is not installed: pip install "epochal[pretrained]"'
    assert _about(said) == [f"note: {wanted}"]


def test_a_head_alone_needs_a_pre_trained_model() -> None:
    with pytest.raises(RecipeError, match="tune = head is for pre-trained models, which vgg is not") as error:
        dry_run("digits", Recipe().updated({"tune": "head"}))
    assert "--model efficientnet-lite0 for pictures, minilm or wordllama for texts" in str(error.value)


@pytest.mark.usefixtures("installed")
class TestWhereItIsNamed:
    def test_pictures_that_are_no_files_keep_their_size(self) -> None:
        pixels = torch.randint(0, 256, (24, 3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        arrays = pixels, torch.arange(24) % 2
        for data in (arrays, epochal.load(arrays)):
            run = epochal.train(data, model=MODEL, epochs=1, quiet=True)
            assert (run.data.input.shape, run.recipe.data.size, run.recipe.origin("data.mean")) == ((3, 40, 50), None, "model")

    def test_loaded_files_of_another_size_are_refused(self, photos: Path) -> None:
        with pytest.raises(RecipeError, match=r"data\.size = \(128, 128\) comes too late"):
            epochal.train(epochal.load(photos, size=40), model=MODEL, epochs=1, quiet=True)

    def test_sounds_are_spectrograms(self, tmp_path: Path) -> None:
        random = torch.Generator().manual_seed(0)
        sounds = [((torch.rand(800, generator=random) * 2**14).short().numpy(), 8000) for _ in range(24)]
        labels = ["one", "two"] * 12
        run = epochal.train(epochal.load((sounds, labels), input="sound"), model=MODEL, epochs=2, quiet=True, out=tmp_path / "run")
        assert [run.recipe.flat()[name] for name in ("data.size", "data.mean", "data.std", "tune")] == [None, None, None, "head"]
        assert not epochal.reproduce(tmp_path / "run", data=(epochal.load((sounds, labels), input="sound"))).divergence
        assert run.bundle.with_windows(3).predict([(sounds[0][0].repeat(3), 8000)])
        windows = epochal.load((sounds, labels), input="sound", windows=2, seconds=0.05)
        with pytest.raises(RecipeError, match=r"data\.windows = 2 does not work with efficientnet-lite0, which learns from single windows"):
            epochal.train(windows, model=MODEL, quiet=True)


@pytest.mark.usefixtures("installed")
def test_the_recipe_of_few_labels(tmp_path: Path) -> None:
    run = epochal.train(_written(tmp_path, 20, 20), "few-shot", epochs=1, quiet=True)
    assert (run.recipe.model.name, run.recipe.tune, run.data.valid) == (MODEL, "head", None)
    assert (run.recipe.origin("tune"), run.recipe.origin("model.name")) == ("recipe few-shot", "data")


@pytest.mark.usefixtures("installed")
def test_bench_measures_what_train_would_train(photos: Path) -> None:
    done = bench(photos, Recipe(), devices=["cpu"], batch_sizes=[4], seconds=0.01)
    assert (done.result["model"]["name"], done.result["recipe"]["tune"]) == (MODEL, "head")
    assert done.profiles[0].examples_per_second > 0
