"""Finds requests whose text is no text: a null, or bytes that are not UTF-8, where a string belongs."""
from __future__ import annotations

import wire

# One letter for each field: t text, b buffer, A ACL, T list of texts, i int, l long, o bool.
CREATE = "tbAi"
FIELDS = {
    "create": CREATE, "create2": CREATE, "createContainer": CREATE, "createTTL": CREATE + "l",
    "delete": "ti", "check": "ti", "setData": "tbi", "setACL": "tAi", "getACL": "t", "sync": "t",
    "exists": "to", "getData": "to", "getChildren": "to", "getChildren2": "to",
    "getEphemerals": "t", "getAllChildrenNumber": "t",
    "addWatch": "ti", "checkWatches": "ti", "removeWatches": "ti",
    "setWatches": "lTTT", "setWatches2": "lTTTTT",
}  # fmt: skip


class NoText(Exception):
    """A string that is none."""


def lacks_text(name: str, body: bytes) -> bool:
    """Whether a string of the request is null or not UTF-8, in a record that is otherwise whole up to there."""
    reader = wire.Reader(body)
    try:
        if name in ("multi", "multiRead"):
            _walk_parts(reader)
        else:
            _walk(reader, FIELDS.get(name, ""))
    except NoText:
        return True
    except wire.Malformed:
        pass
    return False


def _walk_parts(reader: wire.Reader) -> None:
    while True:
        opcode, done = reader.i32(), reader.boolean()
        reader.i32()
        fields = FIELDS.get(wire.OPNAMES.get(opcode, ""))
        if done or fields is None:
            return
        _walk(reader, fields)


def _walk(reader: wire.Reader, fields: str) -> None:
    take = {
        "t": lambda: _text(reader), "b": reader.buffer, "T": lambda: reader.vector(lambda: _text(reader)),
        "A": lambda: reader.vector(lambda: (reader.i32(), _text(reader), _text(reader))),
        "i": reader.i32, "l": reader.i64, "o": reader.boolean,
    }  # fmt: skip
    for field in fields:
        take[field]()


def _text(reader: wire.Reader) -> None:
    try:
        if (raw := reader.buffer()) is None:
            raise NoText
        raw.decode()
    except UnicodeDecodeError:
        raise NoText from None
