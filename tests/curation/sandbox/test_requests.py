"""Requests to the cell arrive as they were sent, however large, and end where the worker ends."""

import os
import pickle
import threading

import pytest

from curation.measure.cascade import Entry
from curation.sandbox.child import Portion
from curation.sandbox.requests import receive, requests_on, send

SIZES = (0, 1, 70, 1 << 16, (1 << 16) + 1, 1 << 20, 5_000_000)


def test_requests_arrive_one_behind_the_other_as_they_were_sent() -> None:
    sent = [Portion(tuple(Entry(f"{n:032x}", os.urandom(n)) for n in SIZES[:last]), last) for last in range(8)]
    reading, writing = os.pipe()

    def write() -> None:
        for request in sent:
            send(request, writing)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    file = requests_on(reading)
    came = [receive(file) for _ in sent]
    with pytest.raises(EOFError):
        receive(file)
    thread.join()
    os.close(reading)
    assert came == sent


@pytest.mark.parametrize("num_bytes", [0, 1, 20, 50_000])
def test_a_request_that_ends_early_is_the_end(num_bytes: int) -> None:
    reading, writing = os.pipe()
    os.write(writing, pickle.dumps([bytes(30_000), bytes(30_000)])[:num_bytes])
    os.close(writing)
    with pytest.raises(EOFError):
        receive(requests_on(reading))
    os.close(reading)


def test_whoever_sends_is_told_that_nobody_reads_any_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        send("request", writing)
    os.close(writing)
