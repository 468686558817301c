#!/usr/bin/env python3
"""Performs the same random operations on two servers and compares every reply and event.

Side A is the reference (Apache ZooKeeper 3.8.0), side B the server under test. Operations come from
operations.py and hostile_steps.py, in rounds; each round has fresh servers and a seed of its own,
printed with a difference, so `--seed THAT --rounds 1` shows it again. What may differ is in
intended_differences.md. A server given as HOST:PORT must be freshly started with an empty data
directory, extendedTypesEnabled and superDigest as printed by `apache.py run`; it gets one round.

Exit status: 0 no difference; 1 a difference; 2 usage; 3 a server could not be started.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import random
import sys
import time

from apache import Apache
from grange_server import Grange
from minimise import minimised
from operations import Step
from rounds import Difference, Round, Target
from server_process import Options, ServerFailed, end_cleanly_on_sigterm, parse_address
from sides import SESSION_TIMEOUT_MS

COMMON_SETTINGS = {
    # Containers must not go away by the clock in the middle of a run.
    "znode.container.checkIntervalMs": "86400000"
}
# By seed, so that a default run has each; quotas are in the way of most writes, so two rounds have none enforced.
VARIANTS: tuple[dict[str, str], ...] = ({}, {"enforceQuota": "true"}, {}, {"extendedTypesEnabled": "false"})


def options(seed: int, further: list[str] = ()) -> Options:  # type: ignore[assignment]
    """The settings of a seed's round, with further KEY=VALUE lines."""
    given = dict(item.split("=", 1) for item in further)
    extra = {**COMMON_SETTINGS, **VARIANTS[seed % len(VARIANTS)], **given}
    return Options(session_timeout_ms_max=SESSION_TIMEOUT_MS, fsync=False, extra=extra)


def lockstep_sides(seed: int, pace_b: str) -> str:
    """The sides that get one request at a time.

    Apache enforces quotas by what it has applied so far, so what it lets pass in a pipeline is a matter of chance.
    """
    if "enforceQuota" in VARIANTS[seed % len(VARIANTS)]:
        return "AB"
    return "B" if pace_b == "lockstep" else ""


@contextlib.contextmanager
def opened(server: str, settings: Options, keep: bool):
    """A `Target` for `apache`, `grange` or HOST:PORT."""
    if server in ("apache", "grange"):
        with (Apache if server == "apache" else Grange)(settings, keep=keep) as process:
            yield Target(process.address, process)
            if not process.running():
                print(f"{process.name} ended by itself:\n{process.log_tail()}", file=sys.stderr)
    else:
        yield Target(parse_address(server))


@dataclasses.dataclass
class Outcome:
    """What one or several rounds found."""

    operations: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)
    rules: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    met: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add(self, done: Round, difference: Difference | None) -> None:
        self.operations += done.operations
        self.rules.update(done.rules.used)
        self.met.update(done.met)
        if difference:
            self.differences.append(str(difference))
            print(difference, flush=True)


@contextlib.contextmanager
def fresh_round(args, seed: int):
    """A `Round` on servers that have seen nothing yet."""
    of_a, of_b = options(seed), options(seed, args.set_b)
    with opened(args.a, of_a, args.keep) as a, opened(args.b, of_b, args.keep) as b:
        the_round = Round(seed, a, b, lockstep_sides(seed, args.pace_b), args.b == "apache")
        try:
            yield the_round
        finally:
            the_round.close()


def run_round(args, seed: int, with_expiry: bool, outcome: Outcome) -> None:
    found = None
    with fresh_round(args, seed) as the_round:
        try:
            the_round.run(args.ops // args.rounds, args.seconds_max, with_expiry)
        except Difference as difference:
            found = difference
        outcome.add(the_round, found)
    if found and args.minimise:
        print_minimised(args, seed, the_round.performed, found)


def print_minimised(args, seed: int, steps: list[Step], found: Difference) -> None:
    """Replays ever fewer steps on fresh servers and prints the fewest that still show the difference."""

    def shows(some: list[Step]) -> bool:
        with fresh_round(args, seed) as the_round:
            try:
                the_round.replay(some)
            except Difference as difference:
                return difference.kind == found.kind
        return False

    print(f"minimised, seed {seed}:")
    for step in minimised(steps, shows, args.minimise):
        print(f"  {step.describe()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--a", default="apache", help="reference: apache (default), grange or HOST:PORT")
    parser.add_argument("--b", default="grange", help="server under test: grange (default), apache or HOST:PORT")
    parser.add_argument("--seed", type=int, help="seed of the first round; the next ones count up (default: random)")
    parser.add_argument("--ops", type=int, default=20_000, help="operations in all (default 20000)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds with fresh servers (default 4)")
    parser.add_argument("--pace-b", choices=("same", "lockstep"), default="same", help="lockstep: no pipelining on B")
    parser.add_argument("--minimise", type=float, metavar="SECONDS", help="look that long for the fewest steps that differ")
    parser.add_argument("--set-b", action="append", default=[], metavar="KEY=VALUE", help="a zoo.cfg line for B only")
    parser.add_argument("--coverage", action="store_true", help="print how often each request met each error code")
    parser.add_argument("--keep", action="store_true", help="keep the servers' directories")
    parser.add_argument("--seconds-max", type=float, default=600, help="end a round after this time (default 600)")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    if ":" in args.a or ":" in args.b:
        args.rounds = 1
    first = random.SystemRandom().randrange(1, 10**6) if args.seed is None else args.seed
    began, outcome = time.monotonic(), Outcome()
    try:
        for seed in range(first, first + args.rounds):
            run_round(args, seed, seed == first, outcome)
    except (ServerFailed, argparse.ArgumentTypeError, ConnectionError) as error:
        print(error, file=sys.stderr)
        return 3
    if args.coverage:
        for (name, err), count in sorted(outcome.met.items()):
            print(f"{name:22} {err:5} {count:7}")
    print(f"differential: seeds {first}..{first + args.rounds - 1}, {outcome.operations} operations in "
          f"{time.monotonic() - began:.0f} s, {len(outcome.differences)} differences, "
          f"intended ones met: {dict(outcome.rules) or 'none'}")  # fmt: skip
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
