"""Sounds as inputs: mixed down, of one rate and length, and as spectrograms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epochal.data.inputs.sound.mel import LogMel, grid, mel_filters
from epochal.data.inputs.sound.rule import SoundRule
from epochal.errors import DataError
from tests.tones import tone

RULE = SoundRule(shape=(2000,), rate=8000)


def test_short_sounds_have_silence_on_both_sides_and_long_ones_lose_both_ends() -> None:
    whole = np.arange(1, 3001, dtype=np.int16)
    assert RULE.read(whole[:1000])[0].tolist() == [0] * 500 + whole[:1000].tolist() + [0] * 500
    assert RULE.read(whole)[0].tolist() == whole[500:2500].tolist()


def test_channels_are_averaged_in_either_layout() -> None:
    two = np.stack([np.full(2000, 100), np.full(2000, 300)], 1).astype(np.int16)
    assert RULE.read(two).unique().tolist() == [200]
    assert RULE.read(np.ascontiguousarray(two.T).astype(np.int32) * 65536).unique().tolist() == [200]


def test_what_a_program_holds() -> None:
    wave = tone(440, 0.25)
    same = RULE.read(wave)
    assert same.shape == (1, 2000)
    assert (same - RULE.read(torch.from_numpy(wave))).abs().max() == 0
    fast = RULE.read((tone(440, 0.25, 16000), 16000))
    assert fast.shape == (1, 2000)
    assert RULE.read(same[0]).equal(same)
    assert RULE.read(same.repeat(3, 1)).shape == (3, 2000)
    for wrong, why in (
        (np.array([1.0, np.nan]), "has a sample that is NaN or infinite"),
        (np.array([1.0, 20000.0]), "has samples up to 2e.04, but floats are from -1 to 1"),
        (np.array(["a"]), "has samples of <U1"),
        (np.zeros((3, 100, 100)), r"has samples of shape \(3, 100, 100\)"),
        (np.zeros((100, 100), np.int16), "has 100 channels"),
        ((np.zeros(9, np.int16), 3), "says that it has 3 samples per second"),
    ):
        with pytest.raises(DataError, match=f"The sound {why}"):
            RULE.read(wrong)


def test_spectrograms_show_the_tone_in_its_band() -> None:
    layer = LogMel(8000, 8000, [0.0] * 40, [1.0] * 40)
    made = [layer(SoundRule(shape=(8000,), rate=8000).read(tone(hertz, 1.0)))[0, 0, :, 10:-10].mean(1) for hertz in (200, 1000, 3000)]
    bands = [int(one.argmax()) for one in made]
    filters = mel_filters(40, 256, 8000)
    assert bands == [int(filters[:, round(hertz * 256 / 8000)].argmax()) for hertz in (200, 1000, 3000)]
    assert (filters.amax(1) > 0.3).all()


def test_the_network_gets_what_the_rule_says() -> None:
    for length, rate in ((2000, 8000), (160000, 16000), (3, 1000), (5_000_000, 44100)):
        rule = SoundRule(shape=(length,), rate=rate)
        assert rule.preprocess()(rule.zeros()).shape == (1, *rule.features)
    assert grid(160000, 16000).columns <= 301


def test_loudness_does_not_matter_but_silence_stays_silent() -> None:
    wave = tone(440, 0.25, loud=0.9)
    loud, soft, silent = (RULE.preprocess()(RULE.read(wave * factor)) for factor in (1, 0.1, 0.0001))
    assert (loud - soft).abs().max() < 0.5
    assert silent.max() < loud.max() - 3


def test_measured_spectrograms_have_mean_0_and_deviation_1() -> None:
    sounds = torch.cat([RULE.read(tone(300 + 20 * seed, 0.25, seed=seed)) for seed in range(30)])
    made = RULE.learn(sounds).preprocess()(sounds)
    assert made.mean((0, 1, 3)).abs().max() < 1e-4
    assert (made.std((0, 1, 3)) - 1).abs().max() < 1e-2
    alone = RULE.learn(sounds).preprocess()(sounds[3:4])
    assert alone.allclose(made[3:4], atol=1e-5)


def test_it_is_drawn_with_high_frequencies_at_the_top() -> None:
    picture = RULE.draw(RULE.read(tone(300, 0.25))[0])
    assert picture.shape == (40, 26)
    assert picture[20:].astype(int).sum() > picture[:20].astype(int).sum()
    assert RULE.draw(torch.zeros(2000, dtype=torch.int16)).max() == 0


@settings(max_examples=50, deadline=None)
@given(before=st.integers(0, 900), after=st.integers(0, 900), seconds=st.floats(0.01, 0.15), rate=st.sampled_from([4000, 8000, 11025]))
def test_silence_around_a_sound_is_padding(before: int, after: int, seconds: float, rate: int) -> None:
    wave = tone(440, seconds, rate)
    longest = 2000 * rate // 8000
    padded = np.concatenate([np.zeros(before), wave, np.zeros(after)])[:longest]
    assert RULE.read((padded[: before + len(wave)], rate)).equal(RULE.read((padded, rate)))
    if before + len(wave) <= longest:
        assert RULE.read((padded, rate)).equal(RULE.read((wave, rate)))
