"""Convolutions in torch: NHWC activations, weights in the order of the graph, int8 products.

Nothing here decides whether a result is exact: `torch_sums` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor

from isobit.core import torch_scratch as scratch

PART_BYTES = 1 << 20
"""Of the gathered operands of one int8 product: they should stay in a cache."""


@dataclass(frozen=True, slots=True)
class Windows:
    """A sum of products as a convolution of activations [N, H, W, C] with weights [O, KH, KW,
    C/groups], or, of a depthwise one, [KH, KW, O]. pad: top, left, bottom, right.
    """

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    depthwise: bool = False

    @property
    def has_int8(self) -> bool:
        """Whether the sums are also one matrix product of windows."""
        return self.groups == 1 and not self.depthwise

    def sums(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        """Return the sums [N, OH, OW, O], in the dtype of the operands."""
        image, pad = self._image(x)
        groups = x.shape[3] if self.depthwise else self.groups
        y = F.conv2d(image, self._kernel(w), b, self.stride, pad, self.dilation, groups)
        return y.permute(0, 2, 3, 1)

    def gradients(
        self, grad: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of `sums` to x, w and b, as far as they are wanted."""
        image, pad = self._image(x)
        to_x, to_w, to_b = torch.ops.aten.convolution_backward(
            grad.permute(0, 3, 1, 2),
            image,
            self._kernel(w),
            [grad.shape[3]],
            self.stride,
            pad,
            self.dilation,
            False,
            (0, 0),
            x.shape[3] if self.depthwise else self.groups,
            wanted,
        )
        if to_x is not None:
            to_x = to_x.permute(0, 2, 3, 1)
            if image.shape[2:] != x.shape[1:3]:
                top, left = self.pad[:2]
                to_x = to_x[:, top : top + x.shape[1], left : left + x.shape[2]]
        if to_w is not None:
            to_w = to_w.squeeze(1).permute(1, 2, 0) if self.depthwise else to_w.permute(0, 2, 3, 1)
        return to_x, to_w, to_b

    def _image(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return x as torch has it, and what is to be padded on both sides; padded before where the
        sides differ. Permutations are views of channels-last memory.
        """
        top, left, bottom, right = self.pad
        image = x.permute(0, 3, 1, 2)
        if (top, left) == (bottom, right):
            return image, (top, left)
        return F.pad(image, (left, right, top, bottom)), (0, 0)

    def _kernel(self, w: Tensor) -> Tensor:
        return w.permute(2, 0, 1).unsqueeze(1) if self.depthwise else w.permute(0, 3, 1, 2)


@cache
def int8_is_exact() -> bool:
    """Whether this CPU multiplies int8 fast and exactly.

    Without VNNI such products go through 16-bit sums that saturate; the flag and a test with codes
    and weights at their ends keep that out.
    """
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    if supported is None or not supported():
        return False
    generator = torch.Generator().manual_seed(0)
    for k in (64, 75, 800):
        a = torch.randint(-128, 128, (33, k), generator=generator)
        w = torch.randint(-127, 128, (40, k), generator=generator)
        a[0], a[1], w[0], w[1] = -128, 127, -127, 127
        try:
            found = torch._int_mm(a.to(torch.int8), w.to(torch.int8).t())
        except RuntimeError:  # not built into this torch
            return False
        if not torch.equal(found.long(), a @ w.t()):
            return False
    return True


def int8_products(x: Tensor, w: Tensor, zero: int, form: Windows, total: Tensor) -> Tensor:
    """Return `sum x * w` as int32 [N, OH, OW, O] for centred codes x [N, H, W, C], float32, and
    weights w [O, KH, KW, C], int8. zero: of the codes, which are s8; total: the weights' sum per
    output channel [O], int32.
    """
    kh, kw = w.shape[1:3]
    flat = w.reshape(len(w), -1).t()
    codes = _int8_codes(x, zero, form.pad)
    n, height, width, channels = codes.shape
    oh = (height - form.dilation[0] * (kh - 1) - 1) // form.stride[0] + 1
    ow = (width - form.dilation[1] * (kw - 1) - 1) // form.stride[1] + 1
    acc = scratch.empty((n * oh * ow, len(w)), torch.int32, x.device)
    if (kh, kw, form.stride) == (1, 1, (1, 1)):
        torch._int_mm(codes.reshape(-1, channels), flat, out=acc)
    else:
        s = codes.stride()
        shape = (n, oh, ow, kh, kw, channels)
        down, along = s[1] * form.stride[0], s[2] * form.stride[1]
        strides = (s[0], down, along, s[1] * form.dilation[0], s[2] * form.dilation[1], 1)
        windows = codes.as_strided(shape, strides)
        fan_in = kh * kw * channels
        count = max(1, PART_BYTES * torch.get_num_threads() // (oh * ow * fan_in))
        for start in range(0, n, count):
            part = windows[start : start + count].reshape(-1, fan_in)
            torch._int_mm(part, flat, out=acc[start * oh * ow :][: len(part)])
    if zero:
        acc.sub_(total * zero)
    return acc.reshape(n, oh, ow, len(w))


def _int8_codes(x: Tensor, zero: int, pad: tuple[int, int, int, int]) -> Tensor:
    """Return the codes of centred ones [N, H, W, C] in a frame of the code of 0."""
    top, left, bottom, right = pad
    n, height, width, channels = x.shape
    shape = (n, top + height + bottom, left + width + right, channels)
    codes = scratch.empty(shape, torch.int8, x.device)
    inside = codes[:, top : top + height, left : left + width] if any(pad) else codes
    inside.copy_(torch.add(x, zero, out=scratch.empty_like(x)) if zero else x)
    if any(pad):
        codes[:, :top].fill_(zero)
        codes[:, top + height :].fill_(zero)
        codes[:, :, :left].fill_(zero)
        codes[:, :, left + width :].fill_(zero)
    return codes
