"""Which implementation the primitives of this package lower to.

XLA has good convolution kernels on accelerators and poor ones on the CPU (grouped convolutions always, backward
convolutions inside loops), so every primitive has a `library` form, plain lax operations, and a `cpu` form with its own
derivative. The choice is made while tracing; a function that is already compiled keeps the one it was traced with.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

from jaxnas.core.errors import unknown

IMPLEMENTATIONS = ("cpu", "library")

_forced: ContextVar[str | None] = ContextVar("implementation", default=None)


def implementation() -> str:
    """The implementation in force: what `use` asked for, else `cpu` on the CPU backend and `library` elsewhere."""
    return _forced.get() or ("cpu" if jax.default_backend() == "cpu" else "library")


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Forces an implementation for everything traced inside the block (to compare them, or to count operations)."""
    if name not in IMPLEMENTATIONS:
        raise unknown("implementation", name, IMPLEMENTATIONS)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def compiler_options() -> dict[str, str | bool]:
    """What XLA is asked for when a program is compiled for the present backend.

    On the CPU, vectors of 512 bits where the processor has them: XLA's own choice of 256 makes the supernet a tenth
    slower. Processors with narrower vectors use those.
    """
    return {"xla_cpu_prefer_vector_width": "512"} if jax.default_backend() == "cpu" else {}
