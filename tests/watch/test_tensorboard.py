import sys
from pathlib import Path
from typing import Any

import pytest

from epochal.errors import OutputError
from epochal.watch.tensorboard import TensorBoard


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_the_numbers_of_each_epoch(records: Any, log: Any, tmp_path: Path) -> None:
    with TensorBoard(tmp_path / "events") as watcher:
        log(watcher, records.training())
    events = read(tmp_path / "events")
    scalars = {"train/loss", "valid/loss", "valid/accuracy", "valid/macro_f1", "lr", "examples_per_second", "waiting"}
    assert scalars <= set(events.Tags()["scalars"])
    losses = events.Scalars("valid/loss")
    assert [event.step for event in losses] == [1, 2, 3]
    assert [event.value for event in losses] == pytest.approx([0.6, 0.5, 0.55])
    assert events.Scalars("kept/valid/loss")[0].value == pytest.approx(0.5), "epoch 2 was kept"


def test_the_recipe_is_there_as_text_and_as_settings(records: Any, log: Any, tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as watcher:
        log(watcher, records.training())
    events = read(tmp_path)
    (text,) = events.Tensors("recipe/text_summary")
    assert "    epochs = 3" in text.tensor_proto.string_val[0].decode()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    settings = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer.lr" in settings


def test_an_epoch_is_on_the_disk_at_once_and_survives_failure(records: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), TensorBoard(tmp_path) as watcher:
        watcher(records.started())
        watcher(records.progress())
        watcher(records.epoch(1, None))
        assert len(read(tmp_path).Scalars("train/loss")) == 1
        raise RuntimeError
    assert "valid/loss" not in read(tmp_path).Tags()["scalars"]


def test_one_watcher_for_two_trainings(records: Any, log: Any, tmp_path: Path) -> None:
    watcher = TensorBoard(str(tmp_path))
    log(watcher, records.training())
    log(watcher, [records.started(task="regression"), records.regressed(1), records.finished()])
    assert "valid/r2" in read(tmp_path).Tags()["scalars"]


def test_a_missing_package_is_reported_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(OutputError, match=r"(?s)tensorboard is not installed.*pip install 'epochal\[track\]'"):
        TensorBoard(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_reported(records: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="Cannot write .*taken"):
        TensorBoard(tmp_path / "taken")(records.started())
