"""Published TFLite models: every tensor of every layer equals the tflite-micro wheel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from isobit.api.deployment import write_bundle
from isobit.api.importing import ImportedModel, import_model, total_cost
from isobit.cli import main
from isobit.core.types import AnyArray
from isobit.importers.tflite import read
from isobit.run.golden import run_golden
from isobit.targets import load as load_target

from .channel_proof import check
from .tflm import Wheel, models

pytestmark = [
    pytest.mark.data("models", "tflite-micro"),
    pytest.mark.xdist_group("mlperf"),
]

MLPERF = {
    "kws": "mlperf_tiny/models/kws_ref_model.tflite",
    "vww": "mlperf_tiny/models/vww_96_int8.tflite",
    "ic": "mlperf_tiny/models/pretrainedResnet_quant.tflite",
    "ad": "mlperf_tiny/models/ad01_int8.tflite",
}
OTHERS = {
    "hello_world": "tflite_micro/hello_world_int8.tflite",
    "micro_speech": "tflite_micro/micro_speech_quantized.tflite",
}
MACS = {"kws": 2_656_768, "vww": 7_489_664, "ic": 12_501_632, "ad": 264_192}
SEEDS = (0x12345678, 1, 2, 3)
HASHES = {
    "kws": ("472682fcee23ead1", "3b1705fce658bfc0", "472682fcee23ead1", "eb410afefd2148a1"),
    "vww": ("08edf107b58b1589", "08edf107b58b1589", "08f82207b593bd51", "08f16007b58e07fd"),
    "ic": ("a45246a8a13f730e", "d29e75db77a03b6d", "81d3685eac3cacb9", "a3e37cd960a8708f"),
    "ad": ("9bf73c2a58a561de", "140d6f0683a59151", "068e52a77811c65d", "2e6bbda8366170eb"),
}
"""FNV-1a of the outputs for the four seeds, as published beside the peers' measurements."""
RANDOM = {"quick": 5, "full": 100}
QUIET = {"quick": 3, "full": 20}


def xorshift(seed: int, shape: tuple[int, ...]) -> AnyArray:
    """int8 codes of a 32-bit xorshift generator: the top byte of every state."""
    state, count = seed, int(np.prod(shape))
    codes = np.empty(count, dtype=np.uint8)
    for i in range(count):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        codes[i] = state >> 24
    return codes.view(np.int8).reshape(shape)


def fnv1a(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def inputs(shape: tuple[int, ...], scale: str) -> AnyArray:
    """The four seeds, random codes, and codes near the middle, which leave softmax unsaturated."""
    rng = np.random.default_rng(7)
    own = (RANDOM[scale], *shape[1:])
    quiet = (QUIET[scale], *shape[1:])
    return np.concatenate(
        [
            *(xorshift(seed, shape) for seed in SEEDS),
            rng.integers(-128, 128, size=own).astype(np.int8),
            np.clip(np.rint(rng.normal(0, 6, size=quiet)), -128, 127).astype(np.int8),
        ]
    )


def wheel_tensors(path: Path, x: AnyArray) -> dict[str, AnyArray]:
    """Return what every operator wrote for a batch, by tensor name, samples along a new axis 0."""
    wheel, found = Wheel(path.read_bytes()), {}
    for sample in x:
        wheel.run(sample)
        for name, tensor in wheel.tensors():
            found.setdefault(name, []).append(tensor)
    return {name: np.stack(parts) for name, parts in found.items()}


@cache
def imported(name: str) -> ImportedModel:
    return import_model(models() / {**MLPERF, **OTHERS}[name], name=name)


def differing(
    names: dict[str, str], ours: dict[str, AnyArray], theirs: dict[str, AnyArray]
) -> Iterator[str]:
    """Yield the values that differ; all of `theirs` that we name are compared."""
    for value, label in names.items():
        if label in theirs and value in ours:
            a, b = ours[value], theirs[label]
            if not np.array_equal(a.reshape(len(a), -1), b.reshape(len(b), -1)):
                yield value


@pytest.mark.parametrize("name", [*MLPERF, *OTHERS])
def test_every_tensor_of_the_file(name: str, scale: str) -> None:
    path = models() / {**MLPERF, **OTHERS}[name]
    found = read(path, name=name)
    x = inputs(found.graph.inputs[0].type.shape, scale)
    theirs, ours = wheel_tensors(path, x), run_golden(found.graph, x)
    computed = {v.name for n in found.graph.nodes for v in n.outputs}
    assert set(theirs) == {found.names[value] for value in computed & set(found.names)}
    assert list(differing(dict(found.names), ours, theirs)) == []
    if name in HASHES:
        out = ours[found.graph.outputs[0]]
        assert tuple(fnv1a(out[i].tobytes()) for i in range(4)) == HASHES[name]
        assert total_cost(found.graph).macs == MACS[name]


@pytest.mark.parametrize("name", [*MLPERF, *OTHERS])
def test_what_passes_leave_is_the_same(name: str, scale: str) -> None:
    before = read(models() / {**MLPERF, **OTHERS}[name], name=name).graph
    after = imported(name).graph
    x = inputs(before.inputs[0].type.shape, "quick")
    one, two = run_golden(before, x), run_golden(after, x)
    assert after.outputs == before.outputs
    for value in one.keys() & two.keys():
        assert np.array_equal(one[value], two[value]), value
    left = removed_channels(imported(name).story().passes)
    smaller = {origin: kept for origin, (kept, _) in left.items()}
    assert set(two) - set(one) == {f"{origin}_kept" for origin in smaller}
    for origin, kept in smaller.items():
        assert np.array_equal(one[origin][..., kept], two[f"{origin}_kept"]), origin


CORES = {
    "quick": ("host", "cortex-m4"),
    "full": ("host", "cortex-m4", "cortex-m0plus", "rv32imc", "cortex-m55"),
}


@pytest.mark.parametrize("name", [*MLPERF, *OTHERS])
def test_deployed_on_every_core(name: str, scale: str, tmp_path: Path) -> None:
    graph = imported(name).graph
    x = inputs(graph.inputs[0].type.shape, scale)
    bundle = write_bundle(graph, load_target("nucleo-l4r5zi"), tmp_path / "b", inputs=x[:2])
    for on in CORES[scale]:
        (comparison,) = bundle.verify(x[:2] if scale == "quick" else x, on=[on])
        assert comparison.differing == 0
        assert comparison.compared > 0


@pytest.mark.slow
@pytest.mark.data("cifar10")
def test_ic_predicts_as_the_wheel_on_cifar10() -> None:
    from isobit import data

    _, test = data.load("cifar10")
    x = (test.images.astype(np.int64) - 128).astype(np.int8)
    graph = imported("ic").graph
    ours = run_golden(graph, x)[graph.outputs[0]].argmax(axis=1)
    wheel = Wheel((models() / MLPERF["ic"]).read_bytes())
    theirs = []
    for sample in x:
        wheel.run(sample)
        theirs.append(int(wheel.output().argmax()))
    assert np.array_equal(ours, np.asarray(theirs))
    # 86.97 %, often quoted, is LiteRT with XNNPACK, whose convolutions round otherwise.
    assert round(100 * float(np.mean(ours == test.labels)), 2) == 87.07


def removed_channels(
    passes: list[dict[str, object]],
) -> dict[str, tuple[list[int], dict[int, int]]]:
    """Return value -> (kept channels, constants of the others) of a manifest's proofs.

    A later round works on what an earlier one left, so indices are followed back to the file's.
    """
    found: dict[str, tuple[list[int], dict[int, int]]] = {}
    origin: dict[str, str] = {}
    for entry in passes:
        if entry["name"] != "drop_channels":
            continue
        for step in entry["done"]:
            value, data = origin.get(step["node"], step["node"]), step["data"]
            before, constants = found.get(value, (None, {}))
            index = (lambda c, b=before: c) if before is None else (lambda c, b=before: b[c])
            constants = constants | {index(int(c)): code for c, code in data["constant"].items()}
            found[value] = ([index(c) for c in data["kept"]], constants)
            origin[data["value"]] = value
    return found


def test_removed_channels_of_vww_are_proven(tmp_path: Path) -> None:
    """The proof in the manifest holds for code that shares nothing with the pass."""
    model = imported("vww")
    assert total_cost(model.graph).macs <= 3_800_000
    model.save(tmp_path / "vww.isobit")
    command = ["deploy", str(tmp_path / "vww.isobit"), "--out", str(tmp_path / "b")]
    with pytest.raises(SystemExit) as done:
        main(command)
    assert done.value.code in (0, None)
    story = json.loads((tmp_path / "b" / "manifest.json").read_text())["import"]
    removed = removed_channels(story["passes"])
    proof = {story["names"][value]: entry for value, entry in removed.items()}
    blob = (models() / MLPERF["vww"]).read_bytes()
    assert sum(len(constants) for _, constants in proof.values()) > 1500
    assert check(blob, proof) == []
    # The check can fail: another constant, and a channel that lives.
    name, (kept, constants) = next(iter(proof.items()))
    channel = next(iter(constants))
    assert check(blob, {**proof, name: (kept, {**constants, channel: constants[channel] + 1})})
    assert check(blob, {**proof, name: (kept[1:], constants)})


@pytest.mark.parametrize("samples", [pytest.param(1000, marks=pytest.mark.slow), 60])
def test_vww_without_dead_channels_gives_the_same(samples: int) -> None:
    before = read(models() / MLPERF["vww"], name="vww").graph
    after = imported("vww").graph
    rng = np.random.default_rng(11)
    x = rng.integers(-128, 128, size=(samples, 96, 96, 3)).astype(np.int8)
    for start in range(0, samples, 50):
        part = x[start : start + 50]
        out = before.outputs[0]
        assert np.array_equal(run_golden(before, part)[out], run_golden(after, part)[out])
