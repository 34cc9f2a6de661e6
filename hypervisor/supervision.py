"""Supervision: the hypervisor as a client of the reincarnation server.

The hypervisor asks one question (what is to happen after this death?) and never waits for the answer: it is
a callback. A server that does not answer in time is itself replaced, and the question is asked again of its
successor by the channel's replay.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.channels import Connection, HostClient, Reply
from hypervisor.faults import FaultRecord
from hypervisor.policy import Component
from hypervisor.protocols import supervise

ANSWER_DEADLINE_NS = 250_000_000  # of a server that is ready
START_DEADLINE_NS = 3_000_000_000  # of one that has just been started
REFUSED_DELAY_MS = 1000
_POLICIES = {"always": 0, "never": 1, "backoff": 2}

GIVE_UP = -1
Verdict = Callable[[int], None]  # milliseconds to wait before the restart, or GIVE_UP


class Supervision:
    """The `supervise` channel's client end."""

    def __init__(self, connection: Connection) -> None:
        self._client = HostClient(connection)
        self.connection = connection

    def configure(self, component: Component) -> None:
        """Tell the server how `component` wants to be treated."""
        restart = component.restart
        data = b"".join(ms.to_bytes(4, "little") for ms in restart.backoff_ms)
        args = supervise.ConfigureArgs(
            component=component.index,
            policy=_POLICIES[restart.policy],
            restarts=restart.give_up_restarts,
            within_ms=restart.give_up_within_ms,
            steps=len(restart.backoff_ms),
        )
        self._client.submit(supervise.CONFIGURE, args.pack(), lambda _: None, data)

    def fault(self, component: Component, record: FaultRecord, verdict: Verdict) -> None:
        """Report a death; `verdict` is called once, whichever instance of the server answers."""
        args = supervise.FaultArgs(
            component=component.index,
            kind=record.kind,
            epoch=record.epoch,
            reserved=0,
            now_ns=record.time_ns,
        )

        def answered(reply: Reply) -> None:
            if reply.status < 0:  # no verdict: nothing gives up unless its manifest says so
                verdict(REFUSED_DELAY_MS)
                return
            returned = supervise.FaultReturns.unpack(reply.args)
            give_up = returned.action == supervise.ACTION_GIVE_UP
            verdict(GIVE_UP if give_up else min(returned.delay_ms, 3_600_000))

        self._client.submit(supervise.FAULT, args.pack(), answered)

    def recovered(self, component: Component, epoch: int, took_us: int) -> None:
        """Tell the server that the new instance serves."""
        args = supervise.RecoveredArgs(component=component.index, epoch=epoch, took_us=took_us)
        self._client.submit(supervise.RECOVERED, args.pack(), lambda _: None)

    def on_wake(self) -> None:
        """Replies may have arrived."""
        self._client.on_wake()

    def reopen(self) -> None:
        """The server was replaced: ask everything unanswered again."""
        self._client.reopen()

    def is_overdue(self, started_ns: int, ready: bool, now_ns: int) -> bool:
        """Has a server that runs since `started_ns` let a question wait for too long?"""
        oldest = self._client.oldest_ns
        deadline = ANSWER_DEADLINE_NS if ready else START_DEADLINE_NS
        return oldest is not None and now_ns - max(oldest, started_ns) > deadline
