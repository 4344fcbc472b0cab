"""However nasty a network, loss, optimizer or watcher is: training ends with the weights that plain steps give, to the bit."""

from __future__ import annotations

import re

import pytest

from tests.training.traced import around, inplace, meddlers, objects, replaced, stateful, typical
from tests.training.traced.cases import CASES, differences, train

# They add their cases when they are imported.
PLACES = [around, inplace, meddlers, objects, replaced, stateful, typical]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_case(name: str) -> None:
    case = CASES[name]
    plain, auto = train(case, "plain"), train(case, "auto")
    assert differences(plain, auto) == []
    assert plain.why == "as set"
    assert plain.recordings == 0
    if case.why:
        assert re.search(case.why, auto.why), auto.why
    else:
        assert auto.why == ""
        assert auto.recordings > 0
