"""Arrays, Datasets and DataLoaders: read once where possible, read again where they change, refused where they cannot be used."""

from __future__ import annotations

import random as python_random
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from epochal.data.examples import Found, Part
from epochal.data.load import load
from epochal.data.options import ReadOptions
from epochal.data.sources import objects
from epochal.data.sources.objects import find_objects
from epochal.data.spec import DataSpec
from epochal.errors import DataError
from tests.small import Items


class Jittered(Items):
    """Adds noise from all three generators, as random transforms do."""

    def __getitem__(self, index: int) -> Any:
        noise = python_random.random() + float(numpy.random.rand()) + float(torch.rand(()))
        x, y = super().__getitem__(index)
        return x + noise, y


def _train(what: Any) -> Part:
    return find_objects(what).parts["train"]


def _inputs(what: Any) -> Tensor:
    inputs = _train(what).inputs
    assert isinstance(inputs, Tensor)
    return inputs


def _refused(what: Any) -> str:
    with pytest.raises(DataError) as raised:
        find_objects(what)
    return str(raised.value)


@pytest.mark.parametrize(
    "pair",
    [
        (torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])),
        (numpy.array([[1.0], [2.0]]), numpy.array([0, 1])),
        ([[1.0], [2.0]], [0, 1]),
        [((1.0,), (2.0,)), (0, 1)],
        TensorDataset(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])),
    ],
)
def test_pairs(pair: Any) -> None:
    found = find_objects(pair)
    assert found.name == ("TensorDataset" if isinstance(pair, TensorDataset) else "arrays")
    part = found.parts["train"]
    assert isinstance(part.inputs, Tensor)
    assert isinstance(part.targets, Tensor)
    assert (part.inputs.tolist(), part.targets.tolist()) == ([[1.0], [2.0]], [0, 1])


def test_a_list_of_two_examples_is_no_pair_of_inputs_and_targets() -> None:
    part = _train([(numpy.array([1.0, 2.0]), 0), (numpy.array([3.0, 4.0]), 1)])
    assert isinstance(part.inputs, Tensor)
    assert isinstance(part.targets, Tensor)
    assert (part.inputs.tolist(), part.targets.tolist()) == ([[1.0, 2.0], [3.0, 4.0]], [0, 1])
    reported = "Data for train that are a list of two pairs may be two examples, or inputs and targets.\n"
    assert _refused([(1.5, 0), (2.5, 1)]) == f"{reported}Pass inputs and targets as a tuple: (x, y)."
    assert _inputs(((1.5, 2.5), (0, 1))).tolist() == _inputs([[1.5, 2.5], [0, 1]]).tolist() == [1.5, 2.5]


def test_arrays_that_torch_does_not_take_as_they_are() -> None:
    array = numpy.arange(4.0)[::-1]
    array.flags.writeable = False
    assert _inputs((array, [0, 1, 0, 1])).tolist() == [3, 2, 1, 0]
    big = numpy.arange(4, dtype=">f4")
    assert _inputs((big, [0, 1, 0, 1])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("words", [["b", "a"], ("b", "a"), numpy.array(["b", "a"]), numpy.array(["b", "a"], dtype=object)])
def test_words(words: Any) -> None:
    assert _train((torch.rand(2, 1), words)).targets == ["b", "a"]


def test_gradients_stay_outside() -> None:
    x = torch.rand(2, 1, requires_grad=True)
    assert not _inputs((x, [0, 1])).requires_grad


def test_splits_by_name() -> None:
    pair = (torch.rand(2, 1), [0, 1])
    found = find_objects({"test": pair, "train": pair})
    assert list(found.parts) == ["train", "test"]


@pytest.mark.parametrize(
    ("what", "reported"),
    [
        (
            {"test": ([1.0], [0])},
            "The splits test cannot be used.\nName them train, and if there are any valid and test; "
            "or if these are columns of a table, pass target=NAME.",
        ),
        (
            {"train": ([1.0], [0]), "val": ([1.0], [0])},
            "The splits train, val cannot be used.\nName them train, and if there are any valid and test; "
            "or if these are columns of a table, pass target=NAME.",
        ),
        (
            3,
            "Data of type int cannot be used: it has no length and index.\n"
            "Pass (x, y), a map-style Dataset, a DataLoader, or {'train': ..., 'test': ...}.",
        ),
        (([[1, 2], [3]], [0, 1]), "The inputs of train cannot be turned into numbers: "),
        (([1.0, 2.0], [0, None]), "The target of train[1] is missing.\nFill it in, or remove that example."),
        (Items([]), "The dataset for train is empty.\nAdd examples."),
        (Items([1.0, 2.0]), "train[0] is not a pair (input, target).\nLet the dataset return (x, y)."),
        (Items([None]), "train[0] is not a pair (input, target).\nLet the dataset return (x, y)."),
        (numpy.zeros((3, 2)), "train[0] is not a pair (input, target).\nLet the dataset return (x, y)."),
        (
            Items([(torch.zeros(2), 0), (torch.zeros(3), 1)]),
            "train[1] is float32 of shape (3,), but train[0] is float32 of shape (2,).\nMake all inputs alike.",
        ),
        (
            Items([([1, 2], 0), ([1.5, 2.5], 1)]),
            "train[1] is float64 of shape (2,), but train[0] is int64 of shape (2,).\nMake all inputs alike.",
        ),
        (
            Items([(torch.zeros(2), torch.zeros(1)), (torch.zeros(2), torch.zeros(2))]),
            "The target of train[1] is float32 of shape (2,), that of train[0] float32 of shape (1,).\nGive all targets",
        ),
        (Items([(torch.zeros(2), {"box": 1})]), "The target of train[0] is of type dict.\nGive a number or a word for each example"),
    ],
)
def test_refused(what: Any, reported: str) -> None:
    assert _refused(what).startswith(reported)


def test_a_table_alone() -> None:
    class Table(Items):
        columns = ("a", "b")

    reported = "A Table does not say which of its columns are targets.\nPass load(table, target=NAME); or (table[inputs], table[target])."
    assert _refused(Table([])) == _refused({"train": Table([])}) == reported


def test_iterable_dataset() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(())

    assert _refused(Stream()).startswith(
        "Data of type Stream cannot be used: it has no length and index.\nWhere it ends, pass list(...) of it: a list of pairs"
    )


def test_dataset_is_read_once_and_kept() -> None:
    dataset = Items([(torch.full((2,), float(place)), place % 2) for place in range(20)])
    found = find_objects(dataset)
    inputs = found.parts["train"].inputs
    assert isinstance(inputs, Tensor)
    assert inputs[:, 0].tolist() == list(range(20))
    targets = found.parts["train"].targets
    assert isinstance(targets, Tensor)
    assert targets.tolist() == [place % 2 for place in range(20)]
    assert (found.name, found.notes) == ("Items", ())
    # Once, but for the few that were read to see whether they change.
    assert dataset.reads < 20 + 25


@pytest.mark.parametrize(
    ("targets", "task"), [([0, 1, 1], "single-label"), ([0.5, 1.5, 1.0], "regression"), (["a", "b", "b"], "single-label")]
)
def test_targets_of_a_dataset(targets: list[Any], task: str) -> None:
    assert load(Items([(torch.rand(2), target) for target in targets])).task.name == task


def test_targets_as_small_tensors() -> None:
    single = _train(Items([(torch.rand(2), torch.tensor(place % 2)) for place in range(4)])).targets
    assert isinstance(single, Tensor)
    assert single.tolist() == [0, 1, 0, 1]
    assert single.dtype == torch.int64
    rows = _train(Items([(torch.rand(2), torch.tensor([0.5, 1.0])) for _ in range(4)])).targets
    assert isinstance(rows, Tensor)
    assert rows.shape == (4, 2)


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("L", (1, 4, 5)), ("RGB", (3, 4, 5)), ("P", (3, 4, 5)), ("RGBA", (3, 4, 5)), ("1", (1, 4, 5)), ("LA", (1, 4, 5)), ("I;16", (1, 4, 5))],
)
def test_pictures_of_a_dataset(mode: str, shape: tuple[int, ...]) -> None:
    picture = Image.new("I;16", (5, 4), 513) if mode == "I;16" else Image.new("RGB", (5, 4), (10, 20, 30)).convert(mode)
    inputs = _inputs(Items([(picture, 0), (picture, 1)]))
    assert (inputs.dtype, inputs.shape[1:]) == (torch.uint8, shape)
    if mode == "RGB":
        assert inputs[0, :, 0, 0].tolist() == [10, 20, 30]


def test_pictures_of_a_dataset_are_read_as_files_are() -> None:
    clear = Image.new("RGBA", (5, 4), (255, 0, 0, 0))
    assert _inputs(Items([(clear, 0), (clear, 1)])).unique().tolist() == [255]
    deep = Image.fromarray(numpy.full((4, 5), 0x1234, numpy.uint16))
    assert _inputs(Items([(deep, 0), (deep, 1)])).unique().tolist() == [0x12]
    turned = Image.new("RGB", (5, 4))
    turned.getexif()[0x0112] = 6
    assert _inputs(Items([(turned, 0), (turned, 1)])).shape == (2, 3, 5, 4)
    with pytest.raises(DataError, match=r"train\[0\] contains fractional numbers"):
        find_objects(Items([(Image.new("F", (2, 2)), 0)]))


def test_a_list_of_pictures_is_read_as_each_of_them_is() -> None:
    coloured = Image.new("RGB", (5, 4), (255, 0, 0))
    inputs = _inputs(([coloured, coloured.convert("P"), coloured.convert("RGBA")], [0, 1, 0]))
    assert inputs.shape == (3, 3, 4, 5)
    assert torch.equal(inputs[1], inputs[0])
    assert torch.equal(inputs[2], inputs[0])
    reported = (
        "Picture 1 of the inputs of train is uint8 of shape (1, 4, 5), but the first is uint8 of shape (3, 4, 5).\nMake all inputs alike."
    )
    assert _refused(([coloured, coloured.convert("L")], [0, 1])).startswith(reported)


def test_grey_and_coloured_pictures_in_one_dataset() -> None:
    reported = _refused(Items([(Image.new("RGB", (5, 4)), 0), (Image.new("L", (5, 4)), 1)]))
    assert reported == (
        "train[1] is uint8 of shape (1, 4, 5), but train[0] is uint8 of shape (3, 4, 5).\n"
        'Make all inputs alike. Pictures take resize() and convert("RGB").'
    )


def test_subset_and_loader_of_torch() -> None:
    dataset = TensorDataset(torch.arange(10).float()[:, None], torch.arange(10) % 2)
    assert _inputs(Subset(dataset, [7, 3])).tolist() == [[7.0], [3.0]]
    for shuffle in (False, True):
        found = find_objects(DataLoader(dataset, batch_size=4, shuffle=shuffle))
        inputs = found.parts["train"].inputs
        assert isinstance(inputs, Tensor)
        assert inputs[:, 0].tolist() == list(range(10))
        assert (found.batch_size, found.name) == (4, "TensorDataset")
    assert load(DataLoader(dataset, batch_size=4)).batch_size == 4


def test_loaders_that_do_more() -> None:
    dataset = Items([(torch.zeros(1), 0), (torch.zeros(1), 1)])
    assert _refused(DataLoader(dataset, sampler=WeightedRandomSampler([1.0, 1.0], 2))) == (
        "A DataLoader with a sampler of its own (WeightedRandomSampler) cannot be used.\n"
        "Pass its dataset, and sampling = balanced (each class as often), or loss.class_weights = balanced."
    )
    fix = "Pass its dataset; for some of its examples, torch.utils.data.Subset(dataset, places)."
    for options, kind in (({"batch_sampler": [[0], [1]]}, "list"), ({"sampler": SubsetRandomSampler([0])}, "SubsetRandomSampler")):
        assert _refused(DataLoader(dataset, **options)) == f"A DataLoader with a sampler of its own ({kind}) cannot be used.\n{fix}"


def _wrapped(reported: str, dataset: Any, **names: Any) -> Any:
    """Run the lines that a message shows, and put them around a dataset."""
    lines = reported.split("or wrap it:\n")[1].splitlines()[:4]
    namespace = {"torch": torch, **names}
    exec("\n".join(line.removeprefix("    ") for line in lines), namespace)
    return namespace["Pairs"](dataset)


def test_examples_that_are_no_pairs_and_the_lines_that_make_pairs_of_them() -> None:
    values = [(torch.full((2,), float(place)), torch.zeros(1), place % 2) for place in range(6)]
    dicts = Items([{"pixels": x, "path": "p", "label": y} for x, _, y in values])
    reported = _refused(dicts)
    assert reported.startswith("train[0] is a dict of 'pixels', 'path', 'label', not a pair (input, target).\n")
    assert reported.endswith(
        "For a network with several inputs, concatenate them in one tensor, and split it in a module around the network."
    )
    assert _inputs(_wrapped(reported, dicts))[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    triples = Items([(x, y, extra) for x, extra, y in values])
    reported = _refused(triples)
    assert reported.startswith("train[0] is a tuple of 3, not a pair (input, target).\n")
    assert _inputs(_wrapped(reported, triples))[:, 0].tolist() == [0, 1, 2, 3, 4, 5]

    def collate_fn(batch: list[Any]) -> Any:
        return torch.stack([x for x, _, _ in batch]) + 1, torch.tensor([y for _, y, _ in batch])

    reported = _refused(DataLoader(triples, collate_fn=collate_fn))
    assert reported.startswith("A DataLoader with a collate function of its own cannot be used.\nLet the dataset return finished examples")
    assert _inputs(_wrapped(reported, triples, collate_fn=collate_fn))[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"drop_last": True}, "drop_last"),
        ({"sampler": RandomSampler([0, 1], replacement=True)}, "sampling with replacement"),
        ({"sampler": RandomSampler([0, 1], num_samples=1)}, "another number of samples than its dataset has"),
    ],
)
def test_loaders_that_would_mean_something_else(options: dict[str, Any], what: str) -> None:
    dataset = Items([(torch.zeros(1), 0), (torch.zeros(1), 1)])
    assert _refused(DataLoader(dataset, **options)).startswith(f"A DataLoader with {what} cannot be used.\n")


def test_a_fixed_order_is_reported_as_shuffled(make_spec: Callable[..., DataSpec]) -> None:
    loader = DataLoader(TensorDataset(torch.rand(4, 2), torch.arange(4) % 2))
    reported = ("training shuffles by seed; the DataLoader's fixed order is not used",)
    assert find_objects(loader).notes == find_objects({"train": loader, "test": loader}).notes == reported
    shuffled = DataLoader(loader.dataset, shuffle=True)
    assert find_objects({"train": shuffled, "test": loader}).notes == ()
    # Of an evaluation the order does not matter.
    assert find_objects(loader, ReadOptions(like=make_spec())).notes == ()


class Rare(Jittered):
    """Changes one reading in ten."""

    def __getitem__(self, index: int) -> Any:
        x, y = self.items[index]
        self.reads += 1
        return x + (torch.rand(()) < 0.1), y


def test_rare_changes_are_noticed() -> None:
    rare = Rare([(torch.zeros(2), place % 2) for place in range(100)])
    assert not isinstance(_train(rare).inputs, Tensor)


def test_slow_datasets_are_probed_for_a_second_only(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Items([(torch.zeros(2), place % 2) for place in range(100)])
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(objects, "monotonic", lambda: next(clock))
    assert isinstance(_train(dataset).inputs, Tensor)
    assert dataset.reads == 1 + 100 + 8


def _jittered() -> Jittered:
    return Jittered([(torch.zeros(2), place % 2) for place in range(10)])


def test_random_transforms_are_read_again_and_reported() -> None:
    found = find_objects(_jittered())
    assert not isinstance(found.parts["train"].inputs, Tensor)
    assert found.notes == ("the dataset for train is read again in each epoch: its values change each time they are read",)


def test_what_does_not_fit_memory_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "free_memory", lambda: 100)
    found = find_objects(Items([(torch.full((2,), float(place)), place % 2) for place in range(10)]))
    inputs = found.parts["train"].inputs
    assert not isinstance(inputs, Tensor)
    assert (len(inputs), inputs[torch.tensor([3])].tolist()) == (10, [[3.0, 3.0]])
    assert found.notes == ("the dataset for train is read again in each epoch: it does not fit in memory",)


def _states() -> tuple[Any, ...]:
    return python_random.getstate(), str(numpy.random.get_state(legacy=False)), torch.get_rng_state().tolist()


def test_reading_leaves_the_global_generators_and_measures_the_same_every_time() -> None:
    before = _states()
    specs = [load(_jittered()).spec for _ in range(2)]
    assert specs[0] == specs[1]
    assert _states() == before


def test_no_number_in_a_dataset_is_found() -> None:
    # NaN differs from itself, which must not pass for a random transform.
    data = Items([(torch.zeros(2), 0), (torch.full((2,), float("nan")), 1)])
    with pytest.raises(DataError, match=r"The input train\[1\] has a NaN or infinite value at \[0\]\.\nFix or remove that example\."):
        load(data)


def test_found_is_what_sources_return() -> None:
    assert isinstance(find_objects(([1.0, 2.0], [0, 1])), Found)


def test_splits_of_a_dataset_that_changes_are_noted() -> None:
    random = Jittered([(torch.rand(2), place % 2) for place in range(40)])
    (_, note) = load(random).split(valid=0.2, test=0.2).notes
    assert note.startswith("the examples of valid and test are split off from a dataset whose values change each time they are read")
    assert note.endswith('pass a dataset without random changes for them: {"train": ..., "valid": ..., "test": ...}')
    clean = (torch.rand(20, 2), torch.arange(20) % 2)
    assert len(load({"train": random, "valid": clean, "test": clean}).split().notes) == 1
    assert len(load(random).split(valid=0, test=0).notes) == 1
    # A split given by the user gets a note of its own.
    notes = load({"train": clean, "valid": clean, "test": random}).split().notes
    assert notes == ("the dataset for test is read again in each epoch: its values change each time they are read, so scores vary as well",)


def test_what_a_dataset_raises_comes_with_its_place_and_cause() -> None:
    class Broken(Items):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return torch.zeros(2), {0: 0, 1: 1, 2: 0}[index]

    with pytest.raises(DataError) as raised:
        find_objects(Broken([]))
    assert str(raised.value) == "train[3] cannot be read: KeyError: 3.\nFix the dataset, whose length is 5."
    assert isinstance(raised.value.__cause__, KeyError)
