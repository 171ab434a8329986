"""How many bytes of tensors a computation holds at its peak: counted, so the same on every run."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(slots=True)
class Held:
    """Bytes of tensors that were made since the count began."""

    now: int = 0
    peak: int = 0
    """The most at one moment."""


def size_of(*modules: nn.Module | None) -> int:
    """Return the bytes of all parameters and buffers; of None nothing."""
    tensors = [t for m in modules if m is not None for t in (*m.parameters(), *m.buffers())]
    return sum(t.numel() * t.element_size() for t in tensors)


@contextmanager
def counting(device: torch.device) -> Iterator[Held]:
    """Count what is made on a device while the body runs; complete when it has ended.

    On CUDA the allocator's own account. Elsewhere the storages of what torch's operators return,
    the backward ones included, from the operator that makes one until its last tensor is gone: the
    size of the process says less, for what was freed before it is used again, and by other threads.
    What a kernel allocates and frees within one call is not seen.
    """
    held = Held()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = int(torch.cuda.memory_allocated(device))
        yield held
        held.now = int(torch.cuda.memory_allocated(device)) - before
        held.peak = int(torch.cuda.max_memory_allocated(device)) - before
        return
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # when it runs depends on what the process did before
    try:
        with _Counter(held):
            yield held
    finally:
        if collecting:
            gc.enable()


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Sees every operator with its tensors, forward and backward."""

    def __init__(self, held: Held) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._held = held
        self._sizes: dict[int, int] = {}
        """Address of a storage's data -> bytes, of those that were made here and still exist."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        own = [s for s in _storages(result) if s.nbytes()]
        if own:
            # A view, or what was written in place, is memory that an argument has already.
            known = {s.data_ptr() for s in _storages((args, kwargs))} | self._sizes.keys()
            for storage in own:
                if storage.data_ptr() not in known:
                    self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        self._sizes[address] = size
        self._held.now += size
        self._held.peak = max(self._held.peak, self._held.now)
        weakref.finalize(storage, self._drop, address).atexit = False

    def _drop(self, address: int) -> None:
        self._held.now -= self._sizes.pop(address)


def _storages(tree: object) -> list[torch.UntypedStorage]:
    leaves: list[Any] = tree_leaves(tree)
    return [
        leaf.untyped_storage()
        for leaf in leaves
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided
    ]
