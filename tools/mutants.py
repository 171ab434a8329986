"""Plant faults in the C, in what generates it and in the planner; count those the battery sees.

    python tools/mutants.py                  the sample: at most 20 faults a file
    python tools/mutants.py --only conv2d    files whose path contains a text
    python tools/mutants.py --all            every fault
    python tools/mutants.py --jobs 1         one process instead of two
    python tools/mutants.py --list           what would be planted

A fault is killed when a targeted part of the battery fails, crashes or runs out of time
(`mutation/checks_c.py`, `mutation/checks_python.py`); one that does not compile is not counted.
Every survivor must be in `tools/mutants_equivalent.toml` with the reason why no test can see it.
Exit code 1: a survivor is not listed there, one that is listed was killed, or fewer than 95 % of
the others are killed.
Results so far are kept in `build/mutants.jsonl`, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mutation import checks_c, checks_python, faults
from mutation.faults import Fault
from mutation.verdicts import INVALID, KILLED, ROOT, SURVIVED, Verdict

PER_FILE = 20
WORKERS = 2
WANTED = 0.95
JOURNAL = ROOT / "build" / "mutants.jsonl"
RESULTS = ROOT / "results" / "mutants.json"
EQUIVALENT = ROOT / "tools" / "mutants_equivalent.toml"


def main() -> int:
    arguments = _arguments()
    os.chdir(ROOT)
    chosen = _chosen(arguments)
    if arguments.list:
        for fault in chosen:
            print(
                f"{fault.key} {fault.file}:{fault.line} {fault.kind}: "
                f"{fault.before} => {fault.after}"
            )
        print(f"{len(chosen)} faults")
        return 0
    started = time.monotonic()
    known = {} if arguments.fresh else _journal()
    with tempfile.TemporaryDirectory(prefix="isobit-mutants-") as place:
        os.environ["TMPDIR"] = place  # checks that die leave their folders behind
        verdicts = _run(chosen, known, arguments.jobs)
    report = _report(chosen, verdicts, time.monotonic() - started)
    if not (arguments.only or arguments.limit or arguments.all):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return _say(report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose path contains TEXT")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most N faults in all")
    parser.add_argument("--all", action="store_true", help=f"not only {PER_FILE} faults a file")
    parser.add_argument("--jobs", type=int, default=WORKERS, metavar="N", help="processes at once")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[Fault]:
    """The faults to plant: of every file those with the smallest keys, which is a fixed random
    choice.
    """
    found: list[Fault] = []
    for file in faults.files():
        if arguments.only in file:
            own = sorted(faults.faults_of(file), key=lambda fault: fault.key)
            found += own if arguments.all else own[:PER_FILE]
    if arguments.limit:
        found = sorted(found, key=lambda fault: fault.key)[: arguments.limit]
    # Files stay together: a worker prepares an operator once.
    return sorted(
        found, key=lambda fault: (fault.file.endswith(".py"), fault.file, fault.start, fault.new)
    )


# ------------------------------------------------------------------------------------------ running


def _run(
    chosen: list[Fault], known: dict[tuple[str, str], Verdict], jobs: int
) -> dict[str, Verdict]:
    """Return a verdict for every fault; print the survivors without a reason as they come."""
    reasons = {entry["key"] for entry in _equivalent()}
    states = {file: _state(file) for file in {fault.file for fault in chosen}}
    verdicts = {
        f.key: known[f.key, states[f.file]] for f in chosen if (f.key, states[f.file]) in known
    }
    waiting = [fault for fault in chosen if fault.key not in verdicts]
    JOURNAL.parent.mkdir(exist_ok=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress, JOURNAL.open("a") as journal:
        task = progress.add_task("faults", total=len(chosen), completed=len(verdicts))

        def done(fault: Fault, verdict: Verdict) -> None:
            verdicts[fault.key] = verdict
            row = [fault.key, states[fault.file], verdict.status, verdict.by]
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            progress.update(task, advance=1, description=fault.file.removeprefix("src/isobit/"))
            if verdict.status == SURVIVED and fault.key not in reasons:
                text = f"survived {fault.key} {fault.file}:{fault.line}: "
                text += f"{fault.before} => {fault.after}"
                progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

        _run_c([f for f in waiting if not f.file.endswith(".py")], done, jobs)
        _run_python([f for f in waiting if f.file.endswith(".py")], done, jobs)
    return verdicts


def _run_c(waiting: list[Fault], done: Callable[[Fault, Verdict], None], jobs: int) -> None:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(checks_c.check_c, fault): fault for fault in waiting}
        for future in as_completed(futures):
            done(futures[future], future.result())


def _run_python(waiting: list[Fault], done: Callable[[Fault, Verdict], None], jobs: int) -> None:
    if not waiting:
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=checks_python.warm_up
    ) as pool:
        for file in ("src/isobit/plan/plan.py", "src/isobit/ops/window.py"):
            sound = pool.submit(checks_python.check_python, None, file).result()
            if sound.status != SURVIVED:
                raise SystemExit(f"the battery fails without a fault ({file}): {sound.by}")
        futures = {pool.submit(checks_python.check_python, f, f.file): f for f in waiting}
        for future in as_completed(futures):
            done(futures[future], future.result())


def _state(file: str) -> str:
    """What a verdict depends on: the file, its operator and the tests."""
    own, tests = ROOT / file, ROOT / "tests"
    kernel = "/ops/" in file and own.parent.name != "ops"
    parts = [own, *(tests / "contract").glob("*.*"), *(tests / "mutants").glob("parts.*")]
    if kernel:
        parts += own.parent.glob("*.*")
    if own.suffix != ".c":
        parts += [p for name in ("property", "mutants", "plan") for p in (tests / name).glob("*.*")]
    digest = hashlib.sha256()
    for part in sorted(part for part in parts if part.is_file()):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:16]


def _journal() -> dict[tuple[str, str], Verdict]:
    if not JOURNAL.is_file():
        return {}
    rows: Iterable[list[str]] = map(json.loads, JOURNAL.read_text().splitlines())
    return {(key, state): Verdict(status, by) for key, state, status, by in rows}


# ------------------------------------------------------------------------------------------
# reporting


def _report(chosen: list[Fault], verdicts: dict[str, Verdict], seconds: float) -> dict[str, object]:
    reasons = {entry["key"]: entry for entry in _equivalent()}
    status = {f.key: verdicts[f.key].status for f in chosen}
    equivalent = [f for f in chosen if status[f.key] == SURVIVED and f.key in reasons]
    open_ = [f for f in chosen if status[f.key] == SURVIVED and f.key not in reasons]
    killed = sum(s == KILLED for s in status.values())
    compiled = sum(s != INVALID for s in status.values())
    contradicted = [f.key for f in chosen if status[f.key] == KILLED and f.key in reasons]

    def table(name: Callable[[Fault], str]) -> dict[str, dict[str, int]]:
        rows = Counter((name(f), status[f.key]) for f in chosen)
        names = sorted({row for row, _ in rows})
        return {n: {s: rows[n, s] for s in (KILLED, SURVIVED, INVALID)} for n in names}

    return {
        "schema": 1,
        "commit": _git("rev-parse", "HEAD"),
        "clean": not _git("status", "--porcelain", "--", "src", "tests", "tools"),
        "faults": len(chosen),
        "invalid": len(chosen) - compiled,
        "killed": killed,
        "survived": len(equivalent) + len(open_),
        "equivalent": len(equivalent),
        "killed_share": round(killed / max(compiled, 1), 4),
        "killed_share_of_distinguishable": round(killed / max(compiled - len(equivalent), 1), 4),
        "seconds": round(seconds),
        "by_kind": table(lambda f: f.kind),
        "by_file": table(lambda f: f.file),
        "unexplained": [_line(f) for f in open_],
        "listed_but_killed": contradicted,
    }


def _line(fault: Fault) -> dict[str, object]:
    edit = f"{fault.before} => {fault.after}"
    return {
        "key": fault.key,
        "file": fault.file,
        "line": fault.line,
        "kind": fault.kind,
        "edit": edit,
    }


def _equivalent() -> list[dict[str, str]]:
    if not EQUIVALENT.is_file():
        return []
    found: list[dict[str, str]] = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get(
        "fault", []
    )
    return found


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _say(report: dict[str, object]) -> int:
    console = Console()
    share = float(str(report["killed_share_of_distinguishable"]))
    console.print(
        f"{report['faults']} faults: {report['killed']} killed, {report['survived']} survived "
        f"({report['equivalent']} listed as equivalent), {report['invalid']} did not compile"
    )
    console.print(f"killed: {share:.1%} of those a test can tell apart, {report['seconds']} s")
    unexplained, contradicted = report["unexplained"], report["listed_but_killed"]
    assert isinstance(unexplained, list) and isinstance(contradicted, list)
    for row in unexplained:
        text = f"{row['key']} {row['file']}:{row['line']} {row['kind']}: {row['edit']}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if contradicted:
        console.print(f"listed as equivalent, but killed: {', '.join(contradicted)}")
    return 0 if share >= WANTED and not unexplained and not contradicted else 1


if __name__ == "__main__":
    raise SystemExit(main())
