"""The reset function of a network with states: it gives them the values of the first run.

A network without states has none, and no line of its C differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from isobit.codegen.interface import c_prefix
from isobit.core.types import AnyArray
from isobit.plan.plan import Plan


def reset_signature(plan: Plan) -> str:
    """Return the declaration of the reset function without a semicolon."""
    return f"int {c_prefix(plan)}_reset(void *arena)"


def reset_constants(plan: Plan) -> Iterator[tuple[str, str, AnyArray]]:
    """Yield symbol, node and data of every constant that a state starts from."""
    consts, producers = plan.graph.const_map(), plan.graph.producers()
    for position, state in enumerate(plan.graph.states):
        if state.reset:
            node = producers[state.next].outputs[0].name
            yield _symbol(position), node, consts[state.reset].data


def arena_check(plan: Plan) -> list[str]:
    """Return the first lines of a function that takes an arena: it returns 1 for a bad one."""
    return [
        "    uint8_t *const at = arena;",
        f"    if (at == NULL || ((uintptr_t)at & {plan.alignment_bytes - 1}u) != 0) {{",
        "        return 1;",
        "    }",
    ]


def reset_lines(plan: Plan, places: Mapping[str, str]) -> list[str]:
    """Return the reset function's definition; nothing for a network without states."""
    if not plan.graph.states:
        return []
    lines = [f"{reset_signature(plan)} {{", *arena_check(plan)]
    for position, state in enumerate(plan.graph.states):
        place, kind = places[state.name], state.type
        lines.append(f"    /* {state.next} */")
        if state.reset:
            lines.append(f"    isobit_copy({place}, {_symbol(position)}, {kind.size_bytes});")
            continue
        lines += [
            f"    for (int32_t i = 0; i < {kind.elements}; i++) {{",
            f"        (({kind.dtype.c_name} *)({place}))[i] = {kind.zero};",
            "    }",
        ]
    return [*lines, "    return 0;", "}", ""]


def reset_declaration(plan: Plan) -> list[str]:
    """Return the lines of the header."""
    if not plan.graph.states:
        return []
    size = sum(state.type.size_bytes for state in plan.graph.states)
    names = ", ".join(state.next for state in plan.graph.states)
    return [
        f"/* Starts a sequence of runs: gives the states in the arena ({size} bytes: {names})",
        "   their first values. Call it before the first run; every run then continues where the",
        "   one before ended, so keep the arena between runs. Returns what a run returns. */",
        f"{reset_signature(plan)};",
        "",
    ]


def _symbol(position: int) -> str:
    return f"isobit_state_{position}"
