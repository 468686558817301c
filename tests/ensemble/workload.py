"""What a client does all the time, whatever library it uses: the operations whose history is checked."""
from __future__ import annotations

import argparse
import pathlib
import random
import signal
import time
from typing import Protocol

from history import COUNTERS, EPHEMERALS, QUEUE, Recorder, Refused, Unanswered

PAUSE_SECONDS_MAX = 0.03


class Client(Protocol):
    """A client library as the workload needs it. Answers are dictionaries of `history.py`'s keys."""

    def where(self) -> dict: ...
    def get(self, path: str, watch: bool) -> dict: ...
    def set(self, path: str, value: str, version: int) -> dict: ...
    def create(self, path: str, value: str, ephemeral: bool, sequential: bool) -> dict: ...
    def delete(self, path: str) -> dict: ...
    def children(self, path: str) -> dict: ...
    def sync(self, path: str) -> dict: ...
    def move(self) -> None: ...
    def finish(self) -> None: ...


class Workload:
    """Random operations, one after the other; every value that is written is written once."""

    def __init__(self, client: Client, recorder: Recorder, name: str, rng: random.Random):
        self._client, self._recorder, self._name, self._rng = client, recorder, name, rng
        self._number = 0
        self._own_ephemerals: list[str] = []

    def step(self) -> None:
        actions = [
            (8, self._increment), (4, self._enqueue), (2, self._synced_read), (2, self._own_ephemeral),
            (3, self._observe), (3, self._watch), (1, self._client.move),
        ]  # fmt: skip
        (action,) = self._rng.choices([each for _, each in actions], [weight for weight, _ in actions])
        try:
            action()
        except (Refused, Unanswered):
            pass

    def _call(self, op: str, path: str, *arguments: object, **asked: object) -> dict:
        method = getattr(self._client, op)
        return self._recorder.call(op, path, self._client.where, lambda: method(path, *arguments), **asked)

    def _value(self) -> str:
        self._number += 1
        return f"{self._name}/{self._number}"

    def _increment(self) -> None:
        path = self._rng.choice(COUNTERS)
        found = self._call("get", path, False)
        value = self._value()
        version = found["version"]
        self._call("set", path, value, version, expected=version, value=value)

    def _enqueue(self) -> None:
        value = self._value()
        self._call("create", f"{QUEUE}/n-", value, False, True, value=value)

    def _synced_read(self) -> None:
        path = self._rng.choice(COUNTERS)
        self._call("sync", path)
        self._call("get", path, False)

    def _own_ephemeral(self) -> None:
        if len(self._own_ephemerals) >= 3:
            self._call("delete", self._own_ephemerals.pop(0))
        value = self._value()
        path = f"{EPHEMERALS}/{value.replace('/', '-')}"
        self._call("create", path, value, True, False, value=value, ephemeral=True)
        self._own_ephemerals.append(path)

    def _observe(self) -> None:
        self._call("children", EPHEMERALS)

    def _watch(self) -> None:
        self._call("get", self._rng.choice(COUNTERS), True)


class _Stop:
    def __init__(self) -> None:
        self.is_asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.is_asked = True


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", required=True, help="HOST:PORT, with commas between them")
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--timeout-ms", type=int, required=True, help="session timeout to ask for")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    return parser.parse_args()


def run(client: Client, recorder: Recorder, args: argparse.Namespace) -> None:
    """Works until SIGTERM."""
    stop = _Stop()
    rng = random.Random(args.seed)
    workload = Workload(client, recorder, args.name, rng)
    while not stop.is_asked:
        workload.step()
        time.sleep(rng.uniform(0, PAUSE_SECONDS_MAX))
    client.finish()
