"""Writes a deployed folder: C project, golden vectors, manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from isobit import __version__
from isobit.api.bundle import Absorbed, Bundle, content_hash
from isobit.api.manifest import MANIFEST, SCHEMA, TRAINING, hash_files, listed_files
from isobit.api.provenance import Origin, Story
from isobit.codegen.interface import Port, c_name
from isobit.codegen.network import generate
from isobit.codegen.project import project_files
from isobit.core.arguments import Arguments
from isobit.core.errors import BadArgument, raise_all
from isobit.core.files import json_text, npy_bytes, npz_bytes, write_folder
from isobit.core.types import AnyArray, scale_of
from isobit.ir.graph import Graph, Stage
from isobit.ir.store import Stored, to_bytes
from isobit.ops.dynamic import is_dynamic
from isobit.plan.plan import Optimize, make_plan
from isobit.run.codes import Codes, check_inputs, cut, random_codes
from isobit.run.compilers import Kind
from isobit.run.estimate import check_options, measure
from isobit.run.golden import run_golden
from isobit.targets import Target

GOLDEN_SAMPLES = 4
REMADE = frozenset({MANIFEST, TRAINING, "report.html"})
"""What isobit itself adds to a bundle; a new deployment may drop it, as it may `build/`."""


def write_bundle(
    graph: Graph,
    target: Target,
    out: Path,
    *,
    compiler: Kind = "zig",
    optimize: Optimize = Optimize.SPEED,
    inputs: Codes | None = None,
    torch_trace: Callable[..., Mapping[str, AnyArray]] | None = None,
    ram_limit: int | None = None,
    flash_limit: int | None = None,
    name: str = "",
    absorbed: Absorbed | None = None,
    history: Story | None = None,
    training: Mapping[str, Any] | None = None,
) -> Bundle:
    """Plan, generate, compile, measure and write a bundle; the folder appears complete or never.

    inputs: codes for the golden vectors as `Bundle.run` takes them, seeded random ones where
    absent. history: of an imported network its source, the names of its tensors and what passes
    did, with their proofs; it becomes manifest["import"]. training: how it was trained, as
    `Model.trained` and `Bundle.training` say it; it becomes training.json. torch_trace: takes an
    array for each input and returns every value by name.

    Raises `DoesNotFit` with every excess, `BadArgument` for a folder that holds something else,
    `FileUnwritable`.
    """
    options = Arguments("write_bundle")
    optimize = check_options(options, compiler, optimize, ram_limit, flash_limit)
    options.check()
    if graph.stage is not Stage.INT:
        raise BadArgument(
            where=graph.name,
            what="graph",
            want="integers",
            got="a float graph",
            fix="Deploy a Model: a float network has no integers.",
        )
    if name:
        graph = replace(graph, name=name)
    _require_free(out)
    content = content_hash(graph)
    network = generate(make_plan(graph, target, optimize), content)
    planned = measure(network, compile=False, ram_limit=ram_limit, flash_limit=flash_limit)
    raise_all(planned.problems())  # before any array of the network's sizes is made
    given = random_codes(graph, GOLDEN_SAMPLES, 0) if inputs is None else inputs
    codes = check_inputs(graph, given)
    estimate = measure(
        network,
        compiler=compiler,
        ram_limit=ram_limit,
        flash_limit=flash_limit,
        inputs=cut(codes, 0, 2),
    )
    raise_all(estimate.problems())
    golden = run_golden(graph, codes)
    files: dict[str, bytes] = {k: v.encode() for k, v in project_files(network).items()}
    files[f"{c_name(graph.name)}.isobit"] = to_bytes(Stored({"int": graph}))
    if len(codes) == 1:
        files["golden/input.npy"] = npy_bytes(*codes.values())
    else:
        files["golden/input.npz"] = npz_bytes(codes)
    files["golden/golden.npz"] = npz_bytes(golden)
    if torch_trace is not None:
        files["golden/torch.npz"] = npz_bytes(torch_trace(*codes.values()))
    if training:
        files[TRAINING] = json_text(training).encode()
    story = history or Story()
    files["names.json"] = json_text(_names(graph, absorbed or {}, Origin(story))).encode()
    manifest = {
        "schema": SCHEMA,
        "isobit": __version__,
        "name": graph.name,
        "target": target.name,
        "compiler": compiler,
        "compiler_version": estimate.compiler,
        "optimize": optimize.value,
        "inputs": [_interface(port) for port in network.inputs],
        "outputs": [_interface(port) for port in network.outputs],
        "hashes": {
            "content": content,
            "c": hash_files(project_files(network)),
            "files": {k: hashlib.sha256(v).hexdigest() for k, v in sorted(files.items())},
        },
        "sizes": {k: v for k, v in asdict(estimate).items() if k != "layers"},
        "layers": [asdict(layer) for layer in estimate.layers],
        "verified": [],
    }
    if story.source:
        manifest["import"] = asdict(story)
    files[MANIFEST] = json_text(manifest).encode()
    write_folder(out, files)
    return Bundle(out)


def _interface(port: Port) -> dict[str, Any]:
    """What a program must know of an input or output: name, C names, type, scale. A dynamic one's
    scale is `scale * 2^e`, with the e that is the next output.
    """
    dynamic = {"dynamic": True} if is_dynamic(port.type) else {}
    return {
        "name": port.name,
        "argument": port.argument,
        "accessor": port.accessor,
        "c_type": port.c_type,
        "shape": list(port.type.shape[1:]),
        "scale": float(scale_of(port.type.encoding)[0]),
        "zero": port.type.zero,
        **dynamic,
    }


def _require_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        got = "a file"
    else:
        foreign = _foreign(out)
        if not foreign:
            return
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        got = f"a folder with other things in it: {', '.join(foreign[:3])}{more}"
    raise BadArgument(
        where=str(out),
        what="output folder",
        want="a new or empty folder, or an earlier bundle",
        got=got,
        fix="Choose another folder; nothing was written.",
    )


def _foreign(out: Path) -> list[str]:
    """Return what lies in a folder but is no part of an earlier bundle: replacing the folder would
    lose it.
    """
    if not out.is_dir():
        return []
    listed = listed_files(out)
    if not listed:
        return sorted(path.name for path in out.iterdir())
    written = listed | REMADE
    found = (p.relative_to(out).as_posix() for p in sorted(out.rglob("*")) if not p.is_dir())
    return [name for name in found if name not in written and not name.startswith("build/")]


def _names(graph: Graph, absorbed: Absorbed, origin: Origin) -> dict[str, Any]:
    """Where every traced value comes from, in the user's source or the imported file, and which
    others it also stands for.
    """
    values: dict[str, dict[str, Any]] = {}
    for node in graph.nodes:
        for value in node.outputs:
            entry: dict[str, Any] = {
                "op": node.op,
                "source": str(node.location),
                "absorbed": list(absorbed.get(value.name, ())),
            }
            if value.name in origin.tensors:
                entry["tensor"] = origin.tensors[value.name]
            if origin.fused(value.name):
                entry["fused"] = list(origin.fused(value.name))
            values[value.name] = entry
    return {"schema": SCHEMA, "values": values}
