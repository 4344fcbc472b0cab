"""The part that all programs have in common."""

import json
import sys

import onnxruntime

from epochal.exports.scripts.numbers import read

model, *paths = sys.argv[1:] or sys.exit(__doc__)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
for path in paths:
    try:
        for name, inputs in read(path, about["input"]):
            values = session.run(None, {"input": inputs[None]})[0][0]
            best = (values / (about["thresholds"] or 1.0)).argmax()
            each = [f"{output}={value}" for output, value in zip(about["classes"], values, strict=True)]
            print(name, *((about["classes"][best], f"{values[best]:.6f}") if about["task"] == "single-label" else each), sep="\t")
    except Exception as error:
        sys.exit(f"{path}: {error or type(error).__name__}")
