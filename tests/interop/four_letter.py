#!/usr/bin/env python3
"""Compares the text of the four-letter words, which exporters and scripts parse, with Apache's.

Both servers go through the same few sessions; then each word is sent, to a server on which all are
allowed and to one with the default whitelist. Figures, dates, addresses and ids are replaced by
letters, repeated lines count once, and what is left must be equal line by line, in Apache's order.
`mntr` must have the names in MNTR_NAMES, whatever else it has; `envi` need not speak of Java.

Exit status: 0 equal; 1 a word differs; 2 usage; 3 a server could not be started.
"""
from __future__ import annotations

import argparse
import contextlib
import difflib
import re
import struct
import sys

import wire
from differential import opened
from operations import OPEN
from server_process import Options, ServerFailed, end_cleanly_on_sigterm
from wire import OPCODES, Connection, connect_request, frame, header

# crst and srst change what the others print, so they come last.
WORDS = (
    "ruok", "isro", "srvr", "stat", "conf", "cons", "dump", "wchs", "wchc", "wchp", "mntr", "envi", "dirs", "hash",
    "gtmk", "stmk", "crst", "srst", "srvr", "cons",
)  # fmt: skip
MNTR_NAMES = """
    version server_state ephemerals_count num_alive_connections avg_latency outstanding_requests znode_count
    global_sessions watch_count open_file_descriptor_count max_file_descriptor_count max_latency min_latency
    packets_sent packets_received approximate_data_size uptime connection_rejected connection_drop_count
    connection_request_count connection_revalidate_count sessionless_connections_expired stale_sessions_expired
    bytes_received_count commit_count snap_count diff_count unrecoverable_error_count auth_failed_count watch_bytes
    cnt_node_created_watch_count cnt_node_deleted_watch_count cnt_node_changed_watch_count
    cnt_node_children_watch_count cnt_fsynctime sum_fsynctime cnt_snapshottime sum_snapshottime
    cnt_readlatency sum_readlatency cnt_updatelatency sum_updatelatency
""".split()
DIGEST = re.compile(r"^[0-9a-f]+: -?\d+$")
ENVI_JAVA = re.compile(r"^(java\.|os\.memory\.)")
REPLACEMENTS = (
    (re.compile(r"^(Zookeeper version: |zk_version\t).*, built on .*$"), r"\1V, built on D"),
    (re.compile(r"\b\w{3} \w{3} \d\d \d\d:\d\d:\d\d \w+ \d{4}\b"), "DATE"),
    (re.compile(r"/?(127\.0\.0\.1|\[?0:0:0:0:0:0:0:1\]?|localhost):\d+"), "ADDRESS"),
    (re.compile(r"0x[0-9a-f]+"), "HEX"),
    (re.compile(r"(dataDir|dataLogDir)=.*"), r"\1=PATH"),
    (re.compile(r"-?\d+(\.\d+)?"), "N"),
)


def say(address: tuple[str, int], word: bytes) -> str:
    connection = Connection(address)
    try:
        connection.send(word)
        return connection.receive_all(10).decode("utf-8", "replace")
    except wire.Silence:
        return "(the connection stays open)"
    finally:
        connection.close()


class Sessions:
    """A watcher, an owner of an ephemeral node and an idle session, for the words to talk about."""

    def __init__(self, address: tuple[str, int]):
        self._connections = []
        for requests in (
            [("create", wire.create_body(path, b"", OPEN, flags)) for path, flags in (("/words", 0), ("/words/e", 1))],
            [(name, wire.ustring("/words") + wire.boolean(1)) for name in ("exists", "getChildren")],
            [],
        ):
            connection = Connection(address)
            connection.send(frame(connect_request(timeout_ms=30_000)))
            connection.receive()
            for name, body in requests:
                connection.send(frame(header(1, OPCODES[name]) + body))
                connection.receive()
            self._connections.append(connection)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def shape(word: str, text: str) -> list[str]:
    """The text without what may differ; see the module's first lines."""
    lines = text.split("\n")
    if word == "mntr":
        found = {line.split("\t")[0]: line for line in lines}
        lines = [found.get("zk_" + name, f"(no zk_{name})") for name in MNTR_NAMES] if len(lines) > 2 else lines
    if word == "envi":
        lines = [line.split("=")[0] for line in lines if not ENVI_JAVA.match(line)]
    # Apache prints buckets of sessions that are empty by now, and a digest for every 128th transaction only.
    lines = [line for line in lines if not line.startswith("0 expire at") and not (word == "hash" and DIGEST.match(line))]
    shaped = []
    for line in lines:
        for pattern, letter in REPLACEMENTS:
            line = pattern.sub(letter, line)
        if line not in shaped:
            shaped.append(line)
    return sorted(shaped) if word in ("wchc", "wchp", "cons", "stat") else shaped


def texts(server: str, whitelist: str | None, words: tuple[str, ...]) -> list[tuple[str, str]]:
    """What each word says: on a fresh server, then with sessions."""
    said = []
    with opened(server, Options(whitelist=whitelist), keep=False) as target, contextlib.ExitStack() as stack:
        for state in ("fresh", "in use"):
            if state == "in use":
                stack.callback(Sessions(target.address).close)
            for word in words:
                argument = struct.pack(">q", 0x1FF) if word == "stmk" else b""
                said.append((f"{word} ({state})", say(target.address, word.encode() + argument)))
    return said


def compare(a: str, b: str, whitelist: str | None, words: tuple[str, ...], show: bool) -> int:
    """Prints the words that differ and returns their number."""
    differing = 0
    for (label, of_a), (_, of_b) in zip(texts(a, whitelist, words), texts(b, whitelist, words)):
        if show:
            print(f"--- {label}\n{of_a}")
        word = label.split()[0]
        first, second = shape(word, of_a), shape(word, of_b)
        if first != second:
            differing += 1
            print(f"DIFFERENCE {label}, whitelist {whitelist or '(default)'}")
            print("\n".join(difflib.unified_diff(first, second, a, b, lineterm="", n=1)))
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--a", choices=("apache", "grange"), default="apache", help="reference (default apache)")
    parser.add_argument("--b", choices=("apache", "grange"), default="grange", help="under test (default grange)")
    parser.add_argument("--show", action="store_true", help="print what the reference says")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    try:
        differing = compare(args.a, args.b, "*", WORDS, args.show)
        differing += compare(args.a, args.b, None, WORDS, False)
        differing += compare(args.a, args.b, "ruok, isro", ("ruok", "isro", "srvr", "mntr"), False)
    except (ServerFailed, ConnectionError) as error:
        print(error, file=sys.stderr)
        return 3
    print(f"four-letter words: {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
