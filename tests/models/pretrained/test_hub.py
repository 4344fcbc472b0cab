"""Models of the hub, from a server on this machine: one commit, whole files, the same ones for ever, with a network or without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import epochal
from epochal import Bundle
from epochal.data.inputs.text.rule import TextRule
from epochal.data.storage.hub import Repository
from epochal.errors import DataError, DownloadError, EpochalError, ModelError, RecipeError
from epochal.io.checksums import with_checksum
from epochal.models.pretrained.texts import MINILM
from epochal.run.folder import read_recipe
from tests.made_hub import COMMIT, LATER, Hub, serving
from tests.made_timm import install_timm, tiny_weights
from tests.photos import write_photos

CONFIG = {"architecture": "tiny", "num_features": 6, "pretrained_cfg": {"input_size": [3, 10, 10], "mean": [0.5] * 3, "std": [0.25] * 3}}
WEIGHTS = "model.safetensors"


def _files(seed: int = 0, config: Any = CONFIG) -> dict[str, bytes]:
    return {"config.json": json.dumps(config).encode(), WEIGHTS: safetensors.torch.save(tiny_weights(seed)), "README.md": b"# Tiny"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    install_timm(tmp_path / "packages", monkeypatch)
    with serving() as hub:
        hub.files = {COMMIT: _files(), LATER: _files(1)}
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", {"red": (120, 0, 0), "blue": (0, 0, 120)}, 12, 10, 10, spread=100)


@pytest.fixture
def train(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    def train(name: str = "hub:team/tiny", out: str = "run", **options: Any) -> Path:
        made = epochal.train(photos, model={"name": name, **options}, epochs=2, device="cpu", out=tmp_path / out, quiet=True)
        assert made.folder is not None
        return made.folder

    return train


def _fetched(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "hub").rglob("*") if path.is_file() and path.parent.name != "refs")


class TestPinning:
    def test_the_recipe_names_one_state(self, hub: Hub, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        run = train()
        recipe = read_recipe(run)
        assert recipe.model.name == "hub:team/tiny"
        assert recipe.model.options["revision"] == COMMIT
        assert recipe.model.options["architecture"] == "tiny"
        assert (recipe.data.size, recipe.tune, recipe.origin("model.revision")) == (10, "head", "hub")
        hub.refs["main"] = LATER
        hub.asked.clear()
        assert epochal.reproduce(run).divergence == ""
        assert hub.asked == []
        later = read_recipe(train(out="later"))
        assert later.model.options["revision"] == LATER
        assert later.model.options["sha256"] != recipe.model.options["sha256"]

    def test_a_recipe_is_used_again_where_nothing_is_cached(
        self, hub: Hub, train: Callable[..., Path], monkeypatch: Any, tmp_path: Path
    ) -> None:
        run = train()
        hub.refs["main"] = LATER
        monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "empty"))
        assert epochal.reproduce(run).divergence == ""
        hub.files[COMMIT] = _files(5)
        monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "another"))
        with pytest.raises(DownloadError, match=rf"{WEIGHTS} of team/tiny@{COMMIT} is not the file that is expected: its SHA-256"):
            epochal.reproduce(run)
        assert not list((tmp_path / "another").rglob("*.safetensors"))

    @pytest.mark.parametrize("revision", [LATER, "refs/pr/1", "main"])
    def test_a_revision_is_taken(self, hub: Hub, train: Callable[..., Path], revision: str) -> None:
        recipe = read_recipe(train(f"hub:team/tiny@{revision}"))
        assert recipe.model.options["revision"] == hub.refs.get(revision, revision)

    def test_a_renamed_repository_is_followed(self, hub: Hub, train: Callable[..., Path]) -> None:
        assert read_recipe(train("hub:old/name")).model.options["revision"] == COMMIT

    def test_a_bundle_needs_no_hub(self, hub: Hub, train: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = train()
        hub.asked.clear()
        monkeypatch.setenv("EPOCHAL_CACHE", "/nowhere")
        assert {one.label for one in Bundle.load(run).predict(photos)} == {"red", "blue"}
        assert hub.asked == []

    def test_a_changed_file_in_the_cache_is_not_used(self, hub: Hub, train: Callable[..., Path], tmp_path: Path) -> None:
        run = train()
        (path,) = (tmp_path / "cache" / "hub").rglob(WEIGHTS)
        path.write_bytes(safetensors.torch.save(tiny_weights(9)))
        for again in (lambda: epochal.reproduce(run), lambda: train(out="new")):
            with pytest.raises(ModelError, match=rf"{WEIGHTS} is not the file that is expected: .*\nRemove .*{WEIGHTS}"):
                again()
        path.unlink()
        assert epochal.reproduce(run).divergence == ""


class TestNetwork:
    def test_a_connection_that_breaks_is_resumed(self, hub: Hub, train: Callable[..., Path], tmp_path: Path) -> None:
        hub.storage = "breaks"
        train()
        size = len(hub.files[COMMIT][WEIGHTS])
        path = f"/storage/{COMMIT}/{WEIGHTS}"
        assert hub.downloads() == [path, *(f"{path} bytes={size // 3 * part}-" for part in (1, 2, 3) if size // 3 * part < size)]
        assert _fetched(tmp_path) == ["config.json", WEIGHTS, f"{WEIGHTS}.sha256"]

    @pytest.mark.parametrize(("storage", "text"), [("other", "is another file: its SHA-256 is"), ("lies", "it has"), ("refuses", "503")])
    def test_what_is_not_the_file_is_not_kept(self, hub: Hub, train: Callable[..., Path], tmp_path: Path, storage: str, text: str) -> None:
        hub.storage = storage
        with pytest.raises(DownloadError, match=text) as error:
            train()
        assert "HF_ENDPOINT" in error.value.fix
        assert "model.weights=FILE" in error.value.fix
        assert WEIGHTS not in _fetched(tmp_path)
        hub.storage = "good"
        train()

    def test_a_short_answer_is_noticed(self, hub: Hub, train: Callable[..., Path], tmp_path: Path) -> None:
        hub.changes = {"length": 10_000}
        with pytest.raises(DownloadError, match=r"config\.json broke off after \d+ of 10000 bytes"):
            train()
        assert _fetched(tmp_path) == []

    def test_another_small_file_is_refused(self, hub: Hub, train: Callable[..., Path], tmp_path: Path) -> None:
        hub.changes = {"api": {"siblings": [{"rfilename": "config.json", "blobId": "0" * 40}]}}
        with pytest.raises(DownloadError, match=r"config\.json is another file than the hub lists"):
            train()
        assert _fetched(tmp_path) == []

    def test_without_a_network_the_last_state_is_used(
        self, hub: Hub, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        train()
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        notes: list[str] = []
        assert Repository("team/tiny").commit(notes.append) == COMMIT
        assert notes == ["note: http://127.0.0.1:9 cannot be reached: team/tiny is used as it was last seen, at 11111111"]
        assert read_recipe(train(out="again")).model.options["revision"] == COMMIT
        with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9 cannot be reached: .*refused"):
            train("hub:team/other", out="other")

    def test_a_hub_that_is_down_is_as_none(self, hub: Hub, train: Callable[..., Path]) -> None:
        train()
        hub.changes = {"status": 503}
        assert Repository("team/tiny").commit(print) == COMMIT

    def test_offline_nothing_is_asked_for(self, hub: Hub, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(DownloadError, match="team/tiny@main is not in .*, and HF_HUB_OFFLINE is set"):
            train()
        monkeypatch.delenv("HF_HUB_OFFLINE")
        train()
        hub.asked.clear()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        train(out="again")
        with pytest.raises(DownloadError, match=rf"config\.json of team/tiny@{LATER} is not in"):
            train(f"hub:team/tiny@{LATER}", out="other")
        assert hub.asked == []

    def test_the_cache_of_huggingface_hub_is_used(self, hub: Hub, train: Callable[..., Path], tmp_path: Path) -> None:
        folder = tmp_path / "hf" / "hub" / "models--team--tiny"
        (folder / "snapshots" / COMMIT).mkdir(parents=True)
        (folder / "blobs").mkdir()
        for number, (name, content) in enumerate(hub.files[COMMIT].items()):
            (folder / "blobs" / str(number)).write_bytes(content)
            (folder / "snapshots" / COMMIT / name).symlink_to(Path("..") / ".." / "blobs" / str(number))
        train()
        assert hub.asked == ["/api/models/team/tiny/revision/main"]
        assert _fetched(tmp_path) == []


SCRIPT = f"""
from epochal.data.storage.hub import Repository
print(Repository("team/tiny", "{COMMIT}").file("{WEIGHTS}"))
"""


class TestProcesses:
    def test_an_interrupted_download_is_continued(self, hub: Hub, tmp_path: Path) -> None:
        hub.storage = "waits"
        process = subprocess.Popen([sys.executable, "-c", SCRIPT], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
        assert hub.began.wait(60)
        folder = tmp_path / "cache" / "hub" / "models--team--tiny" / "snapshots" / COMMIT
        part = folder / f"{WEIGHTS}.part"
        while not part.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode != 0
        assert WEIGHTS not in _fetched(tmp_path)
        hub.released.set()
        hub.storage = "good"
        assert Repository("team/tiny", COMMIT).file(WEIGHTS).read_bytes() == hub.files[COMMIT][WEIGHTS]

    def test_two_processes_download_once(self, hub: Hub, tmp_path: Path) -> None:
        hub.storage = "waits"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE) for _ in range(2)]
        assert hub.began.wait(60)
        while len([asked for asked in hub.asked if asked.startswith("/api")]) < 2:
            assert None in [process.poll() for process in processes]
        hub.storage = "good"
        hub.released.set()
        paths = {process.communicate()[0] for process in processes}
        assert [process.returncode for process in processes] == [0, 0]
        assert len(paths) == 1
        assert len([asked for asked in hub.downloads() if "bytes" not in asked]) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        "name", ["hub:", "hub:tiny", "hub:a/b/c", "hub:../b", "hub:a/..", "hub:a/b@", "hub:a/b@../x", "hub:http://x/y"]
    )
    def test_names(self, hub: Hub, train: Callable[..., Path], name: str) -> None:
        with pytest.raises(ModelError, match="is no model of the Hugging Face hub.\nWrite hub:OWNER/NAME"):
            train(name)
        assert hub.asked == []

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("hub:team/none", "no such model that is open to all: .*/team/none/.* answers 401"),
            ("hub:team/tiny@v9", "no such revision: .* answers 404"),
        ],
    )
    def test_what_is_not_there(self, hub: Hub, train: Callable[..., Path], name: str, text: str) -> None:
        with pytest.raises(DownloadError, match=text):
            train(name)

    @pytest.mark.parametrize(
        ("config", "text"),
        [
            ({"model_type": "gpt2", "architectures": ["GPT2Model"]}, "it is of type gpt2"),
            ([], "it is no network of timm"),
            ({**CONFIG, "model_args": {"img_size": 20}}, "it changes timm's tiny by img_size"),
            ({**CONFIG, "pretrained_cfg": {"input_size": [3, 10]}}, "pretrained_cfg.input_size.2 in its config.json: Field required"),
            ({**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], "std": [0, 0, 0]}}, "pretrained_cfg.std.0 in its config.json"),  # type: ignore[dict-item]
            ({**CONFIG, "architecture": "hf-hub:team/other"}, r"timm 9\.9\.9 has no model 'hf-hub:team/other'"),
        ],
        ids=["gpt", "list", "arguments", "size", "scale", "address"],
    )
    def test_what_is_not_supported(self, hub: Hub, train: Callable[..., Path], config: Any, text: str) -> None:
        hub.files[COMMIT] = _files(config=config)
        with pytest.raises(ModelError, match=text):
            train()
        assert hub.downloads() == []

    def test_older_descriptions_are_read(self, hub: Hub, train: Callable[..., Path]) -> None:
        hub.files[COMMIT] = _files(config={"architecture": "tiny", **CONFIG["pretrained_cfg"]})  # type: ignore[dict-item]
        train()

    def test_pickles(self, hub: Hub, train: Callable[..., Path]) -> None:
        hub.files[COMMIT]["pytorch_model.bin"] = hub.files[COMMIT].pop(WEIGHTS)
        with pytest.raises(ModelError, match=rf"team/tiny has no {WEIGHTS}; pytorch_model.bin may be a pickle, which could run code"):
            train()
        assert hub.downloads() == []

    def test_gated_models(self, hub: Hub, train: Callable[..., Path]) -> None:
        hub.changes = {"api": {"gated": "manual"}}
        with pytest.raises(ModelError, match="team/tiny is only open to those who have accepted its terms"):
            train()

    @pytest.mark.parametrize("body", [b"<html>Log in</html>", b"[]", b'{"sha": "main"}', b""])
    def test_other_servers(self, hub: Hub, train: Callable[..., Path], body: bytes) -> None:
        hub.changes = {"body": body}
        with pytest.raises(DownloadError, match="does not answer as the Hugging Face hub does"):
            train()

    def test_other_weights(self, hub: Hub, train: Callable[..., Path]) -> None:
        hub.files[COMMIT][WEIGHTS] = safetensors.torch.save({"other": tiny_weights()["stem.bias"]})
        with pytest.raises(ModelError, match="are not those of hub:team/tiny: 7 of its 7 tensors missing"):
            train()

    @pytest.mark.parametrize("endpoint", ["hf-mirror.com", "file:///etc", "https://"])
    def test_endpoints(self, hub: Hub, train: Callable[..., Path], endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(DownloadError, match=f"HF_ENDPOINT is {endpoint.rstrip('/')}.*, which is not an address"):
            train()

    def test_a_strangers_model_asks_nobody(self, hub: Hub, train: Callable[..., Path]) -> None:
        run = train()
        path = run / "model" / "bundle.json"
        described = json.loads(path.read_text())
        hub.asked.clear()
        for options in ({}, {"architecture": "tiny"}, {**described["model"]["options"], "architecture": "hf-hub:a/b"}):
            path.write_text(json.dumps(with_checksum({**described, "model": {"name": "hub:team/tiny", "options": options}})))
            with pytest.raises(EpochalError, match="cannot be rebuilt"):
                Bundle.load(run)
        assert hub.asked == []


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "##s", "好", "坏", "片"]
BERT = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_act": "gelu", "vocab_size": 14, "hidden_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip


def _bert(prefix: str = "bert.", norm: tuple[str, str] = ("weight", "bias")) -> dict[str, torch.Tensor]:
    """Weights by the names that they have on the hub."""
    generator = torch.Generator().manual_seed(0)
    tables = (("word", 14), ("position", 512), ("token_type", 2))
    shapes: dict[str, tuple[int, ...]] = {f"embeddings.{name}_embeddings.weight": (rows, 8) for name, rows in tables}
    places = ["embeddings"]
    for layer in range(2):
        start = f"encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{start}.{name}.weight": (8, 8), f"{start}.{name}.bias": (8,)}
        shapes |= {f"{start}.intermediate.dense.weight": (16, 8), f"{start}.intermediate.dense.bias": (16,)}
        shapes |= {f"{start}.output.dense.weight": (8, 16), f"{start}.output.dense.bias": (8,)}
        places += [f"{start}.attention.output", f"{start}.output"]
    shapes |= {f"{place}.LayerNorm.{name}": (8,) for place in places for name in norm}
    weights = {f"{prefix}{name}": torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
    more = {f"{prefix}pooler.dense.weight": torch.zeros(8, 8), f"{prefix}embeddings.position_ids": torch.arange(512)[None]}
    return weights | more | ({"cls.predictions.bias": torch.zeros(14)} if prefix else {})


class TestTexts:
    @pytest.fixture
    def texts(self, hub: Hub, tmp_path: Path) -> Path:
        vocabulary = "".join(f"{piece}\n" for piece in PIECES).encode()
        content = {"config.json": json.dumps(BERT).encode(), WEIGHTS: safetensors.torch.save(_bert()), "vocab.txt": vocabulary}
        hub.files = {COMMIT: content}
        path = tmp_path / "films.csv"
        kinds = (("good", "好"), ("bad", "坏"))
        rows = [f"{'a ' * (n % 5)}{word} film{'s' * (n % 2)} {sign}片,{word}" for n in range(20) for word, sign in kinds]
        path.write_text("text,label\n" + "\n".join(rows) + "\n")
        return path

    def _train(self, texts: Path, out: Path | None, model: str = "hub:team/tiny", **settings: Any) -> epochal.Run:
        return epochal.train(texts, model=model, text="text", target="label", device="cpu", out=out, quiet=True, **settings)

    @pytest.mark.parametrize("tune", ["head", "all"])
    def test_an_encoder_is_trained_and_kept(
        self, hub: Hub, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: str
    ) -> None:
        run = self._train(texts, tmp_path / "run", tune=tune, epochs=3)
        predicted = [one.probability for one in run.predict(["好片", "a bad film"])]
        recipe = read_recipe(tmp_path / "run")
        assert recipe.data.vocabulary == f"hub:team/tiny@{COMMIT}"
        assert recipe.model.options["architecture"] == "bert"
        hub.asked.clear()
        assert epochal.reproduce(tmp_path / "run").divergence == ""
        monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "empty"))
        assert [one.probability for one in Bundle.load(tmp_path / "run").predict(["好片", "a bad film"])] == predicted
        assert hub.asked == []
        assert epochal.reproduce(tmp_path / "run").divergence == ""

    @pytest.mark.parametrize(("prefix", "norm"), [("bert.", ("gamma", "beta")), ("", ("weight", "bias"))])
    def test_names_of_tensors_differ(self, hub: Hub, texts: Path, tmp_path: Path, prefix: str, norm: tuple[str, str]) -> None:
        expected = self._train(texts, tmp_path / "one", epochs=1).bundle.model.get_parameter("net.trunk.layers.1.narrow.weight")
        hub.files = {LATER: {**hub.files[COMMIT], WEIGHTS: safetensors.torch.save(_bert(prefix, norm))}}
        found = self._train(texts, tmp_path / "two", epochs=1, model=f"hub:team/tiny@{LATER}").bundle
        assert torch.equal(found.model.get_parameter("net.trunk.layers.1.narrow.weight"), expected)
        assert torch.equal(found.model.get_parameter("net.trunk.norm.weight"), _bert()["bert.embeddings.LayerNorm.weight"])

    def test_it_gives_what_minilm_gives(self, hub: Hub, texts: Path) -> None:
        try:
            folder = MINILM.path().parent
        except ModelError as error:
            pytest.skip(str(error))
        hub.files = {COMMIT: {name: (folder / name).read_bytes() for name in ("config.json", WEIGHTS, "vocab.txt")}}
        ours, theirs = (self._train(texts, None, name, max_steps=1) for name in ("minilm", "hub:team/tiny"))
        assert ours.bundle.spec.input == theirs.bundle.spec.input
        for name, tensor in ours.bundle.model.state_dict().items():
            assert torch.equal(tensor, theirs.bundle.model.state_dict()[name]), name

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"hidden_act": "relu"}, "hidden_act in its config.json: Input should be 'gelu'"),
            ({"hidden_size": 9}, "hidden_size is no multiple of num_attention_heads"),
            ({"position_embedding_type": "relative_key"}, "position_embedding_type in its config.json"),
            ({"vocab_size": 10}, "it is for 10 pieces of words"),
            ({"max_position_embeddings": 3}, "and 3 in a text"),
            ({"num_hidden_layers": 3}, r"are not those of hub:team/tiny: 16 of its 53 tensors missing \(layers.2.query.weight"),
            ({"hidden_size": 10**6, "num_attention_heads": 1}, "GB are free"),
        ],
    )
    def test_what_cannot_be_built(self, hub: Hub, texts: Path, tmp_path: Path, changes: dict[str, Any], text: str) -> None:
        hub.files[COMMIT]["config.json"] = json.dumps(BERT | changes).encode()
        with pytest.raises(ModelError, match=text):
            self._train(texts, tmp_path / "run")

    @pytest.mark.parametrize(
        ("vocabulary", "text"),
        [
            (b"[PAD]\n[UNK]\n[CLS]\n", r"the vocabulary has no \[SEP\]"),
            (b"\xff", "codec can't decode"),
            (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n", "a piece is in the vocabulary twice"),
            (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nGood\n", "has 'Good': its network tells upper from lower case"),
        ],
    )
    def test_vocabularies(self, hub: Hub, texts: Path, tmp_path: Path, vocabulary: bytes, text: str) -> None:
        hub.files[COMMIT]["vocab.txt"] = vocabulary
        with pytest.raises(DataError, match=text):
            self._train(texts, tmp_path / "run")

    def test_a_vocabulary_is_for_pieces(self, hub: Hub, texts: Path, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"The setting data\.vocabulary = vocab\.txt is for tokens = wordpiece"):
            self._train(texts, tmp_path / "run", model="bag", **{"data.vocabulary": "vocab.txt"})

    def test_a_pre_trained_encoder_keeps_its_vocabulary(self, hub: Hub, texts: Path, tmp_path: Path) -> None:
        (tmp_path / "vocab.txt").write_bytes(hub.files[COMMIT]["vocab.txt"])
        with pytest.raises(RecipeError, match="does not work with hub:team/tiny, which has its own"):
            self._train(texts, tmp_path / "run", **{"data.vocabulary": str(tmp_path / "vocab.txt")})
        loaded = epochal.load((["a film", "好"], [0, 1]), tokens="wordpiece", vocabulary=tmp_path / "vocab.txt")
        rule = loaded.spec.input
        assert isinstance(rule, TextRule)
        assert rule.rows == len(PIECES)

    def test_pictures_are_not_texts(self, hub: Hub, texts: Path, train: Callable[..., Path]) -> None:
        with pytest.raises(ModelError, match="The model hub:team/tiny is for texts"):
            train()
