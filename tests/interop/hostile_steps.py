"""Steps in which a client misbehaves: nonsense requests, odd handshakes, frames that are no frames.

Each is a step of its own, never part of a window: a server may answer such a request ahead of the
queue, and what it still does with requests behind one that ends the connection is not defined.
"""
from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import wire
from operations import OPEN, Op, Step, shown
from wire import OPCODES, boolean, buffer, connect_request, frame, header, i32, i64, ustring

if TYPE_CHECKING:
    from sides import Side
    from operations import Generator

UNKNOWN_OPCODES = [10, 23, 71, 99, 108, 1000, -1, -2, -9, -12, 2**31 - 1, -(2**31), 0]
# See intended_differences.md for these.
LEFT_OUT = ("createSession", "deleteContainer", "sasl", "check", "reconfig")
CLIENT_OPCODES = [code for name, code in OPCODES.items() if name not in LEFT_OUT]
FOUR_LETTER_WORDS = [b"ruok", b"isro", b"none", b"RUOK", b"gtmk", b"wchs"]
HUGE = 2**31 - 1


def odd_bodies(rng: random.Random) -> list[tuple[str, bytes, str]]:
    """Records whose lengths lie, or that have values no client sends: (op, body, note)."""
    acl_item = wire.acl_entry(OPEN[0])
    return [
        ("create", i32(-2) + buffer(b"x") + i32(0) + i32(0), "path length -2"),
        ("create", i32(HUGE) + b"/a", "path length 2^31-1"),
        ("create", ustring("/a") + i32(-2) + i32(0) + i32(0), "data length -2"),
        ("create", ustring("/a") + i32(HUGE) + b"x", "data length 2^31-1"),
        ("create", ustring("/a") + i32(0x200000) + b"x", "data length over jute.maxbuffer"),
        ("create", ustring("/a") + buffer(b"x") + i32(-2) + i32(0), "acl count -2"),
        ("create", ustring("/a") + buffer(b"x") + i32(-1) + i32(0), "acl count -1"),
        ("create", ustring("/a") + buffer(b"x") + i32(HUGE) + acl_item, "acl count 2^31-1"),
        ("create", ustring("/a") + buffer(b"x") + i32(2) + acl_item + i32(0), "acl count one too many"),
        ("getData", i32(-1) + boolean(0), "null path"),
        ("getData", i32(-2) + boolean(0), "path length -2"),
        ("getData", ustring("/a"), "no watch byte"),
        ("getData", ustring("/none") + boolean(255), "watch byte 255"),
        ("exists", ustring("/a\0b") + boolean(0), "NUL in path"),
        ("getChildren", i32(HUGE) + b"/", "path length 2^31-1"),
        ("delete", ustring("/a") + b"\0\0", "half a version"),
        ("setData", ustring("/a") + i32(-7) + i32(-1), "data length -7"),
        ("setACL", ustring("/a") + i32(-3) + i32(-1), "acl count -3"),
        ("setACL", ustring("/a") + i32(1) + i32(31) + i32(-5), "scheme length -5"),
        ("multi", b"", "empty body"),
        ("multi", i32(-1) + b"\x01", "half an end marker"),
        ("multi", struct.pack(">iBi", 1, 0, -1), "create without record"),
        ("multi", struct.pack(">iBi", -1, 1, -1) + b"garbage", "garbage after the end"),
        ("multi", struct.pack(">iBi", 2, 1, -1) + ustring("/a") + i32(-1), "done flag on the first part"),
        ("multiRead", struct.pack(">iBi", 4, 0, -1) + i32(-9), "path length -9"),
        ("setWatches", i64(0) + i32(-2) + i32(0) + i32(0), "list count -2"),
        ("setWatches", i64(0) + i32(HUGE), "list count 2^31-1"),
        ("setWatches", i64(0), "no lists"),
        ("addWatch", ustring("/a"), "no mode"),
        ("addWatch", ustring("/a") + i32(7), "mode 7"),
        ("removeWatches", ustring("/a") + i32(99), "type 99"),
        ("createTTL", wire.create_body("/a", b"", OPEN, 5), "no ttl"),
        ("sync", b"", "empty body"),
        ("whoAmI", b"unexpected", "with a body"),
        ("ping", b"unexpected", "with a body"),
        ("getEphemerals", i32(-1), "null prefix"),
        ("getAllChildrenNumber", i32(-1), "null path"),
    ]


def odd_request(rng: random.Random, slot: int, generator: "Generator") -> Step:
    kind = rng.randrange(6)
    if kind == 0:
        code = rng.choice(UNKNOWN_OPCODES)
        body = rng.choice((b"", ustring("/a"), bytes(40)))
        op = Op("unknown", body, f"opcode {code} {shown(body)}", opcode=code)
    elif kind in (1, 2):
        name, body, note = rng.choice(odd_bodies(rng))
        op = Op(name, body, f"{name} with {note}")
    else:
        good = generator.any_op()
        while callable(good.body) or good.name in ("multi", "reconfig"):
            good = generator.any_op()
        if kind == 3:
            body = good.body[: rng.randrange(len(good.body) + 1)]
            op = Op(good.name, body, f"{good.note} cut to {len(body)} bytes")
            if body == good.body:
                op.path, op.acl, op.watch = good.path, good.acl, good.watch
        elif kind == 4:
            body = good.body + rng.randbytes(rng.choice((1, 4, 30)))
            op = Op(good.name, body, f"{good.note} followed by {len(body) - len(good.body)} bytes", path=good.path)
            op.acl, op.watch = good.acl, good.watch
        else:
            code = rng.choice(CLIENT_OPCODES)
            body = rng.randbytes(rng.randrange(60))
            op = Op(wire.OPNAMES[code], body, f"{wire.OPNAMES[code]} with {body.hex()}")
    op.xid = rng.choice((None, None, None, None, 0, -3, HUGE)) if kind == 0 else None
    return Step("single", slot, [op])


def odd_frame(rng: random.Random, slot: int) -> Step:
    """Bytes that are not a request; the server may only close this connection."""
    raw = rng.choice((
        (i32(-1), "frame length -1"),
        (i32(-HUGE), "frame length -2^31+1"),
        (i32(wire.FRAME_BYTES_MAX + 1), "frame one byte over the limit"),
        (i32(HUGE), "frame length 2^31-1"),
        (frame(b""), "empty frame"),
        (frame(b"\0\0\0"), "frame of three bytes"),
        (frame(i32(7)), "frame with half a header"),
        (frame(header(7, 3)), "exists without a body"),
        (b"ruok", "four-letter word after the handshake"),
        (frame(connect_request()), "a second handshake"),
    ))  # fmt: skip
    return Step("raw", slot, argument=raw[0], note=raw[1])


def big_request(rng: random.Random, slot: int) -> Step:
    """setData in the largest frame that is allowed."""
    path = "/a"
    room = wire.FRAME_BYTES_MAX - 8 - len(ustring(path)) - 4 - 4
    length = room - rng.choice((0, 0, 1, 100))
    body = ustring(path) + buffer(b"z" * length) + i32(-1)
    return Step("single", slot, [Op("setData", body, f"setData {path} with {length} bytes", path=path)])


def auth_steps(rng: random.Random, slot: int) -> Iterator[Step]:
    """An auth packet, what the connection is now, and back to the slot's own credentials."""
    scheme, token = rng.choice((
        ("digest", b"carol:x"), ("digest", b"alice:wonder"), ("digest", b"nocolon"), ("digest", b""),
        ("digest", b"super:wrong"), ("digest", b":"), ("digest", b"a:b:c"), ("digest", b"\xff\xfe:x"),
        ("digest", None), ("ip", b"1.2.3.4"), ("world", b"anyone"), ("auth", b""), ("super", b""), ("unheard", b"of"),
        ("", b""), (None, b"x"), ("sasl", b"x"), ("x509", b"x"),
    ))  # fmt: skip
    kind = rng.choice((0, 0, 0, 0, 1, -1))
    body = i32(kind) + ustring(scheme) + buffer(token)
    cut = rng.random() < 0.1
    if cut:
        body = body[: rng.randrange(len(body))]
    note = f"auth type={kind} {scheme} {token!r}" + (f" cut to {len(body)}" if cut else "")
    xid = wire.XID_AUTH if rng.random() < 0.8 else 5
    yield Step("single", slot, [Op("auth", body, note, xid=xid)])
    yield Step("window", slot, [Op("whoAmI", b"", "whoAmI")])
    yield Step("reattach", slot, argument="drop", note="back to the slot's own credentials")


def handshakes(slot: int) -> list[tuple[str, object]]:
    """First frames for a connection of its own; callables get the server's side for its ids."""

    def wrong_password(side: "Side") -> bytes:
        return connect_request(session=side.slots[slot].session, password=b"wrong password!!")

    def null_password(side: "Side") -> bytes:
        return connect_request(session=side.slots[slot].session, password=None)

    def future(side: "Side") -> bytes:
        return connect_request(last_zxid=side.zxid_back(0) + 1_000_000)

    def present(side: "Side") -> bytes:
        return connect_request(last_zxid=side.zxid_back(0))

    return [
        ("wrong password for a live session", wrong_password),
        ("null password for a live session", null_password),
        ("lastZxidSeen in the future", future),
        ("lastZxidSeen of now", present),
        ("negative lastZxidSeen", connect_request(last_zxid=-5)),
        ("unknown session", connect_request(session=0x1234567890)),
        ("unknown negative session", connect_request(session=-77)),
        ("smallest session id", connect_request(session=-(2**63))),
        ("new session, null password", connect_request(password=None)),
        ("new session, short password", connect_request(password=b"abc")),
        ("new session, long password", connect_request(password=bytes(100))),
        ("new session, some password", connect_request(password=b"0123456789abcdef")),
        ("timeout 0", connect_request(timeout_ms=0)),
        ("timeout 1", connect_request(timeout_ms=1)),
        ("timeout -1", connect_request(timeout_ms=-1)),
        ("timeout 2^31-1", connect_request(timeout_ms=HUGE)),
        ("timeout 3999", connect_request(timeout_ms=3999)),
        ("timeout 4001", connect_request(timeout_ms=4001)),
        ("old form, without readOnly", connect_request(read_only=None)),
        ("readOnly", connect_request(read_only=True)),
        ("readOnly byte 2", connect_request()[:-1] + b"\2"),
        ("protocol version 7", connect_request(version=7)),
        ("protocol version -1", connect_request(version=-1)),
        ("bytes after readOnly", connect_request() + b"more"),
        ("cut before the password", connect_request()[:24]),
        ("cut in the password", connect_request()[:35]),
        ("password length -2", connect_request()[:24] + i32(-2)),
        ("password length 2^31-1", connect_request()[:24] + i32(HUGE)),
        ("empty", b""),
        ("one byte", b"\0"),
    ]


def first_bytes(rng: random.Random) -> tuple[bytes, str]:
    return rng.choice((
        (rng.choice(FOUR_LETTER_WORDS) + rng.choice((b"", b"\n", b"\r\n")), "four-letter word"),
        (b"\xff\xf4\xff\xfd\x06", "telnet break"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "TLS hello"),
        (i32(-1), "length -1"),
        (i32(wire.FRAME_BYTES_MAX + 1), "length over the limit"),
        (frame(header(1, 3) + ustring("/") + boolean(0)), "a request instead of a handshake"),
    ))  # fmt: skip


def hostile_step(rng: random.Random, slot: int, generator: "Generator") -> Iterator[Step]:
    kind = rng.random()
    if kind < 0.5:
        yield odd_request(rng, slot, generator)
    elif kind < 0.6:
        yield odd_frame(rng, slot)
    elif kind < 0.63:
        yield big_request(rng, slot)
    elif kind < 0.78:
        yield from auth_steps(rng, slot)
    elif kind < 0.95:
        note, payload = rng.choice(handshakes(slot))
        yield Step("handshake", slot, argument=payload, note=note)
        # Apache disturbs the owner of a session that somebody else claims; start afresh on both.
        if "live session" in note:
            yield Step("reattach", slot, argument="drop", note="after the foreign handshake")
    else:
        data, note = first_bytes(rng)
        yield Step("first-bytes", slot, argument=data, note=f"{note} {data!r}")
