"""One run on many processes: each rank computes its part of every batch, and all hold the same network.

`torchrun` starts the ranks and numbers them. In a process that has not joined any others there is one rank, and
the functions here do nothing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from condense_core.data import ALONE, Shard

from .batch_norm import synchronise

Value = TypeVar("Value")
RAISED_ON_ALL = "raised by rank 0 and on all ranks"  # a note on faults that all ranks raise at the same place
MAX_WAIT = timedelta(hours=1)  # for ranks that still read their data


def shard() -> Shard:
    """Return the number of this rank and of all ranks."""
    return Shard(dist.get_rank(), dist.get_world_size()) if joined() else ALONE


def world_size() -> int:
    """Return the number of ranks that train a run together."""
    return shard().ranks


def joined() -> bool:
    """Return whether this process has joined other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def add_up(sums: Tensor) -> Tensor:
    """Add up `sums` over all ranks, in place."""
    if joined():
        dist.all_reduce(sums)
    return sums


def of_first_rank(tensor: Tensor) -> Tensor:
    """Return rank 0's `tensor`, because its last bit may differ on a different machine."""
    if joined():
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
    return tensor


def any_rank(flag: bool) -> bool:
    """Return whether `flag` is set on any rank; all ranks get the answer at the same step."""
    if not joined():
        return flag
    flags = torch.tensor([flag], dtype=torch.int32)  # on the CPU, so that no rank waits for its GPU
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def from_first_rank(act: Callable[[], Value]) -> Value:
    """Call `act` on rank 0; return its answer, or raise its fault, on all ranks (see `is_shared_fault`)."""
    if not joined():
        return act()
    answer: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            answer[0] = act()
        except Exception as error:
            answer[1] = error
    dist.broadcast_object_list(answer, 0, device=torch.device("cpu"))
    if answer[1] is not None:
        answer[1].add_note(RAISED_ON_ALL)
        raise answer[1]
    return answer[0]


def is_shared_fault(error: Exception) -> bool:
    """Return whether all ranks have this fault, so that they can go on to the next run."""
    return not joined() or RAISED_ON_ALL in getattr(error, "__notes__", ())


def is_lost_rank(error: Exception) -> bool:
    """Return whether a fault means that another rank is gone or did not answer in time."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def parallel(model: nn.Module) -> nn.Module:
    """Wrap `model`, so that its backward pass leaves the mean of all ranks' gradients on every rank.

    Its batch norms become synchronised. Buffers need no broadcast, because all ranks compute the same ones.
    """
    if not joined():
        return model
    synchronise(model, add_up)
    on_gpu = next(model.parameters()).is_cuda
    devices = [torch.cuda.current_device()] if on_gpu else None
    warnings.filterwarnings("ignore", "Grad strides do not match")  # those of 1×1 weights do not matter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # before torch 2.14 the setting has only this name
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


@dataclass(frozen=True)
class Ranks:
    """Messages between ranks outside of their training, through torchrun's key-value store."""

    store: dist.Store
    shard: Shard

    def exchange(self, topic: str, text: str) -> list[str]:
        """Send a text to all ranks and return every rank's text, by rank; wait for all of them."""
        keys = [f"{topic}/{rank}" for rank in range(self.shard.ranks)]
        self.store.set(keys[self.shard.rank], text)
        self.store.wait(keys, MAX_WAIT)
        return [self.store.get(key).decode() for key in keys]

    def one_first(self, act: Callable[[], Value]) -> Value:
        """Call `act` on one rank of this machine, which may download and cache, then on its others."""
        key, first = f"first/{os.environ['GROUP_RANK']}", os.environ["LOCAL_RANK"] == "0"
        if not first:
            self.store.wait([key], MAX_WAIT)
        try:
            return act()
        finally:
            if first:
                self.store.set(key, "")

    def first_fault(self, fault: str) -> str:
        """Return the first fault that any rank reports, which may be `fault` itself."""
        try:
            return self.store.compare_set("fault", "", fault).decode()
        except RuntimeError:  # the store ended with the rank that kept it
            return fault


@contextmanager
def join(device: str, seconds: float) -> Iterator[Ranks]:
    """Join the other ranks of torchrun; a rank that does not answer for `seconds` raises RuntimeError here.

    Raise ValueError if this machine has more ranks than GPUs to train on.
    """
    backend = "gloo"
    if device == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            ranks = os.environ["LOCAL_WORLD_SIZE"]
            raise ValueError(f"nproc-per-node {ranks}: must be at most the {gpus} GPUs of this machine")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    timeout = timedelta(seconds=seconds)
    store, rank, ranks = next(dist.rendezvous("env://", timeout=timeout))
    group = dist.PrefixStore("group", store)
    dist.init_process_group(backend, store=group, rank=rank, world_size=ranks, timeout=timeout)
    try:
        yield Ranks(dist.PrefixStore("ranks", store), Shard(rank, ranks))
    finally:
        dist.destroy_process_group()
