"""The first layer, which turns raw inputs into what networks learn well from, by what was measured on the training data."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Inputs minus their mean, divided by their standard deviation."""

    def __init__(self, *scales: Tensor | list[float]) -> None:
        super().__init__()
        if uses.pictures:
            mean, std = (torch.as_tensor(values, dtype=torch.float64).reshape(-1, 1, 1) for values in scales)
        else:
            mean, std = (torch.as_tensor(values, dtype=torch.float64) for values in scales)
        if uses.whole_numbers:
            # Large whole numbers are subtracted exactly, before anything is rounded.
            self.register_buffer("offset", mean.round().long())
            mean = mean - mean.round()
        if uses.double:
            # The mean is subtracted in double precision, in which the inputs are.
            self.register_buffer("offset", mean)
            mean = torch.zeros_like(mean)
        if uses.pixels:
            self.register_buffer("scale", (1 / (255 * std)).float())  # mean and deviation are of pixels from 0 to 1, not 255
        elif uses.double:
            self.register_buffer("scale", 1 / std)
        else:
            self.register_buffer("scale", (1 / std).float())
        self.register_buffer("bias", (-mean / std).float())

    def forward(self, inputs: Tensor) -> Tensor:
        if uses.double:
            return ((inputs - self.offset) * self.scale + self.bias).float()
        elif uses.whole_numbers:
            return (inputs - self.offset) * self.scale + self.bias
        else:
            return inputs * self.scale + self.bias


class ScaleTable(nn.Module):
    """Rows of a table as numbers on one scale, none of them missing, followed by numbers that stand for categories."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("numbers", "knots", "scores", "middle", "flags", "categories", "starts", "sizes", "codes", "repeated", "values"):
            self.register_buffer(name, data[f"preprocess.{name}"])

    def forward(self, rows: Tensor) -> Tensor:
        if uses.numbers:
            # A missing number counts as the median. Numbers become scores by their ranks in training, with straight lines in between.
            found = rows[:, self.numbers]
            filled = torch.where(found.isnan(), self.middle, found).T.contiguous()
            above = torch.searchsorted(self.knots, filled).clamp(1, self.knots.shape[1] - 1)
            low, high = self.knots.gather(1, above - 1), self.knots.gather(1, above)
            share = ((filled - low) / torch.where(high > low, high - low, 1.0)).clamp(0, 1)
            parts = [torch.lerp(self.scores.gather(1, above - 1), self.scores.gather(1, above), share).T]
        else:
            parts = []
        if uses.gaps:
            # Of columns that had missing numbers in training, a 1 says that one is missing.
            parts.append(rows[:, self.flags].isnan().float())
        if uses.words:
            # Categories are numbered from 1; 0 is for rare and for new ones. Where one is missing, that is a category, too: the last.
            words = rows[:, self.categories]
            places = torch.where(words.isnan(), self.sizes - 1.0, words).long().clamp(min=0).minimum(self.sizes - 1)
            parts.append(self.codes[self.starts + places])
        if uses.repeated:
            # Columns with few different numbers are categories as well.
            given = filled[self.repeated]
            near = torch.searchsorted(self.values, given).clamp(max=self.values.shape[1] - 1)
            parts.append(torch.where(self.values.gather(1, near) == given, near + 1, 0).T.float())
        return torch.cat(parts, 1)


class Ngrams(nn.Module):
    """From the n-grams of a text and their counts to their rows in the table of embeddings, and their weights."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "weights"):
            self.register_buffer(name, data[f"preprocess.{name}"])

    def forward(self, inputs: Tensor) -> Tensor:
        rows = self.rows[inputs[:, 0].long()].long()
        # Rare n-grams weigh more (inverse document frequency), and those that this text repeats; the weights of a text have length 1.
        weights = self.weights[rows] * (1 + inputs[:, 1].clamp(min=1).float().log())
        norm = weights.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
        return torch.stack((rows.float(), weights / norm), 1)


class Words(nn.Module):
    """From the words of a text, in order, to their rows in the table of embeddings: 0 is padding, 1 an unknown word."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", data["preprocess.rows"])

    def forward(self, words: Tensor) -> Tensor:
        return self.rows[words.long()].long()


class Spectrogram(nn.Module):
    """Sounds as pictures: the loudness of each band of frequencies, as an ear hears them (mel), over time."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("window", "filters", "scale", "bias"):
            self.register_buffer(name, data[f"preprocess.{name}"])

    def forward(self, samples: Tensor) -> Tensor:
        # The loudest sample of each sound counts as 1, but silence stays silent.
        waves = samples.float()
        waves = waves / waves.abs().amax(1, keepdim=True).clamp(min=64)
        found = torch.stft(waves, POINTS, STEP, SPAN, self.window, center=True, pad_mode="constant", return_complex=True)
        energy = found.real.square() + found.imag.square()
        bands = (self.filters @ energy + 1e-3).log() * self.scale + self.bias
        return bands[:, None]
