"""What a network needs on its target: exact bytes, exact instructions, modelled time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isobit.codegen.network import Network, generate
from isobit.core.arguments import Arguments
from isobit.core.errors import DoesNotFit, IsobitError
from isobit.ir.graph import Graph
from isobit.plan.plan import Optimize, make_plan
from isobit.run.codes import Codes, random_codes
from isobit.run.compilers import Kind
from isobit.run.execute import build
from isobit.run.measure import LayerCost, layer_costs, read_sizes, run_counted, static_stack
from isobit.targets import Isa, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Exact for this plan. `None`: not compiled (`compile=False`), or not measurable on this
    target.

    `instructions`: mean over the inputs, entry to return of the run function. `cycles` and
    `milliseconds` are modelled: the core's instruction timing at zero wait states (`cycle_model`),
    no flash or bus stalls.
    """

    name: str
    target: str
    arena_bytes: int
    constant_bytes: int
    macs: int
    layers: tuple[LayerCost, ...]
    compiler: str = ""
    stack_bytes: int | None = None
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    instructions: float | None = None
    instructions_max: int | None = None
    cycles: float | None = None
    cycle_model: str = ""
    milliseconds: float | None = None
    clock_hz: int = 0
    ram_limit_bytes: int = 0
    flash_limit_bytes: int = 0

    @property
    def remainder_bytes(self) -> int | None:
        """Flash of no layer: the run function and compiler helpers; `None` if not compiled."""
        if self.flash_bytes is None:
            return None
        return self.flash_bytes - sum(c.constant_bytes + (c.code_bytes or 0) for c in self.layers)

    @property
    def remainder_instructions(self) -> float | None:
        """Instructions of no layer: the run function's own; `None` where nothing was counted."""
        if self.instructions is None:
            return None
        return self.instructions - sum(c.instructions or 0 for c in self.layers)

    def problems(self) -> list[IsobitError]:
        """What does not fit: by how many bytes, and which layers are to blame."""
        found: list[IsobitError] = []
        ram = self.arena_bytes if self.ram_bytes is None else self.ram_bytes
        flash = self.constant_bytes if self.flash_bytes is None else self.flash_bytes
        for what, used, limit, layers in (
            ("RAM", ram, self.ram_limit_bytes, self._heaviest("live_bytes")),
            ("flash", flash, self.flash_limit_bytes, self._heaviest("constant_bytes")),
        ):
            if limit and used > limit:
                found.append(
                    DoesNotFit(
                        where=f"{self.name} on {self.target}",
                        what=what,
                        want=f"at most {limit:,} bytes",
                        got=f"{used:,} bytes, {used - limit:,} too many",
                        fix=f"Largest: {layers}. docs/it-does-not-fit.md lists what helps.",
                    )
                )
        return found

    def _heaviest(self, field: str) -> str:
        ordered = sorted(self.layers, key=lambda layer: -getattr(layer, field))[:3]
        return ", ".join(f"{layer.name} {getattr(layer, field):,}" for layer in ordered)

    def __str__(self) -> str:
        """Return a plain table: totals, then a line per layer."""
        rows = [f"{self.name} on {self.target}"]
        for label, value, unit in (
            ("RAM", self.ram_bytes, "bytes"),
            ("  arena", self.arena_bytes, "bytes"),
            ("  stack", self.stack_bytes, "bytes (bound)"),
            ("flash", self.flash_bytes, "bytes"),
            ("  constants", self.constant_bytes, "bytes"),
            ("MACs", self.macs, ""),
            ("instructions", self.instructions, "per inference"),
            ("cycles", self.cycles, f"modelled ({self.cycle_model}, zero wait states)"),
            ("time", self.milliseconds, f"ms, modelled at {self.clock_hz / 1e6:g} MHz"),
        ):
            if value is not None:
                shown = f"{value:,.3f}" if label == "time" else f"{value:,.0f}"
                rows.append(f"{label:<14}{shown:>14} {unit}".rstrip())
        rows.append("")
        wide = max([22, *(len(layer.name) + 1 for layer in self.layers)])
        rows.append(
            f"{'layer':<{wide}}{'kernel':<28}{'live RAM':>10}{'constants':>11}{'code':>8}"
            f"{'instructions':>14}"
        )
        for layer in self.layers:
            code = "" if layer.code_bytes is None else f"{layer.code_bytes:,}"
            count = "" if layer.instructions is None else f"{layer.instructions:,.0f}"
            kernel = f"{layer.op}/{layer.kernel}"
            rows.append(
                f"{layer.name:<{wide}}{kernel:<28}{layer.live_bytes:>10,}{layer.constant_bytes:>11,}{code:>8}{count:>14}"
            )
        if self.flash_bytes is not None or self.instructions is not None:
            code = "" if self.remainder_bytes is None else f"{self.remainder_bytes:,}"
            own = self.remainder_instructions
            count = "" if own is None else f"{own:,.0f}"
            rows.append(f"{'run function':<{wide + 49}}{code:>8}{count:>14}")
        return "\n".join(rows)


COMPILERS = ("zig", "gcc")
LIMIT_FIX = "Give bytes: 64 * 1024 for 64K; leave it out for what the target has."


def check_options(
    given: Arguments,
    compiler: str,
    optimize: Optimize | str,
    ram_limit: int | None,
    flash_limit: int | None,
) -> Optimize:
    """Check what every deployment and estimate takes; return `optimize` as a member.

    Limits are bytes, at least 1; None for the target's own.
    """
    given.choice("compiler", compiler, COMPILERS)
    for name, limit in (("ram_limit", ram_limit), ("flash_limit", flash_limit)):
        if limit is not None:
            given.integer(name, limit, at_least=1, fix=LIMIT_FIX)
    return given.member("optimize", optimize, Optimize)


def estimate(
    graph: Graph,
    target: Target,
    *,
    compile: bool = True,  # the public name
    compiler: Kind = "zig",
    optimize: Optimize | str = Optimize.SPEED,
    ram_limit: int | None = None,
    flash_limit: int | None = None,
    inputs: Codes | None = None,
) -> Estimate:
    """Plan, and unless `compile=False` compile and run on the emulated core (`inputs`, else two
    fixed ones).

    ram_limit, flash_limit: bytes, at least 1; None for what the target has. Raises `BadArgument`
    for every wrong argument, before anything is planned.
    """
    given = Arguments("estimate")
    given.instance("graph", graph, Graph, "an integer graph, as Model.export() returns")
    given.instance("target", target, Target, "a target, as isobit.targets.load returns")
    given.flag("compile", compile)
    chosen = check_options(given, compiler, optimize, ram_limit, flash_limit)
    given.check()
    network = generate(make_plan(graph, target, chosen), "")
    return measure(
        network,
        compile=compile,
        compiler=compiler,
        ram_limit=ram_limit,
        flash_limit=flash_limit,
        inputs=inputs,
    )


def measure(
    network: Network,
    *,
    compile: bool = True,  # the public name
    compiler: Kind = "zig",
    ram_limit: int | None = None,
    flash_limit: int | None = None,
    inputs: Codes | None = None,
) -> Estimate:
    """Measure a generated network; see `estimate`."""
    target, graph = network.plan.target, network.plan.graph
    plain = layer_costs(network)
    base = {
        "name": graph.name,
        "target": target.name,
        "arena_bytes": network.plan.arena_bytes,
        "constant_bytes": network.constant_bytes,
        "macs": sum(layer.macs for layer in plain),
        "clock_hz": target.clock_hz,
        "ram_limit_bytes": target.ram_bytes if ram_limit is None else ram_limit,
        "flash_limit_bytes": target.flash_bytes if flash_limit is None else flash_limit,
    }
    if not compile or target.isa is Isa.HOST:
        return Estimate(layers=plain, **base)  # type: ignore[arg-type]  # the fields above by name
    built = build(network, compiler=compiler)
    sizes = read_sizes(network, built.path)
    ran = run_counted(network, built, _inputs(graph) if inputs is None else inputs)
    stack = static_stack(network, built, sizes)
    instructions = list(ran.instructions) if ran else []
    cycles = list(ran.cycles) if ran else []
    mean_cycles = sum(cycles) / len(cycles) if cycles else None
    milliseconds = mean_cycles / target.clock_hz * 1e3 if mean_cycles and target.clock_hz else None
    return Estimate(
        layers=layer_costs(network, sizes, ran),
        compiler=built.compiler,
        stack_bytes=stack,
        ram_bytes=network.plan.arena_bytes + (stack or 0) + sizes.data_bytes,
        flash_bytes=sizes.flash_bytes,
        instructions=sum(instructions) / len(instructions) if instructions else None,
        instructions_max=max(instructions, default=None),
        cycles=mean_cycles,
        cycle_model=target.cycle_model if cycles else "",
        milliseconds=milliseconds,
        **base,  # type: ignore[arg-type]  # the fields above by name
    )


def _inputs(graph: Graph) -> Codes:
    """Two fixed samples: all zero-point, and seeded random codes; consecutive runs where there are
    states.
    """
    return {
        value.name: np.concatenate([np.full_like(drawn, value.type.zero), drawn])
        for value, drawn in zip(graph.inputs, random_codes(graph, 1, 0).values(), strict=True)
    }
