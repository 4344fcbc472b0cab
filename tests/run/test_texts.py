"""Texts all the way: trained, kept, resumed to the bit, reproduced, predicted."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from epochal import Bundle, load, reproduce, resume, train
from epochal.cli.main import cli
from epochal.errors import DataError, ModelError, RecipeError
from tests.outcome import outcome

KIND = ("good", "fine", "很好", "喜欢")
HARSH = ("bad", "poor", "不好", "讨厌")
SETTINGS: dict[str, Any] = {"batch_size": 16, "lr": 0.02, "threads": 1, "device": "cpu", "quiet": True}


def texts() -> tuple[list[str], list[str]]:
    found = [
        (f"it was {word} number {number}", label)
        for number in range(12)
        for label, words in (("kind", KIND), ("harsh", HARSH))
        for word in words
    ]
    return [text for text, _ in found], [label for _, label in found]


@pytest.mark.parametrize("model", ["auto", "gru", "lstm", "transformer"])
def test_every_network_learns(model: str) -> None:
    run = train(texts(), model=model, epochs=10, **SETTINGS)
    assert run.test is not None
    assert run.test.accuracy is not None
    assert run.test.accuracy > 0.9
    assert [one.label for one in run.predict(["it was fine", "讨厌 number 3"])] == ["kind", "harsh"]
    assert run.recipe.data.tokens == ("auto" if model == "auto" else "words")
    assert run.recipe.origin("data.tokens") == ("default" if model == "auto" else "model")


class _StopError(BaseException):
    """Like Ctrl-C without a handler."""


@pytest.mark.usefixtures("drawn")
def test_it_is_kept_and_resumes_to_the_bit(tmp_path: Path) -> None:
    train(texts(), out=tmp_path / "whole", epochs=4, **SETTINGS)

    def stop(record: Any) -> None:
        if type(record).__name__ == "EpochDone" and record.epoch == 2:
            raise _StopError

    with pytest.raises(_StopError):
        train(texts(), out=tmp_path / "run", epochs=4, watchers=[stop], checkpoint_every=1e-9, **SETTINGS)
    resume(tmp_path / "run", data=texts(), quiet=True)
    assert outcome(tmp_path / "run")["weights"] == outcome(tmp_path / "whole")["weights"]
    assert reproduce(tmp_path / "whole", data=texts()).divergence == ""
    bundle = Bundle.load(tmp_path / "whole")
    (tmp_path / "a.txt").write_text("it was 很好", "utf-8")
    alone = bundle.predict("it was 很好")[0]
    for form in (tmp_path / "a.txt", str(tmp_path / "a.txt"), ["it was 很好", "bad"], tmp_path):
        assert bundle.predict(form)[0].values == pytest.approx(alone.values, abs=1e-6)
    assert bundle.predict(["it was " + "very " * 40 + "bad"]).names == ("it was " + "very " * 10 + "ve…",)

    found = CliRunner().invoke(cli, ["predict", str(tmp_path / "whole"), "--text", "it was fine", "-"], input="讨厌\n\nbad bad\n")
    assert [line.split("  ")[0] for line in found.output.splitlines()] == ["it was fine", "讨厌", "bad bad"]
    assert found.exit_code == 0
    missing = CliRunner().invoke(cli, ["predict", str(tmp_path / "whole"), str(tmp_path / "fine film")])
    assert missing.exit_code == 1
    assert "There is no file" in missing.output
    assert CliRunner().invoke(cli, ["predict", str(tmp_path / "whole")]).exit_code == 2


def test_texts_of_a_table_and_of_a_pipe_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{label}\t{text}\n" for text, label in zip(*texts(), strict=True))
    Path("a.tsv").write_text(rows, "utf-8")
    run = train("a.tsv", text="1", target="0", epochs=6, out=tmp_path / "run", **SETTINGS)
    Path("fine").write_text("bad bad poor")
    Path("b.tsv").write_text("?\tfine\n?\tit was bad\n")
    found = run.predict(Path("b.tsv"))
    assert found.names == ("b.tsv:1", "b.tsv:2")
    assert [one.label for one in found] == ["kind", "harsh"]
    assert run.predict("fine")[0].label == "harsh"
    piped = CliRunner().invoke(cli, ["predict", "run", "-", "--text", "fine"], input="fine\n")
    assert piped.output.splitlines()[0].startswith("fine  kind")
    assert piped.output.splitlines()[1].startswith("fine  kind")
    assert "The standard input has no text" in str(CliRunner().invoke(cli, ["predict", "run", "-"], input="\n").exception)
    Path("c.csv").write_text("x\nsome\nwords\n")
    with pytest.raises(DataError, match=r"c\.csv has no column '1', which the model reads"):
        run.predict(Path("c.csv"))


def test_what_does_not_fit_is_refused() -> None:
    data = load(texts())
    with pytest.raises(RecipeError, match=r"data\.tokens = words comes too late: these data are loaded, as ngrams"):
        train(data, model="gru", **SETTINGS)
    with pytest.raises(RecipeError, match="augment.flip are for pictures"):
        train(data, flip=True, **SETTINGS)
    with pytest.raises(ModelError, match="The model conv is for pictures"):
        train(data, model="conv", **SETTINGS)
    with pytest.raises(ModelError, match="The model gru is for texts"):
        train("digits", model="gru", **SETTINGS)
