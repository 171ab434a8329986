"""Networks with several inputs and outputs: C interface, every runner, bundle and command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from isobit import targets
from isobit.api.bundle import Bundle, open_bundle
from isobit.api.deployment import write_bundle
from isobit.api.reporting import bundle_report
from isobit.cli import _root
from isobit.codegen.network import generate
from isobit.core.errors import BadArgument, BadRunInput, IsobitError, ValuesDiffer
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph
from isobit.ir.store import Stored, write_store
from isobit.ir.text import parse_graph
from isobit.ops.registry import load_ops
from isobit.plan.plan import make_plan
from isobit.report.html import render_html
from isobit.run.codes import random_codes
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden

pytestmark = pytest.mark.xdist_group("ports")

TEXT = """\
isobit 1  stage=int  net=ports  target=cortex-m4
input  %left : s8[1,3,3,1] pow2(5)
input  %right.raw : s8[1,3,3,2] pow2(5)
const  %table : f32[256] sha={sha}
%joined = concat([%left, %right.raw]) axis=3 : s8[1,3,3,3] pow2(5)
%low = clamp(%joined) clamp=(-20,30) : s8[1,3,3,3] pow2(5)
%peak = max_pool2d(%low) kernel=(3,3) stride=(1,1) : s8[1,1,1,3] pow2(5)
%flat = reshape(%peak) shape=(3) : s8[1,3] pow2(5)
%real = dequantize(%flat; table=%table) : f32[1,3]
output %flat, %real, %low
"""
PASSED = """\
isobit 1  stage=int  net=passed  target=cortex-m4
input  %x : s8[1,4] pow2(5)
input  %X : s8[1,4] pow2(5)
%y = clamp(%x) clamp=(0,100) : s8[1,4] pow2(5)
output %x, %y, %X
"""
TABLE = (np.arange(-128, 128) / 32).astype(np.float32)
SHA = hashlib.sha256(TABLE.tobytes()).hexdigest()[:12]


def ports(**changed: str) -> Graph:
    """Two inputs and three outputs of two types; two outputs are read by other nodes too."""
    text = TEXT.format(sha=SHA)
    for old, new in changed.items():
        text = text.replace(old, new)
    return parse_graph(text, {"table": TABLE}, load_ops().signature)


def passed() -> Graph:
    """Inputs that are outputs, and names that differ only in case."""
    return parse_graph(PASSED, {}, load_ops().signature)


def expected(codes: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """What `ports` computes, from its text."""
    joined = np.concatenate([codes["left"], codes["right.raw"]], axis=3)
    low = np.clip(joined, -20, 30)
    flat = low.max(axis=(1, 2))
    return {"flat": flat, "real": flat.astype(np.float32) / 32, "low": low}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("ports") / "ports"
    return write_bundle(ports(), targets.load("cortex-m4"), folder)


@pytest.mark.parametrize("graph", [ports(), passed()], ids=lambda g: str(g.name))
@pytest.mark.parametrize(
    ("core", "compiler", "qemu"),
    [
        ("host", "gcc", False),
        ("host", "zig", False),
        ("cortex-m4", "gcc", False),
        ("cortex-m0plus", "zig", False),
        ("rv32imc", "zig", False),
        ("cortex-m4", "gcc", True),
    ],
)
def test_every_runner_gives_the_golden_outputs(
    graph: Graph, core: str, compiler: Any, qemu: bool
) -> None:
    codes = random_codes(graph, 5, 3)
    golden = run_golden(graph, codes)
    network = generate(make_plan(graph, targets.load(core)), "0")
    built = build(network, compiler=compiler, trace=True, qemu=qemu)
    ran = execute(network, built, codes, use_qemu=qemu)
    assert tuple(ran.outputs) == graph.outputs
    for name, values in {**ran.trace, **ran.outputs}.items():
        assert values.dtype == golden[name].dtype
        assert np.array_equal(values, golden[name]), name
    for name, want in (expected(codes) if graph.name == "ports" else {}).items():
        assert np.array_equal(ran.outputs[name], want), name
    with pytest.raises(BadArgument, match="Read `outputs`"):
        _ = ran.output


def test_header_names_each_input_and_output(bundle: Bundle) -> None:
    text = (bundle.path / "src" / "ports.h").read_text()
    assert (
        "int isobit_ports_run(void *arena, const int8_t *in_left, const int8_t *in_right_raw,\n"
        "    int8_t *out_flat, float *out_real, int8_t *out_low);\n"
    ) in text
    for line in (
        "int8_t *isobit_ports_input_right_raw(void *arena);",
        "const float *isobit_ports_output_real(const void *arena);",
        "#define ISOBIT_PORTS_INPUT_RIGHT_RAW_BYTES 18",
        "#define ISOBIT_PORTS_INPUT_RIGHT_RAW_SHAPE {3, 3, 2}",
        "#define ISOBIT_PORTS_INPUT_LEFT_SCALE 0.03125",
        "#define ISOBIT_PORTS_OUTPUT_REAL_BYTES 12",
        "#define ISOBIT_PORTS_OUTPUT_LOW_ZERO 0",
    ):
        assert line in text.splitlines(), line
    accessors = [p["accessor"] for p in (*bundle.manifest["inputs"], *bundle.manifest["outputs"])]
    assert all(f"{accessor}(" in text for accessor in accessors) and len(accessors) == 5
    readme = (bundle.path / "README.md").read_text()
    assert "isobit_ports_run(arena, in_left, in_right_raw, NULL, NULL, NULL);" in readme


def test_one_input_keeps_its_plain_name() -> None:
    text = TEXT.replace("%right.raw", "%left").replace("input  %left : s8[1,3,3,2] pow2(5)\n", "")
    text = text.replace("[1,3,3,3]", "[1,3,3,2]").replace("[1,1,1,3]", "[1,1,1,2]")
    text = text.replace("%flat = reshape(%peak) shape=(3) : s8[1,3]", "%flat = reshape(%peak) "
                        "shape=(2) : s8[1,2]").split("%real")[0]  # fmt: skip
    text = "\n".join(line for line in text.splitlines() if "const" not in line)
    graph = parse_graph(text + "\noutput %low, %flat\n", {}, load_ops().signature)
    network = generate(make_plan(graph, targets.load("host")), "0")
    header = network.files["ports.h"]
    assert "(void *arena, const int8_t *in, int8_t *out_low, int8_t *out_flat);" in header
    assert "int8_t *isobit_ports_input(void *arena);" in header


def test_ids_differ_in_upper_case_too() -> None:
    network = generate(make_plan(passed(), targets.load("host")), "0")
    assert [p.argument for p in network.inputs] == ["in_x", "in_X_1"]
    assert [p.argument for p in network.outputs] == ["out_x", "out_y", "out_X_2"]
    assert len({p.macro for p in (*network.inputs, *network.outputs)}) == 5


def test_an_output_listed_twice_is_refused() -> None:
    graph = ports(**{"output %flat": "output %low, %flat"})
    with pytest.raises(BadArgument, match=r"outputs: want each value once, got %low more than"):
        generate(make_plan(graph, targets.load("host")), "0")


def test_bundle_runs_and_verifies(bundle: Bundle) -> None:
    assert (bundle.path / "golden" / "input.npz").is_file()
    codes = bundle.golden_inputs()
    assert isinstance(codes, dict) and list(codes) == ["left", "right.raw"]
    ran = bundle.run(codes, "host")
    for name, want in expected(codes).items():
        assert np.array_equal(ran.outputs[name], want), name
    found = bundle.verify(on=["host", "cortex-m4", "cortex-m0plus", "rv32imc"])
    per_sample = 9 + 18 + 27 + 27 + 3 + 3 + 3
    assert [(c.compared, c.differing) for c in found] == [(4 * per_sample, 0)] * 5
    assert len(bundle.manifest["verified"]) == 5
    assert bundle_report(bundle).outputs[1].dtype == "f32"


def test_verify_compares_what_the_caller_gets(tmp_path: Path) -> None:
    made = write_bundle(ports(), targets.load("host"), tmp_path / "ports", compiler="gcc")
    source = made.path / "src" / "ports.c"
    text = source.read_text()
    for old, new in (
        ("isobit_copy(out_real, isobit_ports_output_real(arena), 12)", ""),
        ("isobit_copy(out_low, isobit_ports_output_low(arena), 27)",
         "isobit_copy(out_low, isobit_ports_output_low(arena), 26)"),
    ):  # fmt: skip
        assert old in text
        source.write_text(text.replace(old, new or "(void)out_real"))
        with pytest.raises(ValuesDiffer):
            made.verify(on=["host"])
    source.write_text(text)
    assert made.verify(on=["host"])[0].differing == 0


def test_problems_of_inputs_are_told_at_once(bundle: Bundle) -> None:
    good = random_codes(bundle.graph, 2, 0)
    with pytest.raises(BadRunInput, match=r"want an array for each of left, right\.raw, by name"):
        bundle.run(good["left"], "host")
    with pytest.raises(IsobitError) as caught:
        bundle.run({"left": good["left"][:, :2], "other": good["left"]}, "host")
    assert [p.where for p in caught.value.problems] == [
        "ports",
        "input %left of ports",
        "input %right.raw of ports",
    ]
    assert [p.got for p in caught.value.problems][1:] == ["int8[2, 2, 3, 1]", "no array"]
    with pytest.raises(BadRunInput, match=r"%left of ports: .* got no array"):
        bundle.run({**good, "left": [[1], [2, 3]]}, "host")  # type: ignore[dict-item]  # ragged
    with pytest.raises(BadRunInput, match=r"samples: want .*, got 1 of %left, 2 of %right\.raw"):
        bundle.run({**good, "left": good["left"][:1]}, "host")


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(_root, [str(a) for a in arguments])
    return done.exit_code, done.stdout


def test_command_line_takes_and_writes_archives(bundle: Bundle, tmp_path: Path) -> None:
    codes = random_codes(bundle.graph, 2, 9)
    np.savez(tmp_path / "x.npz", **codes)
    want = expected(codes)
    for number, subject in enumerate((bundle.path, bundle.path / "ports.isobit")):
        out = tmp_path / f"y{number}.npz"
        common = ("run", subject, "--on", "host", "--input", tmp_path / "x.npz")
        code, shown = call(*common, "--output", out)
        assert code == 0 and "2 outputs in" in shown
        with np.load(out) as stored:
            assert set(stored.files) == {"flat", "real", "low"}
            assert all(np.array_equal(stored[name], want[name]) for name in stored.files)
        code, shown = call(*common)
        assert code == 0 and json.loads(shown) == {k: v.tolist() for k, v in want.items()}
        code, shown = call(*common, "--json")
        assert json.loads(shown)["output"]["flat"] == want["flat"].tolist()
        (tmp_path / "y.npy").unlink(missing_ok=True)
        code, shown = call(*common, "--output", tmp_path / "y.npy", "--json")
        assert code != 0 and not (tmp_path / "y.npy").exists()
    code, shown = call("verify", bundle.path, "--on", "host", "--input", tmp_path / "x.npz")
    assert code == 0 and "host" in shown
    code, shown = call("verify", bundle.path, "--on", "host", "--samples", "3")
    assert code == 0
    write_store(tmp_path / "m.isobit", Stored({"int": ports()}))
    for core in ("host", "rv32imc"):
        again = tmp_path / f"again-{core}"
        code, shown = call("deploy", tmp_path / "m.isobit", "--target", core, "--out", again)
        assert code == 0 and open_bundle(again).target.name == core


def test_report_shows_every_port(bundle: Bundle) -> None:
    page = render_html(bundle_report(bundle))
    for name in ("left", "right.raw"):
        assert f"input {name}: " in page
    for name in ("flat", "real", "low"):
        assert f"output {name}: " in page


def test_names_that_differ_only_in_case_share_no_macro() -> None:
    """Both headers in one C file: guards, macros and functions are distinct."""
    defined: list[set[str]] = []
    for name in ("net", "Net", "NET", "nEt"):
        graph = parse_graph(PASSED.replace("passed", name), {}, load_ops().signature)
        header = generate(make_plan(graph, targets.load("host")), "0").files[f"{name}.h"]
        defined.append({line.split()[1] for line in header.splitlines() if "#define" in line})
    assert all(len(found) > 10 for found in defined)
    assert sum(map(len, defined)) == len(set().union(*defined))
    assert "ISOBIT_NET_H" in defined[0] and "ISOBIT_Net_H" in defined[1]


@pytest.mark.parametrize("name", ["a_data", "A_Data"])
def test_a_name_that_is_another_networks_data_is_refused(name: str) -> None:
    graph = parse_graph(PASSED.replace("passed", name), {}, load_ops().signature)
    with pytest.raises(BadArgument, match="one that does not end in _data"):
        generate(make_plan(graph, targets.load("host")), "0")


def test_values_of_one_c_name_keep_their_own_constants() -> None:
    text = TEXT.replace(
        "%real = ", "%flat.b = dequantize(%flat; table=%table) : f32[1,3]\n%flat_b = "
    )
    text = text.replace("%flat, %real, %low", "%flat.b, %flat_b").format(sha=SHA)
    graph = parse_graph(text, {"table": TABLE}, load_ops().signature)
    codes = random_codes(graph, 2, 0)
    network = generate(make_plan(graph, targets.load("host")), "0")
    assert len({c.symbol for c in network.constants}) == len(network.constants) > 2
    ran = execute(network, build(network), codes)
    for name in ("flat.b", "flat_b"):
        assert np.array_equal(ran.outputs[name], expected(codes)["real"])
