"""Where a training computes: one device, or several processes that end in the same bits.

Lightning Fabric starts and connects the processes and wraps the module; what must be the same
everywhere is made so here and in `ranges`, `norm` and `Standardize`, which reduce their statistics
over all processes themselves. Buffers are therefore never broadcast.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isobit.core.errors import BadArgument, IsobitError, Problem, SeveralProblems, ToolMissing

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")


def connect(device: torch.device, devices: int = 1) -> Fabric:
    """Return a launched Fabric: of this process alone, of the processes that `torchrun` or the
    caller (with `torch.distributed`) started, or of `devices` processes that it starts now by
    running this program again.

    device: where this process computes; with several CUDA processes each takes the one of its local
    rank. Raises `ToolMissing` without Lightning Fabric, `BadArgument` where `devices` is neither 1
    nor the number of processes that run.
    """
    if importlib.util.find_spec("lightning_fabric") is None:
        raise ToolMissing(
            where="isobit.fit",
            what="package lightning-fabric",
            want="installed: it runs the training loop",
            got="not installed",
            fix="pip install 'isobit[train]'",
        )
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    started = _started()
    if started > 1 and devices not in (1, started):
        raise BadArgument(
            where="run.devices",
            what="processes",
            want=f"1 or {started}, the processes that were started",
            got=str(devices),
            fix="Start as many processes as the recipe says, or leave devices out of it.",
        )
    fixed: dict[str, Any] = {"accelerator": device.type, "precision": "32-true"}
    if max(started, devices) == 1:
        fabric = alone(device)
        fabric.launch()
        return fabric
    strategy = DDPStrategy(
        forward_sync_buffers=False,
        process_group_backend="nccl" if device.type == "cuda" else "gloo",
    )
    if dist.is_initialized() or dist.is_torchelastic_launched():
        local = _local_processes(started)
        fixed.update(devices=local, num_nodes=started // local)
        if dist.is_initialized():
            fixed.update(plugins=[_joined()])
    else:
        fixed.update(devices=devices)
    fabric = Fabric(**fixed, strategy=strategy)
    fabric.launch()
    return fabric


def alone(device: torch.device) -> Fabric:
    """Return a Fabric of this process alone, also where others run: for measurements."""
    from lightning_fabric import Fabric

    own = [device.index or 0] if device.type == "cuda" else 1
    return Fabric(accelerator=device.type, precision="32-true", devices=own, strategy="auto")


def is_first() -> bool:
    """Whether this process writes files and talks: the only one, or the first of several."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "LOCAL_RANK"))


def _started() -> int:
    """Return how many processes run this program together already."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    if dist.is_available() and dist.is_torchelastic_launched():
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        return TorchElasticEnvironment().world_size()
    return 1


def _local_processes(started: int) -> int:
    """Return how many of them run on this machine: `torchrun` says so, others are taken for all."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", started))


def _joined() -> Any:
    """Return Fabric's view of processes that were connected before it came."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    class Joined(LightningEnvironment):
        """Ranks as `torch.distributed` has them."""

        @property
        def creates_processes_externally(self) -> bool:
            return True

        def world_size(self) -> int:
            return dist.get_world_size()

        def global_rank(self) -> int:
            return dist.get_rank()

        def local_rank(self) -> int:
            return dist.get_rank() % _local_processes(dist.get_world_size())

        def node_rank(self) -> int:
            return dist.get_rank() // _local_processes(dist.get_world_size())

        def set_world_size(self, size: int) -> None:
            pass

        def set_global_rank(self, rank: int) -> None:
            pass

    return Joined()


def slice_of(fabric: Fabric, count: int) -> slice:
    """Return this process's part of `count` examples of one step: parts are equally long, in the
    order of ranks, and a remainder is left out.
    """
    own = count // fabric.world_size
    return slice(fabric.global_rank * own, (fabric.global_rank + 1) * own)


def part_of(fabric: Fabric, count: int) -> slice:
    """Return this process's part of `count` examples, none left out: lengths differ by up to 1."""
    ends = [count * rank // fabric.world_size for rank in range(fabric.world_size + 1)]
    return slice(ends[fabric.global_rank], ends[fabric.global_rank + 1])


def total(fabric: Fabric, *values: float) -> list[float]:
    """Return sums over all processes, in float64."""
    if fabric.world_size == 1:
        return list(values)
    found = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    dist.all_reduce(found)
    return [float(value) for value in found.cpu()]


def from_first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Return on every process what `work` returns on the first, the only one that calls it: also
    what it raises, so that none waits for one that stopped.
    """
    if fabric.world_size == 1:
        return work()
    result: T | None = None
    problems: tuple[Problem, ...] = ()
    kind: type[IsobitError] | None = None
    if fabric.global_rank == 0:
        try:
            result = work()
        except IsobitError as error:
            problems, kind = error.problems, type(error)
    result, problems, kind = fabric.broadcast((result, problems, kind))
    if kind is not None:
        raise _again(kind, problems)
    return result  # type: ignore[return-value]  # what the first process returned


def _again(kind: type[IsobitError], problems: tuple[Problem, ...]) -> IsobitError:
    """Return an error of another process."""
    first = problems[0]
    own = kind if not issubclass(kind, SeveralProblems) else BadArgument
    error = own(where=first.where, what=first.what, want=first.want, got=first.got, fix=first.fix)
    error.problems = problems
    return error


def share_state(fabric: Fabric, module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if fabric.world_size > 1:
        module.load_state_dict(fabric.broadcast(module.state_dict()))


def require_same(fabric: Fabric, what: str, own: object) -> None:
    """Raise `BadArgument`, on every process, where `own` is not the same on all of them."""
    if fabric.world_size == 1:
        return
    found: list[object] = [None] * fabric.world_size
    dist.all_gather_object(found, own)
    others = [(rank, value) for rank, value in enumerate(found) if value != found[0]]
    if others:
        rank, value = others[0]
        raise BadArgument(
            where=f"process {rank}",
            what=what,
            want=f"the same on all processes: {found[0]}",
            got=str(value),
            fix="Pass every process the same examples and options.",
        )


@contextmanager
def shared_norms(fabric: Fabric, module: nn.Module) -> Iterator[None]:
    """Let the batch norms of a float network normalise by the statistics of all processes' batches,
    on any device, while the body runs: as one process with the whole batch does.

    The twin's own batch norms do so anyway (`norm`).
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    if fabric.world_size > 1:
        for norm in norms:
            # On the instance, and taken away below: the class stays as it is.
            norm.forward = partial(_shared_forward, norm)  # type: ignore[method-assign]  # of this instance
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


def _shared_forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    if not norm.training and norm.running_mean is not None:
        return type(norm).forward(norm, x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    # Deviations from a number near the mean, so that the squares lose nothing.
    near = x.detach().mean(axes)
    dist.all_reduce(near)
    near /= dist.get_world_size()
    away = x - near.reshape(shape)
    count = torch.full_like(near, x.numel() // x.shape[1])
    sums: Tensor = _Sum.apply(torch.stack([away.sum(axes), away.square().sum(axes), count]))  # type: ignore[no-untyped-call]  # torch's apply is untyped
    offset, square = sums[0] / sums[2], sums[1] / sums[2]
    var = (square - offset.square()).clamp_min(0)
    if norm.training and norm.running_mean is not None and norm.running_var is not None:
        _move_running(norm, (near + offset).detach(), var.detach(), float(sums[2, 0]))
    y = (away - offset.reshape(shape)) * (var + norm.eps).rsqrt().reshape(shape)
    if norm.weight is not None:
        y = y * norm.weight.reshape(shape) + norm.bias.reshape(shape)
    return y


@torch.no_grad()
def _move_running(norm: _BatchNorm, mean: Tensor, var: Tensor, count: float) -> None:
    """Move the running statistics as torch does; its variance is unbiased."""
    assert norm.running_mean is not None and norm.running_var is not None
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, float(momentum or 0.0))
    norm.running_var.lerp_(var * (count / max(count - 1, 1)), float(momentum or 0.0))


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is that of every process's loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        y = grads[0].clone()
        dist.all_reduce(y)
        return y


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Keep a CUDA device from shortening operands (TF32) and from algorithms whose results change
    from run to run, while the body runs.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark)
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = (
        False,
        False,
        True,
        False,
    )
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
