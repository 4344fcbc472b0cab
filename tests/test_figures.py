import dataclasses
import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.text import Text
from PIL import Image

from epochal.data.examples import Examples
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.text.rule import TextRule
from epochal.data.spec import DataSpec
from epochal.errors import DataError, OutputError
from epochal.evaluation.evaluate import Evaluation, score
from epochal.evaluation.importance import ColumnImportance, Importance
from epochal.figures import (
    column_importance,
    confusion,
    draw_all,
    fonts,
    learning_curves,
    predictions,
    residuals,
    save,
    scatter,
    single,
    speeds,
    style,
)
from epochal.recipe import LossSettings
from epochal.training.records import EpochDone
from epochal.tuning.profile import PHASES, Profile

pytestmark = pytest.mark.usefixtures("drawn")

DIGITS = tuple("0123456789")
DEJAVU = font_manager.findfont("DejaVu Sans")
KMNIST = tuple("おきすつなはまやれを")


def spec(outputs: Sequence[str] = DIGITS, task: str = "single-label", shape: tuple[int, ...] = (1, 8, 8), dtype: str = "uint8") -> DataSpec:
    kind = "picture" if len(shape) == 3 else "numbers"
    return DataSpec.model_validate(
        {
            "name": "small",
            "input": {"kind": kind, "shape": shape, "dtype": dtype},
            "task": {"name": task, "outputs": tuple(outputs)},
            "counts": {"train": 10},
            "fingerprint": "f",
        }
    )


def evaluated(data: DataSpec, count: int = 200, skill: float = 4.0) -> tuple[Examples, Evaluation]:
    """Noise, and a model that is often right about it."""
    generator = torch.Generator().manual_seed(0)
    classes = len(data.outputs)
    outputs = torch.randn(count, classes, generator=generator)
    if data.task.name == "single-label":
        targets = torch.randint(classes, (count,), generator=generator)
        outputs[torch.arange(count), targets] += skill
    elif data.task.name == "multi-label":
        targets = (torch.rand(count, classes, generator=generator) < 0.5).float()
        outputs += (2 * targets - 1) * skill / 2
    else:
        targets = outputs + torch.randn(count, classes, generator=generator) / skill
    inputs = torch.randint(256, (count, *data.shape), generator=generator).to(getattr(torch, data.dtype))
    return Examples(inputs, targets, "test", torch.arange(count)), score(outputs, targets, data.task, data.task.loss(LossSettings()))


def epochs(losses: Sequence[float | None], task: str = "single-label") -> list[EpochDone]:
    data = spec(("a", "b"), task=task)
    validated = [None if loss is None else evaluated(data, 50, 5 - loss)[1] for loss in losses]
    best = min((loss for loss in losses if loss is not None), default=None)
    return [
        EpochDone(number, len(losses), number, 1 / number, valid, 0.1, 1.0, 100.0, 0.0, loss is None or loss == best)
        for number, (loss, valid) in enumerate(zip(losses, validated, strict=True), start=1)
    ]


def curves(records: Sequence[EpochDone], task: str = "single-label") -> Figure:
    return learning_curves(records, spec(("a", "b"), task=task).task)


def forget_fonts() -> None:
    for cached in (fonts.families, fonts.letters, fonts.add_new_fonts):
        cached.cache_clear()


def begin_with_fonts(monkeypatch: pytest.MonkeyPatch, listed: Sequence[str]) -> None:
    """Begin again with these fonts beside DejaVu Sans, on a machine that has no others."""
    monkeypatch.setattr(fonts, "CJK", tuple(listed))
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    forget_fonts()


def texts(figure: Any) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def count_starting(figure: Any, start: str) -> int:
    return sum(text.startswith(start) for text in texts(figure))


def titles(figure: Any) -> list[str]:
    """The titles of the pictures."""
    return [text for text in texts(figure) if "\ntrue: " in text]


def overlaps(figure: Figure, start: str) -> bool:
    """Whether two titles that start so overlap."""
    figure.draw_without_rendering()
    found = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text().startswith(start)]
    boxes = [text.get_window_extent() for text in found]
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.fixture(autouse=True)
def global_state_is_left_alone() -> Iterator[None]:
    before = dict(mpl.rcParams)
    yield
    forget_fonts()
    assert dict(mpl.rcParams) == before


class TestLearningCurves:
    def test_two_panels_with_the_kept_epoch(self) -> None:
        figure = curves(epochs([3.0, 1.0, 2.0]))
        loss, accuracy = figure.axes
        assert (loss.get_title(), accuracy.get_title()) == ("Loss", "Validation accuracy")
        assert np.allclose(loss.get_lines()[0].get_ydata(), [1, 1 / 2, 1 / 3])
        legend = loss.get_legend()
        assert legend is not None
        words = [text.get_text() for text in legend.get_texts()]
        assert words[:2] == ["training", "validation"]
        assert words[2].startswith("kept: epoch 2, ")
        assert loss.get_lines()[2].get_xdata() == [2]
        assert accuracy.get_ylim()[1] <= 1

    @pytest.mark.parametrize("count", [1, 2, 5, 80])
    def test_ticks_are_whole_epochs(self, count: int) -> None:
        figure = curves(epochs([1.0] * count))
        figure.draw_without_rendering()
        ticks = [tick for tick in figure.axes[0].get_xticks() if 1 <= tick <= count]
        assert ticks
        assert all(tick == int(tick) for tick in ticks)

    def test_without_validation_there_is_one_panel_and_nothing_kept(self) -> None:
        figure = curves(epochs([None, None]))
        assert len(figure.axes) == 1
        assert count_starting(figure, "kept") == 0

    def test_regression_has_r2(self) -> None:
        assert "Validation R²" in texts(curves(epochs([2.0, 1.0], task="regression"), "regression"))


class TestConfusion:
    def test_counts_stand_in_the_cells(self) -> None:
        data = spec(("cat", "dog", "bird"))
        outputs = torch.tensor([[3.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]])
        evaluation = score(outputs, torch.tensor([0, 1, 1, 2]), data.task, data.task.loss(LossSettings()))
        axes = confusion(evaluation, data.outputs).axes[0]
        cells = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
        assert cells == {(0, 0): "1", (1, 0): "1", (1, 1): "1", (2, 2): "1"}
        assert axes.get_title() == "3 of 4 right (75.0 %)"
        assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "bird"]
        assert np.allclose(axes.images[0].get_array()[1], [0.5, 0.5, 0])  # type: ignore[index]

    @pytest.mark.parametrize(("classes", "has_text"), [(2, True), (20, True), (21, False), (100, False)])
    def test_many_classes(self, classes: int, has_text: bool) -> None:
        names = [f"class number {number}" for number in range(classes)]
        figure = confusion(evaluated(spec(names))[1], names)
        figure.draw_without_rendering()
        axes = figure.axes[0]
        assert bool(axes.texts) == has_text
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
        assert max(figure.get_size_inches()) < 16

    def test_short_names_stay_upright_and_long_ones_are_cut(self) -> None:
        labels = confusion(evaluated(spec())[1], DIGITS).axes[0].get_xticklabels()
        assert labels[0].get_rotation() == 0
        names = ("x" * 500, "two\nlines")
        labels = confusion(evaluated(spec(names))[1], names).axes[0].get_yticklabels()
        assert [label.get_text() for label in labels] == ["x" * 19 + "…", "two lines"]

    def test_a_class_without_examples(self) -> None:
        data = spec(("a", "b"))
        evaluation = score(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), data.task, data.task.loss(LossSettings()))
        assert [text.get_text() for text in confusion(evaluation, data.outputs).axes[0].texts] == ["1"]


class TestPredictions:
    def test_wrong_ones_come_first_and_most_confident(self) -> None:
        data = spec(("cat", "dog"))
        outputs = torch.tensor([[1.0, 0], [0, 2], [0, 3], [5, 0]])
        examples, _ = evaluated(data, 4)
        evaluation = score(outputs, torch.tensor([1, 0, 1, 0]), data.task, data.task.loss(LossSettings()))
        figure = predictions(examples, evaluation, data)
        assert figure is not None
        found = texts(figure)
        assert "✗ Wrong: 2 of 4, the most confident first" in found
        assert "✓ Right: 2 of 4, evenly chosen" in found
        assert titles(figure) == ["✗ dog\ntrue: cat", "✗ cat\ntrue: dog", "✓ dog\ntrue: dog", "✓ cat\ntrue: cat"]
        assert [text for text in found if text.endswith(" %")] == ["88.1 %", "73.1 %", "95.3 %", "99.3 %"]

    def test_the_pixels_are_those_of_the_example(self) -> None:
        data = spec(("cat", "dog"))
        examples, _ = evaluated(data, 2)
        evaluation = score(torch.tensor([[9.0, 0], [9, 0]]), torch.tensor([0, 0]), data.task, data.task.loss(LossSettings()))
        figure = predictions(examples, evaluation, data)
        assert figure is not None
        assert count_starting(figure, "✗") == 0, "nothing is wrong, so there is no such block"
        shown = [image.get_array() for image in figure.findobj(BboxImage) if isinstance(image, BboxImage)]
        assert np.array_equal(shown[0], examples.input(0)[0].numpy())  # type: ignore[arg-type]
        assert np.array_equal(shown[1], examples.input(1)[0].numpy())  # type: ignore[arg-type]

    def test_at_most_twelve_of_each_are_shown(self) -> None:
        data = spec()
        figure = predictions(*evaluated(data, 300, 1.0), data)
        assert count_starting(figure, "✗") == count_starting(figure, "✓") == 13, "a heading and twelve titles"

    @pytest.mark.parametrize("names", [("x" * 60, "y" * 60), tuple(word * 30 for word in "おき")])
    def test_long_names_do_not_run_into_each_other(self, names: tuple[str, ...]) -> None:
        data = spec(names)
        figure = predictions(*evaluated(data, 300, 1.0), data)
        assert figure is not None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            assert not overlaps(figure, "✗ ")

    @pytest.mark.parametrize(("shape", "dtype"), [((3, 8, 16), "uint8"), ((3, 40, 4), "float32"), ((1, 8, 8), "int64")])
    def test_other_pictures(self, shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
        data = spec(shape=shape, dtype=dtype)
        figure = predictions(*evaluated(data), data)
        assert figure is not None
        assert len(save(figure, tmp_path / "some")) == 2

    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 40, 4), (3, 4, 40), (1, 6, 9)])
    def test_pictures_keep_their_shape_and_stand_apart(self, shape: tuple[int, ...]) -> None:
        data = spec(shape=shape)
        figure = predictions(*evaluated(data, 300, 1.0), data)
        assert figure is not None
        figure.draw_without_rendering()
        pictures = [image.get_window_extent() for image in figure.findobj(BboxImage) if isinstance(image, BboxImage)]
        assert len(pictures) == 24
        assert all(box.height / box.width == pytest.approx(shape[1] / shape[2]) for box in pictures)
        boxes = [*pictures, *(text.get_window_extent() for text in figure.texts)]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)

    def test_several_labels(self) -> None:
        data = spec(("sky", "sea", "tree"), task="multi-label")
        outputs = torch.tensor([[4.0, 4, -4], [-4, -4, -4]])
        examples, _ = evaluated(data, 2)
        evaluation = score(outputs, torch.tensor([[1.0, 1, 0], [0, 0, 1]]), data.task, data.task.loss(LossSettings()))
        figure = predictions(examples, evaluation, data)
        assert figure is not None
        assert titles(figure) == ["✗ none\ntrue: tree", "✓ sky, sea\ntrue: sky, sea"]
        assert "94.7 %" in texts(figure)

    def test_a_probability_below_one_never_reads_as_certain(self) -> None:
        data = spec(("cat", "dog"))
        outputs = torch.tensor([[7.0, 0], [12.0, 0]])
        figure = predictions(evaluated(data, 2)[0], score(outputs, torch.tensor([0, 0]), data.task, data.task.loss(LossSettings())), data)
        assert [text for text in texts(figure) if text.endswith(" %")] == ["99.9 %", "> 99.9 %"]

    def test_the_largest_errors_of_quantities(self) -> None:
        data = spec(("size",), task="regression")
        examples, _ = evaluated(data, 3)
        evaluation = score(torch.tensor([[1.0], [2], [9]]), torch.tensor([[1.5], [2], [6]]), data.task, data.task.loss(LossSettings()))
        figure = predictions(examples, evaluation, data)
        assert titles(figure) == ["9\ntrue: 6", "1\ntrue: 1.5", "2\ntrue: 2"]
        assert "The largest errors of 3 predictions" in texts(figure)
        assert "off by +3" in texts(figure)

    def test_sounds_have_names(self) -> None:
        rule = SoundRule(shape=(800,), rate=8000)
        data = spec(("a", "b")).model_copy(update={"input": rule})
        examples, evaluation = evaluated(data, 60, 0.5)
        examples = dataclasses.replace(examples, files=[f"a/{place}.wav" for place in range(60)])
        figure = predictions(examples, evaluation, data)
        assert figure is not None
        assert len([image for image in figure.findobj(BboxImage) if isinstance(image, BboxImage)]) == 24
        assert sum(text.endswith(".wav") for text in texts(figure)) == 24
        boxes = [text.get_window_extent() for text in figure.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))

    def test_texts_are_wrapped_and_cut(self) -> None:
        data = spec(("bad", "good")).model_copy(update={"input": TextRule(shape=(2, 30), tokens="ngrams")})
        examples, evaluation = evaluated(data, 40, 1.0)
        words = ["short", "", "猫" * 300, "many words " * 400, "x" * 900]
        examples = dataclasses.replace(examples, texts=[words[place % 5] for place in range(40)])
        figure = predictions(examples, evaluation, data)
        assert figure is not None
        found = texts(figure)
        assert count_starting(figure, "✗") == 10, "a heading and nine texts"
        assert {"short", "(empty)"} <= {*found}
        assert sum(text.endswith("…") for text in found) >= 6
        assert any(text.endswith(", 4,400 characters") for text in found)
        figure.draw_without_rendering()
        assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)

    def test_rows_are_told_by_what_is_unlike_their_class(self) -> None:
        generator = torch.Generator().manual_seed(0)
        targets = torch.arange(400) % 2
        inputs = torch.randn(400, 3, generator=generator)
        inputs[:, 1] += 6 * targets
        data = spec(("low", "high"), shape=(3,), dtype="float32")
        train = Examples(inputs, targets, "train", torch.arange(400))
        wrong = Examples(torch.tensor([[0.1, 7.0, 0.2], [0.0, 0.3, 0.1]]), torch.tensor([0, 0]), "test", torch.arange(2))
        evaluation = score(torch.tensor([[0.0, 3.0], [3.0, 0.0]]), wrong.targets, data.task, data.task.loss(LossSettings()))
        figure = predictions(wrong, evaluation, data, train)
        assert figure is not None
        found = texts(figure)
        assert "✗ Wrong: 1 of 2, the most confident first" in found
        assert "true: low" in found
        first = next(text for text in found if text.startswith("number "))
        assert first == "number 1"
        assert found[found.index(first) + 1 : found.index(first) + 3] == ["7", "above 100 %"]
        assert predictions(wrong.take(torch.tensor([1])), evaluation, data, None) is None, "nothing to compare with"

    def test_rows_with_the_largest_errors(self) -> None:
        data = spec(("size",), task="regression", shape=(4,), dtype="float32")
        examples, evaluation = evaluated(data)
        figure = predictions(examples, evaluation, data, examples)
        assert count_starting(figure, "true: ") == 8

    def test_nothing_for_numbers_that_are_no_rows(self) -> None:
        data = spec(shape=(4, 5), dtype="float32")
        assert predictions(*evaluated(data), data, evaluated(data)[0]) is None


class TestRegression:
    def test_a_panel_for_each_of_four_outputs_at_most(self) -> None:
        data = spec(tuple("vwxyz"), task="regression")
        figure = scatter(evaluated(data)[1], data.outputs)
        assert [axes.get_title() for axes in figure.axes] == ["v", "w", "x", "y"]
        assert any(text.startswith("R² 0.9") and text.endswith("(the first 4 of 5 outputs)") for text in texts(figure))

    def test_points_and_diagonal_in_the_same_scale(self) -> None:
        data = spec(("price",), task="regression")
        evaluation = evaluated(data)[1]
        (axes,) = scatter(evaluation, data.outputs).axes
        assert axes.get_xlim() == axes.get_ylim()
        points = np.asarray(axes.collections[0].get_offsets())
        assert np.allclose(points, torch.cat([evaluation.targets, evaluation.predictions], 1))
        assert np.array_equal(axes.get_lines()[0].get_xdata(), axes.get_lines()[0].get_ydata())

    def test_a_constant_can_be_drawn(self, tmp_path: Path) -> None:
        data = spec(("one",), task="regression")
        evaluation = score(torch.ones(3, 1), torch.ones(3, 1), data.task, data.task.loss(LossSettings()))
        save(scatter(evaluation, data.outputs), tmp_path / "constant")
        save(residuals(evaluation, data.outputs), tmp_path / "residuals")

    def test_residuals_over_predictions_and_their_quantiles(self) -> None:
        data = spec(tuple("vwxyz"), task="regression")
        evaluation = evaluated(data)[1]
        figure = residuals(evaluation, data.outputs)
        assert [axes.get_title() for axes in figure.axes[::2]] == ["v", "w", "x", "y"]
        points = np.asarray(figure.axes[0].collections[0].get_offsets())
        assert np.allclose(points[:, 1], evaluation.targets[:, 0] - evaluation.predictions[:, 0])
        middle = float((evaluation.targets - evaluation.predictions)[:, 0].quantile(0.5))
        assert f"median: {middle:.3g}" in figure.axes[1].get_title()


class TestImportance:
    def test_bars_for_the_first_columns_with_intervals(self, tmp_path: Path) -> None:
        columns = tuple(ColumnImportance(f"列{number}", 1 / number, (0.5 / number, 1.5 / number), 0.1) for number in range(1, 31))
        figure = column_importance(Importance(columns, (), "test", 100, "accuracy"))
        (axes,) = figure.axes
        assert axes.get_title("left").endswith("(the first 25 of 30)")
        assert [bar.get_width() for bar in axes.patches[:3]] == pytest.approx([1, 1 / 2, 1 / 3])  # type: ignore[attr-defined]
        save(figure, tmp_path / "importance")


class TestSingle:
    def test_a_picture_under_its_title(self) -> None:
        (axes,) = single(torch.zeros(3, 4, 4), "pred result: 7").axes
        assert axes.get_title() == "pred result: 7"

    def test_a_long_title_is_broken(self) -> None:
        title = single(torch.zeros(1, 4, 4, dtype=torch.uint8), "pred result: " + "many words " * 9).axes[0].get_title()
        assert max(map(len, title.splitlines())) <= 38

    def test_what_is_no_picture_is_reported(self) -> None:
        with pytest.raises(DataError, match=r"(?s)shape \(4,\) are not pictures.*Only pictures can be drawn"):
            single(torch.zeros(4), "7")


class TestSave:
    def test_png_and_svg_the_same_each_time(self, tmp_path: Path) -> None:
        written = [save(curves(epochs([2.0, 1.0])), tmp_path / f"{name}.v1") for name in "ab"]
        (png, svg), again = written
        assert (png.name, svg.name) == ("a.v1.png", "a.v1.svg")
        with Image.open(png) as picture:
            assert picture.size == (1350, 510)
        root = ElementTree.parse(svg).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "Validation accuracy" in svg.read_text("utf-8"), "text stays text"
        assert [png.read_bytes(), svg.read_bytes()] == [path.read_bytes() for path in again]

    def test_a_place_that_cannot_be_written_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="Cannot write"):
            save(single(torch.zeros(1, 2, 2), "7"), tmp_path / "nowhere" / "seven")

    def test_scripts_that_no_font_has_bring_numbers_and_no_warning(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        begin_with_fonts(monkeypatch, listed=())
        _, svg = save(confusion(evaluated(spec(KMNIST))[1], KMNIST), tmp_path / "kmnist")
        assert "0: お" in svg.read_text("utf-8"), "a browser has the fonts"
        assert "3: つ" in svg.read_text("utf-8")

    def test_a_font_that_is_newer_than_the_list_of_fonts_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        manager = font_manager.fontManager
        (new,) = {entry.fname for entry in manager.ttflist if entry.name == "STIXGeneral" and entry.fname.endswith("STIXGeneral.ttf")}
        letter = chr(min(font_manager.get_font(new).get_charmap().keys() - font_manager.get_font(DEJAVU).get_charmap().keys()))
        monkeypatch.setattr(manager, "ttflist", [entry for entry in manager.ttflist if entry.name != "STIXGeneral"])
        begin_with_fonts(monkeypatch, ["STIXGeneral"])
        assert letter in fonts.boxes([letter, "a"])

        begin_with_fonts(monkeypatch, ["STIXGeneral"])
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [new, __file__])
        names = (letter, "b")
        figure = confusion(evaluated(spec(names))[1], names)
        assert fonts.boxes(names) == ""
        labels = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() == letter]
        assert labels
        assert all("STIXGeneral" in label.get_fontfamily() for label in labels)

    def test_letters_without_a_font_are_reported_in_one_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begin_with_fonts(monkeypatch, ())
        assert fonts.boxes(DIGITS) == ""
        assert fonts.boxes(["猫 犬", "cat", "猫"]) == (
            "no font here has 犬猫: figures show boxes instead. Install one that has them, for example Noto Sans CJK."
        )

    def test_control_signs_and_names_that_are_no_text_are_drawn_as_numbers(self, tmp_path: Path) -> None:
        names = ("a\x1b[2J", "chi\udcean", "_hidden")
        png, svg = save(confusion(evaluated(spec(names))[1], names), tmp_path / "odd")
        assert ElementTree.parse(svg).getroot() is not None
        assert all(name in svg.read_text("utf-8") for name in (r"a\x1b[2J", r"chi\udcean", "_hidden"))
        save(single(torch.zeros(3, 4, 4), "pred result: chi\udcean"), tmp_path / "single")
        assert png.stat().st_size

    def test_dollars_are_no_mathematics(self, tmp_path: Path) -> None:
        names = ("$5_{", "a$b$c")
        _, svg = save(confusion(evaluated(spec(names))[1], names), tmp_path / "dollars")
        assert "$5_{" in svg.read_text("utf-8")

    def test_the_users_own_style_is_not_taken(self) -> None:
        def content() -> bytes:
            file = io.BytesIO()
            curves(epochs([2.0, 1.0])).savefig(file, format="png")
            return file.getvalue()

        expected = content()
        with mpl.rc_context({"axes.grid": True, "lines.linewidth": 9, "font.size": 30}):
            assert curves(epochs([2.0, 1.0])).axes[0].get_lines()[0].get_linewidth() == 1.5
        assert content() == expected


class TestDrawAll:
    @pytest.mark.parametrize(
        ("data", "names"),
        [
            (spec(), ["learning-curves", "confusion", "predictions"]),
            (spec(KMNIST), ["learning-curves", "confusion", "predictions"]),
            (spec(shape=(4,), dtype="float32"), ["learning-curves", "confusion"]),
            (spec(("sky", "sea"), task="multi-label"), ["learning-curves", "predictions"]),
            (spec(("size",), task="regression"), ["learning-curves", "predictions", "scatter", "residuals"]),
        ],
    )
    def test_what_fits_the_task(self, data: DataSpec, names: list[str], tmp_path: Path) -> None:
        examples, evaluation = evaluated(data)
        written = draw_all(tmp_path, epochs([1.0]), evaluation, examples, data)
        assert written == [tmp_path / f"{name}.{kind}" for name in names for kind in ("png", "svg")]
        assert sorted(tmp_path.iterdir()) == sorted(written)
        for path in written[1::2]:
            ElementTree.parse(path)


class TestSpeeds:
    def profiles(self, floor: float | None = 300.0) -> list[Profile]:
        shares = dict(zip(PHASES, (0.04, 0.3, 0.4, 0.26), strict=True))
        pairs = [(device, size) for device in ("cpu", "cuda") for size in (128, 64)]
        return [Profile(device, 1, size, 100.0 * size, 1.0, shares, floor and floor * size, None) for device, size in pairs]

    def test_a_line_for_each_device_and_one_for_its_floor(self) -> None:
        left, right = speeds(self.profiles()).axes
        assert [line.get_label() for line in left.get_lines()] == [
            "cpu", "cpu, arithmetic only", "cuda", "cuda, arithmetic only",
        ]  # fmt: skip
        assert np.asarray(left.get_lines()[0].get_data()).tolist() == [[64, 128], [6400, 12800]]
        assert np.asarray(left.get_lines()[1].get_ydata()).tolist() == [19200, 38400]
        assert [tick.get_text() for tick in left.get_xticklabels()] == ["64", "128"]
        assert [tick.get_text() for tick in right.get_yticklabels()] == ["cpu, 128", "cpu, 64", "cuda, 128", "cuda, 64"]

    def test_shares_fill_the_bar_and_are_written_where_there_is_room(self) -> None:
        right = speeds(self.profiles()).axes[1]
        first = [bars[0] for bars in right.containers]
        assert [round(bar.get_width(), 2) for bar in first] == [0.04, 0.3, 0.4, 0.26]
        assert first[-1].get_x() + first[-1].get_width() == pytest.approx(1)
        written = [text.get_text() for text in right.texts]
        assert written.count("40") == 4
        assert "4" not in written

    def test_very_different_speeds_can_all_be_read(self) -> None:
        slow, *others = self.profiles(floor=None)
        assert speeds([slow, *others]).axes[0].get_yscale() == "linear"
        assert speeds([dataclasses.replace(slow, examples_per_second=10.0), *others]).axes[0].get_yscale() == "log"

    def test_without_a_floor(self) -> None:
        assert len(speeds(self.profiles(floor=None)).axes[0].get_lines()) == 2

    def test_a_single_size(self, tmp_path: Path) -> None:
        png, svg = save(speeds(self.profiles()[:1]), tmp_path / "one")
        assert png.stat().st_size > 5000
        ElementTree.parse(svg)


def test_fonts_without_a_bold_face_are_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("epochal.figures.style.families", lambda: ["DejaVu Sans", "DejaVu Sans Display"])
    figure = Figure()
    style.styled(figure.text)(0.5, 0.5, "title", fontweight="bold")
    style.write(figure, tmp_path / "bold")
    assert caplog.records == []
