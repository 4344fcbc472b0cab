"""The last function of a network, inferred from how its outputs were computed: a softmax, a sigmoid, a ReLU, or none of these."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Ending(NamedTuple):
    """The last function of a network, and the range of its values."""

    name: str
    low: float
    high: float


_ENDINGS = {
    "Softmax": Ending("softmax", 0, 1),
    "LogSoftmax": Ending("log-softmax", -math.inf, 0),
    "Sigmoid": Ending("sigmoid", 0, 1),
    "Hardsigmoid": Ending("sigmoid", 0, 1),
    "LogSigmoid": Ending("log-sigmoid", -math.inf, 0),
    "Tanh": Ending("tanh", -1, 1),
    "Relu": Ending("ReLU", 0, math.inf),
    "Softplus": Ending("softplus", 0, math.inf),
    "Abs": Ending("absolute value", 0, math.inf),
    "Exp": Ending("exponential", 0, math.inf),
}
# Operations that change the shape of a tensor, not its values.
_FORMING = (
    *("Alias", "Cat", "Clone", "Expand", "Index", "Permute", "Reshape", "ReshapeAlias", "Select", "Slice", "Squeeze", "Stack"),
    *("T", "ToCopy", "Transpose", "UnsafeView", "Unsqueeze", "View"),
)


# Operations that clamp values, with the names of their bounds in autograd's graph.
_CUTTING = {"Clamp": ("_saved_min", "_saved_max"), "Hardtanh": ("_saved_min_val", "_saved_max_val")}


def ending_of(outputs: Tensor) -> Ending | None:
    """Return the function that computed `outputs`, if it bounds them; they must have a gradient function."""
    node = outputs.grad_fn
    while node is not None:
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        if name in _CUTTING:
            low, high = (getattr(node, bound, None) for bound in _CUTTING[name])
            return Ending("clamp", -math.inf if low is None else float(low), math.inf if high is None else float(high))
        if name not in _FORMING:
            return _ENDINGS.get(name)
        node = next((before for before, _ in node.next_functions if before is not None), None)
    return None
