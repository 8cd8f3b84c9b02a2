"""Ctrl-C while a board answers."""

import signal
import threading

import pytest
from tamale_sim.interrupts import stopping


def test_first_stops_and_second_ends():
    before, calls = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), stopping(lambda: calls.append(1)):
        signal.raise_signal(signal.SIGINT)
        assert calls == [1]
        signal.raise_signal(signal.SIGINT)
    assert calls == [1] and signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_no_keys():
    done = []

    def body():
        with stopping(done.clear):
            done.append(1)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert done == [1]
