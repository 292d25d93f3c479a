import os
import signal
import threading

import pytest

from jaxnas.train.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_a_request(number):
    with StopRequest() as stop:
        assert stop.requested is None
        signal.raise_signal(number)
        assert stop.requested == number.name


def test_the_first_signal_is_the_one_reported():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == "SIGTERM"


def test_the_second_interrupt_raises_at_once():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.requested == "SIGINT"


def test_the_handlers_found_are_put_back():
    received = []
    outer = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with StopRequest():
            signal.raise_signal(signal.SIGTERM)
        assert received == []
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, outer)


def test_in_another_thread_nothing_is_installed():
    handlers = []

    def enter():
        with StopRequest() as stop:
            handlers.append((signal.getsignal(signal.SIGTERM), stop.requested))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [(before, None)]


def test_a_process_ends_in_order_when_it_is_told_to(start):
    process = start(
        "import time\n"
        "from jaxnas.train.signals import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    print('ready', flush=True)\n"
        "    while stop.requested is None:\n"
        "        time.sleep(0.01)\n"
        "print('stopped by', stop.requested)\n"
    )
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    assert process.stdout.read() == "stopped by SIGTERM\n"
    assert process.wait() == 0
