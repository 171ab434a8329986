"""Writes the .tflite files of this folder with TensorFlow's own converter: `python make.py`.

Needs TensorFlow (written with tensorflow-cpu 2.18.0 and Keras 3.15.1), which no test needs. Weights
are random: what is tested is arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

FOLDER = Path(__file__).parent


def sequence(shape: tuple[int, ...], *parts: keras.layers.Layer) -> keras.Model:
    x = first = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(first, x)


def dense_blocks() -> keras.Model:
    """Batch norms behind concatenations stay MUL and ADD; their constants end alike."""
    first = x = keras.Input((10, 10, 3))
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(3):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same")(y)])
        z = layers.BatchNormalization()(x)
        x = layers.Conv2D(4, 1)(layers.ReLU()(z))
    return keras.Model(first, layers.GlobalAveragePooling2D()(x))


def temporal() -> keras.Model:
    """Dilated convolutions in time."""
    first = x = keras.Input((24, 6))
    for dilation in (2, 4):
        y = layers.Conv1D(6, 3, padding="causal", dilation_rate=dilation, activation="relu")(x)
        y = layers.Conv1D(6, 3, padding="same", dilation_rate=dilation)(y)
        x = layers.Add()([x, y])
    x = layers.Conv1D(5, 3, dilation_rate=3)(x)
    return keras.Model(first, layers.Dense(3)(layers.Flatten()(x)))


def dilated() -> keras.Model:
    """Dilated convolutions of images, square and not, with a depthwise one."""
    return sequence(
        (13, 14, 3),
        layers.Conv2D(4, 3, padding="same", dilation_rate=2, activation="relu"),
        layers.Conv2D(5, 3, dilation_rate=3),
        layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, activation="relu6"),
        layers.Conv2D(3, 3, padding="same", dilation_rate=(1, 2)),
        layers.GlobalAveragePooling2D(),
    )


def activations() -> keras.Model:
    """ELU and the negation of a ReLU with a slope and a ceiling stay float32 in an int8 file."""
    x = first = keras.Input((6, 6, 4))
    for function in (
        layers.LeakyReLU(negative_slope=0.1),
        layers.ELU(),
        layers.PReLU(shared_axes=[1, 2]),
        layers.Activation("hard_swish"),
        layers.ReLU(negative_slope=0.2, max_value=4.0),
    ):
        x = function(layers.Conv2D(4, 3, padding="same")(x))
    return keras.Model(first, x)


def keywords() -> keras.Model:
    """Reshape and Flatten of a dynamic batch: SHAPE, STRIDED_SLICE, PACK, RESHAPE."""
    return sequence(
        (20, 10),
        layers.Reshape((20, 10, 1)),
        layers.Conv2D(8, (5, 4), 2, "same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.ReLU(),
        layers.AveragePooling2D((5, 5)),
        layers.Flatten(),
        layers.Dense(6, activation="softmax"),
    )


def regression() -> keras.Model:
    """Layers large enough for the converter to store their weights as int8."""
    return sequence((40,), layers.Dense(32, activation="relu"), layers.Dense(32))


def upsampled() -> keras.Model:
    """Keras repeats pixels with TILE, and space-to-depth folds them."""
    first = x = keras.Input((8, 8, 2))
    y = layers.Conv2D(4, 3, 2, padding="same", activation="relu")(x)
    y = layers.Conv2DTranspose(2, 3, 1, padding="same")(layers.UpSampling2D(2)(y))
    y = layers.Add()([x, y])
    return keras.Model(first, layers.Lambda(lambda t: tf.nn.space_to_depth(t, 4))(y))


def spread() -> keras.Model:
    """Mean and deviation over time: SQUARED_DIFFERENCE."""

    def moments(t: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.reduce_mean(t, 1), tf.math.reduce_std(t, 1)], -1)

    first = keras.Input((8, 6))
    return keras.Model(first, layers.Lambda(moments)(layers.Dense(6)(first)))


JOBS: tuple[tuple[str, Callable[[], keras.Model], str, bool], ...] = (
    ("dense_blocks", dense_blocks, "float", False),
    ("temporal", temporal, "int8", True),
    ("dilated", dilated, "float", True),
    ("activations", activations, "int8", False),
    ("keywords", keywords, "int8", True),
    ("hybrid", regression, "hybrid", False),
    ("upsampled", upsampled, "float", False),
    ("spread", spread, "float", True),
)
"""File, network, numbers, whether the batch is dynamic."""


def examples(shape: tuple[int, ...]) -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(12):
        yield [rng.normal(size=(1, *shape)).astype(np.float32)]


def perturb(model: keras.Model) -> None:
    """Give what starts as 0 and 1 other values."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.5, 2.0, weight.shape))
        elif "kernel" not in weight.path:
            weight.assign(weight + 0.2 * rng.normal(size=weight.shape))


def convert(model: keras.Model, numbers: str, dynamic: bool) -> bytes:
    shape = tuple(model.inputs[0].shape[1:])
    spec = tf.TensorSpec([None if dynamic else 1, *shape], tf.float32, name="x")
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(function)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if numbers != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if numbers == "int8":
        converter.representative_dataset = lambda: examples(shape)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


if __name__ == "__main__":
    for name, network, numbers, dynamic in JOBS:
        keras.utils.set_random_seed(7)
        model = network()
        perturb(model)
        (FOLDER / f"{name}.tflite").write_bytes(convert(model, numbers, dynamic))
