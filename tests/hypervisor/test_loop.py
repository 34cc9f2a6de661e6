"""The event loop: order, fairness, and callbacks that take each other's descriptors away."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hypervisor.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made._epoll.close()
    os.close(made._wake)


def run(loop: Loop, seconds: float = 0.0) -> None:
    """One round, or as long as `seconds`."""
    loop.call_later(seconds, lambda: setattr(loop, "running", False))
    loop.run()


def signalled() -> int:
    """A readable descriptor."""
    return os.eventfd(1, os.EFD_NONBLOCK)


def test_readers_are_called_as_long_as_there_is_something(loop: Loop) -> None:
    seen: list[int] = []
    fd = signalled()
    loop.add_reader(fd, lambda: seen.append(1))
    for _ in range(3):
        run(loop)
    assert len(seen) == 3
    os.eventfd_read(fd)
    run(loop)
    assert len(seen) == 3
    loop.remove_reader(fd)
    loop.remove_reader(fd)
    os.eventfd_write(fd, 1)
    run(loop)
    assert len(seen) == 3
    os.close(fd)


def test_events_other_than_readable(loop: Loop) -> None:
    one, two = socket.socketpair()
    seen: list[int] = []
    loop.add_reader(one.fileno(), lambda: seen.append(1), select.EPOLLOUT)
    run(loop)
    assert seen
    loop.remove_reader(one.fileno())
    one.close()
    two.close()


def test_a_removed_reader_is_not_called_in_the_same_round(loop: Loop) -> None:
    fds = [signalled(), signalled()]
    called: list[int] = []

    def only(mine: int, other: int) -> Callable[[], None]:
        def callback() -> None:
            called.append(mine)
            loop.remove_reader(other)

        return callback

    loop.add_reader(fds[0], only(0, fds[1]))
    loop.add_reader(fds[1], only(1, fds[0]))
    run(loop)
    assert len(called) == 1
    for fd in fds:
        os.close(fd)


def test_an_old_event_does_not_reach_who_has_the_number_now(loop: Loop) -> None:
    """A callback closes a descriptor of the same round and something new gets its number."""
    fds = [signalled(), signalled()]
    wrong: list[int] = []

    def replace(other: int) -> Callable[[], None]:
        def callback() -> None:
            loop.remove_reader(other)
            os.close(other)
            again = os.eventfd(0, os.EFD_NONBLOCK)  # not readable
            assert again == other
            loop.add_reader(again, lambda: wrong.append(again))

        return callback

    loop.add_reader(fds[0], replace(fds[1]))
    loop.add_reader(fds[1], replace(fds[0]))
    run(loop)
    assert not wrong
    for fd in fds:
        loop.remove_reader(fd)
        os.close(fd)


def test_timers_come_in_order_and_cancelled_ones_never(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    now = time.monotonic()
    with monkeypatch.context() as clock:
        clock.setattr(time, "monotonic", lambda: now)  # all at one moment, however busy this machine is
        loop.call_later(0.004, lambda: seen.append("late"))
        cancelled = loop.call_later(0.002, lambda: seen.append("never"))
        loop.call_later(0.001, lambda: seen.append("early"))
        loop.call_later(0.001, lambda: seen.append("early too"))
    cancelled.cancel()
    cancelled.cancel()
    run(loop, 0.01)
    assert seen == ["early", "early too", "late"]


def test_a_timer_that_sets_itself_again_lets_others_in(loop: Loop) -> None:
    fd = signalled()
    seen: list[int] = []
    loop.add_reader(fd, lambda: seen.append(1))

    def again() -> None:
        if not seen:
            loop.call_later(0, again)
        else:
            loop.running = False

    loop.call_later(0, again)
    loop.run()
    assert seen
    loop.remove_reader(fd)
    os.close(fd)


def test_what_is_posted_by_what_is_posted_has_its_own_turn(loop: Loop) -> None:
    fd = signalled()
    seen: list[int] = []
    loop.add_reader(fd, lambda: seen.append(1))
    posts: list[int] = []

    def again() -> None:
        posts.append(1)
        if len(seen) < 3:
            loop.post(again)
        else:
            loop.running = False

    loop.post(again)
    loop.run()
    assert len(posts) <= 5
    loop.remove_reader(fd)
    os.close(fd)


def test_posted_from_other_threads(loop: Loop) -> None:
    seen: list[int] = []

    def work() -> None:
        for _ in range(500):
            loop.post(lambda: seen.append(threading.get_ident()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(seen) < 2000 and time.monotonic() < deadline:
        run(loop, 0.001)
    for thread in threads:
        thread.join()
    assert seen == [threading.get_ident()] * 2000


def test_work_in_a_thread(loop: Loop) -> None:
    results: list[tuple[object, object]] = []

    def fail() -> int:
        raise KeyError("why")

    loop.in_thread(lambda: 5, lambda value, error: results.append((value, error)))
    loop.in_thread(fail, lambda value, error: results.append((value, error)))
    deadline = time.monotonic() + 5
    while len(results) < 2 and time.monotonic() < deadline:
        run(loop, 0.001)
    assert (5, None) in results
    assert [repr(error) for value, error in results if value is None] == ["KeyError('why')"]


def test_a_bug_of_ours_ends_the_loop_loudly(loop: Loop) -> None:
    def bug() -> None:
        raise AssertionError("bug")

    loop.call_later(0, bug)
    with pytest.raises(AssertionError, match="bug"):
        loop.run()
