#!/usr/bin/env python3
"""Judges a history (`history.py`) against what every member holds at the end.

Versions and zxids name the order that the ensemble says it has given the writes, so that every rule is one pass over
the sorted records. What had no answer may have happened, once, at any time after it was sent, or not at all.

Exit status of the program: 0 nothing is wrong; 1 something is; 2 usage.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import history
from history import EPHEMERALS, QUEUE

Records = list[dict]


@dataclasses.dataclass
class Final:
    """What one member holds at the end, read after a sync: counters, the queue, what is left of ephemerals."""

    server: str
    counters: dict[str, dict]
    queue: dict[str, dict]
    ephemerals: list[str]


@dataclasses.dataclass
class History:
    records: Records
    finals: list[Final]
    # How long after a write was answered its member may have told the leader that the session lives.
    touch_seconds: float = 0.0

    def of(self, op: str, *results: str) -> Iterator[dict]:
        wanted = results or ("ok",)
        return (each for each in self.records if each["op"] == op and each["result"] in wanted)


def members_agree(h: History) -> Iterator[str]:
    """At the end all members hold the same."""
    for other in h.finals[1:]:
        for part in ("counters", "queue"):
            a, b = getattr(h.finals[0], part), getattr(other, part)
            if a != b:
                differing = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
                yield f"{h.finals[0].server} and {other.server} differ in {part}: {differing[:5]}"


def no_write_is_lost(h: History) -> Iterator[str]:
    """What was acknowledged is there: the queue's entries, and the versions of counters."""
    final = h.finals[0]
    for each in h.of("create"):
        if each["path"].startswith(QUEUE):
            found = final.queue.get(each["made"].rpartition("/")[2])
            if found is None or found["value"] != each["value"] or found["zxid"] != each["zxid"]:
                yield f"lost: {brief(each)}, at the end there is {found}"
    for each in h.of("set"):
        if each["version"] > final.counters[each["path"]]["version"]:
            yield f"lost: {brief(each)}, at the end the version is {final.counters[each['path']]['version']}"


def one_write_a_version(h: History) -> Iterator[str]:
    """A version of a counter has one value and one zxid, whoever saw it; a set makes the version it asked for."""
    seen: dict[tuple[str, int], dict] = {}
    finals = [{"path": path, **found, "client": "final"} for path, found in h.finals[0].counters.items()]
    for each in [*h.of("set"), *h.of("get"), *finals]:
        key = (each["path"], each["version"])
        first = seen.setdefault(key, each)
        if (first["value"], first["zxid"]) != (each["value"], each["zxid"]):
            yield f"two writes made version {key[1]} of {key[0]}: {brief(first)}, {brief(each)}"
        if "expected" in each and each["version"] != each["expected"] + 1:
            yield f"a set of version {each['expected']} made another: {brief(each)}"


def written_once(h: History) -> Iterator[str]:
    """Every value that is found was sent by a client, and has happened once; what was refused has not."""
    sent = {each["value"]: each for each in h.records if each["op"] in ("set", "create") and "value" in each}
    places: dict[str, set] = defaultdict(set)
    for each in [*h.of("get"), *h.of("set")]:
        places[each["value"]].add((each["path"], each["version"]))
    for name, found in h.finals[0].queue.items():
        places[found["value"]].add(name)
    for value, where in places.items():
        if value and value not in sent:
            yield f"nobody wrote {value!r}, found at {sorted(map(str, where))}"
        elif value and len(where) > 1:
            yield f"written more than once: {brief(sent[value])} at {sorted(map(str, where))}"
        elif value and sent[value]["result"] == "refused":
            yield f"refused, and written all the same: {brief(sent[value])}"


def writes_are_linearizable(h: History) -> Iterator[str]:
    """A write that ended before another began has the smaller zxid, whoever did them; versions follow zxids."""
    writes = [each for op in ("set", "create") for each in h.of(op)]
    yield from later_is_newer(writes, writes, strictly=True)
    by_path: dict[str, dict[int, int]] = defaultdict(dict)
    for each in [*h.of("set"), *h.of("get")]:
        by_path[each["path"]][each["version"]] = each["zxid"]
    for path, versions in by_path.items():
        zxids = [versions[version] for version in sorted(versions)]
        if zxids != sorted(zxids):
            yield f"versions and zxids of {path} are in different orders"
    queue = sorted(h.finals[0].queue.items(), key=lambda item: item[1]["zxid"])
    names = [name for name, _ in queue]
    if names != sorted(names):
        yield "the queue's numbers and zxids are in different orders"


def refusals_are_true(h: History) -> Iterator[str]:
    """A set is refused for its version only if a newer one had been asked for when the answer came."""
    made: dict[tuple[str, int], float] = {}
    for each in h.of("set", "ok", "unknown"):
        key = (each["path"], each["expected"] + 1)
        made[key] = min(made.get(key, each["begin"]), each["begin"])
    for each in h.of("set", "refused"):
        if each["error"] in ("-103", "BadVersionError", "BADVERSION"):
            if made.get((each["path"], each["expected"] + 1), float("inf")) > each["end"]:
                yield f"refused before anybody wrote: {brief(each)}"


def synced_reads_are_fresh(h: History) -> Iterator[str]:
    """A read behind a sync sees every write that was acknowledged before the sync was sent."""
    synced: Records = []
    pending: dict[str, dict] = {}
    for each in h.records:
        if each["op"] == "sync":
            pending[each["client"]] = each
        elif (sync := pending.pop(each["client"], None)) is not None and each["op"] == "get":
            is_pair = sync["result"] == each["result"] == "ok" and sync["session"] == each["session"]
            # A library may have gone to another member in between, where the sync has no meaning.
            if is_pair and sync.get("server") and sync["server"] == each.get("server"):
                synced.append({**each, "begin": sync["begin"]})
    for path in history.COUNTERS:
        writes = [each for each in h.of("set") if each["path"] == path]
        yield from later_is_newer(writes, [each for each in synced if each["path"] == path], strictly=False)


def sessions_go_forward(h: History) -> Iterator[str]:
    """Within a session neither a znode's version nor the server's zxid goes back, on whatever member it is."""
    headers: dict[str, int] = {}
    versions: dict[tuple[str, str], int] = {}
    for each in h.records:
        if each["result"] != "ok" or "session" not in each:
            continue
        session = each["session"]
        if "header" in each:
            if each["header"] < headers.get(session, 0):
                yield f"time goes back from zxid {headers[session]:#x}: {brief(each)}"
            headers[session] = each["header"]
        if each["op"] in ("get", "set"):
            key = (session, each["path"])
            if each["version"] < versions.get(key, 0):
                yield f"time goes back from version {versions[key]}: {brief(each)}"
            versions[key] = each["version"]


def ephemerals_live_as_long_as_their_session(h: History) -> Iterator[str]:
    """An ephemeral znode is missing only after its session could have expired, and in the end all are gone."""
    for final in h.finals:
        if final.ephemerals:
            yield f"{final.server} still has ephemeral znodes without a session: {final.ephemerals[:5]}"
    alive: dict[str, list[dict]] = defaultdict(list)
    for each in h.records:
        # Only what the whole ensemble did shows that the leader knew the session: reads are local to a member.
        if each["result"] == "ok" and each["op"] in ("set", "create", "delete"):
            alive[each["session"]].append(each)
    ended = {each["session"]: each["begin"] for each in h.of("close", "ok", "unknown")}
    deleted = {each["path"]: each["begin"] for each in h.of("delete", "ok", "unknown")}
    made = sorted((each for each in h.of("create") if each.get("ephemeral")), key=lambda each: -each["zxid"])
    there: dict[str, dict] = {}
    for seen in sorted(h.of("children"), key=lambda each: each["zxid"]):
        while made and made[-1]["zxid"] < seen["zxid"]:
            newly = made.pop()
            there[newly["made"].rpartition("/")[2]] = newly
        for name in there.keys() - set(seen["names"]):
            each = there.pop(name)
            session = each["session"]
            if min(ended.get(session, float("inf")), deleted.get(each["made"], float("inf"))) <= seen["end"]:
                continue
            proof = alive[session][-1]
            if proof["begin"] + proof["timeout_ms"] / 1000 - h.touch_seconds > seen["end"]:
                yield f"gone too early: {brief(each)}, not seen by {brief(seen)}, its session lives: {brief(proof)}"


def watches_fire(h: History) -> Iterator[str]:
    """A watch's event comes, and before the first read that shows the change."""
    for each in h.of("watch", "late", "missed"):
        yield f"a watch was {each['result']}: {brief(each)}"


def later_is_newer(writes: Records, later: Records, strictly: bool) -> Iterator[str]:
    """What begins after a write has ended must have a greater zxid (or, if not strictly, at least its zxid)."""
    ended = sorted(writes, key=lambda each: each["end"])
    at, newest = 0, None
    for each in sorted(later, key=lambda each: each["begin"]):
        while at < len(ended) and ended[at]["end"] < each["begin"]:
            newest = ended[at] if newest is None or ended[at]["zxid"] > newest["zxid"] else newest
            at += 1
        if newest is not None and (each["zxid"] < newest["zxid"] or strictly and each["zxid"] == newest["zxid"]):
            yield f"not linearizable: {brief(each)} came after {brief(newest)}"


def brief(record: dict) -> str:
    left_out = ("names", "timeout_ms", "error", "result")
    return json.dumps({key: value for key, value in record.items() if key not in left_out})


RULES: list[Callable[[History], Iterable[str]]] = [
    members_agree, no_write_is_lost, one_write_a_version, written_once, writes_are_linearizable, refusals_are_true,
    synced_reads_are_fresh, sessions_go_forward, ephemerals_live_as_long_as_their_session, watches_fire,
]  # fmt: skip


def problems(h: History) -> list[str]:
    return [f"{rule.__name__}: {problem}" for rule in RULES for problem in rule(h)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="where a run has left *.jsonl and final.json")
    parser.add_argument("--touch-seconds", type=float, default=0.5, help="the ensemble's tick (default 0.5)")
    args = parser.parse_args()
    records = history.read(sorted(args.directory.glob("*.jsonl")))
    finals = [Final(**each) for each in json.loads((args.directory / "final.json").read_text())]
    found = problems(History(records, finals, args.touch_seconds))
    print("\n".join(found[:50]))
    print(f"{len(records)} operations, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
