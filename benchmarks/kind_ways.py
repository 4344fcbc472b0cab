"""Epochal with its default settings, and what it is compared with on tables, texts and sounds: each in a process of its own.

    python -m benchmarks.kind_ways WAY DATA --data-dir FOLDER --seed 0 --labels 16

The last line is a JSON object: `seconds` of processor time from the names of the files to the scores of the test data (imports do not
count), and of those `loss` (log-loss) and `accuracy` (0 to 1), or `rmse`; what does not apply is null.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.kind_data import ALL, TARGET, TEXT, Sounds, Table, Texts, write_files, write_sounds

# Inverse strength of the penalty of logistic regression, chosen on validation data among 1, 3, 10 and 30.
PENALTY = 10.0

Scores = dict[str, float | None]


# With fewer texts, also what only one of them has is a feature of TF-IDF.
FEW = 1000


def epochal(data: Table | Texts | Sounds, files: tuple[Path, ...], seed: int, model: str = "auto", **settings: Any) -> Scores:
    """`epochal.train` as it comes, but for `settings`."""
    import epochal

    where: dict[str, Any] = {}
    if not isinstance(data, Sounds):
        where = {"target": data.target if isinstance(data, Table) else TARGET, "test_data": str(files[1])}
    if isinstance(data, Texts):
        where["text"] = TEXT
    if isinstance(data, Table):
        where["task"] = "regression" if data.quantity else "single-label"
    run = epochal.train(files[0], model=model, seed=seed, quiet=True, **where, **settings)
    assert run.test is not None
    scores = run.test.scores
    if scores.mse is not None:
        return {"loss": None, "accuracy": None, "rmse": math.sqrt(scores.mse)}
    return {"loss": scores.loss, "accuracy": scores.accuracy, "rmse": None}


def lightgbm(data: Table, files: tuple[Path, ...], seed: int) -> Scores:
    """LightGBM's defaults; categories are passed as such."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    model = (LGBMRegressor if data.quantity else LGBMClassifier)(random_state=seed, verbose=-1)
    return _fit_table(data, model, *_frames(data, files))


def histogram(data: Table, files: tuple[Path, ...], seed: int) -> Scores:
    """scikit-learn's histogram gradient boosting with its defaults; categories are passed as such."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model = (HistGradientBoostingRegressor if data.quantity else HistGradientBoostingClassifier)(random_state=seed)
    return _fit_table(data, model, *_frames(data, files))


def perceptron(data: Table, files: tuple[Path, ...], seed: int) -> Scores:
    """scikit-learn's MLP with its defaults, on standardized numbers and one-hot categories; a quantity is standardized, too."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("words", words, make_column_selector(dtype_include="category")),
        ]
    )
    net = (MLPRegressor if data.quantity else MLPClassifier)(random_state=seed)
    model = make_pipeline(columns, net)
    if data.quantity:
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    return _fit_table(data, model, *_frames(data, files))


def regression(data: Texts, files: tuple[Path, ...], seed: int) -> Scores:
    """Logistic regression on TF-IDF weights of words, pairs of words and parts of words; for Chinese of one to three signs."""
    from pandas import read_csv
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, log_loss
    from sklearn.pipeline import make_pipeline, make_union

    train, test = (read_csv(file, dtype=str, keep_default_na=False) for file in files)
    least = 2 if len(train) >= FEW else 1
    signs = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=least)
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True, min_df=least)
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=least)
    features = signs if data.signs else make_union(words, parts)
    model = make_pipeline(features, LogisticRegression(C=PENALTY, max_iter=1000, random_state=seed))
    model.fit(train[TEXT], train[TARGET])
    shares = model.predict_proba(test[TEXT])
    right = accuracy_score(test[TARGET], model.classes_[shares.argmax(1)])
    return {"loss": log_loss(test[TARGET], shares, labels=model.classes_), "accuracy": right, "rmse": None}


WAYS: dict[str, Callable[..., Scores]] = {
    "epochal": epochal,
    "epochal gru": lambda *given: epochal(*given, model="gru"),
    "epochal minilm": lambda *given: epochal(*given, model="minilm"),
    "epochal minilm, all": lambda *given: epochal(*given, model="minilm", tune="all"),
    "epochal wordllama": lambda *given: epochal(*given, model="wordllama"),
    "epochal wordllama, head": lambda *given: epochal(*given, model="wordllama", tune="head"),
    "epochal transformer": lambda *given: epochal(*given, model="transformer"),
    "LightGBM": lightgbm,
    "HistGradientBoosting": histogram,
    "MLP of scikit-learn": perceptron,
    "TF-IDF + logistic regression": regression,
}


def _frames(data: Table, files: tuple[Path, ...]) -> tuple[Any, Any]:
    """Read both files; columns are numbers, or categories of the words in training."""
    from pandas import CategoricalDtype, read_csv
    from pandas.api.types import is_numeric_dtype

    train, test = (read_csv(file, na_values=["?"], dtype=None if data.quantity else {data.target: str}) for file in files)
    for name in train.columns.drop(data.target):
        if not is_numeric_dtype(train[name]):
            kind = CategoricalDtype(sorted(train[name].dropna().astype(str).unique()))
            train[name], test[name] = train[name].astype(kind), test[name].astype(kind)
    return train, test


def _fit_table(data: Table, model: Any, train: Any, test: Any) -> Scores:
    from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error

    model.fit(train.drop(columns=data.target), train[data.target])
    inputs, target = test.drop(columns=data.target), test[data.target]
    if data.quantity:
        return {"loss": None, "accuracy": None, "rmse": root_mean_squared_error(target, model.predict(inputs))}
    shares = model.predict_proba(inputs)
    right = accuracy_score(target, model.classes_[shares.argmax(1)])
    return {"loss": log_loss(target, shares, labels=model.classes_), "accuracy": right, "rmse": None}


def _import(way: str) -> None:
    """Import what a way needs, so that it does not fall into the time."""
    if way.startswith("epochal"):
        import epochal

        _ = epochal.train
        return
    import pandas  # noqa: F401
    import sklearn.compose
    import sklearn.ensemble
    import sklearn.feature_extraction.text
    import sklearn.linear_model
    import sklearn.neural_network  # noqa: F401

    if way == "LightGBM":
        import lightgbm  # noqa: F401


def main() -> None:
    """Read the command line, do it, and print the scores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("data", choices=ALL)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labels", type=int, help="for each class, of texts [all]")
    options = parser.parse_args()
    data = ALL[options.data]
    with tempfile.TemporaryDirectory() as place:
        files: tuple[Path, ...]
        if isinstance(data, Sounds):
            files = (write_sounds(data, options.data_dir, Path(place)),)
        else:
            files = write_files(data, options.data_dir, options.seed, Path(place), options.labels)
        _import(options.way)
        started = sum(os.times()[:4])
        scores = WAYS[options.way](data, files, options.seed)
        # Of all threads and processes: other programs on the machine change it little.
        seconds = sum(os.times()[:4]) - started
    print("\n" + json.dumps({**scores, "seconds": round(seconds, 3)}), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
