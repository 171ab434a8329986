"""Everything isobit refuses, as data: a code, where, what, what was wanted, what came, how to fix
it.

The exception tree, one leaf per code (`docs/errors/<code>.md` explains each):

    IsobitError
    ├── InputProblem     E1xx   a file, data set or argument that cannot be used
    ├── GraphProblem     E2xx   a network that cannot mean what it says
    ├── TargetProblem    E3xx   a network that this chip cannot hold or run
    ├── ToolProblem      E4xx   a compiler, emulator or optional package that is missing or failed
    ├── RunProblem       E5xx   a run that did not finish, or computed something else
    └── TrainProblem     E6xx   a training that cannot be exact or cannot go on

A stage collects all its problems and raises them at once with `raise_all`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One refusal, complete enough to act on without reading our code."""

    code: str
    where: str
    what: str
    want: str
    got: str
    fix: str

    def __str__(self) -> str:
        return (
            f"{self.code} {self.where}: {self.what}: want {self.want}, got {self.got}. {self.fix}"
        )


class IsobitError(Exception):
    """Base of every error a user can cause. `problems` holds one entry per independent cause."""

    code: ClassVar[str] = ""

    def __init__(self, *, where: str, what: str, want: str, got: str, fix: str) -> None:
        problem = Problem(code=self.code, where=where, what=what, want=want, got=got, fix=fix)
        self.problems: tuple[Problem, ...] = (problem,)
        super().__init__(str(problem))

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class SeveralProblems(IsobitError):
    """All problems of one stage, in the order they were found."""

    def __init__(self, errors: Iterable[IsobitError]) -> None:
        self.problems = tuple(problem for error in errors for problem in error.problems)
        Exception.__init__(self, "\n".join(str(problem) for problem in self.problems))


def raise_all(errors: Iterable[IsobitError]) -> None:
    """Raise nothing, the single error, or one `SeveralProblems` with every problem in it."""
    found = list(errors)
    if len(found) == 1:
        raise found[0]
    if found:
        raise SeveralProblems(found)


class InputProblem(IsobitError):
    """A file, data set or argument that cannot be used."""


class GraphProblem(IsobitError):
    """A network that cannot mean what it says."""


class TargetProblem(IsobitError):
    """A network that this chip cannot hold or run."""


class ToolProblem(IsobitError):
    """A compiler, emulator or optional package that is missing or failed."""


class RunProblem(IsobitError):
    """A run that did not finish, or computed something else."""


class TrainProblem(IsobitError):
    """A training that cannot be exact or cannot go on."""


class FileMissing(InputProblem):
    """A path that does not exist."""

    code = "E101"


class FileDamaged(InputProblem):
    """A file that is truncated, of another format, or does not match its checksum."""

    code = "E102"


class FileUnwritable(InputProblem):
    """A place that cannot be written; nothing was left there."""

    code = "E103"


class UnknownName(InputProblem):
    """A name (operator, target, data set, option) that nothing is registered under."""

    code = "E104"


class BadArgument(InputProblem):
    """An argument outside its range, or options that contradict each other."""

    code = "E105"


class DataUnverified(InputProblem):
    """A data set whose files are not the published ones."""

    code = "E106"


class DownloadFailed(InputProblem):
    """A download that could not be completed."""

    code = "E107"


class BadSpec(InputProblem):
    """A SPEC.py that does not define `model`, or fails while it runs."""

    code = "E108"


class TextSyntax(GraphProblem):
    """IR text that does not parse."""

    code = "E201"


class BadGraph(GraphProblem):
    """A graph whose structure is broken: a value undefined, a name used twice, no output."""

    code = "E202"


class BadShape(GraphProblem):
    """A tensor whose shape, dtype or encoding an operator cannot take."""

    code = "E203"


class BadAttribute(GraphProblem):
    """An operator option outside its range."""

    code = "E204"


class BadWeights(GraphProblem):
    """Weights that are not numbers, or of the wrong shape."""

    code = "E205"


class Overflow(GraphProblem):
    """A sum that provably may leave its accumulator."""

    code = "E206"


class NotTraceable(GraphProblem):
    """Python in `forward` that has no operator on the chip."""

    code = "E207"


class Unsupported(GraphProblem):
    """An operator, type or option of a foreign model that has no exact counterpart here."""

    code = "E208"


class NoKernel(TargetProblem):
    """An operator, dtype, shape or option that no kernel of the target has."""

    code = "E301"


class DoesNotFit(TargetProblem):
    """A network larger than the RAM or flash of the target, or than a limit given."""

    code = "E302"


class BadPlan(TargetProblem):
    """A memory plan that the independent checker refuses; always a fault of ours."""

    code = "E303"


class ToolMissing(ToolProblem):
    """A compiler, emulator or optional package that is not installed."""

    code = "E401"


class CompileFailed(ToolProblem):
    """The C compiler refused generated code; its first lines are quoted."""

    code = "E402"


class BadRunInput(RunProblem):
    """Input data that does not fit the network's input."""

    code = "E501"


class ChildDied(RunProblem):
    """The emulator or host process ended early."""

    code = "E502"


class ValuesDiffer(RunProblem):
    """Two executions of the same network computed different values."""

    code = "E503"


class BundleDamaged(RunProblem):
    """A deployed folder whose files are missing or not what its manifest says."""

    code = "E504"


class NotExact(TrainProblem):
    """A backend whose arithmetic fails the exactness self-test."""

    code = "E601"


class NoRange(TrainProblem):
    """A model exported, or frozen, before its ranges were ever set."""

    code = "E602"


class Diverged(TrainProblem):
    """A loss, range or statistic that is no longer a number."""

    code = "E603"


class BadCheckpoint(TrainProblem):
    """A checkpoint that does not belong to this run."""

    code = "E604"


def leaves() -> tuple[type[IsobitError], ...]:
    """Every error class that has a code, in code order."""

    def walk(cls: type[IsobitError]) -> Iterable[type[IsobitError]]:
        for sub in cls.__subclasses__():
            if sub.code:
                yield sub
            yield from walk(sub)

    return tuple(sorted(walk(IsobitError), key=lambda cls: cls.code))
