"""Parts of the training loop."""

import math

import torch
from torch import Tensor, nn


def learning_rate(step: int) -> float:
    """Return the learning rate of a step, as a share of the highest."""
    if uses.warmup:
        if step < WARMUP_STEPS:
            return (step + 1) / (WARMUP_STEPS + 1)
    if uses.one_cycle:
        # It rises from 1/25 to 1, then falls to nearly 0, each along half a cosine (Smith and Topin, 2017).
        peak, last = RISE * TOTAL_STEPS - 1, max(TOTAL_STEPS - 1, 1)
        if peak > 0 and step <= peak:
            start, end, share = 1 / 25, 1.0, step / peak
        else:
            start, end, share = 1.0, 1 / 250_000, (step - peak) / (last - peak)
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
    elif uses.cosine_after_warmup:
        # It falls from 1 to 0 along half a cosine.
        return (1 + math.cos(math.pi * ((step - WARMUP_STEPS) / (TOTAL_STEPS - WARMUP_STEPS)))) / 2
    elif uses.every:
        return FACTOR ** (step // STEPS_PER_EPOCH // EVERY)
    elif uses.at:
        return FACTOR ** sum(step // STEPS_PER_EPOCH >= end for end in AT)
    else:
        return 1.0


@torch.no_grad()
def muon_step(model: nn.Module, momenta: dict[str, Tensor], share: float) -> None:
    """Change the weights, with a share of the highest learning rates (Muon: Jordan et al., 2024)."""
    for name, momentum in momenta.items():
        parameter = model.get_parameter(name)
        change = parameter.grad.add(momentum.mul_(MOMENTUM).add_(parameter.grad), alpha=MOMENTUM)
        is_hidden = parameter.ndim > 1 and IS_NO_HEAD
        rate = (LEARNING_RATE if is_hidden else PLAIN_LR) * share
        if is_hidden:  # a matrix, whose steps have the same length in all directions
            change = orthogonal(change.flatten(1)).view_as(parameter)
            parameter.mul_(1 - rate * WEIGHT_DECAY)
        parameter.add_(change, alpha=-rate)


def orthogonal(matrix: Tensor) -> Tensor:
    if uses.tall:
        """Return nearly U V^T of a matrix U S V^T, longer where it is tall: by three rounds of Newton-Schulz iteration."""
        rows, columns = matrix.shape
        wide = matrix.T if rows > columns else matrix
        wide = wide / (wide.norm() + 1e-7)
    else:
        """Return nearly U V^T of a matrix U S V^T: by three rounds of Newton-Schulz iteration."""
        wide = matrix / (matrix.norm() + 1e-7)
    for _ in range(3):
        square = wide @ wide.T
        wide = 3.4445 * wide + (-4.775 * square + 2.0315 * square @ square) @ wide
    if uses.tall:
        return wide.T * (rows / columns) ** 0.5 if rows > columns else wide
    else:
        return wide


def may_be_as_good(right: int, best: int, count: int) -> bool:
    """Return whether a model with `right` correct answers may be as good as one with `best`: would chance give it so many, 1 time in 40?"""
    share = right / count
    chances = [math.comb(count, many) * share**many * (1 - share) ** (count - many) for many in range(best, count + 1)]
    # With many answers of both sorts, the chance of exactly so many counts half (mid-P instead of Clopper and Pearson's test).
    return sum(chances) - (chances[0] / 2 if count >= 100 and min(best, count - best) >= 10 else 0) >= 0.025


def average_in(average: nn.Module, model: nn.Module, step: int) -> None:
    """Let the moving average of the weights follow those of the model, which it does faster in the first steps."""
    decay = min(EMA, (1 + step) / (10 + step)) if step else 0.0
    for kept, latest in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(latest, 1 - decay)
    for kept, latest in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(latest)


if uses.bf16:

    def outputs_of(model: nn.Module, inputs: Tensor, *, in_16_bits: bool = False) -> Tensor:
        """Return the outputs of the model for all inputs, without training it; with 16 bits for each number, if asked."""
        model.eval()
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_16_bits):
            return torch.cat([model(some) for some in inputs.split(EVAL_BATCH)]).float()

else:

    def outputs_of(model: nn.Module, inputs: Tensor) -> Tensor:
        """Return the outputs of the model for all inputs, without training it."""
        model.eval()
        with torch.inference_mode():
            return torch.cat([model(some) for some in inputs.split(EVAL_BATCH)])
