#!/usr/bin/env python3
"""Eight `grange queue work` share a queue while they are killed: every item is worked on, and none by two at once.

Each worker's command appends the begin and the end of an item to the journal of that worker's process. The intervals of one
item must not overlap; one that a kill cut off ends with the kill, because the kernel kills the command with its worker. An
item may be done again only if the worker that did it was killed before it could say so.
"""
from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import apache  # noqa: E402
import grange_server  # noqa: E402
from server_process import Options, end_cleanly_on_sigterm  # noqa: E402

QUEUE = "/work"
WORKERS = 8
JOBS = 2
SESSION_SECONDS = 2
# Without a single item done for so long, something hangs.
STANDSTILL_SECONDS = 60.0


@dataclasses.dataclass
class Interval:
    item: str
    begin: float
    end: float | None = None
    done: bool = False


class Worker:
    """One worker's process; the next one gets a journal of its own."""

    def __init__(self, root: pathlib.Path, server: str, number: int):
        self.root, self.server, self.number = root, server, number
        self.generation = 0
        self.killed_at: dict[pathlib.Path, float] = {}
        self.start()

    def start(self) -> None:
        self.generation += 1
        self.journal = self.root / f"{self.number}-{self.generation}"
        environment = dict(os.environ, JOURNAL=str(self.journal), GRANGE_CONFIG="/dev/null")
        command = [grange_server.binary(), "queue", "work", QUEUE, "--servers", self.server, "--jobs", str(JOBS)]
        command += ["--session-timeout", str(SESSION_SECONDS), "--log-level", "error", "--", str(HERE / "work_item.sh")]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process.poll() is not None:
            raise SystemExit(f"worker {self.number} ended by itself with status {self.process.returncode}")
        self.process.kill()
        self.process.wait()
        # The command is killed with it, a moment later at most.
        self.killed_at[self.journal] = time.time()
        self.start()

    def stop(self) -> None:
        """Ends it as a service manager does: what runs may finish."""
        self.process.terminate()
        status = self.process.wait(30)
        if status != 0:
            raise SystemExit(f"worker {self.number} ended with status {status} after SIGTERM")


def grange(server: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    environment = dict(os.environ, GRANGE_CONFIG="/dev/null")
    command = [grange_server.binary(), *arguments, "--servers", server]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=True, **options)


def done_count(root: pathlib.Path) -> int:
    return sum(path.read_bytes().count(b" done ") for path in root.iterdir())


def intervals(root: pathlib.Path, killed_at: dict[pathlib.Path, float]) -> dict[str, list[Interval]]:
    found: dict[str, list[Interval]] = collections.defaultdict(list)
    for path in root.iterdir():
        open_ones: dict[str, Interval] = {}
        for line in path.read_text().splitlines():
            try:
                item, what, at = line.split()
            except ValueError:
                # A command that was killed while it wrote.
                continue
            if what == "begin":
                if item in open_ones:
                    raise SystemExit(f"item {item} was begun twice by the worker {path.name}")
                open_ones[item] = Interval(item, float(at))
                found[item].append(open_ones[item])
            else:
                interval = open_ones.pop(item)
                interval.end, interval.done = float(at), what == "done"
        for interval in open_ones.values():
            if path not in killed_at:
                raise SystemExit(f"item {interval.item} was begun and not finished by {path.name}, which was not killed")
            interval.end = killed_at[path]
    return found


def judge(found: dict[str, list[Interval]], count: int, kills: int) -> int:
    """Returns how many items were done more than once."""
    missing = [item for item in map(str, range(count)) if not any(interval.done for interval in found[item])]
    if missing:
        raise SystemExit(f"{len(missing)} items were never done, such as {missing[:5]}")
    again = 0
    for item, runs in found.items():
        runs.sort(key=lambda interval: interval.begin)
        for one, two in zip(runs, runs[1:]):
            if one.end is None or two.begin < one.end:
                raise SystemExit(f"item {item} was worked on by two at once: {runs}")
        again += sum(interval.done for interval in runs) > 1
    if again > kills * JOBS:
        raise SystemExit(f"{again} items were done again, and only {kills} workers were killed")
    return again


def run(args: argparse.Namespace, server: str, root: pathlib.Path) -> str:
    items = "".join(f"{number}\n" for number in range(args.items))
    grange(server, "queue", "put", QUEUE, input=items)
    if grange(server, "queue", "len", QUEUE).stdout != f"{args.items}\n":
        raise SystemExit("the queue has another length than what was put")
    dice, kills = random.Random(args.seed), 0
    workers = [Worker(root, server, number) for number in range(WORKERS)]
    try:
        began = progress_at = time.monotonic()
        next_kill, done = began + 1.0, 0
        while int(grange(server, "queue", "len", QUEUE).stdout) > 0:
            if (now_done := done_count(root)) > done:
                done, progress_at = now_done, time.monotonic()
            elif time.monotonic() - progress_at > STANDSTILL_SECONDS:
                raise SystemExit(f"nothing was done for {STANDSTILL_SECONDS:.0f} s, after {done} items")
            if time.monotonic() > next_kill:
                dice.choice(workers).kill()
                kills += 1
                next_kill = time.monotonic() + dice.uniform(0.2, 1.5)
            time.sleep(0.05)
        seconds = time.monotonic() - began
        for worker in workers:
            worker.stop()
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
    killed_at = {path: at for worker in workers for path, at in worker.killed_at.items()}
    again = judge(intervals(root, killed_at), args.items, kills)
    if kills == 0:
        raise SystemExit("nobody was killed")
    return f"{args.items} items in {seconds:.0f} s, {kills} kills; all done, {again} done again, none by two at once"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    parser.add_argument("--items", type=int, default=5000, help="default 5000; 100000 by hand")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    args = parser.parse_args()
    args.seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    end_cleanly_on_sigterm()
    print(f"seed {args.seed}", flush=True)
    server_type = grange_server.Grange if args.server == "grange" else apache.Apache
    with tempfile.TemporaryDirectory(prefix="coordination-") as root, server_type(Options(tick_ms=500, fsync=False)) as server:
        print(run(args, server.address_text, pathlib.Path(root)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
