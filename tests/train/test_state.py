"""What a model is travels with it: state_dict, pickle, deepcopy, `.isobit`; several processes
agree.
"""

from __future__ import annotations

import copy
import os
import pickle
import socket
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import isobit
from isobit import nn
from isobit.core.errors import BadCheckpoint, IsobitError
from isobit.ir.store import Stored, to_bytes
from isobit.ops.schemes import Scheme
from isobit.train.twin import Twin

from .nets import SCHEMES, digits, make_twin, mixed_net, take_steps, trained_twin

both_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)


def isobit_bytes(twin: Twin) -> bytes:
    return to_bytes(Stored({"int": twin.export()}))


@both_schemes
def test_state_dict_into_a_new_model_gives_the_same_bits(scheme: Scheme) -> None:
    twin = trained_twin(scheme).eval()
    torch.manual_seed(99)
    fresh = make_twin(mixed_net(), scheme).eval()
    x, _ = digits(32)
    assert not torch.equal(fresh(x), twin(x))
    fresh.load_state_dict(twin.state_dict())
    assert torch.equal(fresh(x), twin(x))
    assert isobit_bytes(fresh) == isobit_bytes(twin)


@both_schemes
def test_a_state_of_the_other_scheme_is_refused(scheme: Scheme, tmp_path: Path) -> None:
    twin = trained_twin(scheme)
    other = make_twin(mixed_net(), next(s for s in SCHEMES if s is not scheme))
    before = copy.deepcopy(other.state_dict())
    torch.save(twin.state_dict(), tmp_path / "state.pt")
    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    ported = torch.nn.DataParallel(twin).state_dict()
    torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(ported, "module.")
    for state in (twin.state_dict(), stored, copy.deepcopy(stored), ported):
        with pytest.raises(BadCheckpoint, match=f"scheme: want {other.scheme.value}, got"):
            other.load_state_dict(state)
        make_twin(mixed_net(), scheme).load_state_dict(state)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
    # A state as it was written before it named the scheme, and inside a larger module.
    make_twin(mixed_net(), scheme).load_state_dict(dict(twin.state_dict()))
    inside, larger = torch.nn.Sequential(other), torch.nn.Sequential(twin)
    with pytest.raises(BadCheckpoint):
        inside.load_state_dict(larger.state_dict())


@both_schemes
def test_training_goes_on_alike_after_a_round_trip(scheme: Scheme) -> None:
    twin = trained_twin(scheme)
    fresh = make_twin(mixed_net(), scheme)
    fresh.load_state_dict(twin.state_dict())
    for one in (twin, fresh):
        take_steps(one, 2)
    assert isobit_bytes(fresh) == isobit_bytes(twin)


@both_schemes
def test_pickle_and_deepcopy_are_independent_copies(scheme: Scheme) -> None:
    twin = trained_twin(scheme)
    before = isobit_bytes(twin)
    for one in (pickle.loads(pickle.dumps(twin)), copy.deepcopy(twin)):
        assert isobit_bytes(one) == before
        take_steps(one, 2, rate=0.5)
        one.update_ranges()
        assert isobit_bytes(one) != before
        assert isobit_bytes(twin) == before


def float_net() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(96, 10),
    )


def same_net() -> torch.nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def test_a_torch_state_dict_loads_unchanged() -> None:
    torch.manual_seed(0)
    reference, net = float_net(), same_net()
    x, _ = digits(64)
    reference(x / 16)
    state = reference.eval().state_dict()
    result = net.load_state_dict(state)
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(net.eval()(x), reference(x)), "before a Model, it is the float network"
    twin = make_twin(net, Scheme.AFFINE)
    twin.calibrate(x)
    difference = (twin.eval()(x) - reference(x)).abs().max() / reference(x).abs().max()
    assert difference < 0.1, "8 bits of the same network"


def test_a_plain_torch_net_is_a_network_too() -> None:
    torch.manual_seed(0)
    twin = make_twin(float_net(), Scheme.POW2)
    take_steps(twin, 2)
    assert twin.export().nodes


def test_save_and_restore(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = isobit.Model(mixed_net(), input=(1, 8, 8), name="small")
    take_steps(model, 2)
    path = tmp_path / "m.isobit"
    model.save(path)
    first = path.read_bytes()
    fresh = isobit.Model(mixed_net(), input=(1, 8, 8), name="small")
    fresh.restore(path)
    x, _ = digits(16)
    assert torch.equal(fresh.eval()(x), model.eval()(x))
    fresh.save(path)
    assert path.read_bytes() == first
    graph = isobit.load(path)
    assert to_bytes(Stored({"int": graph})) == isobit_bytes(model)  # type: ignore[dict-item]


def test_restore_of_another_network_is_refused(tmp_path: Path) -> None:
    model = isobit.Model(mixed_net(), input=(1, 8, 8), name="small")
    path = tmp_path / "m.isobit"
    model.save(path)
    other = isobit.Model(same_net(), input=(1, 8, 8), name="small")
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(IsobitError, match="E604"):
        other.restore(path)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_a_plain_loop_learns() -> None:
    """A user's own loop: nothing but torch. 40 steps on 256 digits halve the loss."""
    torch.manual_seed(0)
    model = isobit.Model(mixed_net(), input=(1, 8, 8), name="small")
    x, y = digits(256)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(40):
        index = torch.arange(step * 64, step * 64 + 64) % len(x)
        loss = torch.nn.functional.cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


def loopback() -> str:
    """The interface that a host talks to itself over: lo, lo0."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def _train_on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    # Else gloo binds to what the host's name resolves to: a network that may be slow or filtered.
    if sys.platform != "win32":
        os.environ["GLOO_SOCKET_IFNAME"] = loopback()
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=5),
    )
    try:
        for scheme in SCHEMES:
            torch.manual_seed(0)
            twin = make_twin(mixed_net(), scheme)
            parallel = torch.nn.parallel.DistributedDataParallel(twin)
            optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
            for step in range(3):
                x, y = digits(16, start=32 * step + 16 * rank)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(parallel(x), y).backward()
                optimizer.step()
            for stem in ("steps", "update"):
                path = Path(folder, f"{scheme.value}-{stem}{rank}.isobit")
                path.write_bytes(isobit_bytes(twin))
                twin.update_ranges()
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_export_the_same_bytes(tmp_path: Path) -> None:
    mp.spawn(_train_on_rank, (str(tmp_path),), nprocs=2)
    for scheme in SCHEMES:
        for stem in ("steps", "update"):
            first, second = (
                (tmp_path / f"{scheme.value}-{stem}{rank}.isobit").read_bytes() for rank in range(2)
            )
            assert first == second, (scheme, stem)
