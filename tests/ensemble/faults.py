"""What happens to members: each fault is a generator that does harm, yields how long it lasts, and undoes the harm.

A fault may yield several times. `Yield` says what was done, for the log, and the seconds until it goes on.
"""
from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator

from history import BULK, Refused, Unanswered
from members import Ensemble, Member
from network import CLIENTS
from wire_client import WireClient

REJOIN_SECONDS_MAX = 60.0
# Together more than two log files of 8 MiB (`members.default_options`).
PUSHES, PUSH_BYTES, PUSH_SESSION_MS = 60, 500_000, 3000


@dataclasses.dataclass(frozen=True)
class Harm:
    what: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Context:
    ensemble: Ensemble
    rng: random.Random
    session_seconds: float

    def victim(self) -> Member:
        """The leader more often than not: there a fault costs most."""
        if self.rng.random() < 0.6:
            return self.ensemble.leader()
        return self.rng.choice(self.ensemble.members)

    def minority(self) -> list[Member]:
        count = self.rng.randint(1, (len(self.ensemble.members) - 1) // 2)
        first = self.victim()
        others = [member for member in self.ensemble.members if member is not first]
        return [first, *self.rng.sample(others, count - 1)]


Fault = Callable[[Context], Iterator[Harm]]


def kill(context: Context) -> Iterator[Harm]:
    """kill -9, and a new start soon or later."""
    victims = context.minority()
    for victim in victims:
        victim.kill()
    yield Harm(f"kill -9 of {names(victims)}", context.rng.choice([0.0, context.rng.uniform(0.1, 4)]))
    for victim in victims:
        victim.launch()


def kill_all(context: Context) -> Iterator[Harm]:
    """kill -9 of every member within a moment."""
    for member in context.ensemble.members:
        member.kill()
    yield Harm("kill -9 of all members", context.rng.uniform(0, 1))
    for member in context.ensemble.members:
        member.launch()


def pause(context: Context) -> Iterator[Harm]:
    """SIGSTOP for longer than sessions last: who wakes up must not believe that nothing has happened."""
    victim = context.victim()
    victim.pause()
    yield Harm(f"SIGSTOP of {victim.name}", context.session_seconds * context.rng.uniform(1.2, 2))
    victim.resume()


def partition(context: Context) -> Iterator[Harm]:
    """A minority hears nothing of the others, nor they of it; its clients may still reach it."""
    cut_off = context.minority()
    rest = [member for member in context.ensemble.members if member not in cut_off]
    for inside in cut_off:
        for outside in rest:
            cut(context, inside, outside)
            cut(context, outside, inside)
        if context.rng.random() < 0.3:
            context.ensemble.network.cut(CLIENTS, inside.place.number)
    yield Harm(f"partition: {names(cut_off)}", context.session_seconds * context.rng.uniform(0.3, 2))
    context.ensemble.network.heal()


def one_way(context: Context) -> Iterator[Harm]:
    """One member is heard and does not hear, or the other way round."""
    victim = context.victim()
    is_deaf = context.rng.random() < 0.5
    for other in context.ensemble.members:
        if other is not victim:
            cut(context, *((other, victim) if is_deaf else (victim, other)))
    what = f"{victim.name} is {'deaf' if is_deaf else 'mute'}"
    yield Harm(what, context.session_seconds * context.rng.uniform(0.3, 2))
    context.ensemble.network.heal()


def broken_link(context: Context) -> Iterator[Harm]:
    """Two members cannot reach each other, and all others can reach both."""
    a, b = context.rng.sample(context.ensemble.members, 2)
    cut(context, a, b)
    if context.rng.random() < 0.7:
        cut(context, b, a)
    yield Harm(f"no link between {a.name} and {b.name}", context.session_seconds * context.rng.uniform(0.3, 2))
    context.ensemble.network.heal()


def slow_disk(context: Context) -> Iterator[Harm]:
    """Each sync of one member takes much longer."""
    victim = context.victim()
    milliseconds = context.rng.choice([20, 200, 1000])
    victim.set_faults(sync_us=milliseconds * 1000)
    yield Harm(f"syncs of {victim.name} take {milliseconds} ms", context.rng.uniform(2, 6))
    victim.set_faults()


def clock_step(context: Context) -> Iterator[Harm]:
    """The wall clock of one member jumps, forwards or back, and later back again."""
    victim = context.victim()
    seconds = context.rng.choice([-86_400, -60, 60, 3600, 86_400])
    victim.set_faults(clock_ms=seconds * 1000)
    yield Harm(f"clock of {victim.name} {seconds:+} s", context.rng.uniform(2, 6))
    victim.set_faults()


def full_disk(context: Context) -> Iterator[Harm]:
    """The disk of one member is full for a while, and more is written than its log has room for."""
    victim = context.victim()
    victim.fill_disk()
    refused = push(context)
    yield Harm(f"full disk of {victim.name} ({refused} of {PUSHES} large writes failed)", context.rng.uniform(2, 6))
    victim.free_disk()
    if not victim.running():
        # Apache's server ends then.
        victim.launch()


def push(context: Context) -> int:
    """Writes more than the log's files have been given beforehand; returns how many writes failed."""
    servers = [member.address for member in context.ensemble.members]
    client = WireClient(servers, PUSH_SESSION_MS, None, random.Random(0))
    failed = 0
    for _ in range(PUSHES):
        try:
            client.connect()
            client.set(BULK, "x" * PUSH_BYTES, -1)
        except (Refused, Unanswered):
            failed += 1
    client.close()
    return failed


def rolling_restart(context: Context) -> Iterator[Harm]:
    """SIGTERM and a new start, one member after the other."""
    for member in context.rng.sample(context.ensemble.members, len(context.ensemble.members)):
        member.stop()
        member.launch()
        member.wait_until_it_serves(REJOIN_SECONDS_MAX)
        yield Harm(f"restart of {member.name}", context.rng.uniform(0, 0.5))


def rolling_change(context: Context) -> Iterator[Harm]:
    """Every member leaves for good and comes back as a machine that is new, with an empty disk."""
    for member in context.rng.sample(context.ensemble.members, len(context.ensemble.members)):
        context.ensemble.reconfigure(leaving=member)
        member.stop()
        member.wipe()
        member.launch()
        context.ensemble.reconfigure(joining=member)
        member.wait_until_it_serves(REJOIN_SECONDS_MAX)
        yield Harm(f"{member.name} replaced", context.rng.uniform(0, 0.5))


def cut(context: Context, sender: Member, receiver: Member) -> None:
    context.ensemble.network.cut(sender.place.number, receiver.place.number)


def names(members: list[Member]) -> str:
    return ", ".join(member.name for member in members)


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "kill-all": kill_all,
    "pause": pause,
    "partition": partition,
    "one-way": one_way,
    "broken-link": broken_link,
    "slow-disk": slow_disk,
    "clock-step": clock_step,
    "full-disk": full_disk,
    "rolling-restart": rolling_restart,
    "rolling-change": rolling_change,
}


def impossible(ensemble: Ensemble) -> dict[str, str]:
    """The faults that this machine does not allow, and why."""
    reasons = {}
    if not ensemble.network.can_cut:
        why = "name spaces are not permitted"
        reasons.update({name: why for name in ("partition", "one-way", "broken-link", "full-disk")})
    if ensemble.preload is None:
        reasons.update({name: "there is no C compiler" for name in ("slow-disk", "clock-step")})
    return reasons
