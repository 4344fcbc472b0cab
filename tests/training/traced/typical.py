"""Networks as people usually write them: their steps must be traced, or the analysis would be of no use."""

# As people write them, without types.
# ruff: noqa: RET504
# mypy: ignore-errors

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training.traced.cases import Setup, case, numbers, pictures, words


@case()
class SimpleNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, 8)
        self.fc3 = nn.Linear(8, 3)

    def forward(self, x):
        x = x.view(-1, 6)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        x = self.fc3(x)
        return x


class TutorialCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1)
        self.conv2 = nn.Conv2d(4, 8, 3, 1)
        self.dropout1 = nn.Dropout2d(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32, 16)
        self.fc2 = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


@case()
def tutorial_cnn(_: pytest.MonkeyPatch) -> Setup:
    return {"model": TutorialCNN(), "data": pictures(), "loss": F.nll_loss}


class SmallCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, kernel_size=3)
        self.conv2 = nn.Conv2d(4, 8, kernel_size=2)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(8, 6)
        self.fc2 = nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        x = self.fc2(x)
        return F.log_softmax(x, dim=-1)


@case()
def small_cnn(_: pytest.MonkeyPatch) -> Setup:
    return {"model": SmallCNN(), "data": pictures(), "loss": nn.NLLLoss()}


class CifarCNN(nn.Module):
    def __init__(self) -> None:
        super(CifarCNN, self).__init__()  # noqa: UP008
        self.conv1 = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=2))
        self.conv2 = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.fc = nn.Linear(2 * 2 * 8, 2)

    def forward(self, x):
        out = self.conv1(x)
        out = self.conv2(out)
        out = out.reshape(out.shape[0], -1)
        out = self.fc(out)
        return out


@case()
def cifar_cnn(_: pytest.MonkeyPatch) -> Setup:
    return {"model": CifarCNN(), "data": pictures(), "loss": nn.CrossEntropyLoss(label_smoothing=0.1)}


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x

        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out)

        if self.downsample is not None:
            identity = self.downsample(x)

        out += identity
        out = self.relu(out)

        return out


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = BasicBlock(1, 4)
        self.layer2 = self._make_layer(4, 8, 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, 2)

    def _make_layer(self, inputs: int, outputs: int, count: int) -> nn.Sequential:
        return nn.Sequential(BasicBlock(inputs, outputs, 2), *(BasicBlock(outputs, outputs) for _ in range(count - 1)))

    def _forward_impl(self, x: Tensor) -> Tensor:
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.fc(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_impl(x)


@case()
def resnet(_: pytest.MonkeyPatch) -> Setup:
    return {"model": ResNet(), "data": pictures()}


@case()
class DeepMLP(nn.Module):
    """A list of layers, a branch on the mode, and a parameter of its own."""

    def __init__(self, depth: int = 3, p: float = 0.1) -> None:
        super().__init__()
        self.p = p
        self.inputs = nn.Linear(6, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(8) for _ in range(depth)])
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inputs(x)
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms)):  # noqa: B905
            y = F.gelu(layer(norm(x)))
            if i % 2 == 0:
                y = y * self.scale
            x = x + F.dropout(y, self.p, training=self.training)
        if self.training:
            x = x + torch.randn_like(x) * 0.01
        return self.head(x)


class ConvBNReLU(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 2, 1)
        self.fc2 = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = x.mean((2, 3), keepdim=True)
        weights = torch.sigmoid(self.fc2(F.relu(self.fc1(weights))))
        return x * weights


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBNReLU(1, 4)
        self.branches = nn.ModuleDict({"a": ConvBNReLU(4, 4), "b": nn.Conv2d(4, 4, 1)})
        self.squeeze = Squeeze(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.branches["a"](x), self.branches["b"](x)], dim=1)
        return self.classifier(self.pool(self.squeeze(x)))


@case()
def branches(_: pytest.MonkeyPatch) -> Setup:
    return {"model": Branches(), "data": pictures()}


class Transformer(nn.Module):
    position: Tensor

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(10, size)
        steps = torch.arange(5)[:, None] * torch.exp(torch.arange(0, size, 2) * (-math.log(100.0) / size))
        self.register_buffer("position", torch.cat([steps.sin(), steps.cos()], 1))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(size, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
        self.head = nn.Linear(size, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) * math.sqrt(self.size) + self.position[: tokens.size(1)]
        return self.head(self.encoder(x).mean(dim=1))


@case()
def transformer(_: pytest.MonkeyPatch) -> Setup:
    return {"model": Transformer(), "data": words()}


class SelfAttention(nn.Module):
    """Attention by hand, with a mask."""

    mask: Tensor

    def __init__(self, size: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(10, size)
        self.qkv = nn.Linear(size, 3 * size)
        self.register_buffer("mask", torch.tril(torch.ones(5, 5)))
        self.head = nn.Linear(size, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        B, T, C = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = q.view(B, T, self.heads, C // self.heads).transpose(1, 2)
        k = k.view(B, T, self.heads, C // self.heads).transpose(1, 2)
        v = v.view(B, T, self.heads, C // self.heads).transpose(1, 2)
        weights = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        weights = weights.masked_fill(self.mask[:T, :T] == 0, float("-inf"))
        y = F.softmax(weights, dim=-1) @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.head(y[:, -1])


@case()
def self_attention(_: pytest.MonkeyPatch) -> Setup:
    return {"model": SelfAttention(), "data": words()}


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 6)
        self.layers = kind(6, 8, 2, batch_first=True, dropout=0.1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.layers(self.embedding(x))
        return self.head(x[:, -1, :])


@case()
def rnn(_: pytest.MonkeyPatch) -> Setup:
    return {"model": Recurrent(nn.RNN), "data": words()}


@case("recording fails")  # of an operation that gives no tensor where one is expected
def lstm(_: pytest.MonkeyPatch) -> Setup:
    return {"model": Recurrent(nn.LSTM), "data": words()}


@case()
def gru(_: pytest.MonkeyPatch) -> Setup:
    return {"model": Recurrent(nn.GRU), "data": words()}


@case()
class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(1, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inputs(x.unsqueeze(-1))
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.head(x.mean(1))


def focal(outputs: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    log_p = F.log_softmax(outputs, dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    return -(((1 - log_p.exp()) ** gamma) * log_p).mean()


@case()
def own_loss(_: pytest.MonkeyPatch) -> Setup:
    return {"model": SimpleNN(), "data": numbers(), "loss": focal}


@case()
def sequential(_: pytest.MonkeyPatch) -> Setup:
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.1), nn.Dropout(0.3), nn.Linear(8, 3), nn.LogSoftmax(dim=1)]
    return {"model": nn.Sequential(*layers), "loss": nn.NLLLoss(), "recipe": {"clip_norm": 1.0, "ema": 0.9}}


@case()
def accumulated(_: pytest.MonkeyPatch) -> Setup:
    return {"model": DeepMLP(), "recipe": {"accumulate": 2}}
