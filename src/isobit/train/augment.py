"""Random changes of a batch of images, on whole tensors, drawn from one generator.

What a recipe switches on happens in this order; what it leaves off draws nothing:

    crop        a window of the image's own size, anywhere in the image with a border of zeros
    flip        left to right, with probability 1/2
    brightness  x b,               b uniform in 1 -+ brightness
    contrast    m + (x - m) c,     c uniform in 1 -+ contrast, m the image's mean, an integer
    cutout      a square at a uniform centre, cut off at the border, in the image's mean colour
    mixup       l x + (1 - l) x',  l from Beta(alpha, alpha)
    cutmix      x' inside a box of area 1 - l at a uniform centre, cut off at the border, else x

x' is the image at the same place of a random permutation of the batch, and its label comes back as
the second one. Pixels stay integers in 0..255, which the chip's input takes without error: each
of brightness, contrast and mixup ends in floor(. + 1/2), and means are rounded in this way too.

Sources: cutout DeVries and Taylor, arXiv 1708.04552 (whose zero is the mean of normalised images),
mixup Zhang et al., arXiv 1710.09412, CutMix Yun et al., arXiv 1905.04899.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor

from isobit.core.arguments import Arguments, shown
from isobit.train.recipe.types import Augment

LARGEST_PIXEL = 255.0


def apply(
    augment: Augment, x: Tensor, y: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `(x, y_a, y_b, lam)`: changed images, and two labels with the first one's weight.

    x: float32 [N, C, H, W], integers in 0..255, N at least 1; contiguous or channels_last, as the
    result is, on any device. y: int64 [N]. lam: float32 [N] in 0..1, the share of y_a; 1 where
    nothing is mixed, and without mixup and cutmix y_b is y_a itself. x and y are not changed.

    generator: one of the CPU, wherever x is, so that its state is small, can be saved, and draws
    the same numbers for every device. Raises `BadArgument` for arguments of another type or shape.
    """
    given = Arguments("augment.apply")
    given.instance("augment", augment, Augment, "an Augment")
    if not isinstance(x, Tensor) or x.dim() != 4 or x.dtype != torch.float32 or not x.numel():
        given.refuse("x", "float32 [N, C, H, W], N > 0", shown(x))
    elif not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != x.shape[:1]:
        given.refuse("y", f"int64 [{len(x)}]", shown(y))
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        given.refuse("generator", "a torch.Generator of the CPU", shown(generator))
    given.check()
    with torch.no_grad():
        if augment.crop_padding:
            x = _crop(x, augment.crop_padding, generator)
        if augment.flip:
            mirrored = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(_per_image(mirrored, x), x.flip(3), x)
        if augment.brightness:
            x = _as_pixels(x * _factors(augment.brightness, x, generator))
        if augment.contrast:
            centre = _rounded_mean(x, (1, 2, 3))
            changed = (x - centre).mul_(_factors(augment.contrast, x, generator))
            x = _as_pixels(changed.add_(centre))
        if augment.cutout:
            x = torch.where(_squares(x, augment.cutout, generator), _rounded_mean(x, (2, 3)), x)
        if augment.mixup or augment.cutmix:
            return _mix(augment, x, y, generator)
        return x, y, y, torch.ones(len(x), device=x.device)


def _crop(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """All windows of the padded image are one strided view; each image indexes one of them.

    The view has the image's axes last and in the order of memory, so that a window is copied in
    runs of whole rows.
    """
    n, c, h, w = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(x.device)
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    padded = F.pad(x, (padding,) * 4)
    padded = padded.contiguous(
        memory_format=torch.channels_last if is_last else torch.contiguous_format
    )
    sn, sc, sh, sw = padded.stride()
    image, strides = ((h, w, c), (sh, sw, sc)) if is_last else ((c, h, w), (sc, sh, sw))
    places = 2 * padding + 1
    windows = padded.as_strided((n, places, places, *image), (sn, sh, sw, *strides))
    chosen = windows[torch.arange(n, device=x.device), top, left]
    return chosen.permute(0, 3, 1, 2) if is_last else chosen


def _factors(spread: float, x: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(len(x), generator=generator)
    return _per_image(1 - spread + 2 * spread * drawn, x)


def _squares(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    n, _, h, w = x.shape
    top = torch.randint(0, h, (n,), generator=generator) - side // 2
    left = torch.randint(0, w, (n,), generator=generator) - side // 2
    return _boxes(x, top, top + side, left, left + side)


def _mix(
    augment: Augment, x: Tensor, y: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = len(x)
    order = torch.randperm(n, generator=generator).to(x.device)
    other = x[order]
    if not augment.cutmix:
        mixed, lam = _blend(augment.mixup, x, other, generator)
    elif not augment.mixup:
        mixed, lam = _paste(augment.cutmix, x, other, generator)
    else:
        is_blended = torch.rand(n, generator=generator) < 0.5
        blended, share = _blend(augment.mixup, x, other, generator)
        pasted, rest = _paste(augment.cutmix, x, other, generator)
        mixed = torch.where(_per_image(is_blended, x), blended, pasted)
        lam = torch.where(is_blended, share, rest)
    return mixed, y, y[order], lam.to(x.device)


def _blend(
    alpha: float, x: Tensor, other: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    lam = _beta(alpha, len(x), generator).float()
    return _as_pixels((x - other).mul_(_per_image(lam, x)).add_(other)), lam


def _paste(
    alpha: float, x: Tensor, other: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The box of the paper's code; lam is the share of x that is left, not what was drawn."""
    n, _, h, w = x.shape
    side = (1 - _beta(alpha, n, generator)).sqrt()
    half_height, half_width = (side * h).long() // 2, (side * w).long() // 2
    y = torch.randint(0, h, (n,), generator=generator)
    x_centre = torch.randint(0, w, (n,), generator=generator)
    top, bottom = (y - half_height).clamp_min(0), (y + half_height).clamp_max(h)
    left, right = (x_centre - half_width).clamp_min(0), (x_centre + half_width).clamp_max(w)
    area = (bottom - top) * (right - left)
    lam = 1 - area.double() / (h * w)
    return torch.where(_boxes(x, top, bottom, left, right), other, x), lam.float()


def _beta(alpha: float, n: int, generator: torch.Generator) -> Tensor:
    """Return n numbers from Beta(alpha, alpha), float64, from 2 n uniform ones.

    With T from Student's distribution of 2 alpha degrees of freedom, 1/2 + T / (2 sqrt(2 alpha +
    T^2)) has this distribution, and T = sqrt(2 alpha (U^(-1/alpha) - 1)) cos(2 pi V) (Bailey,
    Mathematics of Computation 62, 1994; Devroye, 1996), hence the lines below. torch's own sampler
    takes no generator.
    """
    u, v = torch.rand(2, n, dtype=torch.float64, generator=generator)
    cosine = (2 * math.pi * v).cos()
    # 1 - u is never 0; its power may be infinite, which is the end of the interval
    square = ((1 - u).pow(-1 / alpha) - 1) * cosine.square()
    found: Tensor = 0.5 + 0.5 * cosine.sign() / (1 + 1 / square).sqrt()
    return found


def _boxes(x: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return where the pixels of one box per image are, [N, 1, H, W]."""
    h, w = torch.arange(x.shape[2]), torch.arange(x.shape[3])
    rows = (h >= top[:, None]) & (h < bottom[:, None])
    columns = (w >= left[:, None]) & (w < right[:, None])
    return rows.to(x.device)[:, None, :, None] & columns.to(x.device)[:, None, None, :]


def _rounded_mean(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return means as integers; float64 holds every sum of pixels."""
    return (x.mean(axes, keepdim=True, dtype=torch.float64) + 0.5).floor().float()


def _as_pixels(x: Tensor) -> Tensor:
    """Round a tensor of our own in place: half up, 0..255."""
    return x.add_(0.5).floor_().clamp_(0, LARGEST_PIXEL)


def _per_image(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.device).reshape(-1, 1, 1, 1)
