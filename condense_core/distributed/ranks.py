"""One run on many processes: each rank computes its part of every batch, and all hold the same network.

`torchrun` starts the ranks and tells each who it is. Where nobody joined, there is one rank, and what is here
does nothing.
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
TOLD = "told by rank 0 to all"  # the note of a fault that every rank raises at the same place
PATIENCE = timedelta(hours=1)  # with ranks that still read their data


def shard() -> Shard:
    """Which rank is asking, and of how many."""
    return Shard(dist.get_rank(), dist.get_world_size()) if joined() else ALONE


def world_size() -> int:
    """Ranks that train a run together."""
    return shard().ranks


def joined() -> bool:
    """Whether this process is one of several ranks by now."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def add_up(sums: Tensor) -> Tensor:
    """The sum over all ranks, in place."""
    if joined():
        dist.all_reduce(sums)
    return sums


def of_first_rank(tensor: Tensor) -> Tensor:
    """Rank 0's `tensor`: on machines that differ the last bit may differ too."""
    if joined():
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
    return tensor


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on any rank: all of them learn it at the same step."""
    if not joined():
        return flag
    flags = torch.tensor([flag], dtype=torch.int32)  # not on a GPU, which nobody should have to wait for
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def from_first_rank(act: Callable[[], Value]) -> Value:
    """Let rank 0 act for all: its answer is given to all, or its fault is raised on all (see `in_step`)."""
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
        answer[1].add_note(TOLD)
        raise answer[1]
    return answer[0]


def in_step(error: Exception) -> bool:
    """Whether all ranks have this fault, so that they can go on with another run."""
    return not joined() or TOLD in getattr(error, "__notes__", ())


def is_silence(error: Exception) -> bool:
    """Whether a fault is that another rank is gone, or does not answer in time."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def parallel(model: nn.Module) -> nn.Module:
    """`model`, whose backward pass then leaves all ranks the mean of their gradients.

    Its batch norms become synchronised; buffers need no broadcast, for all ranks compute the same ones.
    """
    if not joined():
        return model
    synchronise(model, add_up)
    on_gpu = next(model.parameters()).is_cuda
    devices = [torch.cuda.current_device()] if on_gpu else None
    warnings.filterwarnings("ignore", "Grad strides do not match")  # those of 1×1 weights, which say nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # before torch 2.14 the setting has this name only
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)


@dataclass(frozen=True)
class Ranks:
    """What ranks tell each other beside their training, by way of the store of torchrun."""

    store: dist.Store
    shard: Shard

    def exchange(self, topic: str, text: str) -> list[str]:
        """Every rank's text, by rank; waits for all of them."""
        keys = [f"{topic}/{rank}" for rank in range(self.shard.ranks)]
        self.store.set(keys[self.shard.rank], text)
        self.store.wait(keys, PATIENCE)
        return [self.store.get(key).decode() for key in keys]

    def one_first(self, act: Callable[[], Value]) -> Value:
        """Act on one rank of this machine, which may download and cache, and then on its others."""
        key, first = f"first/{os.environ['GROUP_RANK']}", os.environ["LOCAL_RANK"] == "0"
        if not first:
            self.store.wait([key], PATIENCE)
        try:
            return act()
        finally:
            if first:
                self.store.set(key, "")

    def first_fault(self, fault: str) -> str:
        """The first fault that any rank tells of, which may be this one's."""
        try:
            return self.store.compare_set("fault", "", fault).decode()
        except RuntimeError:  # the store went with the rank that kept it
            return fault


@contextmanager
def join(device: str, seconds: float) -> Iterator[Ranks]:
    """Join the other ranks of torchrun; one that is silent for `seconds` is lost, with a RuntimeError.

    Raises ValueError where a machine has more ranks than GPUs to train on.
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
