"""A TCP proxy that writes down each frame of the client protocol that passes through it."""
from __future__ import annotations

import dataclasses
import socket
import struct
import threading
import time

import wire


@dataclasses.dataclass(frozen=True)
class Line:
    """One recorded frame, as README.md beside the golden files describes it."""

    direction: str
    name: str
    detail: str
    payload: bytes

    def text(self) -> str:
        return f"{self.direction} {self.name} {self.detail} {self.payload.hex() or '-'}"


class RecordingProxy:
    """Listens on loopback, forwards to `upstream`, and keeps the frames of all connections."""

    def __init__(self, upstream: tuple[str, int]):
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._changed = threading.Condition()
        self._lines: list[Line] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lines(self) -> list[Line]:
        with self._changed:
            return list(self._lines)

    def wait_for(self, direction: str, name: str, count: int = 1, seconds_max: float = 20.0) -> None:
        """Returns once `count` frames of that name have passed; raises TimeoutError."""
        deadline = time.monotonic() + seconds_max
        with self._changed:
            while sum((line.direction, line.name) == (direction, name) for line in self._lines) < count:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no {count} frames {direction} {name}")

    def cut(self) -> None:
        """Ends all connections, as a broken network would; new ones are accepted."""
        with self._changed:
            victims, self._open = self._open, []
        for victim in victims:
            self._end(victim)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    @staticmethod
    def _end(sock: socket.socket) -> None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
            except OSError:
                return
            with self._changed:
                self._open += [client, server]
            conversation = _Conversation(self._record)
            for source, target, note in (
                (client, server, conversation.from_client),
                (server, client, conversation.from_server),
            ):
                threading.Thread(target=self._pump, args=(source, target, note), daemon=True).start()

    def _record(self, line: Line) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def _pump(self, source: socket.socket, target: socket.socket, note) -> None:
        """Forwards whole frames; the frame is recorded before it is forwarded."""
        stream = source.makefile("rb")
        try:
            while len(head := stream.read(4)) == 4:
                payload = stream.read(struct.unpack(">i", head)[0])
                note(payload)
                target.sendall(head + payload)
        except (OSError, ValueError):
            pass
        self._end(target)
        self._end(source)


def _has_read_only(connect_request: bytes) -> bool:
    reader = wire.Reader(connect_request[24:])
    reader.buffer()
    return bool(reader.rest())


class _Conversation:
    """Names the frames of one connection: a reply is named after its request."""

    def __init__(self, record):
        self._record = record
        self._connected = {"C": False, "S": False}
        self._form = ""
        self._requests: dict[int, str] = {}

    def from_client(self, payload: bytes) -> None:
        if not self._connected["C"]:
            self._connected["C"] = True
            self._form = "with-read-only" if _has_read_only(payload) else "without-read-only"
            self._record(Line("C", "connect", self._form, payload))
            return
        xid, opcode = struct.unpack_from(">ii", payload)
        name = wire.OPNAMES.get(opcode, "unknown")
        self._requests[xid] = name
        self._record(Line("C", name, str(xid), payload))

    def from_server(self, payload: bytes) -> None:
        if not self._connected["S"]:
            self._connected["S"] = True
            self._record(Line("S", "connect", self._form, payload))
            return
        xid, _, err = struct.unpack_from(">iqi", payload)
        name = "event" if xid == wire.XID_NOTIFICATION else self._requests.get(xid, "unknown")
        self._record(Line("S", name, str(err), payload))
