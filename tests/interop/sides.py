"""The two ends of the differential test: clients that perform a step on one server.

A `Side` holds one server's own ids (sessions, passwords, zxids), so that the same `Step` means the
same on both servers, and returns everything that server said, decoded and in order.
"""
from __future__ import annotations

import contextlib

import wire
from operations import OPEN, PERSONAS, Op, Persona, Step
from wire import Connection, Silence, Zxid, connect_request, decode_connect_response, decode_reply, frame, header

SESSION_TIMEOUT_MS = 600_000  # nothing expires during a run; maxSessionTimeout is raised to it
EXPIRY_TIMEOUT_MS = 4000
REPLY_SECONDS_MAX = 20.0
QUIET_SECONDS = 0.3  # silence after a request that may have no answer
STOLEN_SECONDS_MAX = 1.0  # until a connection ends whose session was taken over
CLOSING_ERRORS = (("unknown", -6), ("auth", -115))  # the server closes behind these
CLOSED = {"closed": True}
RESERVED_XIDS = {wire.XID_PING: "ping", wire.XID_AUTH: "auth", wire.XID_SET_WATCHES: "setWatches"}


class Client:
    """One slot on one side: a connection, its session and its xid counter."""

    def __init__(self, address: tuple[str, int], persona: Persona):
        self._address = address
        self._persona = persona
        self.connection: Connection | None = None
        self.session = 0
        self._password = bytes(16)
        self._xid = 0
        self._requests = dict(RESERVED_XIDS)

    def connect(self, resume: bool) -> list[dict]:
        """Handshake and auth packets; returns the decoded answers."""
        old, self.connection = self.connection, Connection(self._address)
        if not resume:
            self.session, self._password, self._xid = 0, bytes(16), 0
        request = connect_request(
            self.session, self._password, SESSION_TIMEOUT_MS, read_only=self._persona.read_only
        )
        self.connection.send(frame(request))
        answers = []
        payload = self.connection.receive(REPLY_SECONDS_MAX)
        if payload is None:
            return [CLOSED]
        answers.append(decode_connect_response(payload))
        self.session = int(answers[0].get("session", 0))
        self._password = bytes(answers[0].get("password", b""))
        for scheme, token in self._persona.auth:
            body = wire.i32(0) + wire.ustring(scheme) + wire.buffer(token.encode())
            self.connection.send(frame(header(wire.XID_AUTH, wire.OPCODES["auth"]) + body))
            answers += self.receive(1)
        if old is not None:
            answers += self._drain(old)
            old.close()
        return answers

    @staticmethod
    def _drain(old: Connection) -> list[dict]:
        """Whether the server ends a connection whose session has moved to another one."""
        try:
            while old.receive(STOLEN_SECONDS_MAX) is not None:
                pass
            return [{"former connection": "closed"}]
        except Silence:
            return [{"former connection": "open"}]

    def encode(self, op: Op, side: "Side") -> bytes:
        if op.xid is None:
            self._xid += 1
        xid = self._xid if op.xid is None else op.xid
        if xid not in RESERVED_XIDS:
            self._requests[xid] = op.name
        body = op.body(side) if callable(op.body) else op.body
        return frame(header(xid, op.code()) + body)

    def receive(self, replies: int, seconds_max: float = REPLY_SECONDS_MAX) -> list[dict]:
        """Frames until that many replies (events come between them), or until the server closes."""
        assert self.connection is not None
        frames = []
        while replies:
            payload = self.connection.receive(seconds_max)
            if payload is None:
                frames.append(CLOSED)
                break
            frames.append(decode_reply(payload, self._requests.get))
            replies -= "event" not in frames[-1]
        return frames

    def receive_until_quiet(self) -> list[dict]:
        """The answer to a request that may close the connection, answer, or do nothing."""
        assert self.connection is not None
        frames = []
        with contextlib.suppress(Silence):
            frames += self.receive(1, QUIET_SECONDS)
        if frames and (frames[-1].get("op"), frames[-1].get("err")) in CLOSING_ERRORS:
            # No ping here: Apache may still answer one between its reply and its close.
            return frames + self.receive(1)
        if CLOSED not in frames:
            self.connection.send(frame(header(wire.XID_PING, wire.OPCODES["ping"])))
            frames += self.receive(1)
        return frames

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Side:
    """One of the two servers, with its own ids."""

    def __init__(self, name: str, address: tuple[str, int]):
        self.name = name
        self.address = address
        self.slots = [Client(address, persona) for persona in PERSONAS]
        self._zxids = [0]
        self._zxids_before = 1

    def begin_step(self) -> None:
        """Requests of a step that name a zxid mean one from before the step, whatever the pace."""
        self._zxids_before = len(self._zxids)

    def saw(self, frames: list[dict]) -> None:
        self._zxids += [int(f["zxid"]) for f in frames if f.get("xid", 0) > 0 and isinstance(f.get("zxid"), Zxid)]

    def zxid_back(self, count: int | None) -> int:
        """The zxid seen `count` replies ago; None is zero and -1 one that is far ahead."""
        if count is None:
            return 0
        last = self._zxids_before - 1
        if count < 0:
            return self._zxids[last] + 1_000_000
        return self._zxids[max(last - count, 0)]

    def perform(self, step: Step) -> list[dict]:
        """Sends a step's requests and returns everything the server said to its slot."""
        frames = getattr(self, "_" + step.kind.replace("-", "_"))(self.slots[step.slot], step)
        self.saw(frames)
        return frames

    def _open(self, client: Client, _step: Step) -> list[dict]:
        client.drop()
        return client.connect(resume=False)

    def _reattach(self, client: Client, step: Step) -> list[dict]:
        if step.argument == "drop":
            client.drop()
        return client.connect(resume=True)

    def _window(self, client: Client, step: Step) -> list[dict]:
        assert client.connection is not None
        client.connection.send(b"".join(client.encode(op, self) for op in step.ops))
        return client.receive(len(step.ops))

    def _single(self, client: Client, step: Step) -> list[dict]:
        assert client.connection is not None
        client.connection.send(client.encode(step.ops[0], self))
        return client.receive_until_quiet()

    def _raw(self, client: Client, step: Step) -> list[dict]:
        assert client.connection is not None and isinstance(step.argument, bytes)
        client.connection.send(step.argument)
        return client.receive_until_quiet()

    def _close(self, client: Client, _step: Step) -> list[dict]:
        assert client.connection is not None
        client.connection.send(client.encode(Op("closeSession", b"", "closeSession"), self))
        return client.receive(2)

    def _handshake(self, _client: Client, step: Step) -> list[dict]:
        """A handshake on a connection of its own; a session that it opens is closed again."""
        payload = step.argument(self) if callable(step.argument) else step.argument
        assert isinstance(payload, bytes)
        other = Connection(self.address)
        try:
            other.send(frame(payload))
            answer = other.receive(REPLY_SECONDS_MAX)
            if answer is None:
                return [CLOSED]
            response = decode_connect_response(answer)
            if response.get("session"):
                other.send(frame(header(1, wire.OPCODES["closeSession"])))
                return [response, *(self._rest(other))]
            return [response, *self._rest(other)]
        except Silence:
            return [{"silence": True}]
        finally:
            other.close()

    def _expiry(self, client: Client, _step: Step) -> list[dict]:
        """A session vanishes without a close; the slot watches its ephemeral node and hears of its end."""
        parent, node = "/expiring", "/expiring/node"
        other = Connection(self.address)
        other.send(frame(connect_request(timeout_ms=EXPIRY_TIMEOUT_MS)))
        other.receive(REPLY_SECONDS_MAX)
        for path, flags in ((parent, 0), (node, 1)):
            other.send(frame(header(1, wire.OPCODES["create"]) + wire.create_body(path, b"", OPEN, flags)))
            other.receive(REPLY_SECONDS_MAX)
        watches = [
            Op("getData", wire.ustring(node) + wire.boolean(1), "getData"),
            Op("getChildren", wire.ustring(parent) + wire.boolean(1), "getChildren"),
        ]
        assert client.connection is not None
        client.connection.send(b"".join(client.encode(op, self) for op in watches))
        frames = client.receive(len(watches))
        other.close()
        for _ in range(2):
            payload = client.connection.receive(REPLY_SECONDS_MAX)
            frames.append(CLOSED if payload is None else decode_reply(payload, {}.get))
        return frames

    @staticmethod
    def _rest(connection: Connection) -> list[dict]:
        frames = []
        while (payload := connection.receive(REPLY_SECONDS_MAX)) is not None:
            frames.append(decode_reply(payload, {1: "closeSession"}.get))
        return [*frames, CLOSED]

    def _first_bytes(self, _client: Client, step: Step) -> list[dict]:
        """Bytes that open a connection but no session: all that counts is whether it is closed."""
        assert isinstance(step.argument, bytes)
        other = Connection(self.address)
        try:
            other.send(step.argument)
            answer = other.receive_all(REPLY_SECONDS_MAX / 10)
            return [{"text": answer if answer in (b"imok", b"rw") else bool(answer)}, CLOSED]
        except Silence:
            return [{"silence": True}]
        finally:
            other.close()

    def close(self) -> None:
        for client in self.slots:
            client.drop()
