"""The machine isobit runs on: no memory limits, whatever compiler it has."""

from isobit.targets.base import Isa, Target

TARGET = Target(
    name="host",
    title="This computer",
    core="host",
    isa=Isa.HOST,
    features=frozenset(),
    regions=(),
    # Without -mcpu=baseline zig compiles for the CPU it runs on, and a library would not travel.
    zig_flags=("-mcpu=baseline",),
    gcc="gcc",
    source="none",
)
