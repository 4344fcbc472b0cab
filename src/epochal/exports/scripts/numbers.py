"""A FILE is an .npy file of one input, or of several, with the type of number that the model was trained on."""

import numpy as np


def read(path: str, rule: dict):
    """Yield the name and the numbers of each input in a file."""
    if not path.lower().endswith(".npy"):
        raise ValueError("it is not an .npy file")
    values, shape, dtype = np.load(path, allow_pickle=False), tuple(rule["shape"]), np.dtype(rule["dtype"])
    if values.dtype != dtype and (values.dtype, dtype) != (np.float64, np.float32):
        raise ValueError(f"it has {values.dtype}, and the model takes {dtype}")
    if values.shape != shape and values.shape[1:] != shape:
        raise ValueError(f"its shape is {values.shape}, and the model takes {shape}, or several of them")
    values = values.reshape(-1, *shape).astype(dtype)
    if not np.isfinite(values).all():
        raise ValueError("a number is NaN, infinite or too large")
    for place, inputs in enumerate(values):
        yield path if len(values) == 1 else f"{path}[{place}]", inputs
