"""What clients write down: one JSON object a line for each operation that they tried.

| key | meaning |
|---|---|
| `client`, `session`, `server` | who, in which session (hexadecimal), connected to which member when it began |
| `op`, `path` | `get`, `set`, `create`, `delete`, `children`, `sync`; `close`, `expired`, `watch` of the session itself |
| `begin`, `end` | seconds of the machine's monotonic clock, the same for all processes |
| `result` | `ok`; `refused` (the server said no: nothing has happened); `unknown` (no answer: it may have) |
| `zxid`, `version`, `value` | of the change that was made, or that was read |
| `header` | the newest zxid that the server had shown when it answered |
| `expected`, `error`, `names`, `made`, `timeout_ms` | the version a set demanded; why it was refused; children; the name made |
"""
from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable

ROOT = "/history"
COUNTERS = [f"{ROOT}/counter-{number}" for number in range(4)]
QUEUE = f"{ROOT}/queue"
EPHEMERALS = f"{ROOT}/ephemerals"
BULK = f"{ROOT}/bulk"
CONTAINERS = [ROOT, *COUNTERS, QUEUE, EPHEMERALS, BULK]


class Refused(Exception):
    """The server answered with an error: the operation has not happened."""


class Unanswered(Exception):
    """There was no answer: the operation may have happened, or may yet."""


class Recorder:
    """Appends to one client's file."""

    def __init__(self, path: pathlib.Path, client: str):
        self._file = open(path, "w", buffering=1)
        self._client = client

    def note(self, op: str, result: str, **more: object) -> None:
        """Something that is no request."""
        now = time.monotonic()
        self._write({"op": op, "result": result, "begin": now, "end": now, **more})

    def call(self, op: str, path: str, where: Callable[[], dict], perform: Callable[[], dict], **asked: object) -> dict:
        """Performs one operation and writes down what came of it; raises what it raised."""
        record = {"op": op, "path": path, **asked, **where(), "begin": time.monotonic()}
        try:
            answer = perform()
            record.update(answer, result="ok")
            return answer
        except Refused as refusal:
            record.update(result="refused", error=str(refusal))
            raise
        except Unanswered as why:
            record.update(result="unknown", error=str(why))
            raise
        finally:
            record["end"] = time.monotonic()
            self._write(record)

    def _write(self, record: dict) -> None:
        self._file.write(json.dumps({"client": self._client, **record}) + "\n")


def read(paths: list[pathlib.Path]) -> list[dict]:
    """All records, by the time at which they began. A line that was cut short by a kill is left out."""
    records = []
    for path in paths:
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                records.append(json.loads(line))
    return sorted(records, key=lambda record: record["begin"])
