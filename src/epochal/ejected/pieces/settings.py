"""Settings, and the data, which are in a file beside this program."""

from pathlib import Path

import torch
from safetensors.torch import load_file

torch.set_num_threads(THREADS)  # another number changes the last bits
torch.set_flush_denormal(True)  # numbers below 1e-38 count as 0: computing with them would be slow
data = load_file(Path(__file__).with_suffix(".safetensors"))
