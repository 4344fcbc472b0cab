import pytest

from epochal.data.sources.splits import is_unlabelled, split_name


@pytest.mark.parametrize(
    ("name", "split", "is_sure"),
    [
        ("train", "train", True),
        ("Training Set", "train", True),
        ("trainDataset", "train", True),
        ("01_train", "train", True),
        ("train_val", "train", True),
        ("cross-validation", "valid", False),
        ("held_out", "test", True),
        ("TestImages", "test", True),
        ("seg_test", "test", False),
        ("训练集", "train", True),
    ],
)
def test_words_for_splits(name: str, split: str, is_sure: bool) -> None:
    assert split_name(name) == (split, is_sure)


@pytest.mark.parametrize("name", ["cat", "trains", "validity", "latest", "contest", "", "2", "devil", "train_test"])
def test_other_names(name: str) -> None:
    assert split_name(name) is None


def test_pictures_without_classes() -> None:
    assert is_unlabelled("seg_pred")
    assert not is_unlabelled("predator")
