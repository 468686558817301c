"""Decides whether two servers' replies are the same, up to what may differ.

Zxids and session ids may be renamed, zxids only so that their order is kept; times only have to be
times of this run; lists without an order are sorted.  Everything else must be equal, except for the
intended differences, each a narrow rule below and a paragraph in intended_differences.md.
"""
from __future__ import annotations

import bisect
import time

import wire
from operations import Op, Persona
from texts import lacks_text
from wire import Millis, Opaque, Session, Unordered, Zxid

NO_AUTH, INVALID_ACL, NO_WATCHER, MARSHALLING_ERROR = -102, -114, -121, -5
# A success of any other request would change a tree.
READS = ("exists", "getEphemerals", "sync", "multiRead", "addWatch", "checkWatches", "removeWatches")
NODE_DELETED, NODE_CHILDREN_CHANGED = 2, 4
CLOCK_SLACK_MS = 5000


class Renaming:
    """A one-to-one renaming that is built while values are met."""

    def __init__(self, ordered: bool):
        self._forth: dict[int, int] = {}
        self._back: dict[int, int] = {}
        self._sorted: list[int] | None = [] if ordered else None

    def allows(self, a: int, b: int) -> bool:
        known = self._forth.get(a)
        if known is not None or b in self._back:
            return known == b
        if self._sorted is not None:
            at = bisect.bisect(self._sorted, a)
            lower, upper = self._sorted[at - 1 : at], self._sorted[at : at + 1]
            if (lower and self._forth[lower[0]] >= b) or (upper and self._forth[upper[0]] <= b):
                return False
            self._sorted.insert(at, a)
        self._forth[a], self._back[b] = b, a
        return True


class Matcher:
    """Compares decoded values of the two sides of one round."""

    def __init__(self) -> None:
        self._zxids = Renaming(ordered=True)
        self._sessions = Renaming(ordered=False)
        self._since_ms = int(time.time() * 1000) - CLOCK_SLACK_MS
        for value in (0, -1):
            self._zxids.allows(value, value)
        for value in (0, -(2**63)):
            self._sessions.allows(value, value)

    def difference(self, a: object, b: object, where: str = "") -> str | None:
        """The first place where `a` and `b` differ, or None."""
        if type(a) is not type(b):
            return f"{where or 'value'}: {a!r} | {b!r}"
        if isinstance(a, dict):
            if a.keys() != b.keys():
                return f"{where} fields: {sorted(a)} | {sorted(b)}"
            return next(filter(None, (self.difference(a[k], b[k], f"{where}.{k}".strip(".")) for k in a)), None)
        if isinstance(a, Unordered):
            a, b = sorted(a), sorted(b)  # type: ignore[type-var]
        if isinstance(a, (list, tuple)):
            if len(a) != len(b):
                return f"{where}: {a!r} | {b!r}"
            pairs = enumerate(zip(a, b))
            return next(filter(None, (self.difference(x, y, f"{where}[{i}]") for i, (x, y) in pairs)), None)
        return None if self._same_leaf(a, b) else f"{where or 'value'}: {a!r} | {b!r}"

    def _same_leaf(self, a, b) -> bool:
        if isinstance(a, Zxid):
            return self._zxids.allows(a, b)
        if isinstance(a, Session):
            return self._sessions.allows(a, b)
        if isinstance(a, Millis):
            return a == b or (self._is_of_this_run(a) and self._is_of_this_run(b))
        if isinstance(a, Opaque):
            return len(a) == len(b) and (a == bytes(len(a))) == (b == bytes(len(b)))
        return a == b

    def _is_of_this_run(self, at_ms: int) -> bool:
        return self._since_ms <= at_ms <= time.time() * 1000 + CLOCK_SLACK_MS


class AclModel:
    """Who may read which node, learned from requests that succeeded on both servers.

    The rules need it to tell a documented difference from a bug. It keeps what was in force when,
    because an event is seen some steps after it happened.
    """

    def __init__(self) -> None:
        self._history: dict[str, list[tuple[int, list]]] = {}

    def observe(self, step: int, op: Op, persona: Persona, reply: dict) -> None:
        if reply.get("err") != 0:
            return
        if op.name == "multi":
            for part, result in zip(op.parts, reply["body"]):
                if result[0] in (1, 15):
                    made = result[2] if result[0] == 1 else result[2][0]
                    self._set(step, made, part.acl, persona)
        elif op.name in ("create", "create2", "createContainer", "createTTL"):
            self._set(step, reply["body"]["path"], op.acl, persona)
        elif op.name == "setACL" and isinstance(op.path, str):
            self._set(step, op.path or "/", op.acl, persona)

    def _set(self, step: int, path: str, acl: list | None, persona: Persona) -> None:
        resolved = []
        for perms, scheme, ident in acl or []:
            if scheme == "auth":
                resolved += [(perms, s, i) for s, i in persona.ids if s == "digest"]
            else:
                resolved.append((perms, scheme, ident))
        self._history.setdefault(path, []).append((step, resolved))

    def may_lack_read(self, path: str, persona: Persona, since: int) -> bool:
        """Whether at some moment from step `since` on `persona` had no READ on `path`."""
        history = self._history.get(path or "/", [])
        in_force = [acl for i, (_, acl) in enumerate(history) if i + 1 == len(history) or history[i + 1][0] >= since]
        return any(not self._grants_read(acl, persona) for acl in in_force)

    @staticmethod
    def _grants_read(acl: list, persona: Persona) -> bool:
        ids = persona.ids
        return ("super", "") in ids or any(
            perms & wire.READ
            and (scheme == "world" or (scheme, ident) in ids or (scheme == "ip" and str(ident).startswith("127.")))
            for perms, scheme, ident in acl
        )


def is_invalid_acl(reply: dict) -> bool:
    """Whether the request failed, or the multi did, because of an ACL."""
    if reply.get("err") == 0 and reply.get("op") == "multi":
        return any(kind == -1 and code == INVALID_ACL for kind, _, *code_ in reply["body"] for code in code_)
    return reply.get("err") == INVALID_ACL


class Rules:
    """The intended differences: `a` is Apache 3.8.0, `b` is the server under test."""

    def __init__(self, acls: AclModel, b_is_apache: bool):
        self._acls = acls
        self._b_is_apache = b_is_apache
        self.used: dict[str, int] = {}

    def _note(self, rule: str) -> bool:
        self.used[rule] = self.used.get(rule, 0) + 1
        return True

    def hidden_event(self, a: dict, persona: Persona, since: int) -> bool:
        """READ-1: an event about a node that the session may not read is not delivered."""
        event = a.get("event")
        return bool(event) and self._acls.may_lack_read(event["path"], persona, since) and self._note("READ-1")

    def rewritten_event(self, a: dict, b: dict) -> bool:
        """ZXID-1: the header of an event carries the transaction's zxid; Apache 3.8 sends -1."""
        if "event" not in a or "event" not in b or a["zxid"] != -1 or b["zxid"] <= 0:
            return False
        return a["event"] == b["event"] and (a["xid"], a["err"]) == (b["xid"], b["err"]) and self._note("ZXID-1")

    def moved_event(self, a: list[dict], i: int, b: list[dict], j: int) -> bool:
        """CLOSE-1: a session's ephemeral nodes go in any order, in one transaction.

        Moves the event that B has at `j` to place `i` of A, if A has it among the events that follow.
        """
        here = b[j] if j < len(b) else {}
        if here.get("event", {}).get("type") not in (NODE_DELETED, NODE_CHILDREN_CHANGED):
            return False
        of_one_transaction = [f["event"] for f in b[j:] if "event" in f and f["zxid"] == here["zxid"]]
        for k in range(i, len(a)):
            event = a[k].get("event")
            if event not in of_one_transaction:
                return False
            if event == here["event"] and k > i:
                a.insert(i, a.pop(k))
                return self._note("CLOSE-1")
        return False

    def denied_exists(self, a: dict, b: dict, op: Op | None, persona: Persona, since: int) -> bool:
        """READ-2: exists needs READ when the node is there."""
        if op is None or op.name != "exists" or a.get("err") != 0 or b.get("err") != NO_AUTH:
            return False
        return self._acls.may_lack_read(str(op.path), persona, since) and self._note("READ-2")

    def no_text(self, a: dict, b: dict, op: Op | None) -> bool:
        """TEXT-1: a string that is null or not UTF-8 is a malformed request."""
        if op is None or not isinstance(op.body, bytes):
            return False
        if b.get("err") != MARSHALLING_ERROR and not (a.get("err") == MARSHALLING_ERROR and is_invalid_acl(b)):
            return False
        changed_nothing = a.get("err") != 0 or op.name in READS
        if op.name == "multi" and not changed_nothing:
            changed_nothing = a["body"][0][0] == -1
        return changed_nothing and lacks_text(op.name, op.body) and self._note("TEXT-1")

    def foreign_watch(self, a: dict, b: dict, op: Op | None) -> bool:
        """WATCH-1: checkWatches asks about the session's own watches, whatever the path looks like."""
        if op is None or op.name != "checkWatches" or b.get("err") != NO_WATCHER:
            return False
        is_absolute = str(op.path).startswith("/")
        return (a.get("err") == 0 or (a.get("err") == MARSHALLING_ERROR and not is_absolute)) and self._note("WATCH-1")

    def forgotten_connection(self, a: dict, b: dict) -> bool:
        """OWNER-1: Apache now and then leaves a connection open whose session has moved to another."""
        if "former connection" not in a or "former connection" not in b:
            return False
        return (self._b_is_apache or b["former connection"] == "closed") and self._note("OWNER-1")
