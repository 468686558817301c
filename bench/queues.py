#!/usr/bin/env python3
"""Compares the speed of our locking queue with kazoo's LockingQueue: on one server, in one run, at two lengths.

    cargo build --release -p grange -p grange-client --examples
    bench/queues.py [--profile release] [--lengths 1000 100000] [--count 300]

Prints what each side needs for an item of 100 bytes. Needs what tests/interop needs.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "interop"))

import apache  # noqa: E402
import grange_server  # noqa: E402
import kazoo_suite  # noqa: E402
from server_process import Options  # noqa: E402

KAZOO = """
import sys, time
from kazoo.client import KazooClient
client = KazooClient(hosts=sys.argv[1]); client.start()
queue, count = client.LockingQueue(sys.argv[2]), int(sys.argv[3])
began = time.monotonic()
for _ in range(count): queue.put(b"x" * 100)
print(f"put one by one: {count / (time.monotonic() - began):.0f}/s", flush=True)
began = time.monotonic()
for _ in range(count):
    queue.get(); queue.consume()
print(f"take and finish: {count / (time.monotonic() - began):.1f}/s", flush=True)
client.stop()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--count", type=int, default=300, help="items of ours; kazoo takes a tenth at the greater lengths")
    parser.add_argument("--profile", default="release")
    args = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    example = target / args.profile / "examples" / "queue_speed"
    python, source = kazoo_suite.prepare(target / "interop")
    environment = dict(os.environ, PYTHONPATH=str(source), PYTHONDONTWRITEBYTECODE="1")
    server_type = grange_server.Grange if args.server == "grange" else apache.Apache
    for length in args.lengths:
        with server_type(Options(fsync=False)) as server:
            for takers in (1, 8):
                print(f"ours, {length} items, {takers} takers", flush=True)
                subprocess.run([example, server.address_text, "/q", str(length), str(args.count), str(takers)], check=True)
            count = args.count if length <= 10_000 else max(args.count // 10, 1)
            print(f"kazoo, {length} items", flush=True)
            command = [str(python), "-c", KAZOO, server.address_text, "/q", str(count)]
            subprocess.run(command, env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
