"""The network."""

import torch
from torch import Tensor, nn


class Embed(nn.Module):
    """From the numbers of a row to those that linear layers learn well from, with an embedding for each category."""

    def __init__(self, plain: int, codes: int) -> None:
        super().__init__()
        for name in ("places", "below", "scale", "starts"):
            self.register_buffer(name, data[f"embed.{name}"])
        self.plain = plain
        self.words = nn.Embedding(codes, 8)
        nn.init.normal_(self.words.weight, 0, 0.3)

    def forward(self, features: Tensor) -> Tensor:
        # Transposed, since the values of a column then lie side by side in memory: that is faster.
        plain = features[:, : self.plain].T.contiguous()
        # For some intervals of each number: how much of it lies below the number, 0 to 1 (Gorishniy et al., 2022).
        shares = ((plain.index_select(0, self.places) - self.below[:, None]) * self.scale[:, None]).clamp(0, 1)
        vectors = self.words(features[:, self.plain :].long() + self.starts)
        return torch.cat([plain, shares, vectors.flatten(1).T]).T


class First(nn.Linear):
    """A linear layer whose first inputs, `fixed`, do not depend on parameters: no gradient is computed for them."""

    def __init__(self, fixed: int, learned: int, outputs: int) -> None:
        super().__init__(fixed + learned, outputs)
        self.fixed = fixed

    def forward(self, numbers: Tensor) -> Tensor:
        fixed, learned = numbers[:, : self.fixed].detach(), numbers[:, self.fixed :]
        of_fixed = nn.functional.linear(fixed, self.weight[:, : self.fixed], self.bias)
        return of_fixed + nn.functional.linear(learned, self.weight[:, self.fixed :])


class Residual(nn.Module):
    """Two convolutions, whose result is added to their input (He et al., 2016)."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        # Where the shape changes, the input takes a convolution of single pixels.
        self.shortcut = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.relu(self.second(self.first(pictures)) + self.shortcut(pictures))


def contrasts(channels: int, width: int) -> nn.Conv2d:
    """Return fixed filters of 2 × 2 pixels, which see brightness, colours and edges; only a bias for each is learned."""
    layer = nn.utils.skip_init(nn.Conv2d, channels, width, 2)
    layer.load_state_dict({"weight": data["filters"], "bias": torch.zeros(width)})
    layer.weight.requires_grad_(False)
    return layer


class Normalized(nn.BatchNorm2d):
    """Batch normalization without a scale, whose bias learns 64 times as fast: a factor of 8 acts on it and on its gradient."""

    def __init__(self, width: int) -> None:
        super().__init__(width, momentum=0.4, affine=False)
        self.eighth = nn.Parameter(torch.zeros(width))

    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.batch_norm(pictures, self.running_mean, self.running_var, None, 8 * self.eighth, self.training, 0.4)


def stage(channels: int, width: int) -> list[nn.Module]:
    """Return two convolutions, which begin by copying their inputs, and what follows them; pictures become half as large."""
    first, second = (nn.Conv2d(inputs, width, 3, padding=1, bias=False) for inputs in (channels, width))
    for layer in (first, second):
        if uses.narrow:
            if layer.in_channels <= width:
                nn.init.dirac_(layer.weight.data[: layer.in_channels])
        else:
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    return [first, nn.MaxPool2d(2), Normalized(width), nn.GELU(), second, Normalized(width), nn.GELU()]


class Airbench(nn.Sequential):
    if uses.mirror:
        """Layers whose outputs are divided by 9 (Jordan, 2024); predictions are means over a picture and its mirror image."""
    else:
        """Layers whose outputs are divided by 9 (Jordan, 2024)."""

    def forward(self, pictures: Tensor) -> Tensor:
        if uses.mirror:
            outputs = super().forward(pictures if self.training else torch.cat([pictures, pictures.flip(-1)])) * (1 / 9)
            return outputs if self.training else outputs.unflatten(0, (2, -1)).mean(0)
        else:
            return super().forward(pictures) * (1 / 9)


def embeddings(rows: int, dim: int) -> nn.Embedding:
    """Return a table of embeddings, small random numbers at first, with a row for each word; row 0 is padding, and stays 0."""
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, 0, 0.05)
    with torch.no_grad():
        table.weight[0] = 0
    return table


class Bag(nn.Module):
    """The weighted sum of the embeddings of a text's n-grams, then a linear layer."""

    def __init__(self, rows: int, dim: int, outputs: int) -> None:
        super().__init__()
        self.table = embeddings(rows, dim)
        if uses.hidden:
            self.head = nn.Sequential(nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))
        else:
            self.head = nn.Sequential(nn.Linear(dim, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        weights = inputs[:, 1]
        if uses.dropout:
            if self.training:
                # Each n-gram is left out with this probability (dropout).
                weights = weights * ((torch.rand_like(weights) >= DROPOUT) / (1 - DROPOUT))
        total = torch.bmm(weights[:, None], self.table(inputs[:, 0].long()))[:, 0]
        return self.head(total)


def mean_over(sequence: Tensor, is_there: Tensor) -> Tensor:
    """Return the mean over the places of a sequence that are no padding."""
    weights = is_there.to(sequence.dtype)
    return torch.einsum("nlw,nl->nw", sequence, weights) / weights.sum(1, keepdim=True).clamp(min=1)


def reversed_words(words: Tensor) -> Tensor:
    """Return the words of each text in reverse order, with padding still last."""
    places = (words > 0).sum(1, keepdim=True) - 1 - torch.arange(words.shape[1])
    return torch.where(places >= 0, words.gather(1, places.clamp(min=0)), 0)


class Recurrent(nn.Module):
    """A recurrent layer over the words, forwards and backwards: maximum and mean of what it says after each word."""

    def __init__(self, kind: type[nn.RNNBase], rows: int, dim: int, hidden: int, directions: int, outputs: int) -> None:
        super().__init__()
        self.table = embeddings(rows, dim)
        self.drop = nn.Dropout(DROPOUT)
        self.directions = nn.ModuleList(kind(dim, hidden, batch_first=True) for _ in range(directions))
        self.head = nn.Linear(2 * hidden * directions, outputs)

    def forward(self, words: Tensor) -> Tensor:
        is_there = words > 0
        found = []
        for number, layer in enumerate(self.directions):
            # Padding comes last in both directions, where it cannot change what was before it.
            states, _ = layer(self.drop(self.table(reversed_words(words) if number else words)))
            lowest = states.new_full((), -1.0)
            found += [torch.where(is_there[..., None], states, lowest).amax(1), mean_over(states, is_there)]
        return self.head(self.drop(torch.cat(found, 1)))


class Block(nn.Module):
    """Attention between all places of a sequence, then a small network on each place; both are added to their input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(DROPOUT)

    if uses.masks:

        def forward(self, sequence: Tensor, is_there: Tensor) -> Tensor:
            # Nobody looks at padding.
            count, length, width = sequence.shape
            parts = self.project(self.before_attention(sequence)).view(count, length, 3, self.heads, width // self.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=is_there[:, None, None, :])
            sequence = sequence + self.dropout(self.merge(seen.transpose(1, 2).reshape(count, length, width)))
            return sequence + self.dropout(self.network(self.before_network(sequence)))

    else:

        def forward(self, sequence: Tensor) -> Tensor:
            count, length, width = sequence.shape
            parts = self.project(self.before_attention(sequence)).view(count, length, 3, self.heads, width // self.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            seen = nn.functional.scaled_dot_product_attention(query, key, value)
            sequence = sequence + self.dropout(self.merge(seen.transpose(1, 2).reshape(count, length, width)))
            return sequence + self.dropout(self.network(self.before_network(sequence)))


class Transformer(nn.Module):
    """Words with learned positions, blocks of attention, and the mean over the words."""

    def __init__(self, rows: int, length: int, dim: int, layers: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.table, self.drop = embeddings(rows, dim), nn.Dropout(DROPOUT)
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.05)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, outputs)

    def forward(self, words: Tensor) -> Tensor:
        is_there = words > 0
        sequence = self.drop(self.table(words) + self.positions[: words.shape[1]])
        # An empty text looks at its first place.
        seen = is_there | (torch.arange(words.shape[1]) == 0)
        for block in self.blocks:
            sequence = block(sequence, seen)
        return self.head(mean_over(self.norm(sequence), is_there))


class Patches(nn.Module):
    """Squares of a picture as a sequence, with a learned position for each row and column of squares."""

    def __init__(self, channels: int, rows: int, columns: int, patch: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, dim, patch, patch)
        self.rows, self.columns = nn.Parameter(torch.randn(rows, dim) * 0.5), nn.Parameter(torch.randn(columns, dim) * 0.5)

    def forward(self, pictures: Tensor) -> Tensor:
        if uses.missing:
            # What is missing in the last row and column of squares is filled up with zeros.
            pictures = nn.functional.pad(pictures, MISSING)
        squares = self.project(pictures).permute(0, 2, 3, 1)
        return (squares + self.rows[:, None] + self.columns).flatten(1, 2)


class Vit(nn.Module):
    """Blocks of attention between the squares of a picture, and the mean over them (Dosovitskiy et al., 2021)."""

    def __init__(self, patches: Patches, dim: int, layers: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.patches, self.drop = patches, nn.Dropout(DROPOUT)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        sequence = self.drop(self.patches(pictures))
        for block in self.blocks:
            sequence = block(sequence)
        return self.head(self.norm(sequence).mean(1))


def network() -> nn.Module:
    if uses.shapes:
        """Return the network with random weights; comments say what shape one input has after each layer."""
    else:
        """Return the network with random weights."""
    return NETWORK


class Rescale(nn.Module):
    """The last layer: from outputs near 0 to quantities with the mean and deviation of the training targets."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("scale", "bias"):
            self.register_buffer(name, data[f"rescale.{name}"])

    def forward(self, outputs: Tensor) -> Tensor:
        if uses.double_targets:
            return torch.addcmul(self.bias, outputs.double(), self.scale)
        else:
            return torch.addcmul(self.bias, outputs, self.scale)
