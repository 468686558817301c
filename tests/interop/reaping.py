#!/usr/bin/env python3
"""Container and TTL nodes go away on their own: when, and with which events, on both servers.

Both servers look for such nodes every second (`znode.container.checkIntervalMs`). A client watches
one of each kind that has to go and one of each that has to stay; the events, and what is left at
the end, must be the same on both.

Exit status: 0 equal and as expected; 1 not; 2 usage; 3 a server could not be started.
"""
from __future__ import annotations

import argparse
import sys
import time

import wire
from differential import opened
from operations import OPEN
from server_process import Options, ServerFailed, end_cleanly_on_sigterm
from wire import OPCODES, Connection, connect_request, create_body, frame, header, i32, i64, ustring

INTERVAL_MS = 1000
TTL_MS = 1500
EVENT_SECONDS_MAX = 150.0  # a server with Apache's fixed interval of 60 s still gets there
# Longer than a TTL and two rounds of reaping: what has to stay must still be there.
STAY_SECONDS = 4.0
OPTIONS = Options(session_timeout_ms_max=600_000, extra={"znode.container.checkIntervalMs": str(INTERVAL_MS)})

# (path, operation, flags, ttl, children that come and go again, children that stay)
NODES = (
    ("/emptied-container", "createContainer", 4, None, ["x"], []),
    ("/unused-container", "createContainer", 4, None, [], []),
    ("/used-container", "createContainer", 4, None, ["x"], ["y"]),
    ("/short-ttl", "createTTL", 5, TTL_MS, [], []),
    ("/emptied-ttl", "createTTL", 5, TTL_MS, ["x"], []),
    ("/parent-ttl", "createTTL", 5, TTL_MS, [], ["y"]),
    ("/long-ttl", "createTTL", 5, 3_600_000, [], []),
    ("/persistent", "create", 0, None, ["x"], []),
)
GONE = {"/emptied-container", "/short-ttl", "/emptied-ttl"}


class Watcher:
    """One session with a recursive watch on everything."""

    def __init__(self, address: tuple[str, int]):
        self._connection = Connection(address)
        self._connection.send(frame(connect_request(timeout_ms=600_000)))
        self._connection.receive()
        self._error = 0
        self.events: list[tuple[str, str]] = []

    def ask(self, name: str, body: bytes) -> int:
        """The error code of the reply; events on the way are kept."""
        self._connection.send(frame(header(1, OPCODES[name]) + body))
        while not self._take(20):
            pass
        return self._error

    def _take(self, seconds_max: float) -> bool:
        payload = self._connection.receive(seconds_max)
        if payload is None:
            raise ConnectionError("the server closed the connection")
        reply = wire.decode_reply(payload, {}.get)
        if "event" in reply:
            self.events.append((wire.EVENT_TYPES[reply["event"]["type"]], reply["event"]["path"]))
            return False
        self._error = reply.get("err", 0)
        return True

    def wait_for_deletions(self, paths: set[str]) -> None:
        """Raises Silence when a node does not go away in time."""
        deadline = time.monotonic() + EVENT_SECONDS_MAX
        while paths - {path for kind, path in self.events if kind == "NodeDeleted"}:
            self._take(max(0.01, deadline - time.monotonic()))


def observe(server: str) -> dict[str, object]:
    """All events, and what is left when everything that has to go is gone."""
    with opened(server, OPTIONS, keep=False) as target:
        watcher = Watcher(target.address)
        watcher.ask("addWatch", ustring("/") + i32(1))
        for path, operation, flags, ttl, gone, stay in NODES:
            body = create_body(path, b"", OPEN, flags) + (b"" if ttl is None else i64(ttl))
            if error := watcher.ask(operation, body):
                raise ConnectionError(f"{operation} {path}: error {error}")
            for child in stay + gone:
                watcher.ask("create", create_body(f"{path}/{child}", b"", OPEN, 0))
            for child in gone:
                watcher.ask("delete", ustring(f"{path}/{child}") + i32(-1))
        watcher.wait_for_deletions(GONE)
        time.sleep(STAY_SECONDS)
        left = [path for path, *_ in NODES if watcher.ask("exists", ustring(path) + wire.boolean(0)) == 0]
        return {"left": left, "events": sorted(watcher.events)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--a", choices=("apache", "grange"), default="apache", help="reference (default apache)")
    parser.add_argument("--b", choices=("apache", "grange"), default="grange", help="under test (default grange)")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    expected = [path for path, *_ in NODES if path not in GONE]
    try:
        of_a, of_b = observe(args.a), observe(args.b)
    except (ServerFailed, ConnectionError) as error:
        print(error, file=sys.stderr)
        return 3
    except wire.Silence:
        print(f"a node that has to go did not within {EVENT_SECONDS_MAX:.0f} s")
        return 1
    if of_a == of_b and of_b["left"] == expected:
        print(f"reaping: equal, {len(of_a['events'])} events, {len(GONE)} of {len(NODES)} nodes gone")
        return 0
    print(f"DIFFERENCE\n  A {of_a}\n  B {of_b}\n  expected to be left {expected}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
