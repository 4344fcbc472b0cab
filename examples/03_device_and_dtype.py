"""Devices and dtypes need no care: doubles, small integers and the GPU are handled when the data are loaded."""

import torch

import epochal

inputs = torch.randn(200, 10, dtype=torch.float64)
labels = (inputs.sum(1) > 0).to(torch.int32)

data = epochal.load((inputs, labels))
print("inputs:", data.train.inputs.dtype, "labels:", data.train.targets.dtype)

run = epochal.train(data, model="mlp", epochs=20, device="auto", quiet=True)  # CUDA if available, else MPS, else the CPU
print("device:", next(run.bundle.model.parameters()).device)
print(run.test)
