#!/usr/bin/env python3
"""Records golden frames between stock clients and Apache ZooKeeper 3.8.0 for the codec's tests.

Three sources, one file each: kazoo (Python), zkCli.sh (Java) and raw.txt, which has the requests
and replies that no stock client produces. The files are checked in; this program is run again only
when a record is missing. The line format is in README.md beside the files.

Exit status: 0 written; 2 usage; 3 a client or the server could not be run, or a record is missing.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import wire
from apache import Apache, class_path, java
from kazoo_suite import prepare
from operations import ALICE, OPEN
from recording_proxy import Line, RecordingProxy
from server_process import Options, ServerFailed, ServerProcess, end_cleanly_on_sigterm
from wire import OPCODES, Connection, boolean, buffer, connect_request, create_body, frame, header, i32, i64, ustring

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parents[1] / "crates" / "grange-proto" / "tests" / "golden"
SAMPLES_PER_KIND = 3
ZKCLI_COMMANDS = """\
addauth digest alice:wonder
create /cli one
create -s /cli/seq- x
create -e /cli/eph
create -c /cli/container
create -t 86400000 /cli/ttl y
create /cli/own z world:anyone:r,auth::cdrwa
get -s /cli
get -w /cli
set /cli two
set -v 9 /cli three
stat -w /cli/none
ls -w /cli
ls -R /cli
getAcl -s /cli/own
setAcl /cli/own world:anyone:cdrwa
create /cli/none
addWatch -m PERSISTENT /cli
addWatch -m PERSISTENT_RECURSIVE /cli/own
create /cli/own/below
set /cli/own/below q
get -w /cli/own
ls -w /cli
sync /cli
getEphemerals
getAllChildrenNumber /cli
whoami
config
reconfig -remove 9
setquota -n 5 /cli/seq-0000000000
listquota /cli/seq-0000000000
"""
ZKCLI_AFTER_RECONNECT = """\
removewatches /cli -a
get /none
deleteall /cli
"""


class Raw:
    """A connection through the proxy that sends one request at a time."""

    def __init__(self, address: tuple[str, int], connect: bytes | None = None):
        self.connection = Connection(address)
        self.connection.send(frame(connect_request() if connect is None else connect))
        self.answer = self.connection.receive()
        self._xid = 0

    def ask(self, name: str, body: bytes, xid: int | None = None, opcode: int | None = None) -> dict | None:
        self._xid += 1
        xid = self._xid if xid is None else xid
        self.connection.send(frame(header(xid, OPCODES[name] if opcode is None else opcode) + body))
        while (payload := self.connection.receive()) is not None:
            reply = wire.decode_reply(payload, lambda _xid: name)
            if "event" not in reply:
                return reply
        return None


def record_raw(address: tuple[str, int]) -> None:
    """What no stock client sends or is sent, and one of each of the rest."""
    raw = Raw(address)
    own = [(31, "digest", ALICE), (1, "world", "anyone")]
    raw.ask("create", create_body("/raw", b"data", OPEN, 0))
    raw.ask("create2", create_body("/raw/two", None, own, 0))
    raw.ask("createContainer", create_body("/raw/container", b"", OPEN, 4))
    raw.ask("createTTL", create_body("/raw/ttl", b"", OPEN, 5) + i64(86_400_000))
    raw.ask("createTTL", create_body("/raw/ttl", b"", OPEN, 5) + i64(0))
    raw.ask("create", create_body("/raw/eph", b"", OPEN, 1))
    raw.ask("create", create_body("/raw/eph/x", b"", OPEN, 0))
    raw.ask("create", create_body("/raw/empty-acl", b"", [], 0))
    for name in ("exists", "getData", "getChildren", "getChildren2"):
        raw.ask(name, ustring("/raw") + boolean(1))
        raw.ask(name, ustring("/raw/none") + boolean(0))
    raw.ask("getData", ustring("/raw/two") + boolean(0))
    raw.ask("setData", ustring("/raw") + buffer(b"changed") + i32(-1))
    raw.ask("setData", ustring("/raw") + buffer(None) + i32(7))
    raw.ask("create", create_body("/raw/another", "\u00e9\u3042".encode(), OPEN, 0))
    raw.ask("getACL", ustring("/raw/two"))
    raw.ask("setACL", ustring("/raw/two") + wire.acl_list(OPEN) + i32(0))
    raw.ask("sync", ustring("/raw"))
    raw.ask("ping", b"", xid=wire.XID_PING)
    raw.ask("getData", ustring("/raw") + boolean(1))
    raw.ask("checkWatches", ustring("/raw") + i32(2))
    raw.ask("removeWatches", ustring("/raw") + i32(3))
    for mode in (0, 1):
        raw.ask("addWatch", ustring("/raw") + i32(mode))
    raw.ask("setData", ustring("/raw/another") + buffer(b"seen by the recursive watch") + i32(-1))
    raw.ask("checkWatches", ustring("/raw") + i32(4))
    raw.ask("removeWatches", ustring("/raw") + i32(5))
    raw.ask("getEphemerals", ustring("/raw"))
    raw.ask("getAllChildrenNumber", ustring("/raw"))
    raw.ask("whoAmI", b"")
    raw.ask("reconfig", ustring("server.2=127.0.0.1:1:2;3") + ustring(None) + ustring(None) + i64(-1))
    raw.ask("sasl", buffer(b""))
    record_raw_multi(raw)
    raw.ask("delete", ustring("/raw") + i32(-1))
    raw.ask("delete", ustring("/raw/another") + i32(-1))
    raw.ask("setWatches", wire.set_watches_body(0, ["/raw"], ["/raw/two"], ["/raw"]), xid=wire.XID_SET_WATCHES)
    lists = (["/raw/gone"], [], None, ["/raw"], ["/raw"])
    raw.ask("setWatches2", wire.set_watches_body(0, *lists), xid=wire.XID_SET_WATCHES)
    raw.ask("getData", b"\0\0\0\x7f")
    raw.ask("closeSession", b"")
    record_raw_ends(address)


def record_raw_multi(raw: Raw) -> None:
    """Every kind of part and of result."""
    raw.ask("multi", wire.multi_body([
        (OPCODES["create"], create_body("/raw/m", b"1", OPEN, 0)),
        (OPCODES["create2"], create_body("/raw/m/s", b"2", OPEN, 2)),
        (OPCODES["createContainer"], create_body("/raw/m/c", b"", OPEN, 4)),
        (OPCODES["createTTL"], create_body("/raw/m/t", b"", OPEN, 5) + i64(86_400_000)),
        (OPCODES["check"], ustring("/raw/m") + i32(0)),
        (OPCODES["setData"], ustring("/raw/m") + buffer(b"3") + i32(0)),
        (OPCODES["delete"], ustring("/raw/m/t") + i32(-1)),
    ]))  # fmt: skip
    raw.ask("multi", wire.multi_body([
        (OPCODES["create"], create_body("/raw/n", b"", OPEN, 0)),
        (OPCODES["check"], ustring("/raw") + i32(99)),
        (OPCODES["delete"], ustring("/raw/none") + i32(-1)),
    ]))  # fmt: skip
    raw.ask("multi", wire.multi_body([]))
    raw.ask("multi", wire.multi_body([(OPCODES["create"], b"\0\0\0\x7f")]))
    raw.ask("multiRead", wire.multi_body([
        (OPCODES["getData"], ustring("/raw") + boolean(0)),
        (OPCODES["getChildren"], ustring("/raw") + boolean(1)),
        (OPCODES["getData"], ustring("/raw/none") + boolean(0)),
    ]))  # fmt: skip


def record_raw_ends(address: tuple[str, int]) -> None:
    """Handshakes of all forms, and what ends a connection."""
    old = Raw(address, connect_request(read_only=None))
    old.ask("closeSession", b"")
    Raw(address, connect_request(read_only=True)).ask("closeSession", b"")
    Raw(address, connect_request(session=0x1234567, password=bytes(range(16))))
    Raw(address, connect_request(session=0x1234567, password=bytes(16), read_only=None))
    Raw(address, connect_request(last_zxid=2**40))
    Raw(address, connect_request(password=None)).ask("closeSession", b"")
    auth = OPCODES["auth"]
    good = i32(0) + ustring("digest") + buffer(b"alice:wonder")
    Raw(address).ask("auth", good, xid=wire.XID_AUTH, opcode=auth)
    Raw(address).ask("auth", i32(0) + ustring("unheard") + buffer(b"of"), xid=wire.XID_AUTH, opcode=auth)
    Raw(address).ask("unknown", b"", opcode=71)
    denied = Raw(address)
    denied.ask("create", create_body("/raw/denied", b"", [(1, "digest", ALICE)], 0))
    denied.ask("getData", ustring("/raw/denied") + boolean(0))
    denied.ask("closeSession", b"")


def record_kazoo(address: tuple[str, int], cache: pathlib.Path) -> None:
    python, source = prepare(cache)
    command = [str(python), str(HERE / "golden_kazoo.py"), f"{address[0]}:{address[1]}"]
    subprocess.run(command, check=True, timeout=120, env=dict(os.environ, PYTHONPATH=str(source)))


def record_zkcli(proxy: RecordingProxy) -> None:
    """One interactive session of Java's client, interrupted once so that it restores its watches."""
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    command = [java(), quiet, "-cp", class_path(), "org.apache.zookeeper.ZooKeeperMain"]
    with tempfile.TemporaryFile() as output:
        client = subprocess.Popen(
            [*command, "-server", f"{proxy.address[0]}:{proxy.address[1]}"],
            stdin=subprocess.PIPE, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            assert client.stdin is not None
            proxy.wait_for("S", "connect")
            client.stdin.write(ZKCLI_COMMANDS.encode())
            client.stdin.flush()
            proxy.wait_for("C", "getData", 7)
            proxy.cut()
            proxy.wait_for("S", "setWatches2")
            client.stdin.write(ZKCLI_AFTER_RECONNECT.encode() + b"quit\n")
            client.stdin.flush()
            client.wait(60)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            output.seek(0)
            raise ServerFailed(f"zkCli: {error}\n{output.read().decode(errors='replace')[-3000:]}") from None
        finally:
            client.kill()
            client.wait()


def kind(line: Line) -> tuple:
    """Frames of one kind exercise the same code of a codec, apart from their length."""
    if line.name == "event":
        event_type = int.from_bytes(line.payload[16:20], "big")
        return (line.direction, line.name, event_type)
    if line.name == "connect":
        refused = line.direction == "S" and line.payload[4:8] == bytes(4)
        return (line.direction, line.name, line.detail, refused)
    if line.name in ("addWatch", "auth") and line.direction == "C":
        return (line.direction, line.name, line.payload[-8:])
    return (line.direction, line.name, line.detail if line.direction == "S" else "")


def sampled(lines: list[Line]) -> list[Line]:
    """The first few of each kind, with different lengths."""
    kept: dict[tuple, set[int]] = {}
    chosen = []
    for line in lines:
        lengths = kept.setdefault(kind(line), set())
        if len(lengths) < SAMPLES_PER_KIND and len(line.payload) not in lengths:
            lengths.add(len(line.payload))
            chosen.append(line)
    return chosen


def missing(lines: list[Line]) -> list[str]:
    """Requests that a client may send, successful replies, kinds of events and of handshakes without an example."""
    names = OPCODES.keys() - {"notification", "check", "deleteContainer", "createSession"}
    wanted: set[tuple] = {("C", name, "") for name in names}
    wanted |= {("S", name, "0") for name in names - {"reconfig"}}  # a standalone server refuses it
    wanted |= {("S", "event", event_type) for event_type in wire.EVENT_TYPES}
    wanted |= {("S", "connect", form, r) for form in ("with-read-only", "without-read-only") for r in (False, True)}
    seen = {kind(line) for line in lines} | {(line.direction, line.name, "") for line in lines}
    return sorted(map(str, wanted - seen))


def record(server: ServerProcess, source: str, cache: pathlib.Path) -> list[Line]:
    proxy = RecordingProxy(server.address)
    try:
        if source == "kazoo":
            record_kazoo(proxy.address, cache)
        elif source == "zkcli":
            record_zkcli(proxy)
        else:
            record_raw(proxy.address)
        return sampled(proxy.lines())
    finally:
        proxy.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=GOLDEN, help=f"directory (default {GOLDEN})")
    parser.add_argument("--cache", type=pathlib.Path, default=HERE.parents[1] / "target" / "interop")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    args.out.mkdir(parents=True, exist_ok=True)
    everything: list[Line] = []
    try:
        for source in ("kazoo", "zkcli", "raw"):
            with Apache(Options(extra={"reconfigEnabled": "true"})) as server:
                lines = record(server, source, args.cache)
            everything += lines
            head = f"# Recorded by tests/interop/record_golden.py: {source} and Apache ZooKeeper 3.8.0. Format: README.md.\n"
            (args.out / f"{source}.txt").write_text(head + "".join(line.text() + "\n" for line in lines))
            print(f"{source}.txt: {len(lines)} frames")
    except (ServerFailed, subprocess.SubprocessError, OSError, wire.Silence) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 3
    if absent := missing(everything):
        print(f"not recorded: {', '.join(absent)}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
