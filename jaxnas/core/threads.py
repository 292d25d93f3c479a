"""Threads that share work whose results are wanted in order."""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _OneBlasThread:
    """While anyone is inside, NumPy's products use the thread that calls them and no others."""

    def __init__(self) -> None:
        self._lock, self._inside, self._limits = threading.Lock(), 0, None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limits = threadpool_limits(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._limits and not self._inside:
                self._limits.restore_original_limits()


one_blas_thread = _OneBlasThread()  # one for all, because the number of threads is one for all


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """function(item) of every item, in the items' order, computed by so many threads.

    At most one item more than there are threads is begun before the results of those before it are taken. Whoever stops
    taking results waits for what is running, and nothing new is begun.
    """
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(function, item))
                if len(begun) > threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def kept(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, with its last two results kept, computed by one thread while the others wait.

    Two, because threads that work through a list in order are at most on two sides of a boundary in it.
    """
    cached, lock = functools.lru_cache(maxsize=2)(function), threading.Lock()

    @functools.wraps(function)
    def ask(*arguments: Hashable) -> Result:
        with lock:
            return cached(*arguments)

    return ask
