"""Augmentation against one loop per image in NumPy, written from the papers, on the same draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isobit.core.errors import BadArgument, IsobitError
from isobit.train import augment as subject
from isobit.train.augment import apply
from isobit.train.recipe import Augment

Images = NDArray[np.float32]
FORMATS = [torch.contiguous_format, torch.channels_last]


def batch(n: int = 24, c: int = 3, h: int = 9, w: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(0, 256, (n, c, h, w), generator=generator).float()
    return x, torch.arange(n)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def half_up(value: Any) -> Any:
    return np.clip(np.floor(value + np.float32(0.5)), 0, 255)


# Each oracle takes what it needs from a generator in the documented order, then goes image by
# image and pixel by pixel.


def cropped(x: Images, padding: int, generator: torch.Generator) -> Images:
    n, _, h, w = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).tolist()
    out = np.zeros_like(x)
    for i in range(n):
        for row in range(h):
            for column in range(w):
                a, b = row + top[i] - padding, column + left[i] - padding
                if 0 <= a < h and 0 <= b < w:
                    out[i, :, row, column] = x[i, :, a, b]
    return out


def flipped(x: Images, generator: torch.Generator) -> Images:
    mirrored = (torch.rand(len(x), generator=generator) < 0.5).tolist()
    return np.stack(
        [image[:, :, ::-1] if m else image for image, m in zip(x, mirrored, strict=True)]
    )


def brighter(x: Images, spread: float, generator: torch.Generator) -> Images:
    drawn = (1 - spread + 2 * spread * torch.rand(len(x), generator=generator)).numpy()
    return np.stack([half_up(image * f) for image, f in zip(x, drawn, strict=True)])


def contrasted(x: Images, spread: float, generator: torch.Generator) -> Images:
    drawn = (1 - spread + 2 * spread * torch.rand(len(x), generator=generator)).numpy()
    out = []
    for image, factor in zip(x, drawn, strict=True):
        mean = np.float32(np.floor(image.astype(np.float64).mean() + 0.5))
        out.append(half_up((image - mean) * factor + mean))
    return np.stack(out)


def cut_out(x: Images, side: int, generator: torch.Generator) -> Images:
    n, c, h, w = x.shape
    rows = torch.randint(0, h, (n,), generator=generator).tolist()
    columns = torch.randint(0, w, (n,), generator=generator).tolist()
    out = x.copy()
    for i in range(n):
        for channel in range(c):
            mean = np.floor(x[i, channel].astype(np.float64).mean() + 0.5)
            for row in range(rows[i] - side // 2, rows[i] - side // 2 + side):
                for column in range(columns[i] - side // 2, columns[i] - side // 2 + side):
                    if 0 <= row < h and 0 <= column < w:
                        out[i, channel, row, column] = mean
    return out


def beta(alpha: float, n: int, generator: torch.Generator) -> NDArray[np.float64]:
    u, v = torch.rand(2, n, dtype=torch.float64, generator=generator).numpy()
    out = np.empty(n)
    for i in range(n):
        t = np.sqrt(2 * alpha * ((1 - u[i]) ** (-1 / alpha) - 1)) * np.cos(2 * np.pi * v[i])
        out[i] = 0.5 + t / (2 * np.sqrt(2 * alpha + t * t))
    return out


def mixed_up(x: Images, alpha: float, generator: torch.Generator) -> tuple[Images, Any, Any]:
    order = torch.randperm(len(x), generator=generator).tolist()
    lam = beta(alpha, len(x), generator).astype(np.float32)
    out = [half_up((a - x[o]) * s + x[o]) for a, o, s in zip(x, order, lam, strict=True)]
    return np.stack(out), order, lam


def cut_mixed(x: Images, alpha: float, generator: torch.Generator) -> tuple[Images, Any, Any]:
    """rand_bbox of the authors' code, one box per image."""
    n, _, h, w = x.shape
    order = torch.randperm(n, generator=generator).tolist()
    drawn = beta(alpha, n, generator)
    rows = torch.randint(0, h, (n,), generator=generator).tolist()
    columns = torch.randint(0, w, (n,), generator=generator).tolist()
    out, lam = x.copy(), np.empty(n, np.float32)
    for i in range(n):
        ratio = np.sqrt(1.0 - drawn[i])
        tall, wide = int(h * ratio), int(w * ratio)
        top, bottom = max(0, rows[i] - tall // 2), min(h, rows[i] + tall // 2)
        left, right = max(0, columns[i] - wide // 2), min(w, columns[i] + wide // 2)
        out[i, :, top:bottom, left:right] = x[order[i], :, top:bottom, left:right]
        lam[i] = 1 - (bottom - top) * (right - left) / (h * w)
    return out, order, lam


PLAIN: list[tuple[Augment, Callable[[Images, torch.Generator], Images]]] = [
    (Augment(crop_padding=2), lambda x, g: cropped(x, 2, g)),
    (Augment(crop_padding=20), lambda x, g: cropped(x, 20, g)),
    (Augment(flip=True), flipped),
    (Augment(brightness=0.7), lambda x, g: brighter(x, 0.7, g)),
    (Augment(contrast=0.9), lambda x, g: contrasted(x, 0.9, g)),
    (Augment(cutout=3), lambda x, g: cut_out(x, 3, g)),
    (Augment(cutout=4), lambda x, g: cut_out(x, 4, g)),
    (
        Augment(crop_padding=1, flip=True, brightness=0.2, contrast=0.2, cutout=4),
        lambda x, g: cut_out(
            contrasted(brighter(flipped(cropped(x, 1, g), g), 0.2, g), 0.2, g), 4, g
        ),
    ),
]


def own_name(value: object) -> str:
    if not isinstance(value, Augment):
        return ""
    default = Augment()
    names = ("crop_padding", "flip", "brightness", "contrast", "cutout")
    return "-".join(
        f"{name}{getattr(value, name)}"
        for name in names
        if getattr(value, name) != getattr(default, name)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory", FORMATS, ids=str)
@pytest.mark.parametrize(("augment", "oracle"), PLAIN, ids=own_name)
def test_every_image_is_the_loops(
    augment: Augment,
    oracle: Callable[[Images, torch.Generator], Images],
    memory: torch.memory_format,
    channels: int,
) -> None:
    x, y = batch(c=channels)
    x = x.contiguous(memory_format=memory)
    before = x.clone()
    found, y_a, y_b, lam = apply(augment, x, y, seeded())
    assert np.array_equal(found.numpy(), oracle(before.numpy(), seeded()))
    assert not torch.equal(found, before) and torch.equal(x, before)
    assert y_a is y and y_b is y and torch.equal(lam, torch.ones(len(x)))
    assert found.is_contiguous(memory_format=memory) and found.dtype == torch.float32


@pytest.mark.parametrize("memory", FORMATS, ids=str)
@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_mixup_is_the_loops(alpha: float, memory: torch.memory_format) -> None:
    x, y = batch()
    x = x.contiguous(memory_format=memory)
    found, y_a, y_b, lam = apply(Augment(mixup=alpha), x, y, seeded())
    want, order, share = mixed_up(x.numpy(), alpha, seeded())
    assert np.array_equal(found.numpy(), want)
    assert torch.equal(y_a, y) and y_b.tolist() == order
    assert np.array_equal(lam.numpy(), share)
    assert found.is_contiguous(memory_format=memory)


@pytest.mark.parametrize("memory", FORMATS, ids=str)
@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_cutmix_is_the_loops(alpha: float, memory: torch.memory_format) -> None:
    x, y = batch()
    x = x.contiguous(memory_format=memory)
    found, y_a, y_b, lam = apply(Augment(cutmix=alpha), x, y, seeded())
    want, order, share = cut_mixed(x.numpy(), alpha, seeded())
    assert np.array_equal(found.numpy(), want)
    assert torch.equal(y_a, y) and y_b.tolist() == order
    assert np.array_equal(lam.numpy(), share)
    assert found.is_contiguous(memory_format=memory)


def test_with_both_each_image_is_one_of_the_two() -> None:
    x, y = batch(n=64)
    found, _, y_b, lam = apply(Augment(mixup=1.0, cutmix=1.0), x, y, seeded())
    blended = 0
    for i in range(len(x)):
        one, other = x[i], x[y_b[i]]
        is_pasted = bool(((found[i] == one) | (found[i] == other)).all())
        share = float(lam[i])
        if not is_pasted:
            want = half_up((one - other).numpy() * np.float32(share) + other.numpy())
            assert np.array_equal(found[i].numpy(), want)
        blended += not is_pasted
    assert 16 < blended < 48  # 64 fair coins: outside with probability 2e-5


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    """Kolmogorov and Smirnov's distance stays below its 1 % bound, for one fixed seed.

    Between 1e-6 and its mirror image: shares end as float32, which cannot hold what lies beyond.
    """
    stats = pytest.importorskip("scipy.stats")
    drawn = np.sort(subject._beta(alpha, 20000, seeded()).numpy())
    places = np.concatenate([g := np.geomspace(1e-6, 0.5, 200), 1 - g])
    below = np.searchsorted(drawn, places, side="right") / len(drawn)
    assert np.abs(below - stats.beta(alpha, alpha).cdf(places)).max() < 1.63 / np.sqrt(len(drawn))


@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 1000.0])
def test_extreme_shares_are_numbers(alpha: float) -> None:
    drawn = subject._beta(alpha, 1000, seeded())
    assert bool(((drawn >= 0) & (drawn <= 1)).all())


ALL = Augment(
    crop_padding=1, flip=True, brightness=0.3, contrast=0.3, cutout=2, mixup=0.5, cutmix=0.5
)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 5),
    c=st.integers(1, 3),
    h=st.integers(1, 6),
    w=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_pixels_stay_integers_of_a_byte(n: int, c: int, h: int, w: int, seed: int) -> None:
    x, y = batch(n, c, h, w)
    found, y_a, y_b, lam = apply(ALL, x, y, torch.Generator().manual_seed(seed))
    assert found.shape == x.shape and y_a.shape == y_b.shape == lam.shape == (n,)
    assert (
        torch.equal(found, found.round()) and 0 <= float(found.min()) <= float(found.max()) <= 255
    )
    assert bool(((lam >= 0) & (lam <= 1)).all())


def test_the_generator_alone_decides() -> None:
    x, y = batch()
    first, second = apply(ALL, x, y, seeded()), apply(ALL, x, y, seeded())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    generator = seeded()
    apply(ALL, x, y, generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(apply(ALL, x, y, generator)[0], first[0])


def test_nothing_asked_for_is_nothing_done() -> None:
    x, y = batch()
    generator = seeded()
    before = generator.get_state()
    found, y_a, y_b, lam = apply(Augment(), x, y, generator)
    assert found is x and y_a is y and y_b is y and bool((lam == 1).all())
    assert torch.equal(generator.get_state(), before)


def test_wrong_arguments_are_refused() -> None:
    x, y = batch()
    for call, what in (
        (lambda: apply(Augment(), x[0], y, seeded()), "x"),
        (lambda: apply(Augment(), x.double(), y, seeded()), "x"),
        (lambda: apply(Augment(), x[:0], y[:0], seeded()), "x"),
        (lambda: apply(Augment(), x, y[1:], seeded()), "y"),
        (lambda: apply(Augment(), x, y.float(), seeded()), "y"),
        (lambda: apply(Augment(), x, y, 3), "generator"),
        (lambda: apply(None, x, y, seeded()), "augment"),
    ):
        with pytest.raises(BadArgument) as caught:
            call()
        assert [problem.what for problem in caught.value.problems] == [what]
    with pytest.raises(IsobitError) as several:
        apply(3, "x", y, None)  # type: ignore[arg-type]  # on purpose
    assert [p.what for p in several.value.problems] == ["augment", "x", "generator"]
