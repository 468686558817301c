"""ZooKeeper's client protocol, written a second time on purpose.

The tests judge our Rust codec, so they must not share a line with it.  This module encodes requests
to bytes, also nonsense ones, and decodes replies to plain Python values; a few values carry a type
of their own (`Zxid`, `Millis`, `Session`, `Opaque`, `Unordered`) so that a comparer knows what may
differ between two servers.  All integers are big-endian.
"""
from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence

OPCODES = {
    "notification": 0, "create": 1, "delete": 2, "exists": 3, "getData": 4, "setData": 5, "getACL": 6,
    "setACL": 7, "getChildren": 8, "sync": 9, "ping": 11, "getChildren2": 12, "check": 13, "multi": 14,
    "create2": 15, "reconfig": 16, "checkWatches": 17, "removeWatches": 18, "createContainer": 19,
    "deleteContainer": 20, "createTTL": 21, "multiRead": 22, "auth": 100, "setWatches": 101, "sasl": 102,
    "getEphemerals": 103, "getAllChildrenNumber": 104, "setWatches2": 105, "addWatch": 106, "whoAmI": 107,
    "createSession": -10, "closeSession": -11,
}  # fmt: skip
OPNAMES = {code: name for name, code in OPCODES.items()}
XID_NOTIFICATION, XID_PING, XID_AUTH, XID_SET_WATCHES = -1, -2, -4, -8
READ, WRITE, CREATE, DELETE, ADMIN, ALL = 1, 2, 4, 8, 16, 31
EVENT_TYPES = {1: "NodeCreated", 2: "NodeDeleted", 3: "NodeDataChanged", 4: "NodeChildrenChanged"}
FRAME_BYTES_MAX = 0xFFFFF

Acl = Sequence[tuple[int, "str | None", "str | None"]]


class Zxid(int):
    """A transaction id: equal only up to an order-preserving renaming."""


class Millis(int):
    """A wall-clock time in milliseconds."""


class Session(int):
    """A session id: equal only up to renaming."""


class Opaque(bytes):
    """Bytes without a meaning to the client (a session password)."""


class Unordered(list):
    """A list whose order the server is free to choose."""


# ---- encoding


def i32(value: int) -> bytes:
    return struct.pack(">i", value)


def i64(value: int) -> bytes:
    return struct.pack(">q", value)


def boolean(value: int) -> bytes:
    """Also takes 2..255, which no client sends."""
    return struct.pack(">B", value)


def buffer(value: bytes | None) -> bytes:
    return i32(-1) if value is None else i32(len(value)) + value


def ustring(value: str | bytes | None) -> bytes:
    """Bytes go out as they are, so that a test can send what is not UTF-8."""
    return buffer(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)


def vector(items: Sequence | None, encode: Callable) -> bytes:
    return i32(-1) if items is None else i32(len(items)) + b"".join(map(encode, items))


def acl_entry(entry: tuple[int, str | None, str | None]) -> bytes:
    perms, scheme, ident = entry
    return i32(perms) + ustring(scheme) + ustring(ident)


def acl_list(acl: Acl | None) -> bytes:
    return vector(acl, acl_entry)


def header(xid: int, opcode: int) -> bytes:
    return struct.pack(">ii", xid, opcode)


def frame(payload: bytes) -> bytes:
    return i32(len(payload)) + payload


def create_body(path, data, acl, flags: int) -> bytes:
    return ustring(path) + buffer(data) + acl_list(acl) + i32(flags)


def multi_body(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """`parts` are (opcode, request record)."""
    body = b"".join(struct.pack(">iBi", opcode, 0, -1) + record for opcode, record in parts)
    return body + struct.pack(">iBi", -1, 1, -1)


def set_watches_body(relative_zxid: int, *lists: Sequence | None) -> bytes:
    """Three lists (data, exist, child), or five for setWatches2 (persistent, recursive)."""
    return i64(relative_zxid) + b"".join(vector(paths, ustring) for paths in lists)


def connect_request(
    session: int = 0,
    password: bytes | None = bytes(16),
    timeout_ms: int = 10000,
    last_zxid: int = 0,
    read_only: bool | None = False,
    version: int = 0,
) -> bytes:
    """The first frame's payload; `read_only=None` is the form of clients up to 3.3, without that byte."""
    fixed = struct.pack(">iqiq", version, last_zxid, timeout_ms, session) + buffer(password)
    return fixed if read_only is None else fixed + boolean(read_only)


# ---- decoding


class Malformed(ValueError):
    """A reply that is too short, too long or not of the expected shape."""


def _text(raw: bytes) -> str:
    """UTF-8, or the form in which Java writes characters beyond U+FFFF: each half of a surrogate pair by itself."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "backslashreplace")


class Reader:
    """Takes values off the front of one frame."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    def _take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise Malformed(f"{count} bytes wanted at {self._at} of {len(self._data)}")
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def i32(self) -> int:
        return struct.unpack(">i", self._take(4))[0]

    def i64(self) -> int:
        return struct.unpack(">q", self._take(8))[0]

    def boolean(self) -> bool:
        return self._take(1) != b"\0"

    def buffer(self) -> bytes | None:
        length = self.i32()
        return None if length == -1 else self._take(length)

    def ustring(self) -> str | None:
        raw = self.buffer()
        return None if raw is None else _text(raw)

    def vector(self, item: Callable) -> list | None:
        count = self.i32()
        if count < -1 or count > len(self._data):
            raise Malformed(f"vector of {count}")
        return None if count == -1 else [item() for _ in range(count)]

    def acl(self) -> list | None:
        return self.vector(lambda: (self.i32(), self.ustring(), self.ustring()))

    def stat(self) -> dict:
        c, m, ct, mt, version, cversion, aversion, owner, length, children, p = struct.unpack(
            ">qqqqiiiqiiq", self._take(68)
        )
        return {
            "czxid": Zxid(c), "mzxid": Zxid(m), "ctime": Millis(ct), "mtime": Millis(mt), "version": version,
            "cversion": cversion, "aversion": aversion, "ephemeralOwner": Session(owner), "dataLength": length,
            "numChildren": children, "pzxid": Zxid(p),
        }  # fmt: skip

    def rest(self) -> bytes:
        return self._take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise Malformed(f"{len(self._data) - self._at} bytes left over")


def _multi(r: Reader) -> list:
    results = []
    while True:
        kind, done, err = r.i32(), r.boolean(), r.i32()
        if done:
            results.append(("end", kind, err))
            return results
        body = {
            1: lambda: r.ustring(),
            15: lambda: (r.ustring(), r.stat()),
            5: r.stat,
            4: lambda: (r.buffer(), r.stat()),
            8: lambda: Unordered(r.vector(r.ustring) or []),
            -1: r.i32,
            2: lambda: None,
            13: lambda: None,
        }
        if kind not in body:
            raise Malformed(f"multi result of type {kind}")
        results.append((kind, err, body[kind]()))


def _children(r: Reader) -> Unordered:
    return Unordered(r.vector(r.ustring) or [])


_PATH_STAT = lambda r: {"path": r.ustring(), "stat": r.stat()}  # noqa: E731
_NOTHING = lambda r: None  # noqa: E731
REPLY_BODIES: dict[str, Callable[[Reader], object]] = {
    "create": lambda r: {"path": r.ustring()},
    "create2": _PATH_STAT,
    "createContainer": _PATH_STAT,
    "createTTL": _PATH_STAT,
    "delete": _NOTHING,
    "exists": lambda r: r.stat(),
    "getData": lambda r: {"data": r.buffer(), "stat": r.stat()},
    "setData": lambda r: r.stat(),
    "getACL": lambda r: {"acl": r.acl(), "stat": r.stat()},
    "setACL": lambda r: r.stat(),
    "getChildren": _children,
    "getChildren2": lambda r: {"children": _children(r), "stat": r.stat()},
    "sync": lambda r: {"path": r.ustring()},
    "multi": _multi,
    "multiRead": _multi,
    "reconfig": lambda r: {"data": r.buffer(), "stat": r.stat()},
    "getEphemerals": _children,
    "getAllChildrenNumber": lambda r: r.i32(),
    "addWatch": lambda r: {"err": r.i32()},
    "whoAmI": lambda r: Unordered(r.vector(lambda: (r.ustring(), r.ustring())) or []),
    "sasl": lambda r: {"token": r.buffer()},
}


def decode_reply(payload: bytes, request_of: Callable[[int], str | None]) -> dict:
    """One server frame after the handshake; `request_of` names the request that an xid belongs to."""
    r = Reader(payload)
    try:
        xid, zxid, err = r.i32(), Zxid(r.i64()), r.i32()
        if xid == XID_NOTIFICATION:
            event = {"type": r.i32(), "state": r.i32(), "path": r.ustring()}
            r.end()
            return {"xid": xid, "zxid": zxid, "err": err, "event": event}
        reply = {"xid": xid, "zxid": zxid, "err": err, "op": request_of(xid)}
        if err == 0:
            reply["body"] = REPLY_BODIES.get(reply["op"] or "", _NOTHING)(r)
        else:
            # Apache appends to a failed multiRead what it had read so far; no client looks at that.
            leftover = r.rest()
            if reply["op"] not in ("multi", "multiRead"):
                reply["behind the error"] = leftover
        r.end()
        return reply
    except Malformed as error:
        return {"undecodable": payload.hex(), "why": str(error)}


def decode_connect_response(payload: bytes) -> dict:
    r = Reader(payload)
    try:
        response = {
            "version": r.i32(),
            "timeout": r.i32(),
            "session": Session(r.i64()),
            "password": Opaque(r.buffer() or b""),
        }
        if payload[36:]:
            response["readOnly"] = r.boolean()
        r.end()
        return response
    except Malformed as error:
        return {"undecodable": payload.hex(), "why": str(error)}


# ---- connection


class Silence(Exception):
    """The server neither answered nor closed within the time allowed."""


class Connection:
    """A socket that yields frames; a reset counts as an end."""

    def __init__(self, address: tuple[str, int], seconds_max: float = 10.0):
        self.socket = socket.create_connection(address, timeout=seconds_max)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self.ended = False

    def send(self, data: bytes) -> None:
        """Errors are left to the next receive: the server may have closed already."""
        try:
            self.socket.settimeout(30)
            self.socket.sendall(data)
        except OSError:
            pass

    def _fill(self, deadline: float) -> bool:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise Silence
        self.socket.settimeout(remaining)
        try:
            more = self.socket.recv(1 << 18)
        except TimeoutError:
            raise Silence from None
        except OSError:
            more = b""
        self._received += more
        self.ended = self.ended or not more
        return bool(more)

    def receive(self, seconds_max: float = 20.0) -> bytes | None:
        """The next frame's payload, or None when the server has closed. Raises Silence."""
        deadline = time.monotonic() + seconds_max
        while True:
            if len(self._received) >= 4:
                length = struct.unpack_from(">i", self._received)[0]
                if length < 0:
                    raise Malformed(f"frame of {length} bytes")
                if len(self._received) >= 4 + length:
                    payload = bytes(self._received[4 : 4 + length])
                    del self._received[: 4 + length]
                    return payload
            if self.ended or not self._fill(deadline):
                return None

    def receive_all(self, seconds_max: float = 20.0) -> bytes:
        """Everything until the server closes (the answer to a four-letter word). Raises Silence."""
        deadline = time.monotonic() + seconds_max
        while not self.ended and self._fill(deadline):
            pass
        everything = bytes(self._received)
        self._received.clear()
        return everything

    def close(self) -> None:
        self.socket.close()
