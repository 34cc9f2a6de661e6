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

GIVE_UP = -1
Verdict = Callable[[int, int], None]  # milliseconds to wait before the restart, or GIVE_UP; abi.Cure


class Supervision(HostClient):
    """The `supervise` channel's client end."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._foreseen: set[int] = set()  # components whose next death means a restart at once

    def configure(self, component: Component) -> None:
        """Tell the server how `component` wants to be treated."""
        restart = component.restart
        data = b"".join(ms.to_bytes(4, "little") for ms in restart.backoff_ms)
        args = supervise.ConfigureArgs(component=component.index, steps=len(restart.backoff_ms))
        args.policy, args.poisoned = supervise.Policy[restart.policy.upper()], restart.poisoned
        args.restarts, args.within_ms = restart.give_up_restarts, restart.give_up_within_ms

        def answered(reply: Reply) -> None:
            foreseen = reply.status >= 0 and supervise.ConfigureReturns.unpack(reply.args).foreseen
            self._foresee(component, bool(foreseen))

        self.submit(supervise.Operation.CONFIGURE, args.pack(), answered, data)

    def _foresee(self, component: Component, foreseen: bool) -> None:
        (self._foreseen.add if foreseen else self._foreseen.discard)(component.index)

    def foresees_restart(self, component: Component) -> bool:
        """Whether the server has said that this death means a restart at once; it holds for one death."""
        foreseen = component.index in self._foreseen
        self._foreseen.discard(component.index)
        return foreseen

    def fault(self, component: Component, record: FaultRecord, verdict: Verdict, urgent: bool) -> None:
        """Report a death; `verdict` is called once, whichever instance of the server answers.

        A report that is not urgent waits for the next call, or for `ring`.
        """
        args = supervise.FaultArgs(component.index, record.kind, record.epoch, record.time_ns)

        def answered(reply: Reply) -> None:
            if reply.status < 0:  # no verdict: nothing gives up unless its manifest says so
                self.configure(component)  # it may have lost what it knew
                verdict(REFUSED_DELAY_MS, 0)
                return
            returned = supervise.FaultReturns.unpack(reply.args)
            self._foresee(component, bool(returned.foreseen))
            give_up = returned.action == supervise.Action.GIVE_UP
            verdict(GIVE_UP if give_up else min(returned.delay_ms, 3_600_000), returned.cure)

        self.submit(supervise.Operation.FAULT, args.pack(), answered, ring=urgent)

    def is_overdue(self, started_ns: int, ready: bool, now_ns: int) -> bool:
        """Has a server that runs since `started_ns` let a question wait for too long?"""
        oldest = self.oldest_ns
        deadline = ANSWER_DEADLINE_NS if ready else START_DEADLINE_NS
        return oldest is not None and now_ns - max(oldest, started_ns) > deadline
