"""What is said of a deployed folder whose C, training or records were changed, and of C that is not
the folder's.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from isobit.api.bundle import open_bundle
from isobit.api.reporting import bundle_report, record_training
from isobit.core.errors import IsobitError
from isobit.core.files import npz_bytes
from isobit.report.html import render_html
from isobit.report.terminal import print_report

from .conftest import Run

HISTORY = {
    "epoch": 1,
    "loss": 0.5,
    "train_accuracy": 0.5,
    "val_accuracy": 0.5,
    "learning_rate": 0.002,
    "seconds": 1.0,
}


def comment(bundle: Path, name: str = "src/tiny.c") -> None:
    """Edit a C file so that it computes the same."""
    path = bundle / name
    path.write_text(path.read_text() + "/* tuned */\n")


def break_a_weight(bundle: Path) -> None:
    source = bundle / "src" / "tiny_data.h"
    text = source.read_text()
    match = re.search(r"(int8_t[^=;{}]*=\s*\{\s*)(-?\d+)", text)
    assert match is not None, "no weights in the generated C"
    wrong = 100 if int(match[2]) < 0 else -100
    source.write_text(text[: match.start(2)] + str(wrong) + text[match.end(2) :])


def trained(bundle: Path) -> None:
    record_training(
        open_bundle(bundle),
        history=[HISTORY],
        confusion=[[3, 1], [0, 4]],
        classes=["cat", "dog"],
        accuracy=0.875,
        accuracy_on="pets",
        notes=["few"],
    )


def test_report_claims_nothing_of_c_that_was_changed_after_verification(
    run: Run, bundle: Path
) -> None:
    assert run("verify", bundle).code == 0
    before = run("report", bundle, "--json").json["verified"]
    assert before["differing"] == 0 and before["changed_since_verification"] is False
    assert "values differ" in run("report", bundle).out
    break_a_weight(bundle)
    after = run("report", bundle, "--json").json
    assert after["verified"]["changed_since_verification"] is True
    assert after["verified"]["differing"] is None
    assert after["notes"] == ["src/tiny_data.h was edited since deployment."]
    assert after["hashes"]["C"] != after["hashes"]["C in the folder now"]
    shown = run("report", bundle)
    assert "Changed since verification" in shown.out and "values differ" not in shown.out
    page = (bundle / "report.html").read_text()
    assert "Changed since verification" in page and "values differ" not in page
    assert 'class="chain"' not in page


def test_c_that_was_edited_before_verification_is_what_is_claimed(run: Run, bundle: Path) -> None:
    comment(bundle)
    found = {e["name"]: e for e in run("verify", bundle, "--json").json["verified"]}
    own, host = found["cortex-m4"], found["host"]
    assert own["edited"] == host["edited"] == ["src/tiny.c"]
    assert not own["replanned"] and host["replanned"]
    shown = run("verify", bundle)
    assert "cortex-m4: C the folder's, edited since deployment: src/tiny.c" in shown.out
    assert "host: C re-planned for host; the folder's edited C was not used" in shown.out
    report = bundle_report(open_bundle(bundle))
    assert not report.changed and report.notes == ("src/tiny.c was edited since deployment.",)
    comment(bundle)
    assert bundle_report(open_bundle(bundle)).changed


def test_re_planned_c_proves_nothing_of_edited_c(run: Run, bundle: Path) -> None:
    assert run("verify", bundle, "--on", "host").code == 0
    assert not bundle_report(open_bundle(bundle)).changed
    break_a_weight(bundle)
    assert run("verify", bundle, "--on", "host").code == 0
    assert bundle_report(open_bundle(bundle)).changed


def test_rows_of_other_cores_are_marked_re_planned(run: Run, bundle: Path) -> None:
    shown = run("verify", bundle)
    assert "host: C re-planned for host\n" in shown.out
    assert "cortex-m4: C" not in shown.out
    assert run("report", bundle).out.count("re-planned for host") == 1
    assert "re-planned for host" in (bundle / "report.html").read_text()


def test_a_difference_of_an_edited_file_names_the_file(run: Run, bundle: Path) -> None:
    break_a_weight(bundle)
    problem = run("verify", bundle, "--on", "cortex-m4", "--json").error("E503")
    assert problem["fix"].startswith("src/tiny_data.h was edited since deployment.")


def test_changed_golden_vectors_are_refused(run: Run, bundle: Path) -> None:
    path = bundle / "golden" / "golden.npz"
    blob = path.read_bytes()
    path.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    assert "golden.npz" in run("verify", bundle, "--on", "host", "--json").error("E504")["where"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_golden_vectors_of_no_archive_are_refused(run: Run, bundle: Path, content: bytes) -> None:
    replace_listed(bundle, "golden/golden.npz", content)
    run("verify", bundle, "--on", "host", "--json").error("E504")


def test_golden_vectors_that_differ_are_found(run: Run, bundle: Path) -> None:
    with np.load(bundle / "golden" / "golden.npz") as stored:
        arrays = {name: array.copy() for name, array in stored.items()}
    last = open_bundle(bundle).graph.outputs[0]
    arrays[last].flat[0] ^= 1
    replace_listed(bundle, "golden/golden.npz", npz_bytes(arrays))
    problem = run("verify", bundle, "--on", "host", "--json").error("E503")
    assert problem["where"].startswith(f"golden vectors, %{last}[0")
    assert "another" not in problem["got"] and "version that deployed" in problem["fix"]


def replace_listed(bundle: Path, name: str, content: bytes) -> None:
    """Replace a file and its hash: what a damaged archive looks like that was deployed so."""
    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["hashes"]["files"][name] = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_changed_training_is_refused(run: Run, bundle: Path) -> None:
    trained(bundle)
    assert run("report", bundle, "--json").json["accuracy"] == 0.875
    path = bundle / "training.json"
    path.write_text(path.read_text().replace("0.875", "0.999"))
    assert "training.json" in run("report", bundle, "--json").error("E504")["where"]
    path.unlink()
    assert "training.json" in run("report", bundle, "--json").error("E504")["got"]


def test_a_training_that_the_manifest_does_not_list_is_refused(run: Run, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["hashes"]["files"]["training.json"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert "does not list" in run("report", bundle, "--json").error("E504")["got"]


def test_a_training_may_be_recorded_again(bundle: Path) -> None:
    trained(bundle)
    trained(bundle)
    assert bundle_report(open_bundle(bundle)).accuracy == 0.875


def test_no_training_is_written_that_a_report_refuses(bundle: Path) -> None:
    def record(**changes: Any) -> None:
        given: dict[str, Any] = {
            "history": [], "confusion": [[1]], "classes": ["a"], "accuracy": 1, "accuracy_on": "",
        }  # fmt: skip
        record_training(open_bundle(bundle), **{**given, **changes})

    wrong: tuple[dict[str, Any], ...] = (
        {"history": [{"epoch": 1}]},
        {"history": [{**HISTORY, "loss": float("nan")}]},
        {"confusion": [[-1]]},
        {"notes": [1]},
        {"classes": [1]},
    )
    before = (bundle / "training.json").read_bytes()
    for changes in wrong:
        with pytest.raises(IsobitError):
            record(**changes)
        assert (bundle / "training.json").read_bytes() == before
    record()


@pytest.mark.parametrize("schema", [0, 2, "1", True, 1.5, None, [1]])
def test_other_schemas_are_refused(run: Run, bundle: Path, schema: object) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    assert "schema" in run("verify", bundle, "--on", "host", "--json").error("E504")["got"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value; of a list the first entry stands for all."""
    yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif value and isinstance(value, list):
        yield from places(value[0], (*path, 0))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a place, or with nothing there where `new` is ..."""
    if not path:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


WRONG: list[Any] = [..., None, "?", -1, 2.5, True, [], {}, [[]], [None], {"a": 1}, 1e999, 10**400]


@pytest.mark.parametrize("name", ["manifest.json", "training.json", "names.json"])
def test_no_damage_of_a_record_is_a_traceback(run: Run, bundle: Path, name: str) -> None:
    """Whatever stands in a record: a report and an explanation, or an error of isobit."""
    break_a_weight(bundle)  # so that a difference is recorded
    assert run("verify", bundle, "--on", "cortex-m4").code == 1
    trained(bundle)
    good = json.loads((bundle / name).read_text())
    assert good.get("verified", [{}])[-1].get("first", True), "a difference to damage"
    refused = 0
    for place in places(good):
        if place[:2] == ("hashes", "files") and len(place) > 2:
            continue
        for new in WRONG:
            if new is ... and not place:
                continue
            blob = json.dumps(changed(good, place, new)).encode()
            if name == "manifest.json":
                (bundle / name).write_bytes(blob)
            else:
                replace_listed(bundle, name, blob)
            try:
                opened = open_bundle(bundle)
                report = bundle_report(opened)
                assert render_html(report) and report.to_json()
                print_report(report, Console(file=io.StringIO()))
                _ = opened.absorbed, opened.network()
            except IsobitError:
                refused += 1
    assert refused > 50


def test_every_wrong_place_is_named(run: Run, bundle: Path) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["layers"][0]["macs"]
    manifest["sizes"]["arena_bytes"] = "many"
    manifest["extra"] = 1
    path.write_text(json.dumps(manifest))
    got = run("report", bundle, "--json").error("E504")["got"]
    assert "no layers[0].macs" in got and "sizes.arena_bytes" in got and "unknown extra" in got


def test_a_damaged_folder_may_be_deployed_again(run: Run, model: Path, bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "verified": 3}))
    run("report", bundle, "--json").error("E504")
    assert run("deploy", model, "--out", bundle).code == 0
    assert run("report", bundle).code == 0
