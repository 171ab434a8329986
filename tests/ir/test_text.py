"""Print and parse are inverse, and a text that is not one of ours is refused as data, never by
accident.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobit.core.dtypes import DType
from isobit.core.errors import BadGraph, IsobitError, TextSyntax
from isobit.core.types import Affine, Encoding, Pow2, Raw, Real, TensorType
from isobit.ir.graph import Const, Graph, Stage, Value
from isobit.ir.text import parse_graph, print_graph, print_type, scale_tensors
from isobit.ops.registry import load_ops

from . import graphs

SIGNATURE = load_ops().signature


def tensors(graph: Graph) -> dict[str, np.ndarray]:
    return {c.name: c.data for c in graph.consts} | scale_tensors(graph)


def again(graph: Graph) -> Graph:
    return parse_graph(print_graph(graph), tensors(graph), SIGNATURE)


@pytest.mark.parametrize("graph", [graphs.rich(), graphs.floating()], ids=["rich", "float"])
def test_text_round_trips(graph: Graph) -> None:
    parsed = again(graph)
    assert parsed == graph
    assert [n.location for n in parsed.nodes] == [n.location for n in graph.nodes]
    assert print_graph(parsed) == print_graph(graph)


def test_text_is_what_the_documentation_shows() -> None:
    lines = print_graph(graphs.rich()).splitlines()
    assert lines[0] == "isobit 1  stage=int  net=kws  target=cortex-m4"
    assert lines[1] == "input  %x : s8[1,4,5,2] affine(0x1.8100000000000p-5,-1)"
    assert lines[2].startswith('const  %w0 : s8[6,3,3,2] affine(%w0.scale,0,axis=0)  "stem.w" sha=')
    assert (
        lines[8] == "state  %memory : s8[1,4,5,6] affine(0x1.999999999999ap-4,7) reset=%p next=%r"
    )
    assert lines[10] == (
        "%c = conv2d(%x, %w0, %b0; mult=%m0, shift=%s0) pad=(1,1,1,1) clamp=(-100,127) "
        "round=tflite_double : s8[1,4,5,6] affine(0x1.999999999999ap-4,7)  # a folder/kws.py:41"
    )
    assert lines[12].startswith("%j = concat([%r, %l]) axis=3 : ")
    assert lines[-1] == "output %out, %l"


SHAPES = st.lists(st.integers(0, 300), max_size=5).map(tuple)
SCALES = st.floats(1e-30, 1e30)


def encodings(size: int) -> st.SearchStrategy[Encoding]:
    """Every encoding; per channel along axis 0."""
    per_tensor = [
        st.just(Real()),
        st.just(Raw()),
        st.builds(lambda s, z: Affine((s,), z), SCALES, st.integers(-(2**31), 2**31)),
        st.builds(lambda f: Pow2((f,)), st.integers(-60, 60)),
    ]
    many = st.lists(SCALES, min_size=size, max_size=size).map(lambda s: Affine(tuple(s), 0, 0))
    fracs = st.lists(st.integers(-60, 60), min_size=size, max_size=size).map(
        lambda f: Pow2(tuple(f), 0)
    )
    return st.one_of(*per_tensor, many, fracs)


@given(st.data(), st.sampled_from(DType), st.integers(1, 5), SHAPES)
def test_every_type_round_trips(
    data: st.DataObject, dtype: DType, size: int, rest: tuple[int, ...]
) -> None:
    kind = TensorType((size, *rest[:2]), dtype, data.draw(encodings(size)))
    const = Const(
        "c", kind, np.zeros(kind.shape), data.draw(st.sampled_from(["", "a.b", "x y", "ü"]))
    )
    graph = replace(graphs.floating(), consts=(const,), nodes=(), outputs=("x",))
    assert again(graph) == graph


def test_print_type_of_a_scalar() -> None:
    assert print_type(TensorType((), DType.S32, Raw())) == "s32[] raw"


def parse(text: str) -> Graph:
    return parse_graph(text, tensors(graphs.rich()), SIGNATURE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("isobit 1", "isobit 2"),
        ("stage=int", "stage=third"),
        ("affine(0x1.8100000000000p-5,-1)", "affine(0x1p+99999,-1)"),
        ("affine(0x1.8100000000000p-5,-1)", "affine(one,-1)"),
        ("s8[1,4,5,2]", "s9[1,4,5,2]"),
        ("s8[1,4,5,2]", "s8(1,4,5,2)"),
        ("conv2d(%x, %w0, %b0;", "conv2d(%x, %w0;"),
        ("conv2d(%x, %w0, %b0;", "conv2d(x, %w0, %b0;"),
        ("mult=%m0", "times=%m0"),
        ("pad=(1,1,1,1)", "pad=(1,1,1,1"),
        ("pad=(1,1,1,1)", "pad=1,1)"),
        ("pad=(1,1,1,1)", "pad=()()"),
        ("pad=(1,1,1,1)", "pads=(1,1,1,1)"),
        ("round=tflite_double", "round=up"),
        ("axis=3", ""),
        ("low=0x0.0p+0", "low=0x1p99999"),
        ("sha=", "hash="),
        ("%w0.scale,0,axis=0", "%w0.scale,0,axis=x"),
    ],
)
def test_a_wrong_line_is_named(old: str, new: str) -> None:
    text = print_graph(graphs.rich())
    assert old in text
    number = text[: text.index(old)].count("\n") + 1
    with pytest.raises(TextSyntax, match=rf"E201 line {number}: "):
        parse(text.replace(old, new, 1))


def test_an_unknown_operator_lists_what_there_is() -> None:
    with pytest.raises(IsobitError, match="one of add"):
        parse(print_graph(graphs.rich()).replace("= conv2d(", "= conv9d("))


def test_all_wrong_lines_are_named_at_once() -> None:
    text = (
        print_graph(graphs.rich())
        .replace("input  %x :", "input  x :")
        .replace("axis=3", "axis=three")
    )
    with pytest.raises(IsobitError) as caught:
        parse(text)
    assert [p.where for p in caught.value.problems] == ["line 2", "line 12", "line 13"]


def test_a_truncated_text_says_so() -> None:
    text = print_graph(graphs.rich())
    with pytest.raises(TextSyntax, match="a final `output` line"):
        parse(text[: text.index("output")])
    for empty in ("", "\n\n"):
        with pytest.raises(TextSyntax):
            parse(empty)


def test_constants_must_be_there_and_the_right_ones() -> None:
    graph = graphs.rich()
    text, own = print_graph(graph), tensors(graph)
    for name, data, words in (
        ("w0", None, "data: want a tensor of shape"),
        ("w0", own["w0"].astype(np.int16), "want int8"),
        ("w0", own["w0"][:5], "want int8"),
        ("w0", own["w0"] ^ 1, "SHA-256"),
    ):
        changed = {**own, name: data}
        if data is None:
            del changed[name]
        with pytest.raises(BadGraph, match=words):
            parse_graph(text, changed, SIGNATURE)
    del own["w0.scale"]
    with pytest.raises(TextSyntax, match="line 3"):
        parse_graph(text, own, SIGNATURE)


def test_a_mutated_text_never_fails_by_accident() -> None:
    rng = np.random.default_rng(7)
    graph = graphs.rich()
    text, own = print_graph(graph), tensors(graph)
    alphabet = list('%()[],:;=# \n"-_.axs0179p')
    for _ in range(3000):
        letters = list(text)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(letters)))
            match rng.integers(4):
                case 0:
                    letters[at] = str(rng.choice(alphabet))
                case 1:
                    del letters[at : at + int(rng.integers(1, 9))]
                case 2:
                    letters.insert(at, str(rng.choice(alphabet)))
                case 3:
                    start = int(rng.integers(len(letters)))
                    letters[at:at] = letters[start : start + 12]
        changed = "".join(letters)
        try:
            parse_graph(changed, own, SIGNATURE)
        except IsobitError:
            continue


def test_a_graph_without_nodes_round_trips() -> None:
    x = TensorType((1, 3), DType.U8, Affine((1.0,), 0))
    graph = Graph(name="n", stage=Stage.INT, inputs=(Value("x", x),), nodes=(), outputs=("x",))
    assert again(graph) == graph
