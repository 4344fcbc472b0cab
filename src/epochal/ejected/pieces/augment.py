"""Augmentation: random changes of training examples, others in each epoch."""

import math

import torch
from torch import Tensor, nn


def changed_pictures(pictures: Tensor, index: Tensor, epoch: int) -> Tensor:
    """Return pictures with random changes."""
    if uses.shift:
        # They move by up to SHIFT pixels in both directions.
        height, width = pictures.shape[-2:]
        if uses.edges:
            edges = torch.tensor(EDGES, dtype=pictures.dtype)[:, None, None]  # the colour around them
            padded = nn.functional.pad(pictures - edges, (SHIFT, SHIFT, SHIFT, SHIFT)) + edges
        else:
            padded = nn.functional.pad(pictures, (SHIFT, SHIFT, SHIFT, SHIFT))
        down, right = ((uniform(index, epoch, f"shift {way}") * (2 * SHIFT + 1)).long().tolist() for way in ("down", "right"))
        if uses.flip:
            pictures = torch.stack([one[:, y : y + height, x : x + width] for one, y, x in zip(padded, down, right, strict=True)])
        else:
            return torch.stack([one[:, y : y + height, x : x + width] for one, y, x in zip(padded, down, right, strict=True)])
    if uses.flip:
        # Every other picture is mirrored left to right, and the others in the next epoch.
        is_mirrored = ((uniform(index, "flip") * 2).long() + epoch) % 2 == 1
        return torch.where(is_mirrored[:, None, None, None], pictures.flip(-1), pictures)


def moved(pictures: Tensor, index: Tensor, epoch: int) -> Tensor:
    """Rotate, scale and shear pictures at random, with bilinear interpolation."""
    turn, slope = math.radians(ROTATE), math.radians(SHEAR)
    angle = uniform(index, epoch, "rotate") * (turn + turn) - turn
    slant = (uniform(index, epoch, "shear") * (slope + slope) - slope).tan()
    size = uniform(index, epoch, "scale") * ((1 + SCALE) - (1 - SCALE)) + (1 - SCALE)
    cosine, sine = angle.cos(), angle.sin()
    rows = (cosine - slant * sine, sine + slant * cosine), (-sine, cosine)
    matrix = torch.stack([torch.stack(row, -1) for row in rows], -2) / size[:, None, None]
    height, width = pictures.shape[-2:]
    x, y = torch.arange(width) - (width - 1) / 2, torch.arange(height) - (height - 1) / 2
    unit = torch.tensor((2 / width, 2 / height))
    along_x, along_y = matrix[:, None, :, 0] * x[:, None], matrix[:, None, :, 1] * y[:, None]
    grid = (along_x * unit)[:, None] + (along_y * unit)[:, :, None]
    if uses.edges:
        levels = torch.tensor(EDGES, dtype=pictures.dtype)[:, None, None]  # the colour around them
        result = nn.functional.grid_sample(pictures.float() - levels, grid, align_corners=False) + levels
    else:
        result = nn.functional.grid_sample(pictures.float(), grid, align_corners=False)
    if uses.pixels:
        return result.round().to(torch.uint8)
    else:
        return result


def erased(pictures: Tensor, index: Tensor, epoch: int) -> Tensor:
    """Black out a random rectangle of some pictures (Zhong et al., 2020)."""
    height, width = pictures.shape[-2:]
    area = (uniform(index, epoch, "erase area") * (0.33 - 0.02) + 0.02) * (height * width)
    low, high = math.log(0.3), math.log(3.3)
    ratio = (uniform(index, epoch, "erase ratio") * (high - low) + low).exp()
    tall, wide = (area * ratio).sqrt().round().clamp(1, height), (area / ratio).sqrt().round().clamp(1, width)
    top = (uniform(index, epoch, "erase top") * (height - tall + 1)).floor()
    left = (uniform(index, epoch, "erase left") * (width - wide + 1)).floor()
    tall = tall * (uniform(index, epoch, "erase") < ERASE)
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    return pictures.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def changed_sounds(sounds: Tensor, index: Tensor, epoch: int) -> Tensor:
    """Return sounds, which are samples of 16 bits, with random changes."""
    length, samples = sounds.shape[1], torch.arange(sounds.shape[1])
    if uses.time_shift:
        # Earlier or later.
        source = samples - ((uniform(index, epoch, "time shift") * (2 * TIME_SHIFT + 1)).long() - TIME_SHIFT)[:, None]
        sounds = torch.where((source >= 0) & (source < length), sounds.gather(1, source.clamp(0, length - 1)), 0)
    if uses.time_mask:
        # Silent for a while.
        size = (uniform(index, epoch, "time mask") * (TIME_MASK + 1)).long()
        begin = (uniform(index, epoch, "mask begin") * (length - size + 1)).long()
        sounds = torch.where((samples >= begin[:, None]) & (samples < (begin + size)[:, None]), 0, sounds)
    if uses.levels:
        is_sound, levels = sounds != 0, sounds.float()
    if uses.frequency_mask:
        # Without a band of frequencies (SpecAugment: Park et al., 2019), whose ends lie between 0 and 1 on the mel scale.
        size = uniform(index, epoch, "frequency mask") * FREQUENCY_MASK
        low = uniform(index, epoch, "mask frequency") * (1 - size)
        mel = (1 + torch.arange(FFT_POINTS // 2 + 1) * (RATE / FFT_POINTS) / 700).log() / math.log(1 + RATE / 2 / 700)
        is_kept = (mel < low[:, None]) | (mel >= (low + size)[:, None])
        spectra = [torch.fft.rfft(one, FFT_POINTS) * kept for one, kept in zip(levels, is_kept, strict=True)]
        levels = torch.stack([torch.fft.irfft(one, FFT_POINTS)[:length] for one in spectra])
    if uses.noise:
        # With noise, of which there may be more or less.
        noise = uniform(index[:, None] * length + samples, epoch, "noise") * 2 - 1
        levels = levels + noise * (uniform(index, epoch, "noise level") * NOISE)[:, None] * levels.abs().amax(1, keepdim=True)
    if uses.levels:
        # The silence before and after a sound stays.
        is_inside = (is_sound.cumsum(1) > 0) & (is_sound.flip(1).cumsum(1) > 0).flip(1)
        return (levels * is_inside).round().clamp(-32768, 32767).to(torch.int16)
    else:
        return sounds


def fewer_words(texts: Tensor, index: Tensor, epoch: int) -> Tensor:
    """Leave out some words of texts at random; what is left moves together, and 0 follows."""
    ids, length = texts.reshape(len(texts), -1, texts.shape[-1])[:, 0], texts.shape[-1]
    words = index[:, None] * length + torch.arange(length)
    is_kept = (uniform(words, epoch, "words") >= WORD_DROPOUT) & (ids > 0)
    is_kept |= ~is_kept.any(1, keepdim=True)
    order = (~is_kept).to(torch.uint8).argsort(dim=1, stable=True)
    if uses.ngrams:
        order, is_kept = order[:, None].expand_as(texts), is_kept[:, None]
    return (texts * is_kept).gather(-1, order)
