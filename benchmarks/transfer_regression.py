"""scikit-learn's logistic regression on the features that a head of Epochal's learned from.

python -m benchmarks.transfer_regression RUN        prints {"accuracy", "seconds"}; the features are those in the cache
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from epochal.run.reopen import reopen, resolved_recipe
from epochal.training.own import Own
from sklearn.linear_model import LogisticRegressionCV


def main() -> None:
    """Fit, score and print."""
    run = Path(sys.argv[1])
    started = time.perf_counter()
    prepared, _ = reopen(run, resolved_recipe(run), Own(), None, None, None)
    train, test = prepared.learner.data.train, prepared.learner.data.test
    assert test is not None
    mine, theirs = (examples.inputs[torch.arange(len(examples))].numpy() for examples in (train, test))
    mean, deviation = mine.mean(0), mine.std()
    fitted = LogisticRegressionCV(Cs=np.logspace(-4, 1, 6), cv=5, max_iter=1000)
    fitted.fit((mine - mean) / deviation, train.targets.numpy())
    accuracy = 100 * float((fitted.predict((theirs - mean) / deviation) == test.targets.numpy()).mean())
    print(json.dumps({"accuracy": accuracy, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
