"""Networks of timm: built by name, given weights of a file, trained, kept, and opened elsewhere; nothing but a registered name works."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image

import epochal
from epochal import Bundle
from epochal.data.spec import DataSpec
from epochal.errors import BundleError, MissingError, ModelError
from epochal.io.checksums import with_checksum
from epochal.models.build import assemble, build_net
from epochal.models.pretrained import timm_nets
from epochal.models.pretrained.weights_file import WeightsFile
from epochal.recipe import DataSettings
from epochal.run.folder import read_recipe
from tests.made_timm import forget_timm, install_timm, tiny_weights, write_weights
from tests.photos import write_photos


@pytest.fixture
def timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_timm(tmp_path / "packages", monkeypatch)


@pytest.fixture
def spec(make_spec: Any) -> DataSpec:
    described: DataSpec = make_spec(shape=(3, 12, 12), dtype="uint8", mean=(0.0,) * 3, std=(1.0,) * 3)
    return described


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Red and blue pictures of 16×16 pixels."""
    return write_photos(tmp_path / "photos", {"red": (120, 0, 0), "blue": (0, 0, 120)}, 20, 16, 16, spread=100)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "tiny.safetensors")


def _train(photos: Path, weights: Path, out: Path | None = None, **settings: Any) -> epochal.Run:
    model = {"name": "timm:tiny", "weights": str(weights)}
    return epochal.train(photos, model=model, epochs=5, device="cpu", out=out, quiet=True, **settings)


@pytest.mark.usefixtures("timm")
class TestTraining:
    def test_the_network_dictates_its_input(self, photos: Path, weights: Path, tmp_path: Path) -> None:
        run = _train(photos, weights, tmp_path / "run")
        assert run.bundle.spec.shape == (3, 12, 12)
        recipe = read_recipe(tmp_path / "run")
        assert (recipe.tune, recipe.data.size, recipe.origin("data.size")) == ("head", 12, "model")
        assert run.test is not None
        assert run.test.accuracy == 1

    @pytest.mark.parametrize("tune", ["head", "all"])
    def test_features_are_those_of_the_file(self, photos: Path, weights: Path, tune: str) -> None:
        run = _train(photos, weights, tune=tune, max_steps=1, lr=1e-9)
        picture = run.bundle.inputs(photos / "red" / "0.png")
        tensors = tiny_weights()
        scaled = (picture / 255 - torch.tensor([0.5, 0.4, 0.3]).reshape(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).reshape(3, 1, 1)
        wide = torch.nn.functional.conv2d(scaled, tensors["stem.weight"], tensors["stem.bias"], padding=1)
        mean, variance, weight, bias = (tensors[f"norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        expected = torch.nn.functional.batch_norm(wide, mean, variance, weight, bias).relu().mean((2, 3)).flip(1)
        with torch.no_grad():
            layers = run.bundle.model
            found = layers.net.trunk(layers.preprocess(picture))  # type: ignore[operator, union-attr]
        torch.testing.assert_close(found, expected)

    def test_grey_pictures_are_taken_too(self, photos: Path, weights: Path) -> None:
        for file in photos.rglob("*.png"):
            Image.open(file).convert("L").save(file)
        assert _train(photos, weights).bundle.spec.shape == (1, 12, 12)

    def test_the_recipe_names_exactly_these_weights(
        self, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        _train(photos, Path(weights.name), tmp_path / "run")
        recipe = read_recipe(tmp_path / "run")
        assert recipe.model.options["weights"] == str(weights)
        assert recipe.origin("model.sha256") == "weights"
        monkeypatch.chdir("/")
        assert epochal.reproduce(tmp_path / "run").divergence == ""
        write_weights(weights, seed=1)
        with pytest.raises(ModelError, match=r"tiny\.safetensors is not the file that is expected: its SHA-256 is \w{64}, not"):
            epochal.reproduce(tmp_path / "run")
        weights.unlink()
        with pytest.raises(ModelError, match="There is no file .*tiny.safetensors with the weights of timm:tiny"):
            epochal.reproduce(tmp_path / "run")

    def test_a_model_opens_where_its_weights_are_not(self, photos: Path, weights: Path, tmp_path: Path) -> None:
        run = _train(photos, weights, tmp_path / "run")
        weights.unlink()
        again = Bundle.load(shutil.copytree(tmp_path / "run" / "model", tmp_path / "elsewhere"))
        assert str(tmp_path) not in (tmp_path / "elsewhere" / "bundle.json").read_text()
        assert [(one.label, one.probability) for one in again.predict(photos)] == [
            (one.label, one.probability) for one in run.predict(photos)
        ]

    def test_the_model_says_what_it_needs(self, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _train(photos, weights, tmp_path / "run")
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(BundleError, match="timm:tiny is built by the package timm, which is not installed") as error:
            Bundle.load(tmp_path / "run")
        assert 'pip install "epochal[timm]"' in str(error.value)

    @pytest.mark.parametrize("name", ["timm:hf-hub:timm/resnet18", "timm:local-dir:/tmp", "timm:", "timm:../tiny", "timm:tiny.c3"])
    def test_a_strangers_model_can_only_name_what_timm_has(self, photos: Path, weights: Path, tmp_path: Path, name: str) -> None:
        path = _train(photos, weights, tmp_path / "run").folder
        assert path is not None
        described = json.loads((path / "model" / "bundle.json").read_text())
        described["model"]["name"] = name
        (path / "model" / "bundle.json").write_text(json.dumps(with_checksum(described)))
        with pytest.raises(BundleError, match=r"timm 9\.9\.9 has no (model|weights) '"):
            Bundle.load(path)


@pytest.mark.usefixtures("timm")
class TestWeights:
    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"stem_weight": None, "stem_bias": None}, r"2 of its 7 tensors missing \(stem.weight, stem.bias\)"),
            ({"more": torch.zeros(1)}, r"1 of the file's 8 not part of it \(more\)"),
            ({"stem_bias": torch.zeros(5)}, r"1 of another shape \(stem.bias is \[5\] instead of \[6\]\)"),
            ({f"m{place}": torch.zeros(1) for place in range(9)}, r"9 of the file's 16 not part of it \(m0, m1, m2, ...\)"),
        ],
        ids=["missing", "more", "shape", "many"],
    )
    def test_what_does_not_fit_is_counted_and_named(self, tmp_path: Path, spec: DataSpec, changes: dict[str, Any], text: str) -> None:
        path = write_weights(tmp_path / "other.safetensors", **changes)
        net = build_net("timm:tiny", spec, {})
        with pytest.raises(ModelError, match=rf"other\.safetensors are not those of timm:tiny: {text}\."):
            WeightsFile("timm:tiny", str(path)).load_into(net.get_submodule("trunk"))

    def test_half_precision_becomes_float32(self, tmp_path: Path, spec: DataSpec) -> None:
        halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tiny_weights().items()}
        safetensors.torch.save_file(halves, tmp_path / "half.safetensors")
        trunk = build_net("timm:tiny", spec, {}).get_submodule("trunk")
        WeightsFile("timm:tiny", str(tmp_path / "half.safetensors")).load_into(trunk)
        assert trunk.get_parameter("net.stem.bias").dtype == torch.float32
        assert torch.equal(trunk.get_parameter("net.stem.bias"), halves["stem.bias"].float())

    @pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\xff" * 100, b"cut"], ids=["empty", "pickle", "long header", "cut"])
    def test_what_is_not_safetensors_is_refused(self, photos: Path, weights: Path, content: bytes) -> None:
        weights.write_bytes(weights.read_bytes()[:-5] if content == b"cut" else content)
        with pytest.raises(ModelError, match=r"tiny\.safetensors cannot be read as a \.safetensors file: its? h"):
            _train(photos, weights)

    def test_pickles_are_not_opened(self, photos: Path, tmp_path: Path) -> None:
        path = tmp_path / "tiny.pth"
        torch.save(tiny_weights(), path)
        with pytest.raises(ModelError, match=r"tiny\.pth may be a pickle, .* read from \.safetensors files alone") as error:
            _train(photos, path)
        command = str(error.value).partition('python -c "')[2].rstrip('"')
        exec(command)
        assert _train(photos, tmp_path / "tiny.safetensors").bundle.spec.shape == (3, 12, 12)

    def test_a_model_without_weights_is_not_trained(self, photos: Path) -> None:
        with pytest.raises(ModelError, match="weights that are not given.\nName the file: --set model.weights="):
            epochal.train(photos, model="timm:tiny", quiet=True)


@pytest.mark.usefixtures("timm")
class TestNames:
    def test_near_names_are_suggested(self, spec: DataSpec) -> None:
        with pytest.raises(ModelError, match=r"timm 9\.9\.9 has no model 'tinny'\.\nDid you mean 'timm:tiny'\?"):
            build_net("timm:tinny", spec, {})

    def test_tags_are_listed(self, spec: DataSpec) -> None:
        with pytest.raises(ModelError, match=r"timm 9\.9\.9 has no weights 'tiny\.x'\.\nKnown: tiny\.a1, tiny\.b2\."):
            build_net("timm:tiny.x", spec, {})

    def test_torchvision_stays_absent(self, spec: DataSpec) -> None:
        net = build_net("timm:tiny", spec, {})
        assert not any(isinstance(module, sys.modules["timm"].FrozenBatchNorm2d) for module in net.modules())
        assert "torchvision" not in sys.modules
        with pytest.raises(ImportError, match="Resize is a part of torchvision, which cannot be imported"):
            sys.modules["timm"].Resize(12)


def test_without_timm_the_package_is_named(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm:tiny is built by the package timm, which is not installed") as error:
        epochal.train(photos, model="timm:tiny", quiet=True)
    assert 'pip install "epochal[timm]"' in str(error.value)


def test_a_timm_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: DataSpec) -> None:
    forget_timm(monkeypatch)
    (tmp_path / "timm.py").write_text("import absent_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="timm, which cannot be imported: ModuleNotFoundError: No module named 'absent_package'"):
        build_net("timm:tiny", spec, {})


def test_an_old_timm_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: DataSpec) -> None:
    forget_timm(monkeypatch)
    (tmp_path / "timm.py").write_text("__version__ = '1.0.9'")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingError, match=r"needs timm 1\.0\.22 or later; 1\.0\.9 is installed"):
        build_net("timm:tiny", spec, {})


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_real_networks_give_what_timm_gives(name: str, make_spec: Any, tmp_path: Path) -> None:
    try:
        config = timm_nets.timm_settings(f"timm:{name}")
    except MissingError as error:
        pytest.skip(str(error))
    timm = sys.modules["timm"]
    torch.manual_seed(0)
    published = timm.create_model(name).eval()
    safetensors.torch.save_file(published.state_dict(), tmp_path / "net.safetensors")
    side = config["data.size"]
    spec = make_spec(shape=(3, side, side), dtype="uint8", mean=(0.0,) * 3, std=(1.0,) * 3)
    net = build_net(f"timm:{name}", spec, {}).eval()
    WeightsFile(f"timm:{name}", str(tmp_path / "net.safetensors")).load_into(net.get_submodule("trunk"))
    pictures = torch.rand(2, 3, side, side)
    mean, std = (torch.tensor(published.pretrained_cfg[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = published.forward_head(published.forward_features((pictures - mean) / std), pre_logits=True)
        torch.testing.assert_close(net.get_submodule("trunk")(pictures), expected, atol=1e-5, rtol=1e-4)
    whole = assemble(net, spec, DataSettings(mean=0.0, std=1.0), rescale=False).eval()
    bundle = Bundle(whole, spec, (f"timm:{name}", {}))
    again = Bundle.load(bundle.save(tmp_path / "model"))
    inputs = (pictures * 255).byte()
    assert [one.probability for one in again.predict_inputs(inputs)] == [one.probability for one in bundle.predict_inputs(inputs)]
