"""Names of ONNX operators that the reading of files depends on."""

from __future__ import annotations

RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"}
    | {"Bernoulli", "DynamicQuantizeLinear"}
)
"""Never computed here."""
MICROSOFT = "com.microsoft"
QLINEAR: dict[str, tuple[str, tuple[int, ...], int]] = {
    "QLinearConv": ("Conv", (0, 3), 6),
    "QLinearMatMul": ("MatMul", (0, 3), 6),
    "QGemm": ("Gemm", (0, 3), 7),
    "QLinearAdd": ("Add", (0, 3), 6),
    "QLinearMul": ("Mul", (0, 3), 6),
    "QLinearSigmoid": ("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": ("LeakyRelu", (0,), 3),
    "QLinearSoftmax": ("Softmax", (0,), 3),
    "QLinearAveragePool": ("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 3),
    "QLinearConcat": ("Concat", (), 0),
}
"""Operators on codes: the float operator they are defined by, where the operands stand, each
followed by its scale and zero point, and where the scale of the result stands.
"""
INTEGER = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


def operands(code: str, inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the operands of an operator on codes, without scales and zero points."""
    if code == "QLinearConcat":
        return inputs[2::3]
    found = tuple(inputs[i] for i in QLINEAR[code][1])
    bias = {"QLinearConv": 8, "QGemm": 6}.get(code, len(inputs))
    return (*found, *inputs[bias : bias + 1])
