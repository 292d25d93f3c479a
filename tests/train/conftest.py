import contextlib
import resource
import subprocess
import sys

import pytest


@pytest.fixture
def start():
    """Starts a Python program in a process of its own, which does not outlive the test."""
    with contextlib.ExitStack() as stack:

        def begin(program, *arguments):
            command = [sys.executable, "-c", program, *map(str, arguments)]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            return process

        yield begin


@pytest.fixture
def largest_file():
    """A context in which no file can grow beyond so many bytes: to the writer it is a disk that is full."""

    @contextlib.contextmanager
    def limit(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
