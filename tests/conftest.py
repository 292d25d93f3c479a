"""The platform that the tests run on, set before anything imports JAX; the tests' subprocesses inherit it.

What the caller has set stands: `JAX_PLATFORMS=cuda ./launch/test` runs the tests on a GPU.
"""

import gc
import os
import platform
import sys
from pathlib import Path

import pytest

# Four devices, for what runs data parallel. Tests compile much and compute little: without LLVM's optimizations, and
# with the simpler code generator for fused operations, they take about a fifth of the time. A collective waits for its
# slowest device; on busy cores that may exceed XLA's 40 seconds.
XLA_FLAGS = {
    "--xla_force_host_platform_device_count": 4,
    "--xla_backend_optimization_level": 0,
    "--xla_cpu_use_fusion_emitters": "false",
    "--xla_cpu_enable_concurrency_optimized_scheduler": "false",
    "--xla_cpu_parallel_codegen_split_count": 1,
    "--xla_cpu_collective_call_terminate_timeout_seconds": 600,
}
# Compiled programs are kept for other workers, subprocesses and later runs; they hold the instructions of the host.
COMPILED = Path(__file__).resolve().parents[1] / ".pytest_cache" / f"xla-{platform.node()}"

given = os.environ.get("XLA_FLAGS", "")
added = [f"{name}={value}" for name, value in XLA_FLAGS.items() if name not in given]
os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def pytest_collection_finish() -> None:
    """Collects garbage far less often than Python does: tracing makes many small objects that stay."""
    gc.freeze()  # what was imported stays, too
    gc.set_threshold(100_000, 10, 10)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Drops the compiled programs of a file: each holds memory mappings, of which a process has a limited number."""
    yield
    jax = sys.modules.get("jax")
    if jax is not None:
        jax.clear_caches()
        gc.collect()
