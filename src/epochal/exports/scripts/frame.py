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
            ratios = values.astype(float) / (about["thresholds"] or 0.5)
            best = about["classes"][ratios.argmax()], f"{values[ratios.argmax()]:.6f}"
            each = [f"{output}={value}" for output, value in zip(about["classes"], values, strict=True)]
            there = ", ".join(output for output, ratio in zip(about["classes"], ratios, strict=True) if ratio >= 1) or "none"
            print(name, *{"single-label": best, "multi-label": (there, *each)}.get(about["task"], each), sep="\t")
    except Exception as error:
        sys.exit(f"{path}: {error or type(error).__name__}")
