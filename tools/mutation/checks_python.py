"""Does the battery see a fault in Python? The part of it that the file decides about, in seconds.

A forked child that has not imported isobit yet puts the mutated source in place of the module, and
asks the operators' contract, or the plans and the C of random networks (`tests/property`).

Nothing in the source tree is touched.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from mutation.checks_c import bench
from mutation.children import ask
from mutation.faults import Fault
from mutation.verdicts import KILLED, ROOT, SURVIVED, Verdict, use_repository

PYTHON_TIMEOUT_S = 90.0
"""A fault that makes a loop endless is killed by this."""
PLAN_SEEDS = range(60)
COMPILED_SEEDS = range(16)


class Overlay(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a given source."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self.module, self.path, self.source = module, path, source

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.module:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, str(self.path), "exec"), vars(module))


def warm_up() -> None:
    """Import what is slow and is not isobit, once; every forked child then has it."""
    use_repository()
    import concurrent.futures
    import json
    import subprocess
    import zlib

    import numpy
    import numpy.lib.stride_tricks
    import numpy.random
    import safetensors.numpy

    assert "isobit" not in sys.modules, "a child could not replace what is imported already"
    del concurrent, json, subprocess, zlib, numpy, safetensors


def check_python(fault: Fault | None, file: str) -> Verdict:
    """Ask in a child that dies afterwards; `None`: without a fault, which must survive."""
    said = ask(lambda: _ask_python(fault, file), PYTHON_TIMEOUT_S)
    return Verdict(SURVIVED) if said == "sound" else Verdict(KILLED, said)


def _ask_python(fault: Fault | None, file: str) -> str:
    """Return "sound", or what is wrong; runs in the child."""
    path = ROOT / file
    if fault is not None:
        source = fault.apply(path.read_text(encoding="utf-8"))
        module = ".".join(Path(file).with_suffix("").parts[1:])
        sys.meta_path.insert(0, Overlay(module, path, source))
    for op, stem in _operators_of(file):
        said = _ask_contract(op, stem)
        if said:
            return said
    return _ask_text(file) or _ask_plans() or "sound"


def _ask_text(file: str) -> str:
    """What no result shows: more loops than needed, odd layout, literals (`tests/mutants`)."""
    from isobit import targets
    from isobit.codegen.network import generate
    from isobit.plan.plan import make_plan
    from mutants import arenas, choices, generated_text, loops, plans
    from property.graphs import draw

    if file.endswith("plan.py"):
        core = targets.load("cortex-m4")
        on_core = (make_plan(draw(seed).graph, core) for seed in range(40))
        wrong = (p for plan in on_core for p in plans.alignment_problems(plan))
        of_random = (p for seed in range(40) for p in choices.ram_problems(draw(seed).graph))
        of_kernels = (choices.relaxed_problems(), choices.unknown_problems())
        found = (plans.plan_problems(), wrong, of_random, *of_kernels)
        return next(chain.from_iterable(found), "")
    if file.endswith("choice.py"):
        of_random = (p for seed in range(40) for p in choices.ram_problems(draw(seed).graph))
        return next(choices.choice_problems(), "") or next(of_random, "")
    if file.endswith(("checker.py", "aliases.py")):
        return _ask_tests_of_plans()
    if file.endswith("arena.py"):
        return next(arenas.arena_problems(), "")
    if file.endswith("broadcast.py"):
        return next(loops.loop_problems(), "")
    if not file.endswith("network.py"):
        return ""
    host = targets.load("host")
    networks = [generate(make_plan(draw(seed).graph, host), "") for seed in range(8)]
    found = [p for network in networks for p in generated_text.layout_problems(network)]
    found += generated_text.symbol_problems()
    return next(iter([*generated_text.literal_problems(), *found]), "")


def _ask_tests_of_plans() -> str:
    """Plans moved by hand and at random, refused for what they damage; joins and cuts without
    code, where they are known. The tests raise.
    """
    from pytest import MonkeyPatch

    from plan import test_aliases, test_checker

    for name, test in (vars(test_checker) | vars(test_aliases)).items():
        if name.startswith("test_"):
            if inspect.signature(test).parameters:
                with MonkeyPatch.context() as patch:
                    test(patch)
            else:
                test()
    return ""


SHARED = {
    "weighted.py": ("linear", "conv2d"),
    "window.py": ("max_pool2d", "conv2d", "avg_pool2d"),
    "broadcast.py": ("add", "mul"),
    "axes.py": ("concat", "split"),
}


def _operators_of(file: str) -> list[tuple[str, str]]:
    path = Path(file)
    if path.parent.parent.name == "ops":
        return [(path.parent.name, path.stem)]
    return [(op, "reference") for op in SHARED.get(path.name, ())]


def _ask_contract(op: str, stem: str) -> str:
    from contract import cases, programs
    from isobit import targets
    from mutants import leads

    for name in ("host", "cortex-m0plus"):
        legal = {id(e.sample) for e in programs.instances(op, targets.load(name).features)[1]}
        missing = [s.label for s in cases.samples(op) if id(s) not in legal]
        if missing:
            return f"no kernel for {missing[:3]}"
    worse = next(leads.lead_problems(op), "")
    if worse:
        return worse
    return "" if bench(op, stem).calls else "no calls"  # asserts that every call is right


def _ask_plans() -> str:
    """Plans of random graphs: legal, no larger than recorded, and the C of some of them."""
    from isobit import targets
    from isobit.plan.plan import make_plan
    from property import programs
    from property.arena_sizes import larger_than_recorded
    from property.graphs import draw

    host = targets.load("host")
    plans = []
    for seed in PLAN_SEEDS:
        plans.append((seed, make_plan(draw(seed).graph, host)))
        said = larger_than_recorded(*plans[-1])
        if said:
            return said
    found = programs.compare_many(
        [draw(seed) for seed in COMPILED_SEEDS], host, "gcc", samples=3, optimize="-O0"
    )
    return found.problems[0] if found.problems else ""
