#!/usr/bin/env python3
"""Unit tests of the checker: each rule finds a history that breaks it, and a good history breaks none."""
from __future__ import annotations

import copy
import sys
import unittest

import check
from history import COUNTERS, EPHEMERALS, QUEUE

COUNTER = COUNTERS[0]


def record(client: str, op: str, begin: float, end: float, **more: object) -> dict:
    defaults = {"result": "ok", "session": f"session of {client}", "server": "m1", "timeout_ms": 3000}
    return {"client": client, "op": op, "begin": begin, "end": end, **defaults, **more}


def put(client: str, begin: float, end: float, version: int, zxid: int, **more: object) -> dict:
    value = f"{client}/{version}"
    made = {"version": version, "expected": version - 1, "zxid": zxid, "value": value}
    return record(client, "set", begin, end, path=COUNTER, **{**made, **more})


def get(client: str, begin: float, end: float, of: dict, **more: object) -> dict:
    seen = {"version": of["version"], "zxid": of["zxid"], "value": of["value"], "header": of["zxid"]}
    return record(client, "get", begin, end, path=COUNTER, **{**seen, **more})


def good() -> check.History:
    """Two counts, an entry of the queue, a synced read, and an ephemeral znode whose session ends."""
    first, second = put("a", 1, 2, 1, 11), put("b", 3, 4, 2, 12)
    entry = record("a", "create", 5, 6, path=f"{QUEUE}/n-", value="a/q", made=f"{QUEUE}/n-0000000000", zxid=13)
    name = f"{EPHEMERALS}/a-e"
    mortal = record("a", "create", 7, 8, path=name, value="a/e", made=name, zxid=14, ephemeral=True)
    records = [
        first, second, entry, mortal,
        record("b", "sync", 9, 10, path=COUNTER),
        get("b", 10, 11, second, header=14),
        record("b", "children", 12, 13, path=EPHEMERALS, names=[], zxid=15),
    ]  # fmt: skip
    records[-1].update(begin=10.9, end=11.5)
    counters = {path: {"version": 0, "zxid": 1, "value": ""} for path in COUNTERS}
    counters[COUNTER] = {"version": 2, "zxid": 12, "value": "b/2"}
    queue = {"n-0000000000": {"version": 0, "zxid": 13, "value": "a/q"}}
    finals = [check.Final(f"m{number}", copy.deepcopy(counters), copy.deepcopy(queue), []) for number in (1, 2, 3)]
    return check.History(records, finals)


def replaced(h: check.History, op: str, number: int, **more: object) -> check.History:
    of_op = [each for each in h.records if each["op"] == op]
    of_op[number].update(more)
    h.records.sort(key=lambda each: each["begin"])
    return h


class Rules(unittest.TestCase):
    def broken(self, h: check.History, rule) -> None:
        self.assertIn(rule.__name__, {problem.split(":")[0] for problem in check.problems(h)})

    def test_a_good_history_breaks_no_rule(self):
        self.assertEqual(check.problems(good()), [])

    def test_members_differ(self):
        h = good()
        h.finals[2].counters[COUNTER]["value"] = "other"
        self.broken(h, check.members_agree)

    def test_an_entry_is_lost(self):
        h = good()
        for final in h.finals:
            final.queue.clear()
        self.broken(h, check.no_write_is_lost)

    def test_a_count_is_lost(self):
        h = good()
        for final in h.finals:
            final.counters[COUNTER] = {"version": 1, "zxid": 11, "value": "a/1"}
        self.broken(h, check.no_write_is_lost)

    def test_two_writes_make_one_version(self):
        self.broken(replaced(good(), "set", 1, version=1, expected=0), check.one_write_a_version)

    def test_an_unanswered_write_may_have_happened(self):
        h = replaced(good(), "set", 0, result="unknown", version=None)
        del h.records[0]["version"], h.records[0]["zxid"]
        self.assertEqual(check.problems(h), [])

    def test_a_write_happens_twice(self):
        h = good()
        for final in h.finals:
            final.queue["n-0000000001"] = {"version": 0, "zxid": 16, "value": "a/q"}
        self.broken(h, check.written_once)

    def test_a_refused_write_happens(self):
        self.broken(replaced(good(), "set", 1, result="refused", error="BadVersion"), check.written_once)

    def test_a_later_write_has_an_older_zxid(self):
        self.broken(replaced(good(), "set", 0, zxid=20), check.writes_are_linearizable)

    def test_concurrent_writes_may_have_any_order(self):
        h = replaced(good(), "create", 0, begin=0.5)
        self.assertEqual(check.problems(h), [])

    def test_a_refusal_without_a_reason(self):
        h = good()
        h.records.append(put("b", 20, 21, 3, 0, expected=7, result="refused", error="-103"))
        self.broken(h, check.refusals_are_true)

    def test_a_synced_read_is_stale(self):
        stale = {"version": 1, "zxid": 11, "value": "a/1"}
        self.broken(replaced(good(), "get", 0, **stale), check.synced_reads_are_fresh)

    def test_a_session_goes_back(self):
        h = good()
        h.records.append(get("b", 15, 16, {"version": 1, "zxid": 11, "value": "a/1"}))
        self.broken(h, check.sessions_go_forward)
        h = good()
        h.records.append(get("b", 15, 16, {"version": 2, "zxid": 12, "value": "b/2"}, header=13))
        self.broken(h, check.sessions_go_forward)

    def test_an_ephemeral_is_gone_too_early(self):
        self.broken(replaced(good(), "children", 0, begin=8.1, end=8.2), check.ephemerals_live_as_long_as_their_session)

    def test_an_ephemeral_stays(self):
        h = good()
        h.finals[1].ephemerals.append("a-e")
        self.broken(h, check.ephemerals_live_as_long_as_their_session)

    def test_a_watch_is_missed(self):
        h = good()
        h.records.append(record("a", "watch", 30, 30, result="missed", path=COUNTER))
        self.broken(h, check.watches_fire)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    print(f"{result.testsRun} tests of the checker, {len(result.failures) + len(result.errors)} failed")
    sys.exit(0 if result.wasSuccessful() else 1)
