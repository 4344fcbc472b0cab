"""Another rate: as SciPy's polyphase filter, whose window is the same."""

import numpy as np
import pytest

from epochal.data.inputs.sound.resample import resample


@pytest.mark.parametrize(("old", "new"), [(44100, 16000), (48000, 16000), (8000, 16000), (22050, 8000), (16001, 16000), (1000, 384000)])
@pytest.mark.parametrize("count", [1, 7, 3000])
def test_as_scipy(old: int, new: int, count: int) -> None:
    signal = pytest.importorskip("scipy.signal")
    samples = np.random.default_rng(count).normal(size=count)
    found = resample(samples, old, new)
    assert found.dtype == np.float32
    assert np.abs(found - signal.resample_poly(samples, new, old)).max() < 2e-6


def test_a_tone_stays_and_what_is_too_high_goes() -> None:
    times = np.arange(44100) / 44100
    low, high = np.sin(2 * np.pi * 1000 * times), np.sin(2 * np.pi * 12000 * times)
    found = resample(low + high, 44100, 16000)
    assert found.shape == (16000,)
    wanted = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert np.abs(found - wanted)[100:-100].max() < 0.01
    assert np.array_equal(resample(low, 8000, 8000), low.astype(np.float32))
