#!/usr/bin/env python3
"""Tests of the comparer: a comparer that finds nothing must not be one that cannot find anything."""
import time
import unittest

from compare import AclModel, Matcher, Renaming, Rules
from operations import PERSONAS, Generator, Op
from wire import (
    Millis, Opaque, Session, Unordered, Zxid, acl_list, decode_reply, header, i32, i64, multi_body, ustring,
)  # fmt: skip

ALICE, NOBODY = PERSONAS[1], PERSONAS[3]
PRIVATE = [(31, "digest", "alice:8y0lhh/7xkdEiwhX7vo9i+/Nmzc=")]


class MatcherTest(unittest.TestCase):
    def assert_same(self, a, b, matcher=None):
        self.assertIsNone((matcher or Matcher()).difference(a, b))

    def assert_differ(self, a, b, matcher=None):
        self.assertIsNotNone((matcher or Matcher()).difference(a, b))

    def test_plain_values_must_be_equal(self):
        self.assert_same({"err": -101}, {"err": -101})
        self.assert_differ({"err": -101}, {"err": -102})
        self.assert_differ({"err": 0}, {"err": 0, "body": None})
        self.assert_differ(b"", None)

    def test_zxids_may_be_renamed_but_keep_their_order(self):
        matcher = Matcher()
        self.assert_same(Zxid(5), Zxid(50), matcher)
        self.assert_same(Zxid(9), Zxid(51), matcher)
        self.assert_same(Zxid(7), Zxid(0x7000), Matcher())
        self.assert_differ(Zxid(5), Zxid(51), matcher)
        self.assert_differ(Zxid(6), Zxid(52), matcher)
        self.assert_differ(Zxid(0), Zxid(1), matcher)

    def test_sessions_may_be_renamed_but_an_ephemeral_stays_one(self):
        matcher = Matcher()
        self.assert_same(Session(77), Session(3), matcher)
        self.assert_differ(Session(78), Session(3), matcher)
        self.assert_differ(Session(0), Session(3), matcher)

    def test_times_must_be_of_this_run(self):
        now = int(time.time() * 1000)
        self.assert_same(Millis(now), Millis(now - 100))
        self.assert_differ(Millis(now), Millis(0))
        self.assert_same(Millis(0), Millis(0))

    def test_order_counts_unless_the_server_is_free(self):
        self.assert_same(Unordered(["a", "b"]), Unordered(["b", "a"]))
        self.assert_differ(Unordered(["a", "b"]), Unordered(["a", "a"]))
        self.assert_differ(["a", "b"], ["b", "a"])

    def test_a_refused_session_has_a_zero_password(self):
        self.assert_same(Opaque(b"x" * 16), Opaque(b"y" * 16))
        self.assert_differ(Opaque(bytes(16)), Opaque(b"y" * 16))

    def test_renaming_is_one_to_one(self):
        renaming = Renaming(ordered=False)
        self.assertTrue(renaming.allows(1, 2))
        self.assertFalse(renaming.allows(3, 2))


class RulesTest(unittest.TestCase):
    def setUp(self):
        self.acls = AclModel()
        self.rules = Rules(self.acls, b_is_apache=False)
        made = {"err": 0, "body": {"path": "/p"}}
        self.acls.observe(1, Op("create", b"", "", path="/p", acl=PRIVATE), ALICE, made)
        self.event = {"xid": -1, "zxid": Zxid(-1), "err": 0, "event": {"type": 3, "state": 3, "path": "/p"}}

    def test_an_event_may_be_missing_only_without_read(self):
        self.assertTrue(self.rules.hidden_event(self.event, NOBODY, since=2))
        self.assertFalse(self.rules.hidden_event(self.event, ALICE, since=2))

    def test_an_acl_counts_from_when_it_was_set(self):
        self.acls.observe(5, Op("setACL", b"", "", path="/p", acl=[(1, "world", "anyone")]), ALICE, {"err": 0})
        self.assertTrue(self.rules.hidden_event(self.event, NOBODY, since=4))
        self.assertFalse(self.rules.hidden_event(self.event, NOBODY, since=6))

    def test_an_event_may_carry_a_zxid_but_no_other_path(self):
        newer = {**self.event, "zxid": Zxid(9)}
        other = {**newer, "event": {**self.event["event"], "path": "/q"}}
        self.assertTrue(self.rules.rewritten_event(self.event, newer))
        self.assertFalse(self.rules.rewritten_event(self.event, other))

    def test_exists_may_be_denied_only_without_read(self):
        op, found, denied = Op("exists", b"", "", path="/p"), {"err": 0}, {"err": -102}
        self.assertTrue(self.rules.denied_exists(found, denied, op, NOBODY, since=2))
        self.assertFalse(self.rules.denied_exists(found, denied, op, ALICE, since=2))
        self.assertFalse(self.rules.denied_exists(denied, found, op, NOBODY, since=2))

    def test_a_watch_may_be_denied_only_to_checkWatches(self):
        found, malformed, denied = {"err": 0}, {"err": -5}, {"err": -121}

        def may_deny(name, path, a):
            return self.rules.foreign_watch(a, denied, Op(name, b"", "", path=path))

        self.assertTrue(may_deny("checkWatches", "/a", found))
        self.assertTrue(may_deny("checkWatches", "a", malformed))
        self.assertFalse(may_deny("checkWatches", "/a", malformed))
        self.assertFalse(may_deny("removeWatches", "/a", found))
        self.assertFalse(self.rules.foreign_watch(denied, found, Op("checkWatches", b"", "", path="/a")))

    def test_events_may_be_moved_only_within_one_transaction(self):
        def event(kind, path, zxid):
            return {"xid": -1, "zxid": Zxid(zxid), "err": 0, "event": {"type": kind, "state": 3, "path": path}}

        a = [event(2, "/x", -1), event(4, "/", -1), event(2, "/y", -1), {"xid": 1, "zxid": Zxid(9), "err": 0}]
        b = [event(2, "/y", 9), event(4, "/", 9), event(2, "/x", 9), a[3]]
        self.assertTrue(self.rules.moved_event(a, 0, b, 0))
        self.assertEqual([frame["event"]["path"] for frame in a[:3]], ["/y", "/x", "/"])
        self.assertTrue(self.rules.moved_event(a, 1, b, 1))
        other = [event(2, "/y", 9), event(2, "/x", 10)]
        self.assertFalse(self.rules.moved_event([event(2, "/x", -1), event(2, "/y", -1)], 0, other, 0))
        data = [event(3, "/y", 9), event(3, "/x", 9)]
        self.assertFalse(self.rules.moved_event([event(3, "/x", -1), event(3, "/y", -1)], 0, data, 0))

    def test_text_may_be_refused_only_where_it_is_none(self):
        refused, missing, found = {"err": -5}, {"err": -101}, {"err": 0}

        def may_refuse(name, body, a=missing):
            return self.rules.no_text(a, refused, Op(name, body, ""))

        self.assertTrue(may_refuse("getData", ustring(b"/a\xff") + b"\0"))
        self.assertTrue(may_refuse("getEphemerals", ustring(None), found))
        self.assertTrue(may_refuse("setACL", ustring("/a") + acl_list([(31, None, "anyone")]) + i32(-1)))
        self.assertTrue(may_refuse("multi", multi_body([(2, ustring("/a") + i32(0)), (13, ustring(None) + i32(0))])))
        self.assertFalse(may_refuse("getData", ustring("/a") + b"\0"))
        self.assertFalse(may_refuse("getData", i32(9) + b"\xff"))
        self.assertFalse(may_refuse("delete", ustring(None) + i32(-1), found))
        self.assertFalse(self.rules.no_text(refused, missing, Op("getData", ustring(None) + b"\0", "")))


class StreamTest(unittest.TestCase):
    def test_a_seed_gives_the_same_steps(self):
        def first(seed):
            steps = Generator(seed).steps()
            return [next(steps).describe() for _ in range(200)]

        self.assertEqual(first(7), first(7))
        self.assertNotEqual(first(7), first(8))

    def test_a_surrogate_pair_is_one_character(self):
        def path(raw):
            return decode_reply(i32(3) + i64(9) + i32(0) + ustring(raw), {3: "sync"}.get)["body"]["path"]

        self.assertEqual(path(b"/\xed\xa0\xbd\xed\xb8\x80"), "/\U0001f600")
        self.assertEqual(path(b"/\xf0\x9f\x98\x80"), "/\U0001f600")
        self.assertEqual(path(b"/\xed\xa0\xbd"), "/\\xed\\xa0\\xbd")

    def test_a_reply_with_bytes_left_over_is_noticed(self):
        payload = i32(3) + i64(9) + i32(0) + ustring("/a")
        self.assertIn("body", decode_reply(payload, {3: "create"}.get))
        self.assertIn("undecodable", decode_reply(payload + b"x", {3: "create"}.get))
        self.assertEqual(len(header(1, 2)), 8)


if __name__ == "__main__":
    unittest.main()
