"""Sizes and instructions of a compiled network, read from the ELF and the emulator, by layer.

Every byte of the loaded sections is accounted for exactly once: a layer's constants, kernel code
(booked on the first layer that uses the instance), the network's own glue, compiler helpers, the
board, and gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from isobit.codegen.network import Network
from isobit.run.codes import Codes
from isobit.run.execute import Build, Result, execute
from isobit.targets import Isa


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One node. `code_bytes` is 0 where the kernel instance is booked on an earlier layer
    (`shares_code_with`).
    """

    name: str
    op: str
    kernel: str
    macs: int
    constant_bytes: int
    live_bytes: int
    code_bytes: int | None = None
    shares_code_with: str = ""
    instructions: float | None = None
    cycles: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes by owner; `sections` are the ELF's own sizes, which the owners add up to."""

    constants: Mapping[str, int]
    code: Mapping[str, int]
    glue_bytes: int
    helper_bytes: int
    board_bytes: int
    gap_bytes: int
    data_bytes: int
    sections: Mapping[str, int]

    @property
    def flash_bytes(self) -> int:
        """Network code, run time and data; the board's start-up, main program and gaps apart."""
        return (
            sum(self.constants.values())
            + sum(self.code.values())
            + self.glue_bytes
            + self.helper_bytes
        )


def read_sizes(network: Network, elf: Path) -> Sizes:
    """Attribute every byte of .text and .rodata (and network .data) to its owner."""
    constants = {c.symbol: c.node for c in network.constants}
    instances = {i.symbol for i in network.instances}
    by_constant: dict[str, int] = {}
    by_code: dict[str, int] = {}
    glue = helpers = board = gaps = data = 0
    sections: dict[str, int] = {}
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        symbols = _symbols(file)
        for index, section in enumerate(file.iter_sections()):
            flags = section["sh_flags"]
            if not flags & 2 or section["sh_size"] == 0:  # SHF_ALLOC
                continue
            sections[section.name] = section["sh_size"]
            if section["sh_type"] == "SHT_NOBITS":
                continue
            position = section["sh_addr"]
            for address, size, name in symbols.get(index, []):
                start = max(address, position)
                gaps += max(0, address - position)
                extent = max(0, address + size - start)
                position = max(position, address + size)
                if name in constants:
                    by_constant[constants[name]] = by_constant.get(constants[name], 0) + extent
                elif name in instances:
                    by_code[name] = by_code.get(name, 0) + extent
                elif name.startswith(f"{network.prefix}_"):
                    glue += extent
                elif name.startswith("__"):
                    helpers += extent
                else:
                    board += extent
            gaps += section["sh_addr"] + section["sh_size"] - position
    return Sizes(
        constants=by_constant,
        code=by_code,
        glue_bytes=glue,
        helper_bytes=helpers,
        board_bytes=board,
        gap_bytes=gaps,
        data_bytes=data,
        sections=sections,
    )


def _symbols(file: ELFFile) -> dict[int, list[tuple[int, int, str]]]:
    """Return (address, size, name) of functions and objects by section index, sorted, aliases
    once.
    """
    table = file.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection), "firmware is linked with its symbols"
    found: dict[int, set[tuple[int, int, str]]] = {}
    for symbol in table.iter_symbols():
        kind = symbol["st_info"]["type"]
        if (
            kind in ("STT_FUNC", "STT_OBJECT")
            and symbol["st_size"]
            and symbol["st_shndx"] != "SHN_UNDEF"
        ):
            address = symbol["st_value"] & (~1 if kind == "STT_FUNC" else ~0)
            found.setdefault(symbol["st_shndx"], set()).add(
                (address, symbol["st_size"], symbol.name)
            )
    return {index: sorted(entries) for index, entries in found.items()}


def layer_costs(
    network: Network, sizes: Sizes | None = None, ran: Result | None = None
) -> tuple[LayerCost, ...]:
    """One entry per node, as far as it was compiled and run."""
    from isobit.ops.registry import load_ops

    plan = network.plan
    constant_bytes: dict[str, int] = {}
    for constant in network.constants:
        constant_bytes[constant.node] = (
            constant_bytes.get(constant.node, 0) + constant.packed.data.nbytes
        )
    spans = _mean_spans(network, ran)
    layers: list[LayerCost] = []
    booked: dict[str, str] = {}
    for index, (step, instance, _) in enumerate(network.calls):
        op = load_ops().op(step.node.op)
        first = booked.setdefault(instance.symbol, step.name) if instance else step.name
        code: int | None = None
        if sizes is not None:
            code = sizes.code.get(instance.symbol, 0) if instance and first == step.name else 0
        instructions, cycles = spans.get(index, (None, None))
        layers.append(
            LayerCost(
                name=step.name,
                op=step.node.op,
                kernel=step.kernel.stem if step.kernel else "view",
                macs=op.cost(step.node.attrs, step.types).macs,
                constant_bytes=constant_bytes.get(step.name, 0),
                live_bytes=plan.live_bytes(index),
                code_bytes=code,
                shares_code_with="" if first == step.name else first,
                instructions=instructions,
                cycles=cycles,
            )
        )
    return tuple(layers)


def _mean_spans(network: Network, ran: Result | None) -> dict[int, tuple[float, float | None]]:
    """Mean instructions and cycles per node: marks come in call order, after the entry's own
    code.
    """
    if ran is None or not ran.spans:
        return {}
    order = [index for index, (_, instance, _) in enumerate(network.calls) if instance]
    found: dict[int, tuple[float, float | None]] = {
        index: (0.0, 0.0)
        for index, (_, instance, _) in enumerate(network.calls)
        if instance is None
    }
    count = len(ran.spans)
    for position, index in enumerate(order):
        own = [spans[1 + position] for spans in ran.spans]
        cycles = [s.cycles for s in own if s.cycles is not None]
        mean_cycles = sum(cycles) / count if len(cycles) == count else None
        found[index] = (sum(s.instructions for s in own) / count, mean_cycles)
    return found


HELPER_STACK_BYTES = 64
"""Allowance for the compiler's own helpers (64-bit multiply and shifts on small cores): they are
precompiled and tell no frame sizes. A test holds the whole bound against the depth measured on
every core with both compilers.
"""


def static_stack(network: Network, built: Build, sizes: Sizes) -> int | None:
    """Return an upper bound of stack bytes below the caller of run: its frame, the deepest
    instance, helpers.

    Generated code has no recursion and no pointers to functions: run calls instances, instances
    call compiler helpers only. `None` where the compiler told no frames.
    """
    frames = built.stack_frames
    entry = frames.get(f"{network.prefix}_run")
    if entry is None:
        return None
    instances = [frames.get(i.symbol, 0) for i in network.instances]
    helpers = HELPER_STACK_BYTES if sizes.helper_bytes else 0
    reset = frames.get(f"{network.prefix}_reset", 0)
    return max(entry + max(instances, default=0) + helpers, reset)


def run_counted(network: Network, built: Build, x: Codes) -> Result | None:
    """Run with counting where Unicorn has the core, else return `None`."""
    if built.target.isa is Isa.HOST or not built.target.unicorn_model:
        return None
    return execute(network, built, x, count=True)
