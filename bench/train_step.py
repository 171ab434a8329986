"""How long a training step takes beside fp32 and the peers' quantisation-aware training.

    python bench/train_step.py [--nets cifar dscnn vgg] [--rounds 30] [--processes 5] [--json]

A step is forward, cross entropy, backward and SGD with momentum, on random data already in memory,
in channels_last except where the name says NCHW. Each process builds every variant of one network
from the same float weights, runs 10 rounds to warm up, then 30 rounds in which each variant takes
one step, in an order that rotates. A ratio is a variant's time over that of fp32 channels_last in
the same round; shown are the median over all rounds of all processes with its 95 % interval
(bootstrap over processes and rounds), and the ratio of the mean times, which holds the steps that
observe and update ranges too.

Ours runs as a user would train: range updates every 10 steps, batch norm with batch statistics, and
the int8 forward where the CPU has it; "float sums" is the same without it. Peers run the fastest
int8 setting that their documentation gives for training on a CPU: torch.ao with fused modules and
fused fake-quantise (default QAT configuration of the x86 backend), PT2E QAT of torchao with
X86InductorQuantizer, Brevitas with 8-bit per-tensor quantisers under BREVITAS_JIT=1. The extra
`bench` installs them. Writes results/train_step.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"
WARM_UP = 10
CLASSES = 10
FP32 = "fp32"
BARS = {"pow2": (1.05, 1.10), "affine": (1.10, 1.15)}
"""Largest median, and largest upper end of its interval."""
INT8_BARS = {"vgg": 0.95}
"""Largest median of a network whose sums are mostly int8, where the CPU has such instructions."""
PEERS = ("torch.ao", "PT2E", "Brevitas")
PEER_BAR = 1.2
"""A peer's median is at least this many times ours."""
Step = Callable[[], None]


def layers_of(name: str) -> tuple[tuple[int, ...], int, list[tuple[Any, ...]]]:
    """Return input shape (C, H, W), batch size and layers of a network.

    cifar: the CIFAR-10 example of CMSIS-NN, 32-32-64. dscnn: DS-CNN of MLPerf Tiny on 49x10
    features. vgg: VGG-11 with batch norm on 32x32 images.
    """
    pool = ("pool", 3, 2)
    if name == "cifar":
        convs = [("conv", 3, 32, 5, 1, 2), ("conv", 32, 32, 5, 1, 2), ("conv", 32, 64, 5, 1, 2)]
        rows: list[tuple[Any, ...]] = [part for conv in convs for part in (conv, ("relu",), pool)]
        return (3, 32, 32), 128, [*rows, ("flatten",), ("linear", 1024)]
    if name == "dscnn":
        rows = [("conv-norm", 1, 64, (10, 4), 2, (5, 1), 1), ("relu",)]
        for _ in range(4):
            rows += [("conv-norm", 64, 64, 3, 1, 1, 64), ("relu",)]
            rows += [("conv-norm", 64, 64, 1, 1, 0, 1), ("relu",)]
        return (1, 49, 10), 128, [*rows, ("mean",), ("flatten",), ("linear", 64)]
    rows, channels = [], 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if width == 0:
            rows.append(("pool", 2, 2))
        else:
            rows += [("conv-norm", channels, width, 3, 1, 1, 1), ("relu",)]
            channels = width
    return (3, 32, 32), 32, [*rows, ("flatten",), ("linear", 512)]


def plain(name: str) -> Any:
    """Return the network in torch.nn."""
    from torch import nn

    parts: list[Any] = []
    for kind, *given in layers_of(name)[2]:
        match kind:
            case "conv":
                cin, cout, k, stride, pad = given
                parts.append(nn.Conv2d(cin, cout, k, stride, pad))
            case "conv-norm":
                cin, cout, k, stride, pad, groups = given
                conv = nn.Conv2d(cin, cout, k, stride, pad, groups=groups, bias=False)
                parts += [conv, nn.BatchNorm2d(cout)]
            case "relu":
                parts.append(nn.ReLU())
            case "pool":
                parts.append(nn.MaxPool2d(*given, ceil_mode=True))
            case "mean":
                parts.append(nn.AdaptiveAvgPool2d(1))
            case "flatten":
                parts.append(nn.Flatten())
            case "linear":
                parts.append(nn.Linear(*given, CLASSES))
    return nn.Sequential(*parts)


def ours(scheme: str, name: str, x: Any) -> Any:
    """Return our model of the network."""
    import torch

    import isobit

    net = plain(name).to(memory_format=torch.channels_last)
    model = isobit.Model(net, input=layers_of(name)[0], target="host", scheme=scheme, name=name)
    model.calibrate(x)
    return model


def torch_ao(name: str, x: Any) -> Any:
    """Return the network prepared by eager-mode QAT, conv, batch norm and ReLU fused."""
    import torch
    from torch.ao import quantization as ao

    net = plain(name)
    kinds = [type(part).__name__ for part in net]
    groups, start = [], 0
    while start < len(kinds):
        for pattern in (["Conv2d", "BatchNorm2d", "ReLU"], ["Conv2d", "ReLU"]):
            if kinds[start : start + len(pattern)] == pattern:
                groups.append([str(start + i) for i in range(len(pattern))])
                start += len(pattern) - 1
                break
        start += 1
    wrapped = ao.QuantWrapper(net).train()
    wrapped.qconfig = ao.get_default_qat_qconfig("x86")
    ao.fuse_modules_qat(wrapped.module, groups, inplace=True)
    return ao.prepare_qat(wrapped.to(memory_format=torch.channels_last))


def pt2e(name: str, x: Any) -> Any:
    """Return the network prepared by torchao's QAT on its exported program."""
    import torch
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e import move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    net = plain(name).train().to(memory_format=torch.channels_last)
    program = torch.export.export(net, (x,), strict=True).module()
    prepared = prepare_qat_pt2e(program, quantizer)
    found = sum("Fake" in type(m).__name__ for m in prepared.modules())
    assert found > 2 * len(list(net.parameters())) // 3, "PT2E inserted no fake-quantise"
    return move_exported_model_to_train(prepared)


def brevitas(name: str, x: Any) -> Any:
    """Return the network in Brevitas layers, input, weights and activations in 8 bits."""
    import brevitas.nn as qnn
    import torch
    from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat
    from brevitas.quant import Uint8ActPerTensorFloat as Uint8
    from torch import nn

    weights = {"weight_quant": Int8WeightPerTensorFloat}
    parts: list[Any] = [qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat)]
    for part in plain(name):
        match part:
            case nn.Conv2d():
                sizes = (part.in_channels, part.out_channels, part.kernel_size, part.stride)
                options = {"groups": part.groups, "bias": part.bias is not None, **weights}
                parts.append(qnn.QuantConv2d(*sizes, part.padding, **options))
            case nn.Linear():
                parts.append(qnn.QuantLinear(part.in_features, part.out_features, True, **weights))
            case nn.ReLU():
                parts.append(qnn.QuantReLU(act_quant=Uint8))
            case nn.AdaptiveAvgPool2d():
                parts += [part, qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat)]
            case _:
                parts.append(part)
    return nn.Sequential(*parts).to(memory_format=torch.channels_last)


def step_of(net: Any, x: Any, y: Any, *, int8: bool = True) -> Step:
    """Return one training step of a network."""
    import torch
    import torch.nn.functional as F  # torch's own convention

    from isobit.core import torch_sums

    net.train() if not hasattr(net, "meta") else None  # exported modules refuse train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, foreach=True)

    def step() -> None:
        torch_sums.allow_int8(int8)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def variants(name: str) -> dict[str, Step]:
    """Return a step of every variant that is installed, all from the same float weights."""
    import torch

    shape, batch, _ = layers_of(name)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *shape, generator=generator)
    y = torch.randint(0, CLASSES, (batch,), generator=generator)
    last = x.contiguous(memory_format=torch.channels_last)
    makers: dict[str, tuple[Callable[[], Any], Any, bool]] = {
        FP32: (lambda: plain(name).to(memory_format=torch.channels_last), last, True),
        "fp32 NCHW": (lambda: plain(name), x, True),
        "pow2": (lambda: ours("pow2", name, last), last, True),
        "affine": (lambda: ours("affine", name, last), last, True),
        "pow2, float sums": (lambda: ours("pow2", name, last), last, False),
        "affine, float sums": (lambda: ours("affine", name, last), last, False),
        "torch.ao": (partial(torch_ao, name, last), last, True),
        "PT2E": (partial(pt2e, name, last), last, True),
        "Brevitas": (partial(brevitas, name, last), last, True),
    }
    found = {}
    for label, (make, images, int8) in makers.items():
        torch.manual_seed(1)
        try:
            net = make()
        except ImportError as error:
            print(f"{label}: not installed ({error})", file=sys.stderr)
            continue
        found[label] = step_of(net, images, y, int8=int8)
    return found


def work(name: str, rounds: int, threads: int) -> dict[str, list[float]]:
    """Return the seconds of every step of every variant, measured in this process."""
    import torch

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    steps = variants(name)
    times: dict[str, list[float]] = {label: [] for label in steps}
    order = list(steps)
    for index in range(WARM_UP + rounds):
        turn = index % len(order)
        for label in order[turn:] + order[:turn]:
            began = time.perf_counter()
            steps[label]()
            if index >= WARM_UP:
                times[label].append(time.perf_counter() - began)
    return times


def interval(processes: list[list[float]], draws: int = 1000) -> tuple[float, float, float]:
    """Return the median of all ratios, and the ends of its 95 % bootstrap interval."""
    source = random.Random(0)
    medians = []
    for _ in range(draws):
        chosen = source.choices(processes, k=len(processes))
        medians.append(
            statistics.median(r for rounds in chosen for r in source.choices(rounds, k=len(rounds)))
        )
    medians.sort()
    middle = statistics.median(r for rounds in processes for r in rounds)
    return middle, medians[int(0.025 * draws)], medians[int(0.975 * draws) - 1]


def summary(found: list[dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Return a row for every variant from the times of every process."""
    rows = []
    for label in found[0]:
        ratios = [[a / b for a, b in zip(t[label], t[FP32], strict=True)] for t in found]
        median, low, high = interval(ratios)
        own = statistics.mean(s for t in found for s in t[label])
        base = statistics.mean(s for t in found for s in t[FP32])
        rows.append(
            {
                "variant": label,
                "median_ms": 1e3 * statistics.median(s for t in found for s in t[label]),
                "ratio": median,
                "interval": [low, high],
                "ratio_of_means": own / base,
            }
        )
    return rows


def failures(name: str, rows: list[dict[str, Any]]) -> list[str]:
    """Return the bars that a network misses."""
    from isobit.core.torch_products import int8_is_exact

    by_name = {row["variant"]: row for row in rows}
    found = []
    for label, (median, high) in BARS.items():
        row = by_name[label]
        if row["ratio"] > median:
            found.append(f"{name}: {label} {row['ratio']:.3f}, want at most {median}")
        fast = INT8_BARS.get(name, median) if int8_is_exact() else median
        if fast < row["ratio"] <= median:
            found.append(f"{name}: {label} {row['ratio']:.3f}, want at most {fast} with int8 sums")
        if row["interval"][1] > high:
            found.append(f"{name}: {label} up to {row['interval'][1]:.3f}, want at most {high}")
        for peer in PEERS:
            if peer in by_name and by_name[peer]["ratio"] < PEER_BAR * row["ratio"]:
                times = by_name[peer]["ratio"] / row["ratio"]
                found.append(f"{name}: {peer} takes {times:.2f} times {label}, want {PEER_BAR}")
    return found


def versions() -> dict[str, str]:
    """Return what was measured with."""
    found = {}
    for package in ("torch", "torchao", "brevitas", "isobit"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="+", default=["cifar", "dscnn", "vgg"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="Print the result file instead.")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.nets[0], options.rounds, options.threads)))
        return
    console = Console(stderr=options.json)
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "BREVITAS_JIT": "1"}
    result: dict[str, Any] = {
        "schema": 1,
        "machine": platform.processor() or platform.machine(),
        "threads": options.threads,
        "rounds": options.rounds,
        "processes": options.processes,
        "versions": versions(),
        "nets": {},
    }
    missed = []
    for name in options.nets:
        found = []
        for index in range(options.processes):
            console.print(f"{name}: process {index + 1} of {options.processes}", style="dim")
            command = [sys.executable, __file__, "--worker", "--nets", name]
            command += ["--rounds", str(options.rounds), "--threads", str(options.threads)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found.append(json.loads(done.stdout.decode().splitlines()[-1]))
        rows = summary(found)
        result["nets"][name] = rows
        missed += failures(name, rows)
        table = Table(title=name)
        for column in ("variant", "ms", "to fp32", "95 % interval", "of means"):
            table.add_column(column, justify="left" if column == "variant" else "right")
        for row in rows:
            low, high = row["interval"]
            table.add_row(
                row["variant"],
                f"{row['median_ms']:.1f}",
                f"{row['ratio']:.3f}",
                f"{low:.3f}..{high:.3f}",
                f"{row['ratio_of_means']:.3f}",
            )
        console.print(table)
    result["missed"] = missed
    from isobit.core.files import json_text, write_atomic

    write_atomic(RESULTS / "train_step.json", json_text(result))
    if options.json:
        print(json_text(result))
    for line in missed:
        console.print(f"MISSED {line}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
