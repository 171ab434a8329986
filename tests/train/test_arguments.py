"""Wrong arguments: one error that names each of them, before anything is computed or written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import isobit
from isobit import nn, targets
from isobit.api.bundle import open_bundle
from isobit.api.demo import build_model, confusion_matrix, run_demo
from isobit.api.deployment import write_bundle
from isobit.api.explain import explain
from isobit.api.reporting import bundle_report, record_training
from isobit.core.errors import BadArgument, BadRunInput, IsobitError, NotTraceable, SeveralProblems
from isobit.ops.schemes import Scheme
from isobit.plan.plan import Optimize
from isobit.run.estimate import estimate
from isobit.train.cost import measure
from isobit.train.fit import COSINE, accuracy, fit, predict, seed_weights
from isobit.train.plan import Plan
from isobit.train.ranges import RangeMethod, RangeOptions
from isobit.train.recipe import Optimizer, Run

from .nets import digits, make_twin, take_steps, trained_twin

X, Y = digits(32)
ZEROS = torch.zeros(0, dtype=torch.int64)


def model(scheme: str = "affine") -> isobit.Model:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 10))
    return isobit.Model(net, input=(1, 8, 8), scheme=scheme, name="small")


@pytest.fixture(scope="module")
def ready() -> isobit.Model:
    one = model()
    one.calibrate(X)
    return one.eval()


@pytest.fixture(scope="module")
def bundle(ready: isobit.Model, tmp_path_factory: pytest.TempPathFactory) -> isobit.Bundle:
    return ready.deploy(tmp_path_factory.mktemp("arguments") / "small", samples=X[:2])


def refused(call: Callable[[], object], what: str, want: str, got: str) -> None:
    """Assert that a call raises one problem with these three parts."""
    with pytest.raises(IsobitError) as caught:
        call()
    (problem,) = caught.value.problems
    assert isinstance(caught.value, BadArgument | BadRunInput), problem
    assert problem.what == what and want in problem.want and got in problem.got, str(problem)
    assert problem.fix


AT_LEAST_1 = "an integer of at least 1"
AT_LEAST_0 = "an integer of at least 0"


@pytest.mark.parametrize(
    ("name", "value", "want", "got"),
    [
        *(("epochs", v, AT_LEAST_1, repr(v)) for v in (None, 1.5, "3", True, 0, -1)),
        *(("batch_size", v, AT_LEAST_1, repr(v)) for v in (None, 0, 2.0)),
        *(
            ("learning_rate", v, "above 0 and at most 1e+06", repr(v))
            for v in (None, -1, 0, float("nan"), float("inf"), 1e38, "x", True)
        ),
        *(("weight_decay", v, "a finite number at least 0", repr(v)) for v in (-1, None, 1e38)),
        *(("seed", v, "an integer in 0..2147483647", repr(v)) for v in (None, -1, 0.5, 2**31)),
        *(("patience", v, AT_LEAST_0, repr(v)) for v in (-1, None)),
        *(("freeze_epochs", v, AT_LEAST_0, repr(v)) for v in (-1, None, "1")),
        *(("out", v, "a path", repr(v)) for v in (3, "", b"x", "a\0b")),
        ("resume", 3, "a path", "3"),
        ("progress", 3, "a function or None", "3"),
    ],
)
def test_options_of_fit(name: str, value: Any, want: str, got: str) -> None:
    options = {"epochs": 1, name: value}
    refused(lambda: fit(model(), (X, Y), (X, Y), **options), name, want, got)


@pytest.mark.parametrize(
    ("train", "want", "got"),
    [
        (None, "a Dataset, or a pair (x, y)", "None"),
        ((X,), "a Dataset, or a pair (x, y)", "Tensor"),
        ((None, Y), "x a tensor or NumPy array", "None"),
        ((X.to(torch.complex64), Y), "of real numbers", "complex64 [32, 1, 8, 8]"),
        ((np.full((32, 1, 8, 8), "a"), Y), "of real numbers", "ndarray of <U1"),
        ((X[:0], Y[:0]), "at least 1 example", "none"),
        ((X[:, 0], Y), "x [N, 1, 8, 8]", "[32, 8, 8]"),
        ((X / 0 - X / 0, Y), "finite numbers", "2048 that are NaN or infinite"),
        ((X, Y[:5]), "one label for every example", "32 examples, 5 labels"),
        ((X, Y.float()), "class numbers, integers", "torch.float32 [32]"),
        ((X, Y.bool()), "class numbers, integers", "torch.bool [32]"),
        ((X, Y[:, None]), "y a tensor or NumPy array [N]", "torch.int64 [32, 1]"),
        ((X, Y.numpy().astype(np.float64)), "class numbers, integers", "ndarray of float64 [32]"),
        ((X, list(range(32))), "y a tensor or NumPy array", "[0, 1, 2"),
        ((X, Y - 1), "labels from 0", "-1..8"),
        ((X, Y + 1), "labels in 0..9: the model has 10 outputs", "1..10"),
    ],
)
@pytest.mark.parametrize("which", ["train", "val"])
def test_examples_of_fit(which: str, train: Any, want: str, got: str) -> None:
    data = {"train": (X, Y), "val": (X, Y), which: train}
    one = model()
    before = {key: value.clone() for key, value in one.state_dict().items()}
    refused(lambda: fit(one, **data, epochs=1), which, want, got)
    assert all(torch.equal(value, before[key]) for key, value in one.state_dict().items())
    assert one.training


def test_labels_are_checked_for_the_float_network_too() -> None:
    net = model().net
    refused(lambda: fit(net, (X, Y), (X, Y + 1), epochs=1), "val", "0..9", "1..10")
    assert int(net[1].num_batches_tracked) == 0 and net[1].training


def test_models_that_fit_cannot_train() -> None:
    image = isobit.Model(nn.Sequential(nn.Conv2d(1, 2, 3)), input=(1, 8, 8))
    refused(
        lambda: fit(image, (X, Y), (X, Y), epochs=1), "output of model", "[N, classes]", "[N, 6, 6"
    )
    still = model().requires_grad_(False)
    refused(lambda: fit(still, (X, Y), (X, Y), epochs=1), "model", "parameters", "none")
    refused(lambda: fit(None, (X, Y), (X, Y), epochs=1), "model", "module", "None")  # type: ignore[arg-type]


def test_all_wrong_arguments_come_in_one_error(tmp_path: Path) -> None:
    with pytest.raises(SeveralProblems) as caught:
        fit(model(), (X, Y - 1), None, epochs=0, seed=None, out=tmp_path / "run")  # type: ignore[arg-type]
    assert [p.what for p in caught.value.problems] == ["epochs", "seed", "train", "val"]
    assert not (tmp_path / "run").exists()


def test_numpy_arrays_and_numbers_train_to_the_same_bits() -> None:
    first, second = model(), model()
    fit(first, (X, Y), (X, Y), epochs=2, batch_size=16)
    arrays = (X.numpy().astype(np.float64), Y.numpy().astype(np.uint8))
    fit(second, arrays, arrays, epochs=np.int64(2), batch_size=np.int32(16))  # type: ignore[arg-type]
    state = second.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_fit_gives_back_whether_the_model_is_frozen(scheme: str, before: bool) -> None:
    one = model(scheme)
    if before:
        one.calibrate(X)
        one.freeze()
    seen: list[bool] = []
    history = fit(
        one,
        (X, Y),
        (X, Y),
        epochs=2,
        batch_size=16,
        progress=lambda *_: seen.append(one.frozen),
    )
    assert one.frozen is before and not one.training
    assert seen == [False, False, True, True], "the last epoch trains what is exported"
    text = str(one.export())
    assert accuracy(one, (X, Y)) == history.epochs[-1].val_accuracy
    one(X * 3)
    assert str(one.export()) == text, "a call right after fit changes nothing"
    one.train()
    one(X * 3)
    assert (str(one.export()) == text) is before, "the user's own loop goes on as it was"


def test_fit_gives_back_whether_the_model_is_frozen_when_it_is_stopped() -> None:
    one = model()

    def stop(epoch: int, *_: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(one, (X, Y), (X, Y), epochs=2, progress=stop)
    assert not one.frozen


@pytest.mark.parametrize("method", ["forward", "calibrate", "trace", "quantize_input"])
@pytest.mark.parametrize(
    ("x", "what", "want", "got"),
    [
        (None, "input", "a tensor or NumPy array", "None"),
        (3.5, "input", "a tensor or NumPy array", "3.5"),
        (X.tolist()[0][0], "input", "a tensor or NumPy array", "["),
        (np.array(["a"]), "input", "of real numbers", "ndarray of <U1 [1]"),
        (X.to(torch.complex64), "input", "of real numbers", "torch.complex64"),
        (X.to_sparse(), "input", "of real numbers", "Tensor of torch.float32"),
        (X[:0], "input", "at least 1 example", "none"),
        (X[0], "input shape", "[N, 1, 8, 8]", "[1, 8, 8]"),
        (X[0, 0, 0, 0], "input shape", "[N, 1, 8, 8]", "[]"),
        (X.permute(0, 2, 3, 1), "input shape", "[N, 1, 8, 8]", "[32, 8, 8, 1]"),
        (X.to("meta"), "input device", "cpu", "meta"),
        (X.double() * 1e300, "input values", "finite", "NaN or infinite"),
    ],
)
def test_inputs_of_a_model(
    ready: isobit.Model, method: str, x: Any, what: str, want: str, got: str
) -> None:
    before = {key: value.clone() for key, value in ready.state_dict().items()}
    refused(lambda: getattr(ready, method)(x), what, want, got)
    assert all(torch.equal(value, before[key]) for key, value in ready.state_dict().items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, ">f4"])
def test_arrays_are_taken_for_tensors(ready: isobit.Model, dtype: Any) -> None:
    array = X.numpy().astype(dtype)
    array.flags.writeable = False
    assert torch.equal(ready(array), ready(X))
    assert torch.equal(ready(torch.from_numpy(X.numpy().astype(np.uint8))), ready(X))
    assert torch.equal(predict(ready, array[::-1]), predict(ready, X.flip(0)))
    assert np.array_equal(ready.quantize_input(array), ready.quantize_input(X))


def test_predict_and_accuracy(ready: isobit.Model) -> None:
    refused(lambda: predict(ready, X, 0), "batch_size", AT_LEAST_1, "0")
    refused(lambda: predict(ready, X[:0]), "x", "N > 0", "[0, 1, 8, 8]")
    refused(lambda: predict(ready, None), "x", "a tensor or NumPy array", "None")  # type: ignore[arg-type]
    refused(lambda: accuracy(ready, (X, Y[:3])), "examples", "one label", "3 labels")
    refused(lambda: accuracy(ready, (X, Y + 90)), "examples", "0..9", "90..99")
    refused(lambda: seed_weights(-1), "seed", "0..2147483647", "-1")
    adam = Optimizer(name="adam", learning_rate=1e-3)
    plan = Plan(run=Run(epochs=1, batch_size=8), optimizer=adam, schedule=COSINE)
    refused(lambda: measure(ready, (X, Y), plan, steps=0), "steps", AT_LEAST_1, "0")
    refused(lambda: measure(ready, (X, Y[:3]), plan), "train", "one label", "3 labels")


@pytest.mark.parametrize(
    ("name", "value", "want", "got"),
    [
        *((n, v, AT_LEAST_1, repr(v)) for n in ("observe_every", "update_every") for v in (0, 1.5)),
        *(("momentum", v, "above 0 and at most 1", repr(v)) for v in (-3, 0, 1.5, None, "0.1")),
        *(("tail", v, "above 0 and below 0.5", repr(v)) for v in (0, 0.5, float("nan"))),
        *(("method", v, "minmax or percentile or mse", repr(v)) for v in ("MSE", None, 3)),
    ],
)
def test_range_options(name: str, value: Any, want: str, got: str) -> None:
    refused(lambda: RangeOptions(**{name: value}), name, want, got)


def test_range_options_take_a_method_by_its_name() -> None:
    options = RangeOptions(method="mse", momentum=np.float64(1), tail=0.01)
    assert options == RangeOptions(method=RangeMethod.MSE, momentum=1.0, tail=0.01)
    assert options.method is RangeMethod.MSE
    with pytest.raises(FrozenInstanceError):
        options.momentum = 0.5  # type: ignore[misc]
    with pytest.raises(SeveralProblems):
        RangeOptions(momentum=2, tail=2)


OPTIONS = [
    *(("optimize", v, "speed or balanced or ram or flash", repr(v)) for v in ("fast", None, 1)),
    *(("compiler", v, "'zig' or 'gcc'", repr(v)) for v in ("clang", None, "")),
    *(
        (limit, v, AT_LEAST_1, repr(v))
        for limit in ("ram_limit", "flash_limit")
        for v in ("3K", -1, 0, 1.5, True)
    ),
]


@pytest.mark.parametrize(("name", "value", "want", "got"), OPTIONS)
def test_options_of_estimate_and_deploy(
    ready: isobit.Model, tmp_path: Path, name: str, value: Any, want: str, got: str
) -> None:
    option = {name: value}
    graph, target, out = ready.export(), ready.target, tmp_path / "out"
    for call in (
        lambda: ready.estimate(compile=False, **option),
        lambda: estimate(graph, target, compile=False, **option),
        lambda: ready.deploy(out, **option),
        lambda: write_bundle(graph, target, out, **option),
    ):
        refused(call, name, want, got)
    assert not out.exists()


def test_other_arguments_of_a_model(ready: isobit.Model) -> None:
    refused(lambda: ready.estimate(compile="no"), "compile", "True or False", "'no'")  # type: ignore[arg-type]
    refused(lambda: ready.estimate(target=3), "target", "a string", "3")  # type: ignore[arg-type]
    refused(lambda: ready.deploy(None), "out", "a path", "None")  # type: ignore[arg-type]
    refused(lambda: ready.save(3), "path", "a path", "3")  # type: ignore[arg-type]
    refused(lambda: ready.restore(None), "path", "a path", "None")  # type: ignore[arg-type]
    refused(lambda: ready.freeze("yes"), "frozen", "True or False", "'yes'")  # type: ignore[arg-type]
    refused(lambda: ready.export(untrained=1), "untrained", "True or False", "1")  # type: ignore[arg-type]
    refused(lambda: ready.trace_codes(X.numpy()), "input array", "int8[N, 8, 8, 1]", "float32")
    assert ready.estimate(compile=False, optimize=Optimize.RAM).arena_bytes > 0  # type: ignore[arg-type]
    with pytest.raises(IsobitError, match="E104"):
        ready.estimate(compile=False, target="cortex-m99")


def test_all_arguments_of_a_new_model_at_once() -> None:
    with pytest.raises(SeveralProblems) as caught:
        isobit.Model(None, input=4, target="z80", scheme="int8", name="a b", ranges=3)  # type: ignore[arg-type]
    found = [p.what for p in caught.value.problems]
    assert found == ["net", "scheme", "input", "name", "ranges", "no such core or board"]


def test_samples_may_require_a_gradient(ready: isobit.Model, tmp_path: Path) -> None:
    bundle = ready.deploy(tmp_path / "out", samples=X[:2].clone().requires_grad_())
    again = ready.deploy(tmp_path / "again", samples=X[:2].numpy())
    assert np.array_equal(bundle.golden_inputs(), again.golden_inputs())  # type: ignore[arg-type]
    refused(lambda: ready.deploy(tmp_path / "bad", samples="x"), "input", "tensor", "'x'")  # type: ignore[arg-type]
    assert not (tmp_path / "bad").exists()


def test_arguments_of_a_bundle(bundle: isobit.Bundle) -> None:
    codes = bundle.golden_inputs()
    before = (bundle.path / "manifest.json").read_bytes()
    for run in (bundle.run, bundle.verify):
        refused(lambda run=run: run(codes, compiler="clang"), "compiler", "'zig'", "'clang'")  # type: ignore[misc]
        refused(lambda run=run: run(X), "input array", "int8[N, 8, 8, 1]", "float32")  # type: ignore[misc]
        refused(lambda run=run: run(codes[:0]), "input array", "int8", "int8[0, 8")  # type: ignore[misc]
    grad = X.clone().requires_grad_()
    refused(lambda: bundle.run(grad), "input array", "int8", "no array")  # type: ignore[arg-type]
    refused(lambda: bundle.run(None), "input array", "int8", "object")  # type: ignore[arg-type]
    refused(lambda: bundle.run(codes, 3), "on", "a string", "3")  # type: ignore[arg-type]
    refused(lambda: bundle.run(codes, ""), "on", "a string", "''")
    refused(lambda: bundle.run(codes, trace=1), "trace", "True or False", "1")  # type: ignore[arg-type]
    refused(lambda: bundle.verify(on=3), "on", "names of targets", "3")  # type: ignore[arg-type]
    refused(lambda: bundle.verify(progress=3), "progress", "a function", "3")  # type: ignore[arg-type]
    refused(lambda: bundle.network(3), "on", "a string", "3")  # type: ignore[arg-type]
    with pytest.raises(SeveralProblems) as caught:
        bundle.verify(on=["host", "z80", "6502"])
    assert [p.code for p in caught.value.problems] == ["E104", "E104"]
    assert (bundle.path / "manifest.json").read_bytes() == before


def test_one_target_may_be_given_as_a_string(bundle: isobit.Bundle) -> None:
    found = [c.name for c in bundle.verify(on="host")]
    assert found == ["golden vectors", "torch", "host"]


def test_arguments_of_the_other_functions(bundle: isobit.Bundle, tmp_path: Path) -> None:
    graph, m4 = bundle.graph, targets.load("cortex-m4")
    for call in (isobit.load, open_bundle):
        refused(lambda call=call: call(None), "path", "a path", "None")  # type: ignore[misc]
    refused(lambda: estimate(None, m4), "graph", "an integer graph", "None")  # type: ignore[arg-type]
    refused(lambda: estimate(graph, "host"), "target", "a target", "'host'")  # type: ignore[arg-type]
    refused(lambda: explain(graph, m4, "fast", {}), "optimize", "speed or", "'fast'")  # type: ignore[arg-type]
    refused(lambda: explain(graph, m4, Optimize.RAM, {}, None), "name", "node", "None")  # type: ignore[arg-type]
    refused(lambda: bundle_report("x"), "bundle", "a Bundle", "'x'")  # type: ignore[arg-type]
    refused(lambda: build_model(-1), "seed", "0..", "-1")
    refused(lambda: run_demo(tmp_path / "demo", seed=-1), "seed", "0..", "-1")
    labels = np.array([0, 1, 2])
    refused(lambda: confusion_matrix(labels, labels[:2], 3), "predicted", "[N]", "[2]")
    refused(lambda: confusion_matrix(labels, labels + 1, 3), "predicted", "0..2", "[3]")
    with pytest.raises(SeveralProblems) as caught:
        record_training(
            bundle, history=(), confusion=[[1]], classes="ab", accuracy=95, accuracy_on=""
        )
    assert [p.what for p in caught.value.problems] == ["accuracy", "confusion"]
    assert not (bundle.path / "training.json").exists() and not (tmp_path / "demo").exists()


CASTS: dict[str, Callable[[torch.nn.Module], object]] = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "double": lambda m: m.double(),
    "to": lambda m: m.to(torch.float16),
    "to_device_and_dtype": lambda m: m.to("cpu", torch.float64),
    "type": lambda m: m.type(torch.float64),
}


@pytest.mark.parametrize("cast", list(CASTS))
def test_casts_of_a_model_are_refused_and_change_nothing(cast: str) -> None:
    one = trained_twin(Scheme.AFFINE)
    before = {key: value.clone() for key, value in one.state_dict().items()}
    refused(lambda: CASTS[cast](one), "dtype of parameters", "torch.float32", "torch.")
    for key, value in one.state_dict().items():
        assert value.dtype is before[key].dtype and torch.equal(value, before[key])
    one.eval()(X)


def test_float_keeps_the_ranges() -> None:
    """Ranges are float64: a step that is rounded to float32 is another step."""
    one = trained_twin(Scheme.AFFINE).eval()
    text, wanted = str(one.export()), one(X)
    for cast in (lambda: one.float(), lambda: one.to(torch.float32), lambda: one.cpu()):
        cast()
        one.update_ranges()
        assert torch.equal(one(X), wanted) and str(one.export()) == text
    double = [key for key, value in one.state_dict().items() if value.dtype is torch.float64]
    assert any("frozen_low" in key for key in double) and any("largest" in key for key in double)


def test_a_cast_network_inside_is_refused_at_the_next_call() -> None:
    one = trained_twin(Scheme.AFFINE)
    one.net.half()
    for call in (lambda: one(X), lambda: one.calibrate(X), lambda: one.export()):
        with pytest.raises(BadArgument, match=r"E105 .*dtype of .*want torch.float32"):
            call()
    one.net.float()
    one(X)
    with pytest.raises(BadArgument, match="dtype of"):
        make_twin(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double(), Scheme.AFFINE)


def test_hooks_of_inner_layers_are_refused() -> None:
    def hook(*_: Any) -> None:
        raise AssertionError("never called")

    one = trained_twin(Scheme.AFFINE)
    layer = one.net[1]
    for register in (
        layer.register_forward_hook,
        layer.register_forward_pre_hook,
        layer.register_full_backward_hook,
        one.net.register_forward_hook,
    ):
        handle = register(hook)
        for call in (lambda: one(X), lambda: one.calibrate(X)):
            with pytest.raises(NotTraceable, match=r"E207 .*hooks on a layer.*want none"):
                call()
        handle.remove()
    take_steps(one, 1)
    pruned = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    pruned[1].register_forward_pre_hook(hook)
    with pytest.raises(NotTraceable, match=r'"1" of small.*forward pre hooks'):
        make_twin(pruned, Scheme.AFFINE)


def test_a_hook_of_the_model_itself_is_called() -> None:
    one, seen = trained_twin(Scheme.AFFINE), []

    def hook(_module: object, _inputs: object, output: Tensor) -> None:
        seen.append(output.shape)

    one.register_forward_hook(hook)
    one(X)
    assert seen == [(32, 10)]
