"""Operators of TFLite that nothing here has a rule for: how they are refused."""

from __future__ import annotations

from isobit.core.errors import Unsupported

EMBEDDING = "Of an Embedding: look the rows up before the network, which then starts there."
NEAREST: dict[str, str] = {
    "ARG_MAX": "End the network before it and take the largest output code: its order is the same.",
    "BATCH_MATMUL": "With a constant operand it is FULLY_CONNECTED; attention has no counterpart.",
    "BATCH_TO_SPACE_ND": "Only around a convolution of stride 1, whose dilation it then is.",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "Use two UNIDIRECTIONAL_SEQUENCE_LSTM, or unroll the loop.",
    "CALL_ONCE": "Freeze the variables when you convert.",
    "CAST": "Convert the model with integer inputs.",
    "DIV": "By a constant it is MUL by the inverse; of two activations it has no counterpart.",
    "EMBEDDING_LOOKUP": EMBEDDING,
    "IF": "Convert with the branch that is taken.",
    "LESS": EMBEDDING,
    "LOG_SOFTMAX": "End the network at the scores before it: the order of the classes is the same.",
    "SELECT": EMBEDDING,
    "SELECT_V2": EMBEDDING,
    "SHAPE": "Convert the model with a fixed input shape; shapes then fold into constants.",
    "SPACE_TO_BATCH_ND": "Only around a convolution of stride 1, whose dilation it then is.",
    "TOPK_V2": "End the network before it and sort the outputs: codes have the order of reals.",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "Use UNIDIRECTIONAL_SEQUENCE_LSTM or SVDF.",
    "WHILE": "Unroll the loop when you convert (in Keras, unroll=True of the layer).",
}
"""The closest thing that can be imported."""


def unknown(where: str, code: str) -> Unsupported:
    """Return the refusal of an operator without a rule."""
    return Unsupported(
        where=where,
        what="operator",
        want="one of `isobit ops --source tflite`",
        got=code,
        fix=NEAREST.get(code, "Rewrite it with supported operators."),
    )
