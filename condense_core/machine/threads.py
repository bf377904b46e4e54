"""Work done by threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .cores import usable_cores

Task = TypeVar("Task")
Value = TypeVar("Value")


def read_ahead(
    work: Callable[[Task], Value], tasks: Iterable[Task], ahead: int, threads: int | None = None
) -> Generator[Value, None, None]:
    """Yield `work(task)` of every task in order, done by threads, by default one for every usable core.

    At most `ahead` tasks are under way or wait to be taken. An error of `work` is raised here, at its turn.
    """
    pool = ThreadPoolExecutor(threads or usable_cores())
    waiting: deque[Future[Value]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
