#!/usr/bin/env python3
"""Measures how long a change takes from a host's configuration to a consumer's file, with many hosts in the farm.

Each host is a `grange farm join` of a directory; the consumer is a `grange farm export --settle 0`. A change is what
`echo 1 > enabled` does; it has arrived when the consumer's file, which is replaced as a whole, says so. With --zkfarmer
the same is measured with ZkFarmer's own join and export from a checkout of it, one host and one consumer among kazoo's
ephemeral znodes. ZkFarmer 1.1 must be mended to run under Python 3: `serialize` returns bytes, its log handler calls
its base's `__init__`, directories are read as text. At last a large farm is listed and judged, by both.

Exit status: 0, 3 something cannot be run.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import servers
from servers import REPOSITORY, ServerFailed

import kazoo_suite  # noqa: E402, from the interop tests, whose directory `servers` has added to the path

SECONDS_MAX = 60.0
POLL_SECONDS = 0.0005

FILLERS = """
import sys, json, time
from kazoo.client import KazooClient
client = KazooClient(sys.argv[1]); client.start(30); client.ensure_path("/farm")
data = lambda index: json.dumps({"enabled": "0", "hostname": f"filler-{index}"}).encode()
made = [client.create_async(f"/farm/filler-{index}", data(index), ephemeral=True) for index in range(int(sys.argv[2]))]
for each in made:
    each.get()
client.set("/farm", json.dumps({"size": len(made)}).encode())
print("ready", flush=True)
sys.stdin.read()
client.stop()
"""


class Processes:
    """What was started, and is ended with this value."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_) -> None:
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, command: list[str], environment: dict[str, str], **more) -> subprocess.Popen:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, **more)
        self.started.append(process)
        return process


def until(what: str, is_so) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not is_so():
        if time.monotonic() > deadline:
            raise ServerFailed(f"not in time: {what}")
        time.sleep(POLL_SECONDS)


def content(file: pathlib.Path) -> dict:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def value(file: pathlib.Path, host: str) -> str | None:
    return content(file).get(host, {}).get("enabled")


def write_json(conf: pathlib.Path, text: str) -> None:
    fresh = conf.with_suffix(".new")
    fresh.write_text(json.dumps({**content(conf), "enabled": text}))
    fresh.rename(conf)


def change(write, file: pathlib.Path, host: str, number: int) -> float:
    """Milliseconds from the write to the file that shows it."""
    text, before = str(number), os.stat(file).st_ino
    began = time.perf_counter()
    write(text)
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        inode = os.stat(file).st_ino
        if inode != before:
            arrived = time.perf_counter()
            if value(file, host) == text:
                return (arrived - began) * 1000
            before = inode
        if time.monotonic() > deadline:
            raise ServerFailed("a change does not arrive")
        time.sleep(POLL_SECONDS)


def summary(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{name}: {len(ordered)} changes, p50 {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, worst {ordered[-1]:.1f} ms")


def ours(program: str, address: str, args: argparse.Namespace, directory: pathlib.Path) -> list[float]:
    environment = dict(os.environ, GRANGE_SERVERS=address, GRANGE_CONFIG="/dev/null")
    file = directory / "farm.json"
    with Processes() as processes:
        processes.start([program, "farm", "export", "--settle", "0", "/farm", str(file)], environment)
        confs = {}
        for index in range(args.hosts):
            conf = confs[f"host-{index}"] = directory / f"host-{index}"
            conf.mkdir()
            (conf / "enabled").write_text("0\n")
            processes.start([program, "farm", "join", "--name", f"host-{index}", "/farm", str(conf)], environment)
        until("all hosts are in the file", lambda: len(content(file)) == args.hosts)
        generator = random.Random(1)
        names = sorted(confs)
        times = []
        for number in range(1, args.changes + 1):
            name = generator.choice(names)
            times.append(change(lambda text: (confs[name] / "enabled").write_text(text + "\n"), file, name, number))
    return times


def zkfarmer(checkout: str, address: str, args: argparse.Namespace, directory: pathlib.Path, target) -> list[float]:
    python, source = kazoo_suite.prepare(target / "interop")
    environment = dict(os.environ, PYTHONPATH=f"{source}:{checkout}")
    program = [str(python), f"{checkout}/bin/zkfarmer", "-q", "-H", address]
    file, conf = directory / "zkfarmer.json", directory / "conf.json"
    write_json(conf, "0")
    with Processes() as processes:
        fillers = processes.start(
            [str(python), "-c", FILLERS, address, str(args.hosts - 1)],
            environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        fillers.stdout.readline()
        processes.start([*program, "export", "/farm", str(file)], environment)
        processes.start([*program, "join", "/farm", str(conf)], environment)
        until("the host is in the file", lambda: len(content(file)) == args.hosts)
        host = next(name for name in content(file) if not name.startswith("filler-"))
        times = [change(lambda text: write_json(conf, text), file, host, number) for number in range(1, args.changes + 1)]
        fillers.stdin.close()
    return times


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of the fastest of three runs."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        status = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        times.append(time.perf_counter() - began)
        if status not in (0, 2):
            raise ServerFailed(f"status {status}: {command}")
    return min(times)


def listing(program: str, address: str, args: argparse.Namespace, target: pathlib.Path) -> None:
    """How long it takes to look at a large farm once."""
    python, source = kazoo_suite.prepare(target / "interop")
    environment = dict(os.environ, PYTHONPATH=str(source), GRANGE_SERVERS=address, GRANGE_CONFIG="/dev/null")
    with Processes() as processes:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        fillers = processes.start([str(python), "-c", FILLERS, address, str(args.list)], environment, **pipes)
        fillers.stdout.readline()
        for name, tail in (("ls --fields", ["ls", "/farm", "--fields", "hostname,enabled"]), ("check", ["check", "/farm"])):
            line = f"{name}, {args.list} hosts: grange {timed([program, 'farm', *tail], environment):.2f} s"
            if args.zkfarmer:
                theirs = [str(python), f"{args.zkfarmer}/bin/zkfarmer", "-H", address, *tail]
                seconds = timed(theirs, dict(environment, PYTHONPATH=f"{source}:{args.zkfarmer}"))
                line += f", ZkFarmer {seconds:.2f} s"
            print(line)
        fillers.stdin.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--changes", type=int, default=300)
    parser.add_argument("--program", help="a grange that is built already")
    parser.add_argument("--zkfarmer", metavar="CHECKOUT")
    parser.add_argument("--list", type=int, default=5000, help="how many hosts are listed and judged, 0 for none")
    args = parser.parse_args()
    servers.end_cleanly_on_sigterm()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    if args.zkfarmer:
        python, _ = kazoo_suite.prepare(target / "interop")
        subprocess.run([str(python), "-m", "pip", "install", "-q", "pyyaml", "watchdog"], check=True)
    program = args.program or str(target / "release" / "grange")
    if not args.program:
        subprocess.run(["cargo", "build", "--locked", "--release", "-p", "grange"], cwd=REPOSITORY, check=True)
    os.environ["GRANGE_BIN"] = program
    server_type = servers.Grange if args.server == "grange" else servers.Apache
    with server_type(servers.Options(connections_per_address_max=0)) as server, tempfile.TemporaryDirectory() as directory:
        summary(f"grange on {args.server}", ours(program, server.address_text, args, pathlib.Path(directory)))
        if args.zkfarmer:
            times = zkfarmer(args.zkfarmer, server.address_text, args, pathlib.Path(directory), target)
            summary(f"ZkFarmer on {args.server}", times)
        if args.list:
            listing(program, server.address_text, args, target)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ServerFailed, subprocess.CalledProcessError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(3)
