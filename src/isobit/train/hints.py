"""What to write instead of torch's modules and functions that no operator has.

Keys are names as errors show them, without `Tensor.` and a trailing underscore.
"""

from __future__ import annotations

from torch import nn

_SCALE = "Fold the factor into the weights of the layer before or after."
_AXIS = "Flatten with x.flatten(1), or go back to an image with x.view(x.size(0), C, 1, 1)."
_LOSS = "Return the logits and apply it in the loss: it does not change which class is largest."
_DROPOUT = "Write an nn.Dropout(p) module: whether a function acts would be frozen when tracing."
_LAYER = "Write the nn module of the same meaning in __init__; its parameters train with the rest."
_POOL = "Use nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d or x.mean((2, 3))."
_ROW = "Give the network an image of height 1 and use the 2d layer with a kernel of (1, k)."
_NORM = "Use nn.BatchNorm2d after a convolution: it folds into that layer and costs nothing."
_UP = "The chip has no kernel that enlarges an image; choose strides that keep the size needed."
_RECURRENT = "Use convolutions over time: an image (features, time, 1) and kernels of (k, 1)."
_ATTENTION = "The chip multiplies tensors elementwise only; use convolutions and nn.Linear."
_BROADCAST = "add and mul broadcast axes of size 1 by themselves: leave it out."
_RELU = "Use nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Hardswish or another layer of `isobit ops lut`."

FUNCTIONS: dict[str, str] = {
    **dict.fromkeys(
        ("neg", "negative"), "Let the layer before learn the other sign, or write a - b."
    ),
    "rsub": "Write a - b.",
    **dict.fromkeys(("truediv", "itruediv", "div", "divide", "true_divide"), _SCALE),
    **dict.fromkeys(("squeeze", "unsqueeze"), _AXIS),
    **dict.fromkeys(("log_softmax", "logsigmoid", "cross_entropy", "log"), _LOSS),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "alpha_dropout"), _DROPOUT),
    **dict.fromkeys(("conv2d", "linear", "batch_norm", "layer_norm"), _LAYER),
    **dict.fromkeys(("sum", "max", "amax", "min", "amin", "std", "var"), _POOL),
    **dict.fromkeys(("interpolate", "upsample", "pixel_shuffle"), _UP),
    **dict.fromkeys(("matmul", "bmm", "mm", "einsum", "scaled_dot_product_attention"), _ATTENTION),
    **dict.fromkeys(("expand", "expand_as", "repeat", "broadcast_to"), _BROADCAST),
    **dict.fromkeys(("prelu", "rrelu", "glu"), _RELU),
    **dict.fromkeys(("argmax", "topk", "argsort"), "Return the logits and choose outside."),
    **dict.fromkeys(("to", "float", "half", "double", "type"), "Leave it out: codes are int8."),
    **dict.fromkeys(("detach", "item", "numpy", "cpu", "cuda"), "Leave it out of forward."),
    **dict.fromkeys(
        ("max_pool2d_with_indices", "adaptive_max_pool2d_with_indices"),
        "Leave out return_indices: the chip keeps the largest values only.",
    ),
    "pow": "Write x * x for a square.",
    "square": "Write x * x.",
    "sqrt": "Choose an activation of `isobit ops lut`.",
    "abs": "Write torch.relu(x) in two branches, or choose an activation of `isobit ops lut`.",
    "instance_norm": _NORM,
    "group_norm": _NORM,
}

MODULES: dict[str, str] = {
    **dict.fromkeys(("Conv1d", "MaxPool1d", "AvgPool1d", "AdaptiveAvgPool1d"), _ROW),
    **dict.fromkeys(
        ("LayerNorm", "GroupNorm", "InstanceNorm2d", "SyncBatchNorm", "RMSNorm"), _NORM
    ),
    **dict.fromkeys(
        ("ConvTranspose2d", "Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"), _UP
    ),
    **dict.fromkeys(("RNN", "LSTM", "GRU", "LSTMCell", "GRUCell"), _RECURRENT),
    **dict.fromkeys(("MultiheadAttention", "TransformerEncoderLayer", "Bilinear"), _ATTENTION),
    **dict.fromkeys(("PReLU", "RReLU", "GLU"), _RELU),
    **dict.fromkeys(("LogSoftmax", "LogSigmoid"), _LOSS),
    "Dropout1d": "Use nn.Dropout.",
    "Dropout3d": "Use nn.Dropout.",
    "FeatureAlphaDropout": "Use nn.AlphaDropout.",
    "ReflectionPad2d": "Use nn.ZeroPad2d.",
    "ReplicationPad2d": "Use nn.ZeroPad2d.",
}


def function_hint(shown: str) -> str:
    """Return how to do without a function or tensor method, "" where there is no short answer."""
    name = shown.rpartition(".")[2]
    return FUNCTIONS.get(name, FUNCTIONS.get(name.rstrip("_"), ""))


def module_hint(module: nn.Module) -> str:
    """Return how to do without a layer, "" where there is no short answer."""
    found = (MODULES[cls.__name__] for cls in type(module).__mro__ if cls.__name__ in MODULES)
    return next(found, "")
