"""What generated C must look like, whatever the network."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from isobit import targets
from isobit.codegen.network import Constant, Network, _constant, generate
from isobit.core.dtypes import DType
from isobit.core.types import Pow2, Raw, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.base import Packed
from isobit.plan.plan import make_plan

COLUMNS = 100


def layout_problems(network: Network) -> Iterator[str]:
    """Yield lines of code that are too long or indented by anything but steps of four columns."""
    for name, text in network.files.items():
        for number, line in enumerate(text.splitlines(), start=1):
            indent = len(line) - len(line.lstrip(" "))
            # Comments quote the graph, and data has one line per structure.
            quoted = name.endswith(".h") or line.lstrip().startswith(("/*", "#"))
            if indent % 4 and not quoted:
                yield f"{name}:{number}: indented by {indent}: {line[:60]}"
            if len(line) > COLUMNS and not quoted:
                yield f"{name}:{number}: {len(line)} columns: {line[:60]}"


def literal_problems() -> Iterator[str]:
    """Yield integers and floats whose C literal is another number, or not of type int."""
    numbers = sorted({s * (2**k + d) for k in range(32) for d in (-1, 0, 1) for s in (-1, 1)})
    numbers = [n for n in numbers if -(2**31) <= n < 2**31]
    words = _words(np.asarray(numbers, dtype=np.int32))
    for number, word in zip(numbers, words, strict=True):
        # C has no negative literals: -2147483648 is minus a number that is no int.
        want = "INT32_MIN" if number == -(2**31) else str(number)
        if word != want:
            yield f"{number} is written {word}"
    floats = np.asarray([0.0, -0.0, 0.1, -1.5e-30, 3.4e38, 1e-45], dtype=np.float32)
    for value, word in zip(floats, _words(floats), strict=True):
        if np.float32(float.fromhex(word.removesuffix("f"))).tobytes() != value.tobytes():
            yield f"{value} is written {word}"


def symbol_problems() -> Iterator[str]:
    """Yield symbols defined twice for nodes that C calls alike, and alignments that say nothing.

    Two sums `a.b` and `a_b`, each with a constant operand of its own.
    """
    kind = TensorType((1, 8), DType.S8, Pow2((5,)))
    one = Const("one", TensorType((1,), DType.S32, Raw()), np.ones(1, dtype=np.int32))
    codes = np.arange(8, dtype=np.int8).reshape(1, 8)
    factors = {"mult_a": "one", "mult_b": "one", "shift": "one"}
    graph = Graph(
        name="alike",
        stage=Stage.INT,
        inputs=(Value("x", kind),),
        consts=(one, Const("k", kind, codes), Const("l", kind, codes + np.int8(1))),
        nodes=tuple(
            Node("add", AddInputs(a, b, **factors), AddAttrs(), (Value(name, kind),))
            for name, a, b in (("a.b", "x", "k"), ("a_b", "a.b", "l"))
        ),
        outputs=("a_b",),
    )
    network = generate(make_plan(graph, targets.load("host")), "")
    symbols = [constant.symbol for constant in network.constants]
    yield from (f"{name} is defined twice" for name in symbols if symbols.count(name) > 1)
    for text in network.files.values():
        yield from re.findall(r".*ISOBIT_ALIGNED\([01]\).*", text)


def _words(data: np.ndarray) -> list[str]:
    text = _constant(Constant("c", "n", Packed("c", data)))
    return re.findall(r"[^\s,{}]+(?=,)", text.split("{", 1)[1])
