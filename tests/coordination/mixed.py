#!/usr/bin/env python3
"""kazoo, Curator and `grange` contend for the same locks and elections while processes are killed.

Contenders work in groups, each with a path of its own. Nobody may hold what another one holds (section.py), somebody must
hold it again within a deadline whoever was killed, and each library must have had its turn.
"""
from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import apache  # noqa: E402
import grange_server  # noqa: E402
import kazoo_suite  # noqa: E402
import wire  # noqa: E402
from server_process import Options, end_cleanly_on_sigterm  # noqa: E402

SESSION_SECONDS = 4
# After a kill the session has to end, and the machine may be busy with a build.
TURN_SECONDS_MAX = 25.0
CURATOR_JARS = ("curator-recipes", "curator-framework", "curator-client", "guava", "slf4j-api", "jackson-databind")
JAVA_CLASS = "CuratorWorker"


@dataclasses.dataclass(frozen=True)
class Group:
    """A path, and who contends there. `commands` are subcommands of grange, with how they hold."""

    name: str
    commands: tuple[tuple[str, tuple[str, ...]], ...]
    kazoo: bool = False
    curator: bool = False


GROUPS = (
    # All three libraries; kazoo and Curator each need to be told of the other's names.
    Group("lock", (("exclusive", ("lock",)),) * 2, kazoo=True, curator=True),
    # As they come out of the box, two at a time.
    Group("lock-curator", (("exclusive", ("lock", "--layout", "curator")),), curator=True),
    Group("rw", (("exclusive", ("lock",)), ("shared", ("lock", "--shared"))), kazoo=True),
    Group(
        "rw-curator",
        (
            ("exclusive", ("lock", "--layout", "curator-read-write")),
            ("shared", ("lock", "--shared", "--layout", "curator-read-write")),
        ),
        curator=True,
    ),
    # With one lease, so that it is judged like a lock.
    Group("semaphore", (("exclusive", ("semaphore", "-n", "1")),), kazoo=True),
    Group("election", (("exclusive", ("elect",)),), kazoo=True),
    Group("election-curator", (("exclusive", ("elect", "--layout", "curator")),), curator=True),
    Group("latch", (("exclusive", ("elect", "--layout", "curator-latch")),), curator=True),
)
KINDS = {
    "lock": ("lock", "lock-curator"),
    "rw": ("rw", "rw-curator"),
    "semaphore": ("semaphore",),
    "election": ("election", "election-curator", "latch"),
}


class Slot:
    """A contender's process, which is started again when it has ended or was killed."""

    def __init__(self, kind: str, command: list[str], environment: dict[str, str], turns_only: bool):
        self.kind, self.command, self.environment, self.turns_only = kind, command, environment, turns_only
        self.process: subprocess.Popen | None = None
        self.starts_at = 0.0

    def run(self) -> None:
        """Starts the process if it is time; raises if it has failed by itself."""
        if self.process is not None and self.process.poll() is not None:
            status, killed = self.process.returncode, self.starts_at > 0
            if not killed and (status != 0 or not self.turns_only):
                raise SystemExit(f"{self.kind} ended by itself with status {status}: {' '.join(self.command)}")
            self.process = None
        if self.process is None and time.monotonic() >= self.starts_at:
            self.starts_at = 0.0
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL)

    def kill(self, after: float) -> None:
        """Kills the process; the next one starts so many seconds later."""
        if self.process is not None and self.process.poll() is None:
            self.starts_at = time.monotonic() + after
            self.process.kill()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def classes(cache: pathlib.Path) -> str:
    """Compiles the Java contender and returns its class path."""
    javac = shutil.which("javac")
    if javac is None:
        raise SystemExit("javac is missing: apt-get install default-jdk-headless")
    jars = [apache.JAVA_DIRECTORY / f"{name}.jar" for name in CURATOR_JARS]
    missing = [str(jar) for jar in jars if not jar.exists()]
    if missing:
        raise SystemExit(f"{missing} missing: apt-get install libcurator-recipes-java")
    path = apache.class_path(*map(str, jars))
    out = cache / "curator-worker"
    subprocess.run([javac, "-proc:none", "-nowarn", "-d", str(out), "-cp", path, str(HERE / f"{JAVA_CLASS}.java")], check=True)
    return f"{out}:{path}"


def make_parents(address: tuple[str, int], groups: list[Group]) -> None:
    """Makes the counters, and the contenders' parents: kazoo does not make those again that a server has removed."""
    connection = wire.Connection(address)
    connection.send(wire.frame(wire.connect_request()))
    connection.receive()
    everybody = [(31, "world", "anyone")]
    parents = [f"/{group.name}" for group in groups] + [f"/{group.name}-__lock__" for group in groups]
    znodes = {"/counters": b"", **{f"/counters/{group.name}": b"0" for group in groups}, **dict.fromkeys(parents, b"")}
    for xid, (path, data) in enumerate(znodes.items(), 1):
        connection.send(wire.frame(wire.header(xid, 1) + wire.create_body(path, data, everybody, 0)))
        if wire.decode_reply(connection.receive() or b"", lambda _: "create")["err"] != 0:
            raise SystemExit(f"cannot create {path}")
    connection.send(wire.frame(wire.header(99, -11)))
    connection.receive()
    connection.close()


def slots(args: argparse.Namespace, server: str, groups: list[Group], root: pathlib.Path) -> list[Slot]:
    environment = dict(os.environ, GRANGE_SERVERS=server, PYTHONDONTWRITEBYTECODE="1")
    made = []
    for group in groups:
        for mode, subcommand in group.commands:
            name, *flags = subcommand
            section = [sys.executable, str(HERE / "section.py"), str(root / group.name), "grange", mode, server]
            command = [grange_server.binary(), name, f"/{group.name}", *flags, "--session-timeout", str(SESSION_SECONDS)]
            made.append(Slot("grange", [*command, "--", *section, f"/counters/{group.name}"], environment, True))
    directories = lambda chosen: [f"{group.name}={root / group.name}" for group in chosen]  # noqa: E731
    with_kazoo = directories(group for group in groups if group.kazoo)
    python, source = kazoo_suite.prepare(args.cache)
    kazoo = dict(environment, PYTHONPATH=str(source))
    command = [str(python), str(HERE / "kazoo_worker.py"), server, str(SESSION_SECONDS), *with_kazoo]
    made += [Slot("kazoo", command, kazoo, False) for _ in range(2) if with_kazoo]
    with_curator = directories(group for group in groups if group.curator)
    java = [apache.java(), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", classes(args.cache), JAVA_CLASS]
    command = [*java, server, str(SESSION_SECONDS * 1000), *with_curator]
    return [*made, *(Slot("curator", command, environment, False) for _ in range(1) if with_curator)]


class Judge:
    """What the contenders have written down."""

    def __init__(self, groups: list[Group], root: pathlib.Path, server: str):
        self.groups, self.root = groups, root
        self.look = [grange_server.binary(), "lock", "--servers", server, "--list"]
        self.seen = {group.name: (0, time.monotonic()) for group in groups}

    def lines(self, group: Group, name: str) -> list[str]:
        try:
            return (self.root / group.name / name).read_text().splitlines()
        except FileNotFoundError:
            return []

    def check(self) -> None:
        """Ends the run at the first violation, or when nobody has had a turn for too long."""
        for group in self.groups:
            if violations := self.lines(group, "violations"):
                raise SystemExit(f"two held {group.name}: {violations}")
            count, since = self.seen[group.name]
            found = len(self.lines(group, "turns"))
            if found > count:
                self.seen[group.name] = (found, time.monotonic())
            elif time.monotonic() - since > TURN_SECONDS_MAX:
                line = subprocess.run([*self.look, f"/{group.name}"], capture_output=True, text=True).stdout
                raise SystemExit(f"nobody has held {group.name} for {TURN_SECONDS_MAX:.0f} s, after {count} turns:\n{line}")

    def missing(self) -> list[str]:
        """Who has not had a turn yet, in which group."""
        found = []
        for group in self.groups:
            had = {line.split()[1] for line in self.lines(group, "turns")}
            wanted = {"grange"} | ({"kazoo"} if group.kazoo else set()) | ({"curator"} if group.curator else set())
            found += [f"{kind} in {group.name}" for kind in wanted - had]
        return found

    def tokens(self) -> None:
        """The fencing tokens of exclusive holders grow in the order of their turns."""
        for group in self.groups:
            turns = [line.split() for line in self.lines(group, "turns")]
            tokens = [int(turn[3]) for turn in turns if turn[1:3] == ["grange", "exclusive"]]
            if tokens != sorted(set(tokens)):
                raise SystemExit(f"the tokens of {group.name} do not grow: {tokens}")


def run(args: argparse.Namespace, server, root: pathlib.Path) -> str:
    groups = [group for group in GROUPS if any(group.name in KINDS[kind] for kind in args.kinds)]
    for group in groups:
        (root / group.name).mkdir()
    make_parents(server.address, groups)
    judge, contenders = Judge(groups, root, server.address_text), slots(args, server.address_text, groups, root)
    dice, kills = random.Random(args.seed), 0
    try:
        began = time.monotonic()
        next_kill = began + 3.0
        while (seconds := time.monotonic() - began) < args.seconds or judge.missing():
            for contender in contenders:
                contender.run()
            judge.check()
            if seconds > args.seconds + 2 * TURN_SECONDS_MAX:
                raise SystemExit(f"no turn for {judge.missing()}")
            if seconds < args.seconds and time.monotonic() > next_kill:
                dice.choice(contenders).kill(after=dice.uniform(0, 1))
                kills += 1
                next_kill += dice.uniform(0.3, 2.0)
            time.sleep(0.02)
    finally:
        for contender in contenders:
            contender.end()
    judge.check()
    judge.tokens()
    turns = {kind: 0 for kind in ("kazoo", "curator", "grange")}
    for group in groups:
        for line in judge.lines(group, "turns"):
            turns[line.split()[1]] += 1
    return f"{kills} kills; turns: {', '.join(f'{kind} {count}' for kind, count in turns.items())}; never two holders"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long processes are killed (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    parser.add_argument("--cache", type=pathlib.Path, default=HERE.parents[1] / "target" / "interop")
    args = parser.parse_args()
    args.seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    args.cache.mkdir(parents=True, exist_ok=True)
    end_cleanly_on_sigterm()
    print(f"seed {args.seed}", flush=True)
    server_type = grange_server.Grange if args.server == "grange" else apache.Apache
    with tempfile.TemporaryDirectory(prefix="coordination-") as root, server_type(Options(tick_ms=500, fsync=False)) as server:
        print(run(args, server, pathlib.Path(root)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
