"""Inputs for the keyword network of MLPerf Tiny: MFCC features of speech-like sound.

The network takes 49 frames of 10 mel-frequency cepstral coefficients of one second at 16 kHz, as
`tf.signal` computes them (MLPerf Tiny, `get_dataset.py`): Hann windows of 30 ms every 20 ms, 40 mel
bands from 20 to 4000 Hz, logarithm, DCT-II. Sound comes from the recordings beside the published
`micro_speech` model ("yes", "no", noise, silence), changed in pitch, place and loudness and mixed
with noise, and from formant synthesis. It is speech-like, not speech: enough to compare a network
with its own float form, not to state an accuracy.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
FRAME, STEP, FFT = 480, 320, 512
BANDS, COEFFICIENTS = 40, 10
CLIPS = ("yes_1000ms.wav", "no_1000ms.wav", "noise_1000ms.wav", "silence_1000ms.wav")
Sound = NDArray[np.float64]


def read_wav(path: Path) -> Sound:
    """Return 16-bit mono sound in -1..1."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return samples / 32768.0


def mfcc(sound: Sound) -> NDArray[np.float32]:
    """Return the features [49, 10, 1] of one second [16000]."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::STEP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    spectrum = np.abs(np.fft.rfft(frames * window, FFT))
    mel = np.log(spectrum @ _mel_matrix() + 1e-6)
    bands, order = np.arange(BANDS), np.arange(COEFFICIENTS)
    dct = 2 * np.cos(np.pi * order[None, :] * (2 * bands[:, None] + 1) / (2 * BANDS))
    features = mel @ dct / np.sqrt(2 * BANDS)
    return features.astype(np.float32)[..., None]


def _mel_matrix() -> Sound:
    """Triangles in mel, HTK's formula; the bin of frequency 0 counts for nothing."""
    mel = 1127.0 * np.log1p(np.linspace(0, RATE / 2, FFT // 2 + 1) / 700.0)[:, None]
    ends = 1127.0 * np.log1p(np.asarray([20.0, 4000.0]) / 700.0)
    edges = np.linspace(*ends, BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    up, down = (mel - low) / (centre - low), (high - mel) / (high - centre)
    matrix = np.maximum(0.0, np.minimum(up, down))
    matrix[0] = 0.0
    return matrix


def sounds(folder: Path, count: int, seed: int) -> NDArray[np.float32]:
    """Return features [count, 49, 10, 1]; another seed gives other sounds.

    folder: where the recordings lie.
    """
    recorded = [read_wav(folder / name) for name in CLIPS]
    rng = np.random.default_rng(seed)
    return np.stack([mfcc(_sound(recorded, rng)) for _ in range(count)])


def _sound(recorded: list[Sound], rng: np.random.Generator) -> Sound:
    """Return one second: a voice, louder or softer noise behind it, the whole scaled to 1."""
    kind = rng.integers(4)
    if kind == 3:
        voice = _vowels(rng)
    else:
        voice = _moved(recorded[kind % 2], rng)
    noise = recorded[2 + int(rng.integers(2))] if kind < 2 else rng.normal(size=RATE)
    noise = np.roll(noise, rng.integers(RATE)) / max(float(np.abs(noise).max()), 1e-6)
    mixed = voice / max(float(np.abs(voice).max()), 1e-6) + noise * 10.0 ** rng.uniform(-4, -0.5)
    return np.asarray(mixed / np.abs(mixed).max() * 10.0 ** rng.uniform(-1, 0))


def _moved(sound: Sound, rng: np.random.Generator) -> Sound:
    """Play faster or slower by up to 20 % and begin up to 0.1 s earlier or later."""
    speed, shift = rng.uniform(0.8, 1.25), rng.uniform(-0.1, 0.1) * RATE
    places = (np.arange(RATE) - shift - RATE / 2) * speed + RATE / 2
    return np.interp(places, np.arange(RATE), sound[:RATE], left=0.0, right=0.0)


def _vowels(rng: np.random.Generator) -> Sound:
    """Harmonics of a gliding voice under two or three formants, in one to three syllables."""
    time = np.arange(RATE) / RATE
    pitch = rng.uniform(80, 250) * (1 + rng.uniform(-0.2, 0.2) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros(RATE)
    for _ in range(int(rng.integers(1, 4))):
        formants = np.sort(rng.uniform(250, 3500, size=3))
        centre, width = rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.2)
        envelope = np.exp(-(((time - centre) / width) ** 2))
        for harmonic in range(1, 30):
            frequency = harmonic * float(pitch.mean())
            gain = sum(np.exp(-(((frequency - f) / 120.0) ** 2)) for f in formants) + 0.01
            sound += envelope * gain / harmonic * np.sin(harmonic * phase)
    return sound
