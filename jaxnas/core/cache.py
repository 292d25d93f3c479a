"""The persistent compilation cache: a program compiled once on a machine is read back by every later process."""

import hashlib
import os
import platform
from pathlib import Path


def enable_compilation_cache() -> None:
    """Lets JAX keep compiled programs on disk, in JAX_COMPILATION_CACHE_DIR or else below the user's cache directory.

    The directory is one per kind of machine, because programs for a CPU hold that CPU's instructions.
    """
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "jaxnas" / "xla" / f"{platform.machine()}-{_machine()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a read-only home only costs compile time
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _machine() -> str:
    """A short name for this kind of CPU: its model and its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind = "".join(line for line in lines[:40] if line.startswith(("model", "vendor_id", "flags")))
    except OSError:
        kind = platform.processor()
    return hashlib.sha256(kind.encode()).hexdigest()[:12]
