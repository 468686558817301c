"""The ensembles that the benchmark compares, and the client that notices when one stands still.

Members come from the ensemble tests, on loopback, with the settings that both servers share.
"""
from __future__ import annotations

import dataclasses
import pathlib
import random
import sys
import threading
import time
from collections.abc import Callable

from servers import HEAP, BenchApache, BenchGrange, Options, ServerFailed

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "ensemble"))

import members  # noqa: E402
from history import Refused, Unanswered  # noqa: E402
from members import Ensemble, Member  # noqa: E402
from wire_client import WireClient  # noqa: E402

MEMBERS = 3
WRITE_EVERY_SECONDS = 0.005
# A client that writes this long before and after knows how it is when nothing happens.
CALM_SECONDS = 0.5
STANDSTILL_SECONDS_MAX = 30.0
SESSION_MS = 10_000
NODE = "/writes"


class ApacheMember(Member, BenchApache):
    main_class = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


class GrangeMember(Member, BenchGrange):
    pass


members.MEMBERS = {"apache": ApacheMember, "grange": GrangeMember}


def make(kind: str, snap_count: int | None = None) -> Ensemble:
    """An ensemble that is not started yet."""
    extra = {} if snap_count is None else {"snapCount": str(snap_count), "autopurge.purgeInterval": "1"}
    return Ensemble(kind, MEMBERS, Options(super_password=None, extra=extra))


@dataclasses.dataclass(frozen=True)
class Standstill:
    """What a client that writes every 5 ms met."""

    gap_ms: float
    is_session_kept: bool
    # Acknowledged writes that are not there afterwards: an overwritten version shows as one that is given twice.
    lost: int


class Writer(threading.Thread):
    """Writes one znode every 5 ms, whatever happens, and notes when each write was acknowledged."""

    def __init__(self, addresses: list[tuple[str, int]], first: tuple[str, int]):
        super().__init__(daemon=True)
        self._client = WireClient(addresses, SESSION_MS, None, random.Random(0))
        self._client.retry_seconds = 0.002
        self._client.go_to(first)
        self.session = self._client.session
        self.acknowledged: list[tuple[float, int]] = []
        self._is_asked_to_end = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        while not self._is_asked_to_end.is_set():
            try:
                self._client.connect()
                version = self._client.set(NODE, "x", -1)["version"]
                self.acknowledged.append((time.monotonic(), version))
            except (Unanswered, Refused):
                continue
            due = max(due + WRITE_EVERY_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def end(self) -> Standstill:
        self._is_asked_to_end.set()
        self.join()
        self._client.connect()
        self._client.sync(NODE)
        final = self._client.get(NODE, False)["version"]
        times = [at for at, _ in self.acknowledged]
        versions = [version for _, version in self.acknowledged]
        gap = max(after - before for before, after in zip(times, times[1:]))
        lost = sum(after <= before for before, after in zip(versions, versions[1:])) + (final < versions[-1])
        is_kept = self._client.session == self.session
        self._client.close()
        return Standstill(gap * 1000, is_kept, lost)


def standstill(ensemble: Ensemble, end: Callable[[Member], None], is_at_leader: bool) -> Standstill:
    """Ends the leader under a client that is connected to it, or to another member, and starts it again."""
    leader = ensemble.leader()
    other = next(member for member in ensemble.members if member is not leader)
    first = leader if is_at_leader else other
    writer = Writer([member.address for member in ensemble.members], first.address)
    writer.start()
    time.sleep(CALM_SECONDS)
    before = time.monotonic()
    end(leader)
    deadline = time.monotonic() + STANDSTILL_SECONDS_MAX
    while not writer.acknowledged or writer.acknowledged[-1][0] < before + CALM_SECONDS:
        if time.monotonic() > deadline:
            raise ServerFailed(f"no write for {STANDSTILL_SECONDS_MAX:.0f} s after the end of {leader.name}")
        time.sleep(0.02)
    time.sleep(CALM_SECONDS)
    found = writer.end()
    leader.start()
    ensemble.wait_until_all_serve()
    return found


def make_node(ensemble: Ensemble) -> None:
    client = WireClient([ensemble.members[0].address], SESSION_MS, None, random.Random(0))
    client.connect()
    client.create(NODE, "", False, False)
    client.close()


__all__ = ["HEAP", "Ensemble", "Member", "Standstill", "make", "make_node", "standstill"]
