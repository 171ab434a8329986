"""PT2E graphs as torchao makes them: prepare, calibrate, convert."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchao's own, of extensions that this machine cannot load
    logging.disable(logging.CRITICAL)
    pytest.importorskip("torchao")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

    logging.disable(logging.NOTSET)

QUANTISERS = ("xnnpack", "x86")


def quantiser(name: str, **options: bool) -> Any:
    """Return a quantiser for the whole network."""
    if name == "xnnpack":
        config = xnnpack.get_symmetric_quantization_config(is_per_channel=True, **options)
        return xnnpack.XNNPACKQuantizer().set_global(config)
    config = x86.get_default_x86_inductor_quantization_config(**options)
    return x86.X86InductorQuantizer().set_global(config)


def converted(module: nn.Module, xs: list[torch.Tensor], name: str, **options: bool) -> nn.Module:
    """Return a module after PT2E static quantisation, calibrated on every example of `xs`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = tuple(x[:1] for x in xs)
        # X86InductorQuantizer tells modules that are called twice apart in strict exports only.
        exported = torch.export.export(module.eval(), one, strict=name == "x86").module()
        prepared = prepare_pt2e(exported, quantiser(name, **options))
        with torch.no_grad():
            for index in range(len(xs[0])):
                prepared(*[x[index : index + 1] for x in xs])
        found: nn.Module = convert_pt2e(prepared)
    return found
