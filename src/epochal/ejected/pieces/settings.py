"""What the run was: its data, in a file beside this program, and its settings."""

from pathlib import Path

import torch
from safetensors.torch import load_file

torch.set_num_threads(THREADS)
torch.set_flush_denormal(True)
data = load_file(Path(__file__).with_suffix(".safetensors"))
