"""Threads that share work: order, look-ahead, errors, and the limit on BLAS."""

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from jaxnas.core.threads import cores, in_order, kept, one_blas_thread


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_however_long_they_take(threads):
    waits = [0.02, 0.0, 0.01, 0.0, 0.0]
    assert list(in_order(lambda n: (time.sleep(waits[n]), n)[1], range(5), threads)) == list(range(5))


@pytest.mark.parametrize("threads", [1, 3])
def test_little_is_begun_before_results_are_taken(threads):
    begun = []
    results = in_order(begun.append, range(100), threads)
    next(results)
    results.close()
    assert len(begun) <= threads + 1


def test_an_error_reaches_whoever_takes_the_result():
    results = in_order(lambda n: 1 // n, [1, 0, 1], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_several_threads_work_at_once():
    together = threading.Barrier(2, timeout=60)
    assert list(in_order(lambda _: together.wait() >= 0, range(2), 2)) == [True, True]


def test_threads_wait_for_one_result_and_the_last_two_are_kept():
    calls = []

    @kept
    def square(n):
        calls.append(n)
        time.sleep(0.01)
        return n * n

    assert list(in_order(square, [3, 3, 4, 3, 4], 2)) == [9, 9, 16, 9, 16]
    assert sorted(calls) == [3, 4]
    for number in (3, 4, 5, 4, 3):  # in this order, so that it is known which was used last
        square(number)
    assert sorted(calls) == [3, 3, 4, 5]


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_the_limit_on_blas_ends_with_the_last_one_inside():
    before = blas_threads()
    with one_blas_thread:
        with one_blas_thread:
            assert blas_threads() <= {1}
        assert blas_threads() <= {1}
    assert blas_threads() == before


def test_there_is_a_core():
    assert cores() >= 1
