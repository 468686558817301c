#!/usr/bin/env python3
"""Measures how long a well-behaved client waits, from a process of its own.

`probe.py HOST:PORT` sends an exists and a setData in turn, one every two milliseconds, until its
standard input ends, then prints the latencies in milliseconds, one per line. A latency counts from
when its request was due, so one long stall is many slow requests, as it is for many clients.
"""
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import select
import subprocess
import sys
import time

import wire
from operations import OPEN
from server_process import parse_address
from wire import Connection, connect_request, frame, header

NODE = "/probe"
INTERVAL_SECONDS = 0.002


def probe(address: tuple[str, int]) -> list[float]:
    connection = Connection(address)
    connection.send(frame(connect_request(timeout_ms=30_000)))
    connection.receive()
    connection.send(frame(header(1, wire.OPCODES["create"]) + wire.create_body(NODE, b"", OPEN, 0)))
    connection.receive()
    read = header(2, wire.OPCODES["exists"]) + wire.ustring(NODE) + wire.boolean(0)
    write = header(3, wire.OPCODES["setData"]) + wire.ustring(NODE) + wire.buffer(b"x") + wire.i32(-1)
    print("ready", flush=True)
    latencies = []
    due = time.perf_counter()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
        connection.send(frame(write if len(latencies) % 2 else read))
        if connection.receive(60) is None:
            raise SystemExit("the server closed the probe's connection")
        latencies.append((time.perf_counter() - due) * 1000)
        due += INTERVAL_SECONDS
    return latencies


@dataclasses.dataclass
class Latencies:
    """What the probe saw; filled when its block ends."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    failed: bool = False

    def __str__(self) -> str:
        if self.failed:
            return "the probe lost its connection"
        return f"p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms, max {self.max_ms:.1f} ms of {self.count}"


@contextlib.contextmanager
def probing(address: tuple[str, int]):
    """Runs the probe beside the block; the yielded `Latencies` are filled behind it."""
    command = [sys.executable, __file__, f"{address[0]}:{address[1]}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    latencies = Latencies()
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield latencies
        output, _ = process.communicate(timeout=90)
        values = sorted(map(float, output.split()))
        latencies.failed = process.returncode != 0 or not values
        if values:
            latencies.count = len(values)
            latencies.p50_ms = values[len(values) // 2]
            latencies.p99_ms = values[min(len(values) - 1, len(values) * 99 // 100)]
            latencies.max_ms = values[-1]
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", type=parse_address, help="HOST:PORT")
    for latency in probe(parser.parse_args().address):
        print(f"{latency:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
