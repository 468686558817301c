#!/usr/bin/env python3
"""Members as real processes, clients that write down everything they do, and faults; then the history is judged.

Each member has a network, a disk and a clock of its own where name spaces are permitted (`network.py`). Clients are of
kazoo, of Apache's Java library and of our own codec in Python (`workload.py`); the rules are in `check.py`. A seed sets
which faults come, on whom and for how long, and what the clients do, but not how threads are scheduled.

Exit status: 0 no rule was broken; 1 one was, or the ensemble did not come back; 2 usage; 3 it could not be set up.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import apache  # noqa: E402
import kazoo_suite  # noqa: E402
from server_process import ServerFailed, end_cleanly_on_sigterm, parse_address  # noqa: E402

import check  # noqa: E402
import faults  # noqa: E402
import history  # noqa: E402
import network  # noqa: E402
from members import TICK_MS, Ensemble, build_preload  # noqa: E402
from wire_client import OPEN, WireClient  # noqa: E402

SESSION_MS = 3000
CALM_SECONDS = 1.5
WORKER_SECONDS_MAX = 30.0
EPHEMERALS_SECONDS_MAX = 30.0
JAVA_CLASS = "HistoryClient"


class Workers:
    """The clients' processes."""

    def __init__(self, args: argparse.Namespace, servers: str, directory: pathlib.Path):
        self._args, self._servers, self._directory = args, servers, directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        args = self._args
        for number in range(args.clients):
            self._start(f"wire-{number}", [sys.executable, str(HERE / "wire_client.py")], number)
            if args.kazoo_python:
                self._start(f"kazoo-{number}", [args.kazoo_python, str(HERE / "kazoo_client.py")], number)
        if args.java_classes:
            class_path = apache.class_path(args.java_classes)
            quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"
            command = [apache.java(), "-Xmx64m", "-XX:TieredStopAtLevel=1", quiet, "-cp", class_path, JAVA_CLASS]
            work = [self._servers, "java-0", str(args.seed), str(SESSION_MS), self._out("java-0")]
            self._launch("java-0", [*command, *work])

    def _out(self, name: str) -> str:
        return str(self._directory / f"{name}.jsonl")

    def _start(self, name: str, program: list[str], number: int) -> None:
        seed = str(self._args.seed * 1000 + number)
        options = ["--servers", self._servers, "--name", name, "--seed", seed, "--timeout-ms", str(SESSION_MS)]
        self._launch(name, [*program, *options, "--out", self._out(name)])

    def _launch(self, name: str, command: list[str]) -> None:
        environment = dict(os.environ, PYTHONPATH=self._args.kazoo_source or "", PYTHONDONTWRITEBYTECODE="1")
        with open(self._directory / f"{name}.log", "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._running[name] = process

    def check(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                log = (self._directory / f"{name}.log").read_text(errors="replace")[-2000:]
                raise ServerFailed(f"the client {name} ended with status {process.returncode}:\n{log}")

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for name, process in self._running.items():
            try:
                process.wait(WORKER_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise ServerFailed(f"the client {name} does not end") from None


def reader(address: str) -> WireClient:
    return WireClient([parse_address(address)], 10_000, None, random.Random(0))


def make_containers(ensemble: Ensemble) -> None:
    client = reader(ensemble.addresses[0])
    client.connect()
    for path in history.CONTAINERS:
        client.create(path, "", False, False)
    client.close()


def read_final(ensemble: Ensemble) -> list[check.Final]:
    """What every member holds once the ephemeral znodes of clients that are gone have gone, too."""
    finals = []
    deadline = time.monotonic() + EPHEMERALS_SECONDS_MAX
    for address in ensemble.addresses:
        client = reader(address)
        client.connect()
        client.sync(history.ROOT)
        while (left := client.children(history.EPHEMERALS)["names"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        queue = [f"{history.QUEUE}/{name}" for name in client.children(history.QUEUE)["names"]]
        counters = client.get_all(history.COUNTERS)
        entries = {path.rpartition("/")[2]: found for path, found in client.get_all(queue).items()}
        finals.append(check.Final(address, counters, entries, left))
        client.close()
    return finals


def harm(args: argparse.Namespace, ensemble: Ensemble, workers: Workers) -> Counter[str]:
    """Fault after fault until the time is up; returns how often each came."""
    rng = random.Random(args.seed)
    context = faults.Context(ensemble, rng, SESSION_MS / 1000)
    reasons = faults.impossible(ensemble)
    for name in sorted(reasons.keys() & set(args.faults)):
        say(f"left out: {name}, because {reasons[name]}")
    possible = [name for name in args.faults if name not in reasons]
    done: Counter[str] = Counter()
    began = time.monotonic()
    upcoming: list[str] = []
    while time.monotonic() < began + args.seconds:
        # Each fault once, in a new order each time: a short run has as many kinds as it can.
        upcoming = upcoming or rng.sample(possible, len(possible))
        name = upcoming.pop()
        for each in faults.FAULTS[name](context):
            say(f"{time.monotonic() - began:6.1f} s  {each.what}, {each.seconds:.1f} s")
            time.sleep(each.seconds)
        done[name] += 1
        seconds = ensemble.wait_until_all_serve()
        say(f"{time.monotonic() - began:6.1f} s  all serve after {seconds:.1f} s")
        workers.check()
        time.sleep(rng.uniform(0, CALM_SECONDS))
    return done


def say(text: str) -> None:
    print(text, flush=True)


def run(args: argparse.Namespace, directory: pathlib.Path) -> int:
    preload = build_preload(directory)
    with Ensemble(args.server, args.members, preload=preload) as ensemble:
        make_containers(ensemble)
        workers = Workers(args, ",".join(ensemble.addresses), directory)
        workers.start()
        try:
            done = harm(args, ensemble, workers)
        except ServerFailed as error:
            say(f"seed {args.seed}: the ensemble did not come back: {error}")
            keep_logs(ensemble, directory)
            return 1
        workers.stop()
        finals = read_final(ensemble)
        records = history.read(sorted(directory.glob("*.jsonl")))
        found = check.problems(check.History(records, finals, TICK_MS / 1000))
        (directory / "final.json").write_text(json.dumps([dataclasses.asdict(each) for each in finals]))
        if found:
            keep_logs(ensemble, directory)
    say("\n".join(found[:40]))
    results = Counter(each["result"] for each in records)
    where = "name spaces" if network.inside() else "loopback"
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    say(
        f"ensemble of {args.members} {args.server}, seed {args.seed}, {where}: {len(found)} problems; "
        f"{results['ok']} operations acknowledged, {results['refused']} refused, {results['unknown']} unanswered; "
        f"{kinds}"
    )
    return 1 if found else 0


def keep_logs(ensemble: Ensemble, directory: pathlib.Path) -> None:
    for member in ensemble.members:
        shutil.copy(member.log, directory / f"member-{member.place.number}.log")


def prepare(args: argparse.Namespace) -> None:
    """What needs the network outside: the environment of kazoo, and the Java client's classes."""
    args.cache.mkdir(parents=True, exist_ok=True)
    args.kazoo_python = args.kazoo_source = args.java_classes = None
    if "kazoo" in args.libraries:
        args.kazoo_python, args.kazoo_source = map(str, kazoo_suite.prepare(args.cache))
    javac = shutil.which("javac")
    if "java" in args.libraries and javac is None:
        say("left out: the Java client, because there is no JDK")
    elif "java" in args.libraries:
        args.java_classes = str(args.cache / "history-client")
        command = [javac, "-proc:none", "-nowarn", "-d", args.java_classes, "-cp", apache.class_path()]
        subprocess.run([*command, str(HERE / f"{JAVA_CLASS}.java")], check=True, stderr=subprocess.DEVNULL)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    parser.add_argument("--members", type=int, choices=(3, 5), default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults come (default 60)")
    parser.add_argument("--seed", type=int, help="default: a new one")
    parser.add_argument("--clients", type=int, default=3, help="clients of each Python library (default 3)")
    parser.add_argument("--libraries", nargs="*", default=["kazoo", "java"], choices=("kazoo", "java"))
    parser.add_argument("--faults", nargs="+", default=list(faults.FAULTS), choices=list(faults.FAULTS))
    parser.add_argument("--out", type=pathlib.Path, help="keep histories and logs there (default: if it fails)")
    parser.add_argument("--cache", type=pathlib.Path, default=HERE.parents[1] / "target" / "interop")
    args = parser.parse_args()
    # The name spaces start this program a second time, with the same arguments.
    args.seed = args.seed if args.seed is not None else int(os.environ.setdefault("GRANGE_ENSEMBLE_SEED", new_seed()))
    return args


def new_seed() -> str:
    return str(random.SystemRandom().randrange(1 << 32))


def main() -> int:
    args = arguments()
    try:
        prepare(args)
        network.enter()
        end_cleanly_on_sigterm()
        directory = args.out or pathlib.Path(tempfile.mkdtemp(prefix="ensemble-"))
        directory.mkdir(parents=True, exist_ok=True)
        status = run(args, directory)
    except (ServerFailed, OSError, subprocess.CalledProcessError) as error:
        say(f"could not be set up: {error}")
        return 3
    if status:
        say(f"histories and logs are in {directory}")
    elif args.out is None:
        shutil.rmtree(directory)
    return status


if __name__ == "__main__":
    sys.exit(main())
