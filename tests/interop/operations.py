"""A seeded stream of client operations for the differential test: good, bad and hostile ones.

The stream is a list of steps.  A step acts on one slot (a client with its own credentials and
session) and is the unit that is complete on both servers before the next begins, so the order of
everything is the same on both.  Nothing here looks at a reply, except for the names that sequential
creates made (`Generator.learn`), which must be equal on both servers anyway.
"""
from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import wire
from server_process import SUPER_PASSWORD, digest_id
from texts import lacks_text
from wire import OPCODES, buffer, i32, i64, ustring

if TYPE_CHECKING:
    from sides import Side

Body = "bytes | Callable[[Side], bytes]"


@dataclasses.dataclass(frozen=True)
class Persona:
    """Who sits in a slot: its auth packets, the form of its handshake and the kind of watches it sets.

    One kind only, because Apache 3.8.0 lets the last watch of a session on a path replace the mode
    of an earlier one (ZOOKEEPER-4466, repaired in 3.9).
    """

    name: str
    auth: tuple[tuple[str, str], ...] = ()
    read_only: bool | None = False
    watches: str = "standard"

    @property
    def ids(self) -> set[tuple[str, str]]:
        ids = {(scheme, digest_id(*token.split(":", 1))) for scheme, token in self.auth}
        return ids | {("ip", "127.0.0.1")} | ({("super", "")} if self.name == "super" else set())


PERSONAS = (
    Persona("super", (("digest", f"super:{SUPER_PASSWORD}"),)),
    Persona("alice", (("digest", "alice:wonder"),)),
    Persona("bob", (("digest", "bob:builder"),), read_only=True, watches="persistent"),
    Persona("nobody"),
    Persona("both", (("digest", "alice:wonder"), ("digest", "bob:builder")), watches="recursive"),
    Persona("old", read_only=None),
)
SUPER_SLOT = 0

ALICE, BOB = digest_id("alice", "wonder"), digest_id("bob", "builder")
OPEN = [(31, "world", "anyone")]
GOOD_ACLS = [
    [(31, "digest", ALICE), (1, "world", "anyone")],
    [(31, "digest", ALICE)],
    [(1, "digest", BOB), (30, "digest", ALICE)],
    [(31, "auth", "")],
    [(1, "auth", "whatever"), (6, "world", "anyone")],
    [(31, "ip", "127.0.0.1")],
    [(31, "ip", "127.0.0.0/8"), (31, "digest", BOB)],
    [(31, "ip", "10.0.0.1"), (4, "world", "anyone")],
    [(15, "world", "anyone")],
    [(16, "world", "anyone"), (1, "digest", ALICE)],
    [(31, "world", "anyone"), (31, "world", "anyone"), (1, "world", "anyone")],
    [(5, "world", "anyone"), (31, "digest", BOB)],
    [(0, "world", "anyone"), (31, "digest", ALICE)],
    [(2, "world", "anyone"), (31, "digest", BOB)],
]
ODD_ACLS: list = [
    None,
    [],
    [(31, "world", "someone")],
    [(31, "digest", "no-colon")],
    [(31, "digest", "a:b:c")],
    [(31, "digest", "")],
    [(31, "unheard", "of")],
    [(31, "", "")],
    [(31, "ip", "not-an-address")],
    [(31, "ip", "1.2.3.4/33")],
    [(31, "ip", "1.2.3.4/-1")],
    [(31, "ip", "1.2.3.4/x")],
    [(31, "ip", "256.1.1.1")],
    [(31, "ip", "1.2.3")],
    [(31, "super", "")],
    [(31, "sasl", "someone")],
    [(-1, "world", "anyone")],
    [(0x7FFFFFFF, "world", "anyone")],
    [(32, "world", "anyone"), (31, "digest", ALICE)],
    [(31, "world", "anyone"), (31, "digest", "broken")],
]
NULL_ID_ACLS: list = [[(31, None, "anyone")], [(31, "world", None)], [(31, "digest", None)], [(31, None, None)]]

BAD_PATHS: list[str | bytes | None] = [
    "", "/", None, "a", "a/b", "/a/", "//", "/a//b", "/a/.", "/a/..", "/./a", "/../a", "/a/../b", "/.", "/..",
    "/a/.hidden", "/a/...", "/a\x00b", "/a\x01", "/a\x1f", "/a\x7f", "/a\x80", "/a\x9f", "/a\xa0", "/a\ud800",
    "/a\ue000", "/a\uf8ff", "/a\uf900", "/a\ufff0", "/a\uffef", "/a\uffff", "/a\U0001f600", "/\u00e9", "/a\u3042",
    b"/a\xff", b"/a\xc3", b"/a\xed\xa0\x80", "/" + "x" * 300, "/" + "y/" * 400 + "z", "/" + "x" * 40000,
    "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/zookeeper/none", "/zookeeper/quota/a/zookeeper_limits",
]  # fmt: skip
VERSIONS = [-1] * 14 + [0, 0, 0, 1, 1, 2, 3, 4, -2, 2**31 - 1, -(2**31)]
NAMES = ("a", "b", "c")
HOUR_MS = 3_600_000
# createTTL with flags that make no TTL node and a negative TTL stops Apache 3.8.0 for good (it cannot
# even be restarted), so only hostile.py sends that.
TTL_FLAGS = (5, 6)
# Nothing may expire by itself during a run, the two clocks are not the same.
TTLS = [24 * HOUR_MS] * 8 + [2**40 - 1, 2**40, 2**63 - 1, 0, -1, -2, -(2**63) + 1]


@dataclasses.dataclass
class Op:
    """One request of a window."""

    name: str
    body: "bytes | Callable[[Side], bytes]"
    note: str
    xid: int | None = None
    opcode: int | None = None
    path: str | bytes | None = None
    acl: list | None = None
    parts: list["Op"] = dataclasses.field(default_factory=list)
    watch: bool = False

    def code(self) -> int:
        return OPCODES[self.name] if self.opcode is None else self.opcode


@dataclasses.dataclass
class Step:
    """`kind` says how the runner performs it; see `differential.Runner`."""

    kind: str
    slot: int
    ops: list[Op] = dataclasses.field(default_factory=list)
    argument: object = None
    note: str = ""

    def describe(self) -> str:
        who = PERSONAS[self.slot].name
        what = "; ".join(op.note for op in self.ops) or self.note
        return f"{who}: {self.kind} {what}"


def shown(value: object) -> str:
    """A value short enough for one line of a report."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}...({len(text)})"


class Generator:
    """Makes the steps of one round from a seed."""

    def __init__(self, seed: int, enforces_quotas: bool = False):
        self._random = random.Random(seed)
        self._enforces_quotas = enforces_quotas
        self._learned: list[str] = []
        self._watches = "standard"

    def sit_in(self, slot: int) -> None:
        """Operations from here on are those of that slot's client."""
        self._watches = PERSONAS[slot].watches

    def learn(self, path: str) -> None:
        """Remembers a sequential node's name, so that later operations hit it."""
        if len(self._learned) < 24:
            self._learned.append(path)
        else:
            self._learned[self._random.randrange(24)] = path

    # ---- values

    def path(self, bad: float = 0.04) -> str | bytes | None:
        rng = self._random
        if rng.random() < bad:
            return rng.choice(BAD_PATHS)
        if self._learned and rng.random() < 0.15:
            return rng.choice(self._learned)
        depth = rng.choices((1, 2, 3), (3, 4, 2))[0]
        return "".join("/" + rng.choice(NAMES) for _ in range(depth))

    def watched_path(self) -> str | bytes | None:
        """Not null: Apache keeps a watch on a null path, and then cannot close the connection any more.

        Text at least, since one path that is none has the whole list refused (rule TEXT-1).
        """
        path = self.path()
        return "/" if lacks_text("sync", ustring(path)) else path or "/"

    def data(self) -> bytes | None:
        rng = self._random
        kind = rng.random()
        if kind < 0.1:
            return None
        if kind < 0.2:
            return b""
        if kind < 0.97:
            return rng.randbytes(rng.randrange(1, 40))
        return bytes([rng.randrange(256)]) * rng.choice((1000, 5000, 40000))

    def acl(self) -> list | None:
        rng = self._random
        kind = rng.random()
        if kind < 0.72:
            return OPEN
        if kind < 0.93:
            return rng.choice(GOOD_ACLS)
        return rng.choice(ODD_ACLS if kind < 0.995 else NULL_ID_ACLS)

    def version(self) -> int:
        return self._random.choice(VERSIONS)

    def watch(self) -> int:
        flag = self._random.choices((0, 1, 2), (60, 39, 1))[0]
        return flag if self._watches == "standard" else 0

    # ---- writes

    def create(self, name: str | None = None) -> Op:
        rng = self._random
        name = name or rng.choices(("create", "create2", "createContainer", "createTTL"), (10, 10, 2, 3))[0]
        path, data, acl = self.path(), self.data(), self.acl()
        if name == "createContainer":
            flags = rng.choice((4, 4, 4, 4, 0, 2, 5))
        elif name == "createTTL":
            flags = rng.choice((5, 5, 5, 6, 6, 0, 1, 4))
        else:
            flags = rng.choice((0,) * 10 + (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, -1, 99))
        if flags in (2, 3, 6) and isinstance(path, str) and rng.random() < 0.8:
            path += rng.choice(("s", "/s", "/"))
        body = wire.create_body(path, data, acl, flags)
        note = f"{name} {shown(path)} flags={flags} acl={shown(acl)} data={shown(data)}"
        if name == "createTTL":
            ttl = rng.choice(TTLS)
            if flags not in TTL_FLAGS:
                ttl = abs(ttl)
            body += i64(ttl)
            note += f" ttl={ttl}"
        return Op(name, body, note, path=path, acl=acl)

    def delete(self) -> Op:
        path, version = self.path(), self.version()
        return Op("delete", ustring(path) + i32(version), f"delete {shown(path)} version={version}", path=path)

    def set_data(self) -> Op:
        path, data, version = self.path(), self.data(), self.version()
        note = f"setData {shown(path)} {shown(data)} version={version}"
        return Op("setData", ustring(path) + buffer(data) + i32(version), note, path=path)

    def set_acl(self) -> Op:
        path, acl, version = self.path(), self.acl(), self.version()
        note = f"setACL {shown(path)} {shown(acl)} version={version}"
        return Op("setACL", ustring(path) + wire.acl_list(acl) + i32(version), note, path=path, acl=acl)

    def check(self) -> Op:
        path, version = self.path(), self.version()
        return Op("check", ustring(path) + i32(version), f"check {shown(path)} version={version}", path=path)

    def multi(self) -> Op:
        rng = self._random
        makers = (self.create, self.delete, self.set_data, self.check)
        parts = [rng.choices(makers, (5, 3, 3, 2))[0]() for _ in range(rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4, 6)))]
        # Apache fails at a null path before the multi has its number: it takes no zxid.
        parts = [part for part in parts if part.path is not None]
        if self._enforces_quotas:
            # Apache asks a quota about the state before the multi: one write in it sees no difference.
            writes = [part for part in parts if part.name != "check"]
            parts = [part for part in parts if part.name == "check" or part is writes[0]]
        kind = rng.random()
        pairs = [(part.code(), part.body) for part in parts]
        oddity = ""
        if kind < 0.02:
            pairs.append((rng.choice((4, 8, 7, 3, 14, 16, 99, 0, -1)), ustring("/a") + b"\0"))
            oddity = f" + part of type {pairs[-1][0]}"
        elif kind < 0.03:
            inner = wire.multi_body(pairs)
            pairs = [(14, inner), *pairs]
            oddity = " nested"
        body = wire.multi_body(pairs)  # type: ignore[arg-type]
        if kind > 0.985:
            body = body[: rng.randrange(len(body))]
            oddity = f" cut to {len(body)} bytes"
        note = "multi[" + " | ".join(part.note for part in parts) + "]" + oddity
        return Op("multi", body, note, parts=[] if oddity else parts)

    # ---- reads

    def multi_read(self) -> Op:
        rng = self._random
        pairs, notes = [], []
        for _ in range(rng.choice((0, 1, 2, 2, 3, 5))):
            code, path, watch = rng.choice((4, 4, 8, 8)), self.path(), self.watch()
            pairs.append((code, ustring(path) + wire.boolean(watch)))
            notes.append(f"{wire.OPNAMES[code]} {shown(path)} watch={watch}")
        if rng.random() < 0.04:
            pairs.append((rng.choice((1, 2, 5, 12, 3)), ustring("/a") + i32(-1) + i32(0)))
            notes.append(f"part of type {pairs[-1][0]}")
        return Op("multiRead", wire.multi_body(pairs), "multiRead[" + " | ".join(notes) + "]")

    def read(self) -> Op:
        rng = self._random
        name = rng.choice(("exists", "getData", "getChildren", "getChildren2"))
        path, watch = self.path(), self.watch()
        watch = 0 if path is None else watch
        note = f"{name} {shown(path)} watch={watch}"
        return Op(name, ustring(path) + wire.boolean(watch), note, path=path, watch=bool(watch))

    def path_read(self) -> Op:
        name = self._random.choice(("getACL", "getACL", "sync", "getAllChildrenNumber", "getEphemerals"))
        path = self._random.choice(("/", "/a", "")) if name == "getEphemerals" else self.path()
        return Op(name, ustring(path), f"{name} {shown(path)}", path=path)

    def who_am_i(self) -> Op:
        return Op("whoAmI", b"", "whoAmI")

    def ping(self) -> Op:
        return Op("ping", b"", "ping", xid=wire.XID_PING)

    def reconfig(self) -> Op:
        rng = self._random
        lists = [rng.choice((None, "", "server.2=127.0.0.1:1:2;3", "2")) for _ in range(3)]
        body = b"".join(map(ustring, lists)) + i64(rng.choice((-1, 0)))
        return Op("reconfig", body, f"reconfig {lists}")

    # ---- watches

    def watch_op(self) -> Op:
        rng = self._random
        adds = 0.1 if self._watches == "standard" else 0.7
        name = "addWatch" if rng.random() < adds else rng.choice(("checkWatches", "removeWatches"))
        path = self.watched_path()
        if name == "addWatch":
            number = {"standard": 2, "persistent": 0, "recursive": 1}[self._watches]
            number = rng.choices((number, -1), (9, 1))[0]
        else:
            number = rng.choice((1, 2, 3, 3, 0, 6) if self._watches == "standard" else (3,))
        body = ustring(path) + i32(number)
        return Op(name, body, f"{name} {shown(path)} {number}", path=path, watch=name == "addWatch")

    def set_watches(self) -> Op:
        rng = self._random
        lists: list[list | None] = [
            [self.watched_path() for _ in range(rng.choice((0, 0, 1, 2)))] for _ in range(5)
        ]
        mine = {"standard": (0, 1, 2), "persistent": (3,), "recursive": (4,)}[self._watches]
        lists = [paths if i in mine else [] for i, paths in enumerate(lists)]
        if rng.random() < 0.05:
            # Alone: Apache fails at it with the lists before it armed.
            lists = [[], [], [], [], []]
            lists[rng.randrange(3)] = None
        name = "setWatches2"
        if self._watches == "standard" and rng.random() < 0.5:
            name, lists = "setWatches", lists[:3]
        back = rng.choice((0, 0, 1, 2, 5, 20, None, -1))

        def body(side: "Side") -> bytes:
            return wire.set_watches_body(side.zxid_back(back), *lists)

        note = f"{name} back={back} {shown(lists)}"
        return Op(name, body, note, xid=wire.XID_SET_WATCHES, watch=True)

    # ---- steps

    def any_op(self) -> Op:
        makers = (
            (self.create, 24), (self.delete, 11), (self.set_data, 11), (self.set_acl, 4), (self.multi, 8),
            (self.read, 24), (self.path_read, 7), (self.multi_read, 3), (self.watch_op, 5), (self.set_watches, 1.5),
            (self.who_am_i, 0.5), (self.ping, 1), (self.reconfig, 0.2),
        )  # fmt: skip
        return self._random.choices([m for m, _ in makers], [w for _, w in makers])[0]()

    def window(self, slot: int) -> Step:
        """Pipelined requests, all answered before the next step."""
        ops = []
        for _ in range(self._random.choice((1, 1, 2, 3, 5, 8, 12, 20))):
            ops.append(self.any_op())
            if ops[-1].name == "exists" and ops[-1].watch and slot != SUPER_SLOT:
                break  # a watch that only one server sets (rule READ-2) is undone right after
            if ops[-1].name == "setACL":
                break  # Apache checks the writes behind it against the old or the new ACL, as it happens
        return Step("window", slot, ops)

    def steps(self):
        """Endless; the runner stops at its number of operations."""
        from hostile_steps import hostile_step

        for slot in range(len(PERSONAS)):
            yield Step("open", slot, note="new session")
        for op in self.seed_quota():
            yield Step("window", SUPER_SLOT, [op])
        while True:
            rng = self._random
            slot, kind = rng.randrange(len(PERSONAS)), rng.random()
            self.sit_in(slot)
            if kind < 0.93:
                yield self.window(slot)
            elif kind < 0.94:
                yield Step("close", slot, note="closeSession")
                yield Step("open", slot, note="new session")
            elif kind < 0.955:
                yield Step("reattach", slot, argument="drop", note="connection lost, same session again")
            elif kind < 0.96:
                yield Step("reattach", slot, argument="steal", note="same session from a second connection")
            else:
                yield from hostile_step(self._random, slot, self)

    def seed_quota(self) -> list[Op]:
        """A quota over /b, so that its counters are part of what is compared."""
        ops = []
        for path, data in (
            ("/zookeeper/quota/b", b""),
            ("/zookeeper/quota/b/zookeeper_limits", b"count=3,bytes=40=;byteHardLimit=300;countHardLimit=6"),
            ("/zookeeper/quota/b/zookeeper_stats", b"count=0,bytes=0"),
        ):
            body = wire.create_body(path, data, OPEN, 0)
            ops.append(Op("create", body, f"create {path} data={data!r}", path=path, acl=OPEN))
        return ops
