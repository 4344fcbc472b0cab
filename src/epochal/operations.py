"""Looking at the operations that PyTorch carries out, as they pass below autograd."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class OperationMode(TorchDispatchMode):
    """A `TorchDispatchMode` that does not import PyTorch's compiler, which takes as long as importing PyTorch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # PyTorch would wrap the class for its compiler, and import that; nothing is compiled in here.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out `func`. To be overridden."""
        raise NotImplementedError
