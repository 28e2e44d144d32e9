"""Pieces of work on all cores: all done once, errors raised, the BLAS given back."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tiepoints import threads


def blas_threads() -> list[int]:
    """Of NumPy's BLAS; SciPy's and torch's are not what matching runs on."""
    return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas" and "numpy" in i["filepath"]]


@pytest.fixture(autouse=True)
def two_threads_in_the_blas() -> Iterator[None]:
    """To take away and give back, however many it has elsewhere."""
    with threadpool_limits(2, user_api="blas"):
        assert set(blas_threads()) == {2}
        yield


@pytest.mark.parametrize("count", ["1", "2", "5"])
def test_every_piece_runs_once_with_its_thread_s_own_memory(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    assert threads.cores() == int(count)
    done: list[int] = []
    owners: dict[int, set[int]] = {}

    def make(thread: int) -> dict[str, int]:
        assert threading.current_thread() is threading.main_thread()
        return {"thread": thread}

    def piece(i: int) -> threads.Piece:
        def run(memory: dict[str, int]) -> None:
            done.append(i)
            owners.setdefault(memory["thread"], set()).add(threading.get_ident())

        return run

    threads.run_pieces([piece(i) for i in range(50)], make)
    assert sorted(done) == list(range(50))
    assert len(owners) <= int(count) and all(len(who) == 1 for who in owners.values())
    threads.run_pieces([], make)


@pytest.mark.parametrize("count", ["1", "3"])
def test_an_error_in_a_piece_is_raised_and_the_blas_is_given_back(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    before = blas_threads()

    def broken(_: object) -> None:
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        threads.run_pieces([broken] * 4, lambda _: None)
    assert blas_threads() == before


def test_the_blas_has_one_thread_inside_and_all_after_callers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = blas_threads()
    inside: list[int] = []

    def call() -> None:
        for _ in range(20):
            threads.run_pieces([lambda _: inside.extend(blas_threads())] * 3, lambda _: None)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert set(inside) == {1}
    assert blas_threads() == before


def test_the_blas_is_given_back_if_the_first_caller_leaves_before_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def stay(_: object) -> None:
        inside.set()
        leave.wait(60)

    other = threading.Thread(target=threads.run_pieces, args=([stay] * 2, lambda _: None))

    def start_the_other(_: object) -> None:
        if not inside.is_set():
            other.start()
            assert inside.wait(60)

    threads.run_pieces([start_the_other, lambda _: inside.wait(60)], lambda _: None)
    assert blas_threads() == [1] * len(before)
    leave.set()
    other.join()
    assert blas_threads() == before


@pytest.mark.parametrize("text", ["", "0", "-2", "many"])
def test_a_useless_setting_means_all_cores(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads.cores() >= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads.run_pieces([lambda _: None] * 4, lambda _: None)  # now the parent's threads wait for work
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(_pieces_done).result(timeout=60) == 8


def _pieces_done() -> int:
    done: list[int] = []
    threads.run_pieces([lambda _: done.append(1)] * 8, lambda _: None)
    return len(done)


def _state_in_child() -> tuple[list[int], int]:
    return blas_threads(), _pieces_done()


def test_a_process_forked_while_another_thread_matches_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither waits for a lock that nobody holds any more, nor keeps the BLAS at one thread."""
    if not hasattr(os, "fork"):
        pytest.skip("Windows does not fork")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before, stop = blas_threads(), threading.Event()

    def busy() -> None:
        while not stop.is_set():
            threads.run_pieces([lambda _: time.sleep(0.001)] * 4, lambda _: None)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(8):
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                assert pool.submit(_state_in_child).result(timeout=60) == (before, 8)
    finally:
        stop.set()
        thread.join()
    assert blas_threads() == before
    with threads.limited(1), ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        inside, done = pool.submit(_state_in_child).result(timeout=60)
        assert done == 8 and set(inside) == {1}, "the caller's own limit goes with it"
