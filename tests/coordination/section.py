#!/usr/bin/env python3
"""What a holder does: it leaves marks by which two holders at a time are found out, and counts in a znode.

A mark is a file in a directory that all contenders share. Who enters first leaves its own mark, then looks for those of
others, so of two that overlap at least one sees the other. The mark of a process that was killed says nothing: it is
told by the process id and the start time in it. Besides, a holder reads a number in a znode, waits, and writes the next
one under the version it has read: a refusal means that somebody else wrote meanwhile.

As a command, this is what `grange lock` runs: `section.py DIRECTORY KIND MODE HOST:PORT ZNODE`.
"""
from __future__ import annotations

import os
import pathlib
import random
import sys
import time

SECONDS_MAX = 0.02


def start_time(pid: int) -> str | None:
    """When a process started, in ticks; None if it has ended, or has been killed and is not waited for yet."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Section:
    """One turn of one holder."""

    def __init__(self, directory: pathlib.Path, kind: str, shared: bool = False, token: int = 0):
        self.directory, self.kind, self.shared, self.token = directory, kind, shared, token
        name = "reader" if shared else "writer"
        self.mark = directory / f"{name}-{os.getpid()}-{random.SystemRandom().randrange(1 << 60)}"

    def violation(self, text: str) -> None:
        with open(self.directory / "violations", "a") as file:
            file.write(f"{self.kind}: {text}\n")

    def others(self) -> list[str]:
        """The marks of those that may not be there at the same time."""
        found = []
        marks = list(self.directory.glob("writer-*"))
        if not self.shared:
            marks += self.directory.glob("reader-*")
        for path in marks:
            if path == self.mark:
                continue
            try:
                kind, pid, started = path.read_text().split()
            except (OSError, ValueError):
                # It has gone meanwhile, or its owner was killed while it wrote it; a live owner writes it at once.
                continue
            if start_time(int(pid)) == started:
                found.append(f"{kind} {path.name}")
            else:
                path.unlink(missing_ok=True)
        return found

    def __enter__(self) -> "Section":
        unfinished = self.directory / f".{self.mark.name}"
        unfinished.write_text(f"{self.kind} {os.getpid()} {start_time(os.getpid())}")
        unfinished.rename(self.mark)
        for other in self.others():
            self.violation(f"entered while there was {other}")
        return self

    def __exit__(self, *_: object) -> None:
        mode = "shared" if self.shared else "exclusive"
        with open(self.directory / "turns", "a") as file:
            file.write(f"{time.monotonic()} {self.kind} {mode} {self.token}\n")
        self.mark.unlink()


def pause() -> None:
    time.sleep(random.uniform(0, SECONDS_MAX))


def main() -> int:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))
    import wire

    directory, kind, mode, address, znode = sys.argv[1:]
    host, _, port = address.rpartition(":")
    token = int(os.environ["GRANGE_LOCK_TOKEN"])
    with Section(pathlib.Path(directory), kind, mode == "shared", token) as section:
        if mode == "shared":
            pause()
            return 0
        connection = wire.Connection((host, int(port)))
        requests = {1: "getData", 2: "setData"}

        def answer(payload: bytes) -> dict:
            connection.send(wire.frame(payload))
            return wire.decode_reply(connection.receive() or b"", requests.get)

        connection.send(wire.frame(wire.connect_request(timeout_ms=4000)))
        connection.receive()
        read = answer(wire.header(1, 4) + wire.ustring(znode) + wire.boolean(False))["body"]
        pause()
        data = wire.buffer(str(int(read["data"]) + 1).encode())
        written = answer(wire.header(2, 5) + wire.ustring(znode) + data + wire.i32(read["stat"]["version"]))
        if written["err"] != 0:
            section.violation(f"somebody else has counted meanwhile ({written['err']})")
        connection.send(wire.frame(wire.header(3, -11)))
        connection.receive()
        connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
