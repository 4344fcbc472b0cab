"""A network for the windows of long recordings: what it predicts from each is averaged."""

from __future__ import annotations

from torch import Tensor, nn

from epochal.data.spec import DataSpec
from epochal.tasks.base import Task


class Windows(nn.Module):
    """Give each window to `net`, and return the average of what it says, as `Task.average` means it. Silent windows count nothing."""

    def __init__(self, net: nn.Module, task: Task) -> None:
        super().__init__()
        self.net = net
        self.task = task

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return outputs [n, outputs] for spectrograms [n, windows, bands, columns], each a picture with one channel for `net`."""
        windows = spectrograms.shape[1]
        outputs = self.net(spectrograms.flatten(0, 1).unsqueeze(1))
        # Silence alone is the same all the time. Of a recording without any sound, all windows count.
        varies = (spectrograms != spectrograms[..., :1]).flatten(2).any(2)
        is_used = varies | ~varies.any(1, keepdim=True)
        shares = is_used.float() / is_used.sum(1, keepdim=True).float()
        return self.task.average(outputs.reshape(-1, windows, len(self.task.outputs)), shares[..., None])


def in_windows(net: nn.Module, spec: DataSpec) -> nn.Module:
    """Return the network for inputs of `spec`: `net` itself, or for each of their windows."""
    return net if spec.input.windows == 1 else Windows(net, spec.task)
