#!/usr/bin/env python3
"""A client of the workload that uses kazoo, as its applications do; runs in the environment of the kazoo suite."""
from __future__ import annotations

import logging
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))

from kazoo import exceptions  # noqa: E402
from kazoo.client import KazooClient, KazooState  # noqa: E402
from kazoo.handlers.threading import KazooTimeoutError  # noqa: E402
from kazoo.retry import KazooRetry  # noqa: E402

import workload  # noqa: E402
from history import Recorder, Refused, Unanswered  # noqa: E402

START_SECONDS_MAX = 60
EVENT_SECONDS_MAX = 10.0
# What leaves open whether the operation has happened. A session that has expired may have sent it before.
UNANSWERED = (
    exceptions.ConnectionLoss, exceptions.ConnectionClosedError, exceptions.OperationTimeoutError,
    exceptions.SessionExpiredError, exceptions.SessionMovedError, KazooTimeoutError,
)  # fmt: skip


class LibraryClient:
    """kazoo's client; it goes from member to member by itself, and opens a new session when one has expired."""

    def __init__(self, servers: str, timeout_ms: int, recorder: Recorder):
        self._recorder = recorder
        self._answer_seconds_max = timeout_ms / 1000
        self._watches: list[tuple[str, int, threading.Event]] = []
        retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5)
        self._kazoo = KazooClient(servers, timeout=timeout_ms / 1000, connection_retry=retry)
        self._kazoo.add_listener(self._hear)
        self._kazoo.start(START_SECONDS_MAX)

    def _hear(self, state: KazooState) -> None:
        if state == KazooState.LOST:
            self._watches = []

    def where(self) -> dict:
        try:
            server = "{}:{}".format(*self._kazoo._connection._socket.getpeername()[:2])
        except (OSError, AttributeError):
            server = ""
        # kazoo keeps the negotiated timeout in milliseconds, as a private figure.
        timeout_ms = int(self._kazoo._session_timeout)
        return {"session": self._session(), "server": server, "timeout_ms": timeout_ms}

    def _answer(self, **answer: object) -> dict:
        """An answer came in the session that there is then; a request may have waited for it."""
        return {"session": self._session(), **answer}

    def _session(self) -> str:
        session, _ = self._kazoo.client_id or (0, b"")
        return f"{session & (1 << 64) - 1:x}"

    def _ask(self, request) -> object:
        try:
            return request.get(timeout=self._answer_seconds_max)
        except UNANSWERED as error:
            raise Unanswered(type(error).__name__) from None
        except exceptions.ZookeeperError as error:
            raise Refused(type(error).__name__) from None

    def get(self, path: str, watch: bool) -> dict:
        fired = threading.Event()
        watcher = (lambda _event: fired.set()) if watch else None
        data, stat = self._ask(self._kazoo.get_async(path, watch=watcher))
        if watch:
            self._watches = [each for each in self._watches if not each[2].is_set()]
            self._watches.append((path, stat.version, fired))
        return self._answer(zxid=stat.mzxid, version=stat.version, value=data.decode())

    def set(self, path: str, value: str, version: int) -> dict:
        stat = self._ask(self._kazoo.set_async(path, value.encode(), version))
        return self._answer(zxid=stat.mzxid, version=stat.version)

    def create(self, path: str, value: str, ephemeral: bool, sequential: bool) -> dict:
        made, stat = self._ask(
            self._kazoo.create_async(
                path, value.encode(), ephemeral=ephemeral, sequence=sequential, include_data=True
            )
        )
        return self._answer(zxid=stat.czxid, made=made)

    def delete(self, path: str) -> dict:
        self._ask(self._kazoo.delete_async(path))
        return self._answer()

    def children(self, path: str) -> dict:
        names, stat = self._ask(self._kazoo.get_children_async(path, include_data=True))
        return self._answer(zxid=stat.pzxid, names=sorted(names))

    def sync(self, path: str) -> dict:
        self._ask(self._kazoo.sync_async(path))
        return self._answer()

    def move(self) -> None:
        """kazoo moves when its connection is lost, and only then."""

    def finish(self) -> None:
        self._judge_watches()
        try:
            self._recorder.call("close", "", self.where, self._close)
        except Unanswered:
            pass

    def _close(self) -> dict:
        try:
            self._kazoo.stop()
        except UNANSWERED as error:
            raise Unanswered(type(error).__name__) from None
        return {}

    def _judge_watches(self) -> None:
        """A watch whose znode has changed must have fired by now: events come in a thread of their own, so wait."""
        newest = {}
        for path in {path for path, _, _ in self._watches}:
            try:
                newest[path] = self.get(path, False)["version"]
            except (Refused, Unanswered):
                return
        deadline = time.monotonic() + EVENT_SECONDS_MAX
        for path, version, fired in self._watches:
            if version < newest.get(path, version) and not fired.wait(max(0.0, deadline - time.monotonic())):
                self._recorder.note("watch", "missed", path=path, version=version, read=newest[path])


def main() -> None:
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    args = workload.arguments()
    recorder = Recorder(args.out, args.name)
    client = LibraryClient(args.servers, args.timeout_ms, recorder)
    random.seed(args.seed)
    workload.run(client, recorder, args)


if __name__ == "__main__":
    main()
