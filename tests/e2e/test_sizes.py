"""What `check` says before training is what the trained deployment has; every byte is accounted
for.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from elftools.elf.elffile import ELFFile

from e2e.nets import make, train_a_little
from isobit import targets
from isobit.codegen.network import generate
from isobit.plan.plan import make_plan
from isobit.run.estimate import estimate, measure
from isobit.run.execute import build, execute
from isobit.run.measure import read_sizes

CORES = ("cortex-m4", "cortex-m0plus", "rv32imc")
QUICK = (0, 3, 4, 7, 14, 19)


def numbers(scale: str) -> tuple[int, ...]:
    return tuple(range(20)) if scale == "full" else QUICK


@pytest.mark.parametrize("core", CORES)
def test_untrained_check_equals_trained_deployment(core: str, scale: str) -> None:
    target = targets.load(core)
    for number in numbers(scale):
        model = make(number)
        before = estimate(model.export(untrained=True), target)
        train_a_little(model)
        after = estimate(model.export(), target)
        assert before.ram_bytes == after.ram_bytes, number
        assert before.flash_bytes == after.flash_bytes, number
        assert before.stack_bytes == after.stack_bytes, number
        assert before.instructions is not None and after.instructions is not None
        assert before.instructions == after.instructions, number


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_bytes_by_owner_sum_to_the_elf_sections(core: str, compiler: str) -> None:
    model = make(7)
    network = generate(make_plan(model.export(untrained=True), targets.load(core)), "")
    built = build(network, compiler=compiler)  # type: ignore[arg-type]  # one of the two kinds
    sizes = read_sizes(network, built.path)
    with built.path.open("rb") as stream:
        sections = [
            s for s in ELFFile(stream).iter_sections() if s["sh_flags"] & 2 and s["sh_size"]
        ]
        loaded = sum(s["sh_size"] for s in sections if s["sh_type"] != "SHT_NOBITS")
        zeroed = sum(s["sh_size"] for s in sections if s["sh_type"] == "SHT_NOBITS")
    owners = (
        sum(sizes.constants.values())
        + sum(sizes.code.values())
        + sizes.glue_bytes
        + sizes.helper_bytes
        + sizes.board_bytes
        + sizes.gap_bytes
    )
    assert owners == loaded
    assert sum(sizes.constants.values()) == network.constant_bytes
    program = shutil.which("arm-none-eabi-size" if "cortex" in core else "riscv64-unknown-elf-size")
    assert program is not None
    lines = subprocess.run([program, str(built.path)], capture_output=True, text=True, check=True)
    text, data, bss = (int(word) for word in lines.stdout.splitlines()[1].split()[:3])
    assert text + data == loaded
    assert bss == zeroed


def test_no_compile_is_exact_and_fast() -> None:
    model = make(7)
    plain = model.estimate(compile=False)
    full = model.estimate()
    assert plain.arena_bytes == full.arena_bytes
    assert plain.constant_bytes == full.constant_bytes
    assert sum(layer.constant_bytes for layer in full.layers) == full.constant_bytes


def test_instructions_of_layers_sum_to_the_inference() -> None:
    model = make(7)
    network = generate(make_plan(model.export(untrained=True), targets.load("cortex-m4")), "")
    codes = np.zeros((1, *network.plan.graph.inputs[0].type.shape[1:]), dtype=np.uint8)
    ran = execute(network, build(network), codes, count=True)
    assert sum(span.instructions for span in ran.spans[0]) == ran.instructions[0]
    found = measure(network, inputs=codes)
    layers = sum(layer.instructions or 0 for layer in found.layers)
    assert layers + ran.spans[0][0].instructions == found.instructions


def test_measured_stack_is_within_the_static_bound() -> None:
    for number in QUICK:
        model = make(number)
        for core in CORES:
            for compiler in ("zig", "gcc"):
                network = generate(make_plan(model.export(untrained=True), targets.load(core)), "")
                kind = network.plan.graph.inputs[0].type
                codes = np.zeros((1, *kind.shape[1:]), dtype=kind.dtype.numpy)
                built = build(network, compiler=compiler)  # type: ignore[arg-type]  # one of the two kinds
                ran = execute(network, built, codes, count=True)
                bound = measure(network, compiler=compiler).stack_bytes  # type: ignore[arg-type]
                assert ran.stack_bytes is not None and bound is not None
                assert ran.stack_bytes <= bound, (number, core, compiler)


def test_what_does_not_fit_names_bytes_and_layers() -> None:
    import isobit
    from isobit import nn
    from isobit.core.errors import SeveralProblems

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(65536, 10)
    )
    with pytest.raises(SeveralProblems) as caught:
        isobit.Model(net, input=(3, 32, 32), target="nucleo-l432kc", name="large")
    assert [p.code for p in caught.value.problems] == ["E302", "E302"]
    messages = [str(p) for p in caught.value.problems]
    assert len(messages) == 2 and "too many" in messages[0]
    assert "RAM" in messages[0] and "flash" in messages[1]
    assert "conv2d_0" in messages[0] and "linear_3" in messages[1]


def test_paths_do_not_reach_generated_files(tmp_path: Path) -> None:
    model = make(0)
    train_a_little(model)
    bundle = model.deploy(tmp_path / "out")
    here = str(tmp_path).encode()
    for path in bundle.path.rglob("*"):
        if path.is_file():
            assert here not in path.read_bytes(), path
