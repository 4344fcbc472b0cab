"""What the network said of each training example's own label, along training: a few sums, from which wrong labels are told.

A network learns what is common before what contradicts it. So a label that it found improbable over most of training is likely wrong:
the mean over the epochs says so better than the last epoch, when labels have been learned by heart (Pleiss et al., "Identifying
mislabeled data using the area under the margin ranking", NeurIPS 2020; Swayamdipta et al., "Dataset cartography", EMNLP 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.distributed.ranks import Ranks
from epochal.tasks.base import Task
from epochal.training.saved import State, check_tensors

# Sums are of whole numbers, so that they do not depend on the order, and a device may add in any.
_UNIT = 2.0**32

# So many outputs are looked at together: for each batch by itself, calls would take longer than computing.
_TOGETHER = 2**18


class LabelHistory:
    """For each training example the mean of what `Task.agreement` says of outputs and its label, over the times that it was trained on.

    Outputs are those of the training steps themselves, of examples as they were augmented and mixed; labels are those given. `targets`
    are those of all examples, on the device. Nothing is kept for a task that compares nothing.
    """

    def __init__(self, task: Task, targets: Tensor) -> None:
        self.task = task
        self.targets = targets
        self.counts = torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
        self.sums = torch.zeros(len(targets), task.agreements, dtype=torch.int64, device=targets.device)
        self._outputs: list[Tensor] = []
        self._places: list[Tensor] = []
        self._waiting = 0

    def add(self, outputs: Tensor, places: Tensor) -> None:
        """Count the outputs [batch, outputs] of a step for the examples at `places` (int64 [batch])."""
        if not self.task.agreements:
            return
        # Where several processes train, some rows stand in for none, and have no place.
        outputs = outputs[: len(places)]
        # The next step may write to the same memory.
        self._outputs.append(outputs.detach().clone())
        self._places.append(places)
        self._waiting += outputs.numel()
        if self._waiting >= _TOGETHER:
            self._count()

    def collect(self, ranks: Ranks) -> None:
        """Let process 0 have what all have counted, and the others nothing."""
        if ranks.size == 1:
            return
        self._count()
        sums, counts = ranks.total(self.sums), ranks.total(self.counts)
        self.clear()
        if ranks.leads:
            self.sums, self.counts = sums, counts

    def clear(self) -> None:
        """Begin again."""
        self._forget()
        self.sums.zero_()
        self.counts.zero_()

    def means(self) -> Tensor:
        """Return the means, float32 [n, agreements], on the CPU; NaN for examples that were not trained on."""
        self._count()
        return (self.sums.double() / _UNIT / self.counts[:, None]).float().cpu()

    def state_dict(self) -> State:
        """Return the sums and counts."""
        self._count()
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: State) -> None:
        """Continue from a state. Raises `ValueError`."""
        own = {"sums": self.sums, "counts": self.counts}
        check_tensors(state, own)
        if any(state[name].dtype != torch.int64 for name in own) or (state["counts"] < 0).any():
            raise ValueError("these are not sums of whole numbers")
        self._forget()
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _count(self) -> None:
        if not self._outputs:
            return
        outputs, places = torch.cat(self._outputs), torch.cat(self._places)
        self._forget()
        found = (
            self.task.agreement(outputs.to(torch.promote_types(outputs.dtype, torch.float32)), self.targets[places]).double().nan_to_num()
        )
        self.sums.index_add_(0, places, (found * _UNIT).long())
        self.counts.index_add_(0, places, torch.ones_like(places))

    def _forget(self) -> None:
        self._outputs, self._places, self._waiting = [], [], 0
