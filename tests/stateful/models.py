"""What each stateful component should do, as simply as Python says it. A protocol more is a class more here.

A model takes note of the requests in the order in which they are made, and says at once what the answer has
to be; whatever dies or is replaced before the answer comes must not change it.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from hypervisor.abi.generated import Error
from tests.stateful.conductor import Answer, Conductor, Request, Use, done

# What is drawn for a call, for `Model.request` to make a request of; it means something in any state.
Intent = tuple[Any, ...]


class Model(ABC):
    """One service. `uses`: what the conductor needs of it; `victims`: who may die or be replaced."""

    uses: tuple[Use, ...]
    victims: tuple[str, ...]

    @abstractmethod
    def intents(self) -> st.SearchStrategy[Intent]:
        """Calls to draw from."""

    @abstractmethod
    def begin(self, conductor: Conductor) -> None:
        """Takes note of the state there is."""

    @abstractmethod
    def request(self, intent: Intent) -> tuple[Request, Answer]:
        """What to ask, and what has to be answered; changes the state accordingly."""

    def requests(self, intent: Intent) -> list[tuple[Request, Answer]]:
        """The same, where a call is several requests."""
        return [self.request(intent)]

    def is_alone(self, intent: Intent) -> bool:
        """Whether everything asked before has to be answered first."""
        return False

    @abstractmethod
    def check(self, conductor: Conductor) -> None:
        """Compares what can be seen from outside with the state, when everything has been answered."""


class CountModel(Model):
    """A list that grows."""

    uses = (
        Use("count", "count@1", ("add",), "relay.count"),
        Use("audit", "count@1", ("entry",), "counter.count"),
    )
    victims = ("relay", "counter")

    def intents(self) -> st.SearchStrategy[Intent]:
        """Amounts."""
        return st.tuples(st.integers(0, 0xFFFFFFFF))

    def begin(self, conductor: Conductor) -> None:
        self.before = self.entry(conductor, 0)
        self.ledger: list[int] = []

    @staticmethod
    def entry(conductor: Conductor, number: int) -> int:
        """An entry of the ledger; 0: how many there are."""
        answer = conductor.call(Request("audit", 2, struct.pack("<Q", number)))
        assert answer.status == 0, f"entry {number}: {answer}"
        return int.from_bytes(answer.values[:8], "little")

    def request(self, intent: Intent) -> tuple[Request, Answer]:
        (amount,) = intent
        self.ledger.append(amount)
        return Request("count", 1, struct.pack("<Q", amount)), done("Q", self.before + len(self.ledger))

    def check(self, conductor: Conductor) -> None:
        assert self.entry(conductor, 0) == self.before + len(self.ledger), "the number of entries"
        numbers = range(self.before + 1, self.before + len(self.ledger) + 1)
        assert [self.entry(conductor, number) for number in numbers] == self.ledger


class AudioModel(Model):
    """A stream of frames in a file, `sound`."""

    uses = (
        Use("audio", "audio@1", ("configure", "set_volume", "play", "status", "drain"), "audio_driver.audio"),
    )
    victims = ("audio_driver",)
    FULL, BYTES_MAX, HEADER = 65536, 4096, 44

    def __init__(self, sound: Path) -> None:
        self.sound = sound
        self.frames = b""  # as they are to sound, from frame number `first` on

    def intents(self) -> st.SearchStrategy[Intent]:
        """Plays relative to where the stream is, and the rest."""
        ahead = st.sampled_from([0] * 12 + [-1, -5, -200, 1, 30])
        plays = st.tuples(st.just("play"), ahead, st.integers(0, 300), st.integers(0, 2**32))
        rates, channels = st.sampled_from([48000, 8000, 12345, 0]), st.sampled_from([1, 2, 2, 8, 0, 9])
        return st.one_of(
            plays, plays, plays,
            st.tuples(st.just("volume"), st.sampled_from([0, 1, 20000, 65535, 65536, 65537, 2**32 - 1])),
            st.tuples(st.just("configure"), rates, channels, st.sampled_from([5, 5, 5, 4])),
            st.tuples(st.just("status")),
            st.tuples(st.just("drain")),
        )  # fmt: skip

    def begin(self, conductor: Conductor) -> None:
        answer = conductor.call(Request("audio", 4))
        self.position, self.rate, self.volume, self.channels, _ = struct.unpack_from("<QIIII", answer.values)
        self.first, self.frames = self.position, b""

    def request(self, intent: Intent) -> tuple[Request, Answer]:
        what, *values = intent
        if what == "play":
            return self.play(*values)
        if what == "volume":
            (volume,) = values
            self.volume = volume if volume <= self.FULL else self.volume
            answer = done() if volume <= self.FULL else Answer(Error.INVAL)
            return Request("audio", 2, struct.pack("<I", volume)), answer
        if what == "configure":
            return Request("audio", 1, struct.pack("<III", *values)), self.configure(*values)
        if what == "status":
            known = (self.position, self.rate, self.volume, self.channels, 5)
            return Request("audio", 4), done("QIIII", *known)
        return Request("audio", 5), done()

    def configure(self, rate: int, channels: int, encoding: int) -> Answer:
        if rate not in (48000, 8000) or channels not in range(1, 9) or encoding != 5:
            return Answer(Error.INVAL)
        if self.position and (rate, channels) != (self.rate, self.channels):
            return Answer(Error.BUSY)
        self.rate, self.channels = rate, channels
        return done()

    def play(self, ahead: int, frames: int, seed: int) -> tuple[Request, Answer]:
        position = max(0, self.position + ahead)
        unit = 2 * self.channels
        samples = [
            ((seed + place) * 0x9E3779B1 >> 7) % 65536 - 32768 for place in range(frames * self.channels)
        ]
        samples = samples[: 4096 // 2]
        data, arguments = struct.pack(f"<{len(samples)}h", *samples), struct.pack("<QI", position, frames)
        request = Request("audio", 3, arguments, data)
        end = position + frames
        if self.rate == 0 or not data or len(data) != frames * unit or len(data) > self.BYTES_MAX:
            return request, Answer(Error.INVAL)
        if position > self.position:
            return request, Answer(Error.GAP)
        if end > self.position:
            heard = samples[(self.position - position) * self.channels :]
            self.frames += struct.pack(f"<{len(heard)}h", *(each * self.volume >> 16 for each in heard))
            self.position = end
        return request, done("Q", end)

    def check(self, conductor: Conductor) -> None:
        unit = 2 * max(1, self.channels)
        recorded = self.sound.read_bytes()[self.HEADER + self.first * unit :] if self.position else b""
        assert recorded == self.frames, "what is in the file"


class Change(NamedTuple):
    """A change of a name, as those who subscribe are told of it."""

    number: int
    kind: int
    name: bytes
    value: bytes


@dataclass
class Subscription:
    """A position among the changes below a prefix. `seen`: the last change that was told."""

    prefix: bytes
    acknowledged: int
    seen: int
    has_gap: bool = False

    def covers(self, name: bytes) -> bool:
        return not self.prefix or name == self.prefix or name.startswith(self.prefix + b"/")


class StoreModel(Model):
    """A dictionary, the list of its changes, and who has been told how many of them."""

    uses = (
        Use(
            "store",
            "store@1",
            ("set", "delete", "get", "status", "subscribe", "unsubscribe", "next", "acknowledge"),
            "data_store.store",
            'read = "/"\nwrite = "/"',
        ),
    )
    victims = ("data_store",)
    ABSENT = 0x7FFFFFFFFFFFFFFF
    NAMES = (b"a", b"a/b", b"net/eth0/address", b"longer" * 8)
    PREFIXES = (b"", b"a", b"a/b", b"net")  # each covers a name at least
    SUBSCRIPTIONS, KEPT = 4, 512

    def intents(self) -> st.SearchStrategy[Intent]:
        """`expected`: nothing, the version, an older one, that there is none."""
        name = st.sampled_from(self.NAMES)
        expected = st.sampled_from(["any", "any", "this", "older", "absent"])
        value = st.one_of(
            st.tuples(st.sampled_from([1, 2]), st.binary(min_size=8, max_size=8)),
            st.tuples(st.just(3), st.binary(max_size=256)),
            st.tuples(st.just(4), st.text(max_size=20).map(str.encode)),
        )
        sets = st.tuples(st.just("set"), name, expected, value)
        number = st.sampled_from([0, 0, 0, 0, 0, 1, 1, self.SUBSCRIPTIONS])
        nexts = st.tuples(st.just("next"), number, st.sampled_from(["seen", "seen", "seen", "acknowledged"]))
        return st.one_of(
            sets, sets, sets,
            st.tuples(st.just("delete"), name, expected),
            st.tuples(st.just("get"), name),
            st.tuples(st.just("status")),
            st.tuples(st.just("subscribe"), number, st.sampled_from(self.PREFIXES), st.booleans()),
            nexts, nexts, nexts,
            st.tuples(st.just("acknowledge"), number, st.sampled_from(["seen", "seen", "future"])),
            st.tuples(st.just("unsubscribe"), number),
        )  # fmt: skip

    def begin(self, conductor: Conductor) -> None:
        for number in range(self.SUBSCRIPTIONS):
            answer = conductor.call(Request("store", 6, struct.pack("<I", number)))
            assert answer.status == 0, str(answer)
        answer = conductor.call(Request("store", 9))
        assert answer.status == 0, str(answer)
        self.changes, self.others = struct.unpack_from("<QI", answer.values)
        self.log: list[Change] = []  # since now
        self.subscriptions: dict[int, Subscription] = {}
        request, answer = self.subscribe(0, b"", True)  # to everything: most sequences are short
        assert conductor.call(request) == answer
        self.values: dict[bytes, tuple[int, int, bytes]] = {}  # version, kind, value
        for name in self.NAMES:
            found = conductor.call(Request("store", 3, b"", name))
            if found.status == 0:
                version, kind, _ = struct.unpack_from("<QII", found.values)
                self.values[name] = version, kind, found.output
        self.others -= len(self.values)

    def is_alone(self, intent: Intent) -> bool:
        """What changes a subscription also decides what one who waits for a change is told."""
        return intent[0] in ("subscribe", "unsubscribe", "acknowledge", "flood")

    def requests(self, intent: Intent) -> list[tuple[Request, Answer]]:
        if intent[0] == "flood":  # more changes than the store keeps
            return [self.request(self.change_below(b"a")) for _ in range(self.KEPT + 1)]
        if intent[0] != "next" or not self.has_to_wait(*intent[1:]):
            return [self.request(intent)]
        # It waits, and is then told of the next change there is.
        subscription = self.subscriptions[intent[1]]
        request = self.next_request(*intent[1:])
        change = self.request(self.change_below(subscription.prefix))
        return [(request, self.told(subscription, self.log[-1])), change]

    def change_below(self, prefix: bytes) -> Intent:
        """A change of the first name below a prefix, that is possible."""
        name = next(each for each in self.NAMES if Subscription(prefix, 0, 0).covers(each))
        _, kind, value = self.values.get(name, (0, 1, bytes(8)))
        return "set", name, "any", (kind, value)

    def request(self, intent: Intent) -> tuple[Request, Answer]:
        what, *values = intent
        if what == "status":
            names = len(self.values)
            counts = (self.changes, self.others + names, names, len(self.subscriptions))
            return Request("store", 9), done("QIII", *counts)
        if what in ("subscribe", "unsubscribe", "next", "acknowledge"):
            handler: Any = getattr(self, what)
            answered: tuple[Request, Answer] = handler(*values)
            return answered
        name = values[0]
        version, kind, value = self.values.get(name, (0, 0, b""))
        if what == "get":
            known = done("QII", version, kind, len(value), output=value) if version else Answer(Error.NOENT)
            return Request("store", 3, b"", name), known
        expected = {"any": 0, "this": version, "older": max(1, version - 1), "absent": self.ABSENT}[values[1]]
        is_stale = expected not in (0, version or self.ABSENT)
        if what == "delete":
            request = Request("store", 2, struct.pack("<Q", expected), name)
            if is_stale or not version:
                return request, Answer(Error.STALE if version else Error.NOENT)
            del self.values[name]
            return request, self.note(name, 0, b"")
        new_kind, new_value = values[2]
        arguments = struct.pack("<QII", expected, new_kind, len(name))
        request = Request("store", 1, arguments, name + new_value)
        if is_stale or (version and kind != new_kind):
            return request, Answer(Error.STALE if is_stale else Error.INVAL)
        self.values[name] = self.changes + 1, new_kind, new_value
        return request, self.note(name, new_kind, new_value)

    def note(self, name: bytes, kind: int, value: bytes) -> Answer:
        """Another change, which may take the place of one that somebody has not acknowledged."""
        self.changes += 1
        self.log.append(Change(self.changes, kind, name, value))
        if len(self.log) > self.KEPT:
            lost = self.log[-1 - self.KEPT]
            for each in self.subscriptions.values():
                each.has_gap |= lost.number > each.acknowledged and each.covers(lost.name)
        return done("Q", self.changes)

    # -- subscriptions --------------------------------------------------------------------------------

    def subscribe(self, number: int, prefix: bytes, anew: bool) -> tuple[Request, Answer]:
        request = Request("store", 5, struct.pack("<II", number, anew), prefix)
        if number >= self.SUBSCRIPTIONS:
            return request, Answer(Error.BADF)
        known = self.subscriptions.get(number)
        if anew or known is None or known.prefix != prefix:
            known = self.subscriptions[number] = Subscription(prefix, self.changes, self.changes)
        return request, done("Q", known.acknowledged)

    def unsubscribe(self, number: int) -> tuple[Request, Answer]:
        request = Request("store", 6, struct.pack("<I", number))
        self.subscriptions.pop(number, None)
        return request, done() if number < self.SUBSCRIPTIONS else Answer(Error.BADF)

    def acknowledge(self, number: int, through: str) -> tuple[Request, Answer]:
        known = self.subscriptions.get(number)
        last = self.changes + 1 if through == "future" else known.seen if known else 0
        request = Request("store", 8, struct.pack("<QI", last, number))
        if known is None:
            return request, Answer(Error.BADF)
        if last > self.changes:
            return request, Answer(Error.RANGE)
        known.acknowledged = max(known.acknowledged, last)
        return request, done()

    def next(self, number: int, after: str) -> tuple[Request, Answer]:
        request, known = self.next_request(number, after), self.subscriptions.get(number)
        if known is None:
            return request, Answer(Error.BADF)
        if known.has_gap:
            return request, Answer(Error.GAP)
        return request, self.told(known, next(self.untold(known, after)))

    def next_request(self, number: int, after: str) -> Request:
        known = self.subscriptions.get(number)
        seen = known.seen if known and after == "seen" else 0
        return Request("store", 7, struct.pack("<QI", seen, number))

    def untold(self, known: Subscription, after: str) -> Iterator[Change]:
        """The changes below its prefix after the last one seen, or acknowledged."""
        last = max(known.acknowledged, known.seen if after == "seen" else 0)
        return (each for each in self.log if each.number > last and known.covers(each.name))

    def has_to_wait(self, number: int, after: str) -> bool:
        known = self.subscriptions.get(number)
        return known is not None and not known.has_gap and not any(self.untold(known, after))

    @staticmethod
    def told(known: Subscription, change: Change) -> Answer:
        known.seen = max(known.seen, change.number)
        output = change.name + change.value
        return done("QII", change.number, change.kind, len(change.name), output=output)

    def check(self, conductor: Conductor) -> None:
        for name in self.NAMES:
            request, answer = self.request(("get", name))
            assert conductor.call(request) == answer, f"{name!r}"
        for number, known in self.subscriptions.items():  # what nobody has been told yet, each once
            while known.has_gap or any(self.untold(known, "seen")):
                request, answer = self.request(("next", number, "seen"))
                assert (got := conductor.call(request)) == answer, f"{number}: {got} instead of {answer}"
                if known.has_gap:
                    break
