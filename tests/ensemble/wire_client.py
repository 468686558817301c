#!/usr/bin/env python3
"""A client of the workload that speaks the protocol itself.

Unlike a library it sees the zxid of every reply and the order of events and replies, and it moves its session from
member to member on purpose.
"""
from __future__ import annotations

import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))

import wire  # noqa: E402
from server_process import parse_address  # noqa: E402

import workload  # noqa: E402
from history import Recorder, Refused, Unanswered  # noqa: E402

OPEN = [(31, "world", "anyone")]
CONNECT_SECONDS_MAX = 1.0
# A member without a majority may keep a handshake waiting: another one may do better.
HANDSHAKE_SECONDS_MAX = 1.0
RETRY_SECONDS = 0.02
WINDOW = 200
XID_SET_WATCHES = -8


class WireClient:
    """One session at a time, taken along from member to member until it has expired."""

    retry_seconds = RETRY_SECONDS

    def __init__(self, servers: list[tuple[str, int]], timeout_ms: int, recorder: Recorder | None, rng: random.Random):
        self._servers, self._wish_ms, self._recorder, self._rng = servers, timeout_ms, recorder, rng
        self._connection: wire.Connection | None = None
        self._server: tuple[str, int] | None = None
        self._forget_session()

    def _forget_session(self) -> None:
        self.session, self._password, self.timeout_ms = 0, bytes(16), self._wish_ms
        self._last_zxid, self._xid = 0, 0
        self._watched: dict[str, int] = {}

    # ---- the connection

    def where(self) -> dict:
        self.connect()
        host, port = self._server or ("", 0)
        return {"session": f"{self.session:x}", "server": f"{host}:{port}", "timeout_ms": self.timeout_ms}

    def connect(self) -> None:
        """Keeps trying, one server after the other, until a session is there."""
        while self._connection is None:
            candidates = [each for each in self._servers if each != self._server] or self._servers
            self._server = self._rng.choice(candidates)
            try:
                self._handshake(self._server)
            except (OSError, wire.Silence, wire.Malformed):
                self.drop()
                time.sleep(self.retry_seconds)

    def _handshake(self, server: tuple[str, int]) -> None:
        self._connection = wire.Connection(server, CONNECT_SECONDS_MAX)
        request = wire.connect_request(self.session, self._password, self._wish_ms, self._last_zxid)
        self._connection.send(wire.frame(request))
        payload = self._connection.receive(min(self.timeout_ms / 1000, HANDSHAKE_SECONDS_MAX))
        if payload is None:
            raise OSError("closed")
        response = wire.decode_connect_response(payload)
        if response["timeout"] <= 0:
            self._note("expired", "ok", session=f"{self.session:x}")
            self._forget_session()
            raise OSError("the session has expired")
        self.session, self._password = int(response["session"]), bytes(response["password"])
        self.timeout_ms = response["timeout"]
        if self._watched:
            body = wire.set_watches_body(self._last_zxid, list(self._watched), [], [])
            self._connection.send(wire.frame(wire.header(XID_SET_WATCHES, wire.OPCODES["setWatches"]) + body))

    def go_to(self, server: tuple[str, int]) -> None:
        """Opens or moves the session there, or raises why it cannot."""
        self.drop()
        self._server = server
        self._handshake(server)

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def move(self) -> None:
        """Goes to another member with the same session."""
        self.drop()
        self.connect()

    def finish(self) -> None:
        """Goes away without a word: the session has to expire by itself."""
        self.drop()

    def close(self) -> None:
        """Ends the session."""
        if self._connection is not None:
            self._connection.send(wire.frame(wire.header(1, wire.OPCODES["closeSession"])))
        self.drop()

    def _note(self, op: str, result: str, **more: object) -> None:
        if self._recorder is not None:
            self._recorder.note(op, result, **more)

    # ---- requests

    def _ask(self, op: str, body: bytes) -> dict:
        if self._connection is None:
            raise Unanswered("not connected")
        self._xid += 1
        self._connection.send(wire.frame(wire.header(self._xid, wire.OPCODES[op]) + body))
        deadline = time.monotonic() + self.timeout_ms / 1000 * 2 / 3
        while True:
            try:
                payload = self._connection.receive(max(0.001, deadline - time.monotonic()))
            except wire.Silence:
                self.drop()
                raise Unanswered("silence") from None
            if payload is None:
                self.drop()
                raise Unanswered("closed")
            reply = wire.decode_reply(payload, {self._xid: op, XID_SET_WATCHES: "setWatches"}.get)
            if "event" in reply:
                self._watched.pop(reply["event"]["path"], None)
            elif reply.get("xid") == self._xid:
                break
        # Replies that fail have the zxid of the server, too; zero and below mean none.
        self._last_zxid = max(self._last_zxid, int(reply["zxid"]))
        if reply["err"]:
            raise Refused(str(reply["err"]))
        return reply

    def get(self, path: str, watch: bool) -> dict:
        reply = self._ask("getData", wire.ustring(path) + wire.boolean(watch))
        stat = reply["body"]["stat"]
        watched = self._watched.get(path)
        if watched is not None and stat["version"] > watched:
            self._note("watch", "late", path=path, session=f"{self.session:x}", version=watched, read=stat["version"])
            del self._watched[path]
        if watch:
            self._watched[path] = stat["version"]
        return {"header": int(reply["zxid"]), "zxid": stat["mzxid"], "version": stat["version"], "value": text(reply)}

    def get_all(self, paths: list[str]) -> dict[str, dict]:
        """Many reads with few round trips, for the end of a run."""
        found = {}
        for at in range(0, len(paths), WINDOW):
            window = paths[at : at + WINDOW]
            self.connect()
            assert self._connection is not None
            for number, path in enumerate(window, 1):
                request = wire.header(number, wire.OPCODES["getData"]) + wire.ustring(path) + wire.boolean(False)
                self._connection.send(wire.frame(request))
            for path in window:
                reply = wire.decode_reply(self._connection.receive() or b"", lambda _xid: "getData")
                if reply.get("err", -1) != 0:
                    raise Unanswered(f"reading {path}: {reply}")
                stat = reply["body"]["stat"]
                found[path] = {"version": stat["version"], "zxid": stat["mzxid"], "value": text(reply)}
        return found

    def set(self, path: str, value: str, version: int) -> dict:
        reply = self._ask("setData", wire.ustring(path) + wire.buffer(value.encode()) + wire.i32(version))
        stat = reply["body"]
        return {"header": int(reply["zxid"]), "zxid": stat["mzxid"], "version": stat["version"]}

    def create(self, path: str, value: str, ephemeral: bool, sequential: bool) -> dict:
        flags = int(ephemeral) + 2 * int(sequential)
        reply = self._ask("create2", wire.create_body(path, value.encode(), OPEN, flags))
        return {"header": int(reply["zxid"]), "zxid": reply["body"]["stat"]["czxid"], "made": reply["body"]["path"]}

    def delete(self, path: str) -> dict:
        reply = self._ask("delete", wire.ustring(path) + wire.i32(-1))
        return {"header": int(reply["zxid"]), "zxid": int(reply["zxid"])}

    def children(self, path: str) -> dict:
        reply = self._ask("getChildren2", wire.ustring(path) + wire.boolean(False))
        body = reply["body"]
        return {"header": int(reply["zxid"]), "zxid": body["stat"]["pzxid"], "names": sorted(body["children"])}

    def sync(self, path: str) -> dict:
        return {"header": int(self._ask("sync", wire.ustring(path))["zxid"])}


def text(reply: dict) -> str:
    return (reply["body"]["data"] or b"").decode()


def main() -> None:
    args = workload.arguments()
    recorder = Recorder(args.out, args.name)
    servers = [parse_address(each) for each in args.servers.split(",")]
    client = WireClient(servers, args.timeout_ms, recorder, random.Random(args.seed + 1))
    workload.run(client, recorder, args)


if __name__ == "__main__":
    main()
