#!/usr/bin/env python3
"""A host, a consumer or an administrator that does to a farm what ZkFarmer 0.2 is known to do; needs kazoo.

    zkfarmer_like.py HOST:PORT join FARM CONF.json NAME [--timeout SECONDS]     NAME `common` is shared
    zkfarmer_like.py HOST:PORT export FARM FILE.json
    zkfarmer_like.py HOST:PORT set ZNODE FIELD VALUE

What it does on purpose as ZkFarmer does: it adopts a znode that is there already, whosever session that belongs to; it writes
local changes without looking at the version; it reads its znode by a data watch that is set again after each event, and ignores
what is no newer than what it has written itself; it exports every child of the farm, by watches on each.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import queue
import signal
import socket
import sys
import threading

from kazoo.client import OPEN_ACL_UNSAFE, KazooClient, KazooState
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, ZookeeperError

START_SECONDS_MAX = 30
LOOK_SECONDS = 0.02
AGAIN_SECONDS = 0.1
COMMON = "common"


def decode(data: bytes) -> dict:
    """Whatever is no object counts as empty."""
    try:
        value = json.loads(data or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def encode(properties: dict) -> bytes:
    return json.dumps(properties).encode()


def install(path: pathlib.Path, value: dict) -> None:
    """Replaces a file, unless it says the same."""
    try:
        if json.loads(path.read_text()) == value:
            return
    except (FileNotFoundError, ValueError):
        pass
    other = path.with_name(f".{path.name}.new")
    other.write_text(json.dumps(value))
    other.rename(path)


class Follower:
    """Does one thing after the other: what is asked for by watches, by files and by the state of the connection."""

    def __init__(self, client: KazooClient):
        self.client = client
        self._jobs: queue.Queue = queue.Queue()
        client.add_listener(self._state_changed)

    def _state_changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self.ask(self.begin)

    def ask(self, job) -> None:
        self._jobs.put(job)

    def begin(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        self.ask(self.begin)
        while True:
            job = self._jobs.get()
            try:
                job()
            except ZookeeperError:
                threading.Timer(AGAIN_SECONDS, self.ask, (job,)).start()


class Joined(Follower):
    """A host."""

    def __init__(self, client: KazooClient, farm: str, conf: pathlib.Path, name: str):
        super().__init__(client)
        self.farm, self.conf, self.path = farm, conf, f"{farm}/{name}"
        self.is_common = name == COMMON
        self.written = -1
        client.ensure_path(farm, acl=OPEN_ACL_UNSAFE)
        if not self.is_common:
            self._raise_size()
            install(conf, {**(self._local() or {}), "hostname": socket.gethostname()})
        threading.Thread(target=self._look_at_file, daemon=True).start()

    def _raise_size(self) -> None:
        size = sum(child != COMMON for child in self.client.get_children(self.farm)) + 1
        data, stat = self.client.get(self.farm)
        if size > decode(data).get("size", 0):
            self.client.set(self.farm, encode({**decode(data), "size": size}), stat.version)

    def _local(self) -> dict | None:
        try:
            return json.loads(self.conf.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _look_at_file(self) -> None:
        before = None
        while not threading.Event().wait(LOOK_SECONDS):
            try:
                found = self.conf.stat()
            except FileNotFoundError:
                continue
            now = (found.st_ino, found.st_mtime_ns)
            if before not in (None, now):
                self.ask(self.local_changed)
            before = now

    def begin(self) -> None:
        try:
            data = encode(self._local() or {})
            self.client.create(self.path, data, acl=OPEN_ACL_UNSAFE, ephemeral=not self.is_common)
        except NodeExistsError:
            self.ask(self.remote_changed if self.is_common else self.local_changed)
        self.client.get(self.path, self._watch)

    def _watch(self, _event: object) -> None:
        self.ask(lambda: self.remote_changed(self._watch))

    def local_changed(self) -> None:
        local = self._local()
        if local is not None and decode(self.client.get(self.path)[0]) != local:
            self.written = self.client.set(self.path, encode(local)).mzxid

    def remote_changed(self, watch=None) -> None:
        try:
            data, stat = self.client.get(self.path, watch)
        except NoNodeError:
            # It does not come back by itself.
            return
        if stat.mzxid > self.written:
            install(self.conf, decode(data))


class Exported(Follower):
    """A consumer."""

    def __init__(self, client: KazooClient, farm: str, file: pathlib.Path):
        super().__init__(client)
        self.farm, self.file = farm, file
        self.watched: set[str] = set()

    def begin(self) -> None:
        self.client.ensure_path(self.farm, acl=OPEN_ACL_UNSAFE)
        self.watched.clear()
        self.export()

    def _again(self, path: str) -> None:
        self.watched.discard(path)
        self.export()

    def _watch(self, event) -> None:
        self.ask(lambda: self._again(event.path))

    def _once(self, path: str):
        """A watch, if there is none on this path."""
        is_new = path not in self.watched
        self.watched.add(path)
        return self._watch if is_new else None

    def export(self) -> None:
        names = self.client.get_children(self.farm, self._once(self.farm))
        hosts = {}
        for name in names:
            path = f"{self.farm}/{name}"
            watch = self._once(path)
            try:
                hosts[name] = decode(self.client.get(path, watch)[0])
            except NoNodeError:
                # It is told as a change of the children.
                self.watched.discard(path)
        install(self.file, hosts)


def set_field(client: KazooClient, path: str, field: str, value: str) -> None:
    *above, last = field.split(".")
    while True:
        data, stat = client.get(path)
        properties = decode(data)
        place = properties
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
        try:
            client.set(path, encode(properties), stat.version)
            return
        except BadVersionError:
            pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("command", choices=("join", "export", "set"))
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--timeout", type=float, default=10.0)
    args = parser.parse_args()
    client = KazooClient(args.server, timeout=args.timeout)
    client.start(START_SECONDS_MAX)
    if args.command == "set":
        set_field(client, *args.arguments)
    else:
        # Threads of ours and of kazoo need not come to an end, but the session must.
        signal.signal(signal.SIGTERM, lambda *_: (client.stop(), os._exit(0)))
        farm, file, *name = args.arguments
        follower = Joined(client, farm, pathlib.Path(file), *name) if args.command == "join" else \
            Exported(client, farm, pathlib.Path(file))
        threading.Thread(target=follower.run, daemon=True).start()
        while True:
            signal.pause()
    client.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
