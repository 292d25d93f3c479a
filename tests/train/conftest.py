import contextlib
import resource

import pytest


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
