"""`Bundle`: a deployed folder, and what can be done with it without torch."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from isobit import targets
from isobit.api.calls import check_run
from isobit.api.manifest import (
    MANIFEST,
    TRAINING,
    damaged,
    edited_files,
    hash_files,
    read_manifest,
    read_names,
    read_sources,
    read_training,
)
from isobit.codegen.interface import c_name
from isobit.codegen.network import Network, generate
from isobit.codegen.project import project_files
from isobit.core.arguments import Arguments
from isobit.core.errors import (
    FileMissing,
    IsobitError,
    raise_all,
)
from isobit.core.files import json_text, write_atomic
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph
from isobit.ir.store import Stored, read_store, to_bytes
from isobit.ops.registry import load_ops
from isobit.plan.plan import Optimize, make_plan
from isobit.run.codes import Codes, check_inputs
from isobit.run.compilers import Kind
from isobit.run.execute import Result, build, execute
from isobit.run.golden import run_golden
from isobit.run.verify import GOLDEN_VECTORS, Comparison, compare, differs
from isobit.targets import Target

Absorbed = Mapping[str, Sequence[str]]
"""For every integer node, by its first output: the float values that it also computes, as `name
(operator)`.
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A deployed folder. Everything is read from it when asked; nothing is cached here."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of manifest.json."""
        return read_manifest(self.path)

    @property
    def graph(self) -> Graph:
        """The integer graph."""
        return _read_graph(self.path, self.manifest)

    @property
    def absorbed(self) -> Absorbed:
        """For every node the float values that it also computes."""
        names = read_names(self._unchanged("names.json"))["values"]
        return {name: entry["absorbed"] for name, entry in names.items()}

    @property
    def training(self) -> dict[str, Any]:
        """How the network was trained, where it knew or `record_training` said it; else empty."""
        listed = TRAINING in self.manifest["hashes"]["files"]
        if not listed and not (self.path / TRAINING).exists():
            return {}
        return read_training(self._unchanged(TRAINING))

    @property
    def target(self) -> Target:
        """The target the bundle was made for."""
        return targets.load(str(self.manifest["target"]))

    def network(self, on: str | None = None) -> Network:
        """Return the network planned for the bundle's own target, or for another one."""
        manifest = self.manifest
        check_run("Bundle.network", () if on is None else (on,))
        target = self.target if on is None else targets.load(on)
        plan = make_plan(self.graph, target, Optimize(manifest["optimize"]))
        return generate(plan, str(manifest["hashes"]["content"]))

    def golden_inputs(self) -> Codes:
        """Return the stored input codes [N, *NHWC], of several inputs by name."""
        several = len(self.graph.inputs) > 1
        return _load_codes(self._unchanged(f"golden/input.{'npz' if several else 'npy'}"))

    def _unchanged(self, name: str) -> Path:
        """Return the path of a file that the manifest lists, if its bytes are still those."""
        path = self.path / name
        want = self.manifest["hashes"]["files"].get(name)
        try:
            got = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise damaged(path, error.strerror or str(error)) from error
        if want is None:
            raise damaged(path, "a file that the manifest does not list")
        if got != want:
            raise damaged(path, "a file that was changed after the deployment")
        return path

    def _stored(self, name: str) -> dict[str, AnyArray]:
        """Return the arrays of an .npz file that deployment wrote."""
        found = _load_codes(self._unchanged(name))
        if not isinstance(found, Mapping):
            raise damaged(self.path / name, "a single array")
        return dict(found)

    def run(
        self, x: Codes, on: str | None = None, *, trace: bool = False, compiler: str = ""
    ) -> Result:
        """Run input codes `x` on a target: the bundle's own C on its own target, else
        re-planned C.

        x: [N, *NHWC] in the input's dtype, of several inputs one by name; N consecutive runs where
        the network has states. The result has `outputs` by name, and `output`, the array of a
        network that has only one. compiler: "zig", "gcc" or "" for the bundle's own.
        """
        check_run("Bundle.run", () if on is None else (on,), compiler=compiler, trace=trace)
        x = check_inputs(self.graph, x)
        manifest = self.manifest
        network, files = self._code(on)
        kind: Kind = "gcc" if (compiler or manifest["compiler"]) == "gcc" else "zig"
        on_qemu = not network.plan.target.unicorn_model and network.plan.target.qemu is not None
        built = build(network, compiler=kind, trace=trace, files=files, qemu=on_qemu)
        return execute(network, built, x, use_qemu=on_qemu)

    def verify(
        self,
        x: Codes | None = None,
        on: Sequence[str] = (),
        *,
        compiler: str = "",
        raise_on_difference: bool = True,
        progress: Callable[[str], None] = lambda _: None,
    ) -> list[Comparison]:
        """Compare golden model, stored golden vectors, recorded torch trace and the C on every core
        of `on`, all tensors of all samples.

        On the bundle's own target the folder's own C runs, edited or not; every other core runs C
        that is planned for it anew, and the folder's C is not used: such results are `replanned`.
        `edited` names the C files that were changed since deployment, in both cases.

        x: input codes as `run` takes them; where absent the stored golden ones, and only then
        golden vectors and torch trace take part. An output counts as what the run function gave its
        caller, not what its node computed. Appends the result to manifest.json. Raises
        `ValuesDiffer` for every execution that differs (all at once), `BundleDamaged`, and whatever
        keeps a core from running. compiler: as for `run`.
        """
        on = (on,) if isinstance(on, str) else on
        check_run(
            "Bundle.verify",
            on,
            compiler=compiler,
            progress=progress,
            raise_on_difference=raise_on_difference,
        )
        graph = self.graph
        codes = check_inputs(graph, self.golden_inputs() if x is None else x)
        progress("golden")
        golden = run_golden(graph, codes)
        manifest = self.manifest
        edited = edited_files(read_sources(self.path), manifest)
        found: list[Comparison] = []
        if x is None:
            for file, title in (("golden", GOLDEN_VECTORS), ("torch", "torch")):
                name = f"golden/{file}.npz"
                if file == "golden" or name in manifest["hashes"]["files"]:
                    found.append(compare(graph, golden, self._stored(name), name=title))
        for name in dict.fromkeys(on or ("host", self.target.name)):
            progress(name)
            ran = self.run(codes, name, trace=True, compiler=compiler)
            network, files = self._code(name)
            compared = compare(
                graph,
                golden,
                {**codes, **ran.trace, **ran.outputs},
                name=name,
                compiler=compiler or str(manifest["compiler"]),
                emulator=ran.emulator,
                content_hash=hash_files(files or project_files(network)),
            )
            found.append(replace(compared, replanned=files is None, edited=edited))
        self._record(found, codes)
        if raise_on_difference:
            raise_all([differs(c) for c in found if not c.equal])
        return found

    def _code(self, on: str | None) -> tuple[Network, dict[str, str] | None]:
        """The network on a target, and the bundle's own files where it is the bundle's own
        target.
        """
        network = self.network(on)
        if network.plan.target.name != self.target.name:
            return network, None
        return network, read_sources(self.path)

    def _record(self, found: list[Comparison], codes: Mapping[str, AnyArray]) -> None:
        digest = hashlib.sha256()
        for array in codes.values():
            digest.update(array.tobytes())
        manifest = self.manifest
        done = {entry["name"]: entry for entry in manifest["verified"]}
        for comparison in found:
            entry = asdict(comparison)
            entry["inputs_sha256"] = digest.hexdigest()
            done[comparison.name] = entry
        manifest["verified"] = list(done.values())
        write_atomic(self.path / MANIFEST, json_text(manifest))


def open_bundle(path: str | Path) -> Bundle:
    """Return the bundle in a folder. Raises `FileMissing`, or `BundleDamaged` for anything missing
    in it.

    C files may have been edited: verification on the bundle's own target then judges the edited
    ones. On other targets it plans anew, and the folder's C, edited or not, is not used.
    """
    given = Arguments("open_bundle")
    bundle = Bundle(given.path("path", path))
    given.check()
    if not bundle.path.is_dir():
        raise FileMissing(
            where=str(path),
            what="bundle",
            want="a folder that `isobit deploy` wrote",
            got="a file" if bundle.path.exists() else "nothing",
            fix="Check the path.",
        )
    written = bundle.manifest["hashes"]["files"]
    missing = [name for name in written if not (bundle.path / name).is_file()]
    if missing:
        raise damaged(bundle.path, f"without {', '.join(missing)}")
    _ = bundle.graph
    return bundle


def content_hash(graph: Graph) -> str:
    """SHA-256 of the `.isobit` bytes: text, weights and scales."""
    return hashlib.sha256(to_bytes(Stored({"int": graph}))).hexdigest()


def _load_codes(path: Path) -> Codes:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            # An archive is read here: its members are opened only when asked for.
            found: Codes = loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(path, f"unreadable ({error})") from error
    return found


def _read_graph(path: Path, manifest: Mapping[str, Any]) -> Graph:
    file = path / f"{c_name(str(manifest['name']))}.isobit"
    try:
        graph = read_store(file, load_ops().signature).graphs["int"]
    except KeyError as error:
        raise damaged(file, "no integer graph") from error
    except IsobitError as error:
        raise damaged(file, str(error)) from error
    if content_hash(graph) != manifest["hashes"]["content"]:
        raise damaged(file, "another network than the manifest's")
    return graph
