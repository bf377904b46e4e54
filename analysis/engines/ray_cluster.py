"""The engine of a Ray cluster: one task per run, on any node that has room for it.

The run store is the only state: it and the data must be on a file system that all nodes share, under the same
path. A driver that is killed and started again finds there what is done; a run whose node died resumes on
another node from its checkpoints.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from condense_core.config import RunConfig
from condense_core.machine import usable_cores
from condense_core.store import RunStore

from .engine import Engine
from .ray_turns import Turns, first_sentence
from .single_run import Outcome
from .stopping import StopSwitch


@dataclass(frozen=True)
class RayEngine(Engine):
    """Trains runs on the nodes of a cluster: what each node has, and a run's share of a GPU."""

    nodes: tuple[dict[str, float], ...]
    gpus_per_run: float | None = None

    def has_gpu(self) -> bool:
        """Return whether any node has a GPU."""
        return any(node.get("GPU", 0) for node in self.nodes)

    def needs(self, config: RunConfig) -> tuple[int, float]:
        """Return the CPUs and GPUs of a run."""
        return config.threads, (self.gpus_per_run or 1.0) if config.device == "cuda" else 0.0

    def check(self, config: RunConfig) -> None:
        """Raise ValueError if no node has the resources of a run, which would wait for ever."""
        if self.gpus_per_run is not None and config.device != "cuda":
            raise ValueError(f"gpus_per_run {self.gpus_per_run:g}: needs device 'cuda'")
        cpus, gpus = self.needs(config)
        most = max((node.get("CPU", 0) for node in self.nodes), default=0)
        if cpus > most:
            raise ValueError(
                f"threads {cpus}: no node of the cluster has as many CPUs; valid: at most {most:g}"
            )
        if not self.slots(config):
            raise ValueError(f"gpus_per_run {gpus:g}: no node with {cpus} CPUs has as much of a GPU")

    def slots(self, config: RunConfig, jobs: int | None = None) -> int:
        """Return how many runs like this one the nodes have room for, at most `jobs`."""
        cpus, gpus = self.needs(config)
        by_node = (
            min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else sys.maxsize)
            for node in self.nodes
        )
        return int(min(sum(by_node), jobs or sys.maxsize))

    def execute_all(
        self,
        configs: Iterable[RunConfig],
        store: RunStore,
        data_dir: Path,
        jobs: int | None,
        stop: StopSwitch,
        force: bool = False,
    ) -> Iterator[Outcome]:
        """Train runs on the nodes, at most `jobs` at once; yields their outcomes as they come.

        A run whose worker or node dies is tried once more, and again if it has made progress since.
        """
        turns = Turns(self.needs, RunStore(store.root.absolute()), data_dir.absolute(), jobs, stop, force)
        with redirect_stdout(sys.stderr):  # Ray prints there that a node died
            yield from turns.execute(configs)


@contextmanager
def connect(address: str | None = None, gpus_per_run: float | None = None) -> Iterator[RayEngine]:
    """Yield the engine of a cluster, by default one that is started on this machine.

    Raises ValueError for bad settings, or if Ray is not installed or the cluster cannot be reached.
    """
    if gpus_per_run is not None and not 0 < gpus_per_run <= 1:
        raise ValueError(
            f"gpus_per_run {gpus_per_run:g}: must be above 0 and at most 1, because a run trains on one GPU"
        )
    with _connected(address) as nodes:
        yield RayEngine(nodes, gpus_per_run)


@contextmanager
def _connected(address: str | None) -> Iterator[tuple[dict[str, float], ...]]:
    """Connect to a cluster, or start one on this machine; yields the resources of each node."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "engine 'ray': needs ray, which is not installed: pip install 'condense[cluster]'"
        ) from error
    shared = ray.is_initialized() and address is None  # a notebook's own
    if not shared:
        check_reachable(address)
        _start_ray(address or "local")
    try:
        yield tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
    finally:
        if not shared:
            ray.shutdown()


def _start_ray(address: str) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        cores = usable_cores() if address == "local" else None  # Ray knows quotas, but not affinity
        ray.init(address, num_cpus=cores, log_to_driver=False, logging_level=logging.ERROR)
    except (ValueError, OSError, RuntimeError, SystemExit) as error:  # it exits after trying for minutes
        why = "cannot be reached" if isinstance(error, SystemExit) else first_sentence(error)
        raise ValueError(f"address {address!r}: {why}; valid: HOST:PORT of a cluster, or auto") from error


def check_reachable(address: str | None) -> None:
    """Raise ValueError if nothing listens at HOST:PORT, which Ray would take minutes to find out."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit() or "://" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"address {address!r}: cannot be reached ({error})") from error
