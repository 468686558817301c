#!/usr/bin/env python3
"""Compares how often a second a free lock is taken and given back: by `grange_client::recipes::Lock` and by kazoo's `Lock`.

Both talk to the same server and take turns, so that whatever else the machine does hurts both; each figure is the median
of the rounds. The Rust program is crates/grange-client/examples/lock_rate.rs. Exit status: 0, 3 something cannot be run.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys

import servers
from servers import REPOSITORY, ServerFailed

import kazoo_suite  # noqa: E402, from the interop tests, whose directory `servers` has added to the path

KAZOO = """
import sys, time
from kazoo.client import KazooClient
client = KazooClient(sys.argv[1]); client.start(30)
lock = client.Lock("/lock-rate", "bench")
lock.acquire(); lock.release()
began, count = time.monotonic(), 0
while time.monotonic() - began < float(sys.argv[2]):
    lock.acquire(); lock.release(); count += 1
print(round(count / (time.monotonic() - began)))
client.stop()
"""


def rate(command: list[str], environment: dict[str, str]) -> int:
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round and library (default 5)")
    args = parser.parse_args()
    servers.end_cleanly_on_sigterm()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    build = ["cargo", "build", "--locked", "--release", "-p", "grange-client", "--example", "lock_rate"]
    subprocess.run(build, cwd=REPOSITORY, check=True)
    python, source = kazoo_suite.prepare(target / "interop")
    server_type = servers.Grange if args.server == "grange" else servers.Apache
    figures: dict[str, list[int]] = {"kazoo": [], "grange": []}
    with server_type(servers.Options()) as server:
        tail = [server.address_text, str(args.seconds)]
        for _ in range(args.rounds):
            figures["kazoo"].append(rate([str(python), "-c", KAZOO, *tail], dict(os.environ, PYTHONPATH=str(source))))
            program = str(target / "release" / "examples" / "lock_rate")
            figures["grange"].append(rate([program, *tail], dict(os.environ)))
    kazoo, ours = (statistics.median(figures[library]) for library in ("kazoo", "grange"))
    print(f"free locks taken and given back on {args.server}: kazoo {kazoo:.0f}/s, grange {ours:.0f}/s, {ours / kazoo:.1f} times")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ServerFailed, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        sys.exit(3)
