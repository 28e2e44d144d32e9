"""Work in several processes: all results, an honest end where a process dies, and none left when their parent is."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiepoints.benchmarks.processes import spread
from tiepoints.errors import TiepointsError

# What the processes call has to be in a module that they can import, which tests are not: Python's own.


def test_every_task_has_its_result() -> None:
    tasks = [(str(n), (n, 2)) for n in range(7)]
    assert dict(spread(pow, tasks, 2)) == {str(n): n**2 for n in range(7)}
    assert list(spread(pow, [], 2)) == []


def test_tasks_are_made_when_they_are_needed() -> None:
    """Large arguments do not pile up."""
    made = []

    def tasks():
        for n in range(50):
            made.append(n)
            yield str(n), (n, 2)

    results = spread(pow, tasks(), 2)
    next(results)
    assert len(made) <= 4
    results.close()


def test_an_error_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        list(spread(divmod, [("a", (1, 0))], 2))


def test_a_process_that_dies_is_told_of() -> None:
    with pytest.raises(TiepointsError, match=r"a process died: .* run again with --jobs 1"):
        list(spread(os._exit, [("a", (1,))], 2))


def test_the_cores_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert dict(spread(os.getenv, [("a", ("OMP_NUM_THREADS",))], 2)) == {"a": "3"}
    assert os.environ["OMP_NUM_THREADS"] == "7"


PARENT = """
import os, time
from tiepoints.benchmarks.processes import spread

if __name__ == "__main__":
    for key, pid in spread(os.getpid, ((str(i), ()) for i in range(10**9)), 2):
        print(pid, flush=True)
        time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_none_is_left_when_their_parent_is_killed(child: Callable[..., Any]) -> None:
    process = child(PARENT)
    workers = {int(process.stdout.readline()) for _ in range(5)}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 60
    while (left := {pid for pid in workers if _alive(pid)}) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # a zombie that nobody collects does no work
    return not state.exists() or state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
