"""ONNX's Resize: which scale is meant, by sizes with a policy and by scales of some axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from isobit.core.errors import Unsupported
from isobit.importers.onnx import read

from .onnx_cases.base import Given, single
from .test_onnx_ops import hold

IMAGE = (1, 3, 10, 12)
FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("policy", "sizes", "shape"),
    [
        ("not_larger", [30, 50], (30, 36)),
        ("not_larger", [5, 7], (5, 6)),
        ("not_smaller", [20, 20], (20, 24)),
        ("stretch", [20, 36], (20, 36)),
    ],
)
def test_one_scale_of_all_axes(
    policy: str, sizes: list[int], shape: tuple[int, int], mode: str, tmp_path: Path
) -> None:
    given: list[Given] = [IMAGE, None, None, np.asarray(sizes)]
    options = {"mode": mode, "axes": [2, 3], **(FLOOR if mode == "nearest" else {})}
    case = single("Resize", policy, given, opset=18, keep_aspect_ratio_policy=policy, **options)
    graph = hold(case, 3, tmp_path).graph
    assert graph.type_map()[graph.outputs[0]].shape == (1, *shape, 3)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("what", ["policy", "scales"])
def test_a_scale_that_is_not_the_quotient_of_sizes_is_refused(
    what: str, mode: str, tmp_path: Path
) -> None:
    options = {"mode": mode, "axes": [2, 3], **(FLOOR if mode == "nearest" else {})}
    if what == "policy":  # 20 / 12, so that 10 rows become 17
        options["keep_aspect_ratio_policy"] = "not_larger"
        case = single(
            "Resize", what, [IMAGE, None, None, np.asarray([20, 20])], opset=18, **options
        )
    else:
        scales = np.asarray([1.7, 1.7], np.float32)
        case = single("Resize", what, [IMAGE, None, scales], opset=18, **options)
    (tmp_path / "case.onnx").write_bytes(case.blob)
    with pytest.raises(Unsupported, match="coordinates"):
        read(tmp_path / "case.onnx")
