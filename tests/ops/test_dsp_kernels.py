"""Kernels for cores with SMLAD: bits, choice, guard. The contract runs every sample on them."""

from __future__ import annotations

import dataclasses
import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contract import calls, programs, runners
from isobit import nn, targets
from isobit.codegen.network import Network, generate
from isobit.codegen.project import project_files
from isobit.core.dtypes import DType
from isobit.core.errors import CompileFailed
from isobit.core.features import Feature
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, Raw, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.base import NodeTypes, Scheme
from isobit.ops.conv2d.op import Conv2d, Conv2dAttrs
from isobit.ops.linear.op import Linear, LinearAttrs
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedInputs
from isobit.plan.plan import Optimize, make_plan
from isobit.run.compilers import Kind
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from isobit.train.twin import Twin

DSP = ("cortex-m4", "cortex-m7", "cortex-m33")
PLAIN = ("cortex-m0plus", "cortex-m3", "rv32imc", "host")
STEMS = {"conv2d": "im2col_dsp", "linear": "dual_dsp"}

pytestmark = pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed")


@cache
def trained(scheme: Scheme) -> tuple[Graph, Any]:
    """Three convolutions (odd pixels, odd channels) and two linear layers, with input codes."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(5, 8, 3, stride=2),
        nn.Conv2d(8, 7, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7 * 9, 13),
        nn.ReLU(),
        nn.Linear(13, 6),
    )
    model = Twin(net, input=(3, 7, 7), target="cortex-m4", scheme=scheme, name="dsp")
    x = torch.randn(24, 3, 7, 7)
    model(x)
    return model.export(), model.quantize_input(x)


def planned(graph: Graph, target: str, optimize: Optimize = Optimize.SPEED) -> Network:
    return generate(make_plan(graph, targets.load(target), optimize), "hash")


def stems(network: Network) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for step in network.plan.nodes:
        if step.kernel is not None:
            found.setdefault(step.node.op, set()).add(step.kernel.stem)
    return {op: found[op] for op in STEMS}


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("core", DSP)
def test_network_equals_the_golden_model(core: str, scheme: Scheme, compiler: Kind) -> None:
    need_emulator(compiler)
    graph, codes = trained(scheme)
    network = planned(graph, core)
    assert stems(network) == {op: {stem} for op, stem in STEMS.items()}
    ran = execute(network, build(network, compiler=compiler, trace=True), codes)
    golden = run_golden(graph, codes)
    assert ran.trace
    for name, values in ran.trace.items():
        assert np.array_equal(values, golden[name]), name
    assert np.array_equal(ran.output, golden[graph.outputs[0]])


def test_instructions_do_not_depend_on_data() -> None:
    need_emulator("zig")
    graph, codes = trained(Scheme.AFFINE)
    network = planned(graph, "cortex-m4")
    ran = execute(network, build(network), codes, count=True)
    assert len(set(ran.instructions)) == 1


@pytest.mark.parametrize("zero", [-128, 127])
@pytest.mark.parametrize("op", list(STEMS))
def test_extreme_codes_are_exact(op: str, zero: int) -> None:
    """Weights and inputs at the ends of int8, inputs up to 255 from the zero point, long sums."""
    need_emulator("zig")
    rng = np.random.default_rng(5)
    kind: Any = {"conv2d": Conv2d, "linear": Linear}[op]
    shapes = {"conv2d": ((1, 3, 3, 61), (3, 3, 3, 61)), "linear": ((1, 3001), (6, 3001))}
    x_shape, w_shape = shapes[op]
    w = rng.choice([-128, 127], size=w_shape).astype(np.int64)
    w[0], w[1] = -128, 127
    x = rng.choice([-128, 127], size=(6, *x_shape[1:])).astype(np.int64)
    x[0], x[1] = -128, 127
    attrs: Any = {
        "conv2d": Conv2dAttrs(pad=(1, 1, 1, 1), round=Rounding.HALF_UP),
        "linear": LinearAttrs(round=Rounding.HALF_UP),
    }[op]
    out = w_shape[0]
    inputs: WeightedInputs[Any] = WeightedInputs(
        x=x,
        w=w,
        b=rng.integers(-(2**20), 2**20, size=out, dtype=np.int64),
        mult=rng.integers(2**13, 2**15, size=out, dtype=np.int64),
        shift=np.full(out, 29, dtype=np.int64),
    )
    raw = TensorType((out,), DType.S32, Raw())
    types: WeightedInputs[TensorType] = WeightedInputs(
        x=TensorType(x_shape, DType.S8, Affine((0.1,), zero)),
        w=TensorType(w_shape, DType.S8, Affine((0.1,), 0)),
        b=raw,
        mult=raw,
        shift=raw,
    )
    y_type = TensorType(kind.infer(attrs, types).shape, DType.S8, Affine((0.1,), -3))
    graph = one_node(kind.name, attrs, NodeTypes(types, (y_type,)), inputs)
    network = planned(graph, "cortex-m4")
    assert stems_of(network) == {STEMS[op]}
    ran = execute(network, build(network), x.astype(np.int8))
    wanted = kind.integer(attrs, NodeTypes(types, (y_type,)), inputs)
    assert np.unique(wanted).size >= 8
    assert np.array_equal(ran.output, wanted)


@pytest.mark.parametrize("op", list(STEMS))
def test_plain_c_twin_has_no_undefined_behaviour(op: str, tmp_path: Path) -> None:
    """Without the extension `isobit_dsp.h` is C that sanitizers can watch, on this computer."""
    if shutil.which("gcc") is None or not runners.have_sanitizers():
        pytest.skip("gcc or its AddressSanitizer library is not installed")
    host = targets.load("host")
    target = dataclasses.replace(host, name="host-dsp", features=host.features | {Feature.DSP})
    flags = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")
    variant = programs.Variant("sanitized", "gcc", "-O0", flags, apart=True)
    program = programs.build(op, target, variant, tmp_path)
    legal = [
        entry
        for entry in programs.instances(op, target.features)[1]
        if entry.kernel.stem == STEMS[op]
    ]
    assert legal
    definition = load_ops().op(op)
    listed = [
        call
        for entry in legal
        for call in calls.apart(definition, entry.kernel, entry.sample, entry.entry)
    ]
    assert runners.run_host(program, listed).problems == ()


@pytest.mark.parametrize("core", PLAIN)
def test_planner_never_takes_them_without_the_extension(core: str) -> None:
    for scheme in Scheme:
        network = planned(trained(scheme)[0], core)
        assert stems(network) == {op: {"reference"} for op in STEMS}
        assert "src/isobit_dsp.h" not in project_files(network)


@pytest.mark.parametrize("core", DSP)
def test_project_has_the_header_they_include(core: str) -> None:
    files = project_files(planned(trained(Scheme.POW2)[0], core))
    assert "isobit_smlad" in files["src/isobit_dsp.h"]


def test_planner_takes_no_scratch_at_the_peak_where_ram_counts() -> None:
    graph = trained(Scheme.POW2)[0]
    network = planned(graph, "cortex-m4", Optimize.RAM)
    assert stems(network) == {"conv2d": {"reference", "im2col_dsp"}, "linear": {"dual_dsp"}}
    fast = planned(graph, "cortex-m4").plan
    assert network.plan.nodes[fast.peak_index].scratch is None
    assert fast.nodes[fast.peak_index].scratch is not None
    assert network.plan.arena_bytes < fast.arena_bytes


def test_planner_leaves_tiny_layers_to_the_reference() -> None:
    """3 x 3, one channel in and out: gathering costs more than it saves (measured)."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 8, 3, padding=1))
    model = Twin(net, input=(1, 8, 8), target="cortex-m4", scheme=Scheme.POW2, name="tiny")
    model(torch.randn(8, 1, 8, 8))
    network = planned(model.export(), "cortex-m4")
    kernels = [s.kernel.stem for s in network.plan.nodes if s.kernel and s.node.op == "conv2d"]
    assert kernels == ["reference", "im2col_dsp"]


@pytest.mark.parametrize(
    ("core", "flags"),
    [
        ("cortex-m3", ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m3")),
        # zig's plain cortex_m33 has no DSP, silently.
        ("cortex-m33", ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m33+fp_armv8d16sp")),
    ],
)
def test_a_core_without_the_extension_stops_at_the_guard(core: str, flags: tuple[str, ...]) -> None:
    network = planned(trained(Scheme.POW2)[0], "cortex-m4")
    target = dataclasses.replace(targets.load(core), zig_flags=flags)
    elsewhere = dataclasses.replace(network, plan=dataclasses.replace(network.plan, target=target))
    with pytest.raises(CompileFailed) as caught:
        build(elsewhere, files=project_files(network))
    assert "dsp was made for cortex-m4, which has dsp; set -mcpu accordingly" in str(caught.value)


def need_emulator(compiler: str) -> None:
    if find_spec("unicorn") is None:
        pytest.skip("unicorn is not installed")
    if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")


def stems_of(network: Network) -> set[str]:
    return {step.kernel.stem for step in network.plan.nodes if step.kernel is not None}


def one_node(op: str, attrs: Any, q: NodeTypes[Any], inputs: WeightedInputs[Any]) -> Graph:
    consts = tuple(
        Const(
            name,
            kind := getattr(q.inputs, name),
            getattr(inputs, name).astype(kind.dtype.numpy),
            name,
        )
        for name in ("w", "b", "mult", "shift")
    )
    names: WeightedInputs[str] = WeightedInputs("x", "w", "b", mult="mult", shift="shift")
    return Graph(
        name="extreme",
        stage=Stage.INT,
        inputs=(Value("x", q.inputs.x),),
        consts=consts,
        nodes=(Node(op, names, attrs, (Value("y", q.output),)),),
        outputs=("y",),
    )
