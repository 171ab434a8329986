"""Layers to compose networks from. Written by tools/write_nn_stub.py."""

# ruff: noqa: I001, RUF022

from isobit.ops.dynamic_conv2d.torch_module import DynamicConv2d as DynamicConv2d
from isobit.ops.dynamic_linear.torch_module import DynamicLinear as DynamicLinear
from isobit.ops.mean_image.torch_module import MeanImage as MeanImage
from isobit.ops.per_image_standardize.torch_module import PerImageStandardize as PerImageStandardize
from isobit.ops.standardize.torch_module import Standardize as Standardize
from torch.nn import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from torch.nn import AdaptiveMaxPool2d as AdaptiveMaxPool2d
from torch.nn import AlphaDropout as AlphaDropout
from torch.nn import AvgPool2d as AvgPool2d
from torch.nn import BatchNorm1d as BatchNorm1d
from torch.nn import BatchNorm2d as BatchNorm2d
from torch.nn import CELU as CELU
from torch.nn import ConstantPad2d as ConstantPad2d
from torch.nn import Conv2d as Conv2d
from torch.nn import Dropout as Dropout
from torch.nn import Dropout2d as Dropout2d
from torch.nn import ELU as ELU
from torch.nn import Flatten as Flatten
from torch.nn import GELU as GELU
from torch.nn import Hardsigmoid as Hardsigmoid
from torch.nn import Hardswish as Hardswish
from torch.nn import Hardtanh as Hardtanh
from torch.nn import Identity as Identity
from torch.nn import LeakyReLU as LeakyReLU
from torch.nn import Linear as Linear
from torch.nn import MaxPool2d as MaxPool2d
from torch.nn import Mish as Mish
from torch.nn import Module as Module
from torch.nn import ModuleDict as ModuleDict
from torch.nn import ModuleList as ModuleList
from torch.nn import ReLU as ReLU
from torch.nn import ReLU6 as ReLU6
from torch.nn import SELU as SELU
from torch.nn import Sequential as Sequential
from torch.nn import SiLU as SiLU
from torch.nn import Sigmoid as Sigmoid
from torch.nn import Softmax as Softmax
from torch.nn import Softplus as Softplus
from torch.nn import Softsign as Softsign
from torch.nn import Tanh as Tanh
from torch.nn import Unflatten as Unflatten
from torch.nn import ZeroPad2d as ZeroPad2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AlphaDropout",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "CELU",
    "ConstantPad2d",
    "Conv2d",
    "Dropout",
    "Dropout2d",
    "DynamicConv2d",
    "DynamicLinear",
    "ELU",
    "Flatten",
    "GELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MeanImage",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "PerImageStandardize",
    "ReLU",
    "ReLU6",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Standardize",
    "Tanh",
    "Unflatten",
    "ZeroPad2d",
]
