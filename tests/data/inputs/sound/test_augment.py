"""Random changes of sounds are functions of seed, epoch and position, whatever the batch."""

from typing import Any

import pytest
import torch

from epochal import load, train
from epochal.data.inputs.sound.rule import SoundRule
from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings
from tests.tones import tone

RULE = SoundRule(shape=(800,), rate=8000)
SOUNDS = torch.cat([RULE.read(tone(500, 0.1, seed=seed)) for seed in range(20)])
PLACES = torch.arange(20)
EACH: list[dict[str, Any]] = [{"time_shift": 0.02}, {"time_mask": 0.03}, {"frequency_mask": 0.4}, {"noise": 0.05}]
ALL = {name: value for one in EACH for name, value in one.items()}


@pytest.mark.parametrize("settings", [*EACH, ALL], ids=str)
def test_neither_batch_nor_order_matters(settings: dict[str, Any]) -> None:
    change = RULE.augment(AugmentSettings(**settings), 7)
    assert change is not None
    whole = change(SOUNDS, PLACES, 3)
    assert whole.dtype == torch.int16
    assert not whole.equal(SOUNDS)
    assert not whole.equal(change(SOUNDS, PLACES, 4))
    for some in (PLACES.flip(0), PLACES[3:4], PLACES[5:12]):
        assert change(SOUNDS[some], some, 3).equal(whole[some])


def test_what_each_does() -> None:
    def changed(**settings: Any) -> torch.Tensor:
        change = RULE.augment(AugmentSettings(**settings), 0)
        assert change is not None
        return change(SOUNDS, PLACES, 0)

    # Shifted sounds are found again at most 160 samples away, and silence is where nothing came from.
    for old, new in zip(SOUNDS, changed(time_shift=0.02), strict=True):
        shifts = [by for by in range(-160, 161) if new[max(0, by) : 800 + min(0, by)].equal(old[max(0, -by) : 800 - max(0, by)])]
        assert len(shifts) == 1
        by = shifts[0]
        assert not new[:by].any() if by > 0 else not new[800 + by :].any()
    masked = ((changed(time_mask=0.05) == 0) & (SOUNDS != 0)).sum(1)
    assert masked.max() <= 400
    assert masked.float().mean() > 100
    noise = (changed(noise=0.05) - SOUNDS).abs().amax(1) / SOUNDS.abs().amax(1)
    assert noise.max() <= 0.051
    assert noise.std() > 0.01
    assert RULE.augment(AugmentSettings(), 0) is None


def test_a_band_of_frequencies_is_silenced() -> None:
    change = RULE.augment(AugmentSettings(frequency_mask=0.5), 0)
    assert change is not None
    noise = torch.randint(-9000, 9000, (20, 800), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    energy = torch.fft.rfft(change(noise, PLACES, 0).float()).abs()
    masked = energy < 0.1 * torch.fft.rfft(noise.float()).abs()
    widths = masked.sum(1)
    assert 0 < widths.min() < 100 < widths.max() <= 320  # Half of the mel scale, up to 4,000 Hz, is at most its upper 3,100 Hz.
    for row, width in zip(masked, widths.tolist(), strict=True):
        first = int(row.int().argmax())
        assert row[first : first + width].float().mean() > 0.95  # It is one band.


def test_padding_stays_silent() -> None:
    padded = torch.cat([RULE.read(tone(500, 0.02, seed=seed)) for seed in range(20)])
    change = RULE.augment(AugmentSettings(frequency_mask=0.5, noise=0.5), 0)
    assert change is not None
    changed = change(padded, PLACES, 0)
    assert not changed[:, :320].any()
    assert not changed[:, 480:].any()
    assert changed[:, 330:470].any(1).all()


def test_windows_are_changed_each_for_itself() -> None:
    change = RULE.augment(AugmentSettings(**ALL), 7)
    assert change is not None
    windows = SOUNDS[:1, None].expand(20, 3, 800)
    changed = change(windows, PLACES, 3)
    assert len({tuple(window.tolist()) for window in changed.flatten(0, 1)}) == 60
    assert change(windows[5:6], PLACES[5:6], 3).equal(changed[5:6])


def test_those_of_other_kinds_are_refused() -> None:
    settings: dict[str, Any] = {"epochs": 1, "device": "cpu", "quiet": True}
    with pytest.raises(RecipeError, match=r"augment\.time_shift, augment\.time_mask.* are for sounds; these data have shape \(1, 8, 8\)"):
        train("digits", noise=0.1, **settings)
    sounds = load((list(SOUNDS.numpy()), [0, 1] * 10), input=RULE)
    with pytest.raises(RecipeError, match=r"augment\.mixup and augment\.cutmix are for pictures"):
        train(sounds, mixup=0.2, **settings)
    assert train(sounds, noise=0.01, batch_size=4, **settings).test is not None
