"""Each `--optimize` gets what it asks for, measured on the built ELF, and none changes a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import isobit
from isobit import nn, targets
from isobit.codegen.network import generate
from isobit.ir.graph import Graph
from isobit.plan.plan import Optimize, make_plan
from isobit.run.compilers import Kind
from isobit.run.estimate import estimate
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden


@pytest.fixture(scope="module")
def graph() -> Graph:
    """A large layer, small ones behind it and a pool between them."""
    torch.manual_seed(4)
    layers: list[Any] = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    layers += [nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 10), nn.Linear(10, 4)]
    net = nn.Sequential(*layers)
    model = isobit.Model(net, input=(3, 16, 16), target="cortex-m4", scheme="pow2", name="modes")
    return model.export(untrained=True)


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_modes_differ_in_the_promised_direction(graph: Graph, compiler: Kind) -> None:
    core = targets.load("cortex-m4")
    found = {mode: estimate(graph, core, optimize=mode, compiler=compiler) for mode in Optimize}
    speed, balanced = found[Optimize.SPEED], found[Optimize.BALANCED]
    ram, flash = found[Optimize.RAM], found[Optimize.FLASH]
    for one in found.values():
        assert one.flash_bytes and one.ram_bytes and one.cycles
        assert speed.flash_bytes and speed.ram_bytes and speed.cycles and balanced.flash_bytes
        assert flash.flash_bytes and ram.ram_bytes and balanced.cycles and flash.cycles
        assert flash.flash_bytes <= one.flash_bytes
        assert ram.arena_bytes <= one.arena_bytes
        assert speed.cycles <= one.cycles
    assert flash.flash_bytes < balanced.flash_bytes < speed.flash_bytes
    assert speed.cycles < balanced.cycles < flash.cycles
    assert ram.arena_bytes < speed.arena_bytes
    assert ram.ram_bytes <= speed.ram_bytes


@pytest.mark.parametrize("mode", Optimize)
def test_modes_compute_the_same_values(graph: Graph, mode: Optimize) -> None:
    network = generate(make_plan(graph, targets.load("cortex-m4"), mode), "")
    rng = np.random.default_rng(3)
    kind = graph.inputs[0].type
    codes = rng.integers(kind.dtype.low, kind.dtype.high + 1, size=(6, *kind.shape[1:]))
    codes = codes.astype(kind.dtype.numpy)
    ran = execute(network, build(network), codes, count=True)
    assert np.array_equal(ran.output, run_golden(graph, codes)[graph.outputs[0]])
    assert len(set(ran.instructions)) == 1


def test_only_flash_and_what_balanced_passed_over_is_compiled_for_size(graph: Graph) -> None:
    core = targets.load("cortex-m4")
    plans = {mode: make_plan(graph, core, mode) for mode in Optimize}
    small = {mode: [s.small for s in plan.nodes if s.kernel] for mode, plan in plans.items()}
    assert not any(small[Optimize.SPEED]) and not any(small[Optimize.RAM])
    assert all(small[Optimize.FLASH])
    pairs = list(zip(plans[Optimize.BALANCED].nodes, plans[Optimize.SPEED].nodes, strict=True))
    assert [a.small for a, _ in pairs] == [a.kernel is not b.kernel for a, b in pairs]
    assert 0 < sum(a.small for a, _ in pairs) < len(pairs)
    text = {mode: generate(plan, "").files["modes.c"] for mode, plan in plans.items()}
    assert "ISOBIT_SMALL_INSTANCE" not in text[Optimize.SPEED]
    assert "ISOBIT_INSTANCE" not in text[Optimize.FLASH]


def test_declared_code_is_near_what_the_compilers_make(graph: Graph) -> None:
    """Per kernel, within a factor of 2: the order of kernels in flash must not be a guess."""
    core = targets.load("cortex-m4")
    for mode in (Optimize.FLASH, Optimize.SPEED):
        network = generate(make_plan(graph, core, mode), "")
        kernels = {i.symbol: i.kernel for i in network.instances}
        if mode is Optimize.SPEED:  # gcc at -O2 is small without being asked
            found = estimate(graph, core, optimize=mode, compiler="gcc")
        else:
            found = estimate(graph, core, optimize=mode)
        code: dict[str, list[int]] = {}
        for layer in found.layers:
            if layer.code_bytes:
                code.setdefault(f"{layer.op} {layer.kernel}", []).append(layer.code_bytes)
        for kernel in kernels.values():
            made = code[f"{kernel.op} {kernel.stem}"]
            mean = sum(made) / len(made)
            assert 0.5 <= kernel.code_bytes / mean <= 2, (kernel.op, kernel.stem, mean)
