#!/usr/bin/env python3
"""Compares `grange`, called as `zkCli.sh`, with Apache's zkCli.sh (Debian package `zookeeper`).

Both get the same commands on standard input, good and bad ones, each on a fresh server of the same kind, and some single
commands as arguments. What they print on standard output, on standard error, and their exit statuses must be equal.

Normalised are: times; zxids and owners, by the order in which they first appear; the server's address; lines of
SLF4J, which Apache's prints about itself. Apache's prints watch events on a thread of its own, so their place between
other lines is a matter of luck: events are compared with events, other lines with other lines.

Exit status: 0 equal, 1 not, 2 usage, 3 a server does not start.
"""
from __future__ import annotations

import argparse
import difflib
import itertools
import os
import pathlib
import re
import select
import subprocess
import sys
import tempfile
import time

from grange_server import binary
from server_process import Options, ServerFailed, ServerProcess, end_cleanly_on_sigterm
from server_kinds import SERVERS

REFERENCE = pathlib.Path("/usr/share/zookeeper/bin/zkCli.sh")
RUN_SECONDS_MAX = 60.0

# One session. Commands whose output Apache's leaves to luck, or on which it dies with a stack trace, are not here:
# docs/shell.md lists them. Apache's prints the answer to `sync` after the events that came before it, because its thread of
# events delivers both. A line `SHOWN text` is not typed: what follows waits until the program has printed that text.
COMMANDS = r"""
ls /
ls
ls -?
ls -? /
ls -z /
ls relative
ls /trailing/
ls //double
ls /a/../b
ls /nope
create /a hello
create /a again
create /a/b
create /a/b/c 'two words'
create /a/d "double quoted"
create /empty ''
create
create -q /x
create nope
create /no/parent
create /x -5
create -s /seq/
create /seq
create -s /seq/
create -s /seq/n- data
create -s /seq/n- data
create -e /eph me
create -e /eph/child
create -s -e /seq/e-
create -c /container
create -c -e /x
create -c -s /x
create -t 100000 /ttl data
create -s -t 100000 /ttl-
create -t x /y
create -t 0 /y
create -t 1099511627776 /y
create -t 5 -e /y
create -t 5 -c /y
create -t
create /acl data world:anyone:cdrw
create /acl2 data nonsense
create /acl3 data world:anyone:rx,world:anyone
create /acl4 data nonsense:x:r
create /unicode-é grüße
get /unicode-é
ls /
ls -s /a
ls -R /
ls -R /a
ls -sR /a
ls -R /nope
ls /a watch
get /a
get /a/b
get /empty
get -s /a
get
get /nope
get -z /a
get / watch
get / watch more
stat /a
stat /nope
stat
stat /a/ x
set /a new
set -s /a newer
set /a newest -v 2
set -v 2 /a stale
set -v -1 /a any
set -v3 /a concatenated
set -v=4 /a equals
set /a
set /nope x
set -v
get -s /a
getAcl /a
getAcl /nope
getAcl
getAcl -s /acl
setAcl /a world:anyone:cdrwa
setAcl -s /a ip:127.0.0.1:cdrwa
setAcl -v 7 /a world:anyone:cdrwa
setAcl /a bad
setAcl /a world:anyone:rz
setAcl /nope world:anyone:r
setAcl /a auth::cdrwa
setAcl
addauth digest bob:secret
addauth
setAcl /seq auth::cdrwa
setAcl -R /seq auth:x:cdrwa
getAcl /seq
getAcl /seq/n-0000000002
setAcl /acl2x auth::r
create /mine data digest:bob:8y0lhh/7xkdEiwhX7vo9i+Nmzc=:r
set /mine x
create /mine/child
getAcl /mine
whoami x
getAllChildrenNumber /
getAllChildrenNumber /a
getAllChildrenNumber /nope
getAllChildrenNumber
getEphemerals /eph
getEphemerals /none
getEphemerals bad
sync /
sync /nope
sync
config
config -c
config -z
reconfig
reconfig -v x -add server.1=a:1:2
reconfig -add server.1=a:1:2 -members server.1=a:1:2
reconfig -file x -members y
reconfig -add
setquota /a
setquota -n 0 /a
setquota -b -1 /a
setquota -n x /a
setquota -n 1 -b 2 /a
setquota -n 5 /nope
setquota -n 5 /zookeeper/quota/a
setquota -n 1 /a
setquota -b 100000 /a
setquota -N 1000 /a
setquota -B 1000000 /a
listquota /a
listquota /none
listquota
setquota -n 5 /a/b
setquota -n 5 /
delquota -n /a
listquota /a
delquota -n -b /a
delquota /none
delquota
delquota /a
listquota /a
stat -w /later
get -w /a
ls -w /a
create /later x
sync /
set /a fired
sync /
create /a/fresh
sync /
addWatch
addWatch -m BAD /a
addWatch -m
create /watched
create /watched/sub
addWatch -m persistent_recursive /watched
set /watched/sub 1
set /watched/sub 2
delete /watched/sub
sync /
removewatches /watched -a
removewatches /watched
removewatches
removewatches bad
get -w /a
removewatches /a -c
removewatches /a -d
removewatches /a -l
sync /
printwatches
printwatches off
get -w /a
set /a quiet
sync /
printwatches on
printwatches
delete /a
delete /nope
delete -v 9 /empty
delete /empty 3
delete
delete -v
delete /
deleteall /seq
deleteall /nope
deleteall
deleteall -b x /a
deleteall -b 2 /a
deleteall bad
ls -R /
unknown
history
redo 10
redo 0
redo 100000
redo -1
   
create   /spaces    'a  b'
get /spaces
ls "/"
ls ''
delete /spaces
version x
get /empty
close
SHOWN state:Closed
ls /
create /closed
connect
sync /
ls /
history
get /nope
"""

# Single commands: arguments and the standard input they get.
SINGLE = [
    ["get", "/zookeeper"],
    ["ls", "/nope"],
    ["-waitforconnection", "nosuchcommand", "x"],
]


# A session whose server goes and comes back: what is typed before, what the output must show before the server stops, what
# it must show before the rest is typed, and the rest.
BEFORE = "create /kept x\nget -w /kept\naddWatch /below\ncreate -e /mine\nls /\n"
BEFORE_SHOWN = "kept, later, mine"
AGAIN_SHOWN = "state:SyncConnected"
AFTER = "set /kept y\nsync /\ncreate /below\nsync /\ngetEphemerals\nls /\n"
AFTER_SHOWN = "acl3, below"


class Client:
    """A program that is called as zkCli.sh is."""

    def __init__(self, name: str, command: str, environment: dict[str, str]):
        self.name = name
        self.command = command
        self.environment = environment

    def run_session(self, server: ServerProcess, text: str) -> dict[str, list[str]]:
        with Dialogue(self, server) as dialogue:
            first, *others = re.split(r"^SHOWN (.*)\n", text, flags=re.MULTILINE)
            dialogue.type(first)
            for shown, typed in zip(others[::2], others[1::2]):
                dialogue.wait_for(shown)
                dialogue.type(typed)
            return normalised(dialogue.end(), server.address_text)

    def run(self, server: ServerProcess, arguments: list[str], text: str) -> dict[str, list[str]]:
        result = subprocess.run(
            [self.command, "-server", server.address_text, *arguments],
            input=text.encode(),
            capture_output=True,
            env=self.environment,
            timeout=RUN_SECONDS_MAX,
        )
        return normalised(result, server.address_text)


class Dialogue:
    """A program that is typed to, and whose output is read meanwhile."""

    def __init__(self, client: Client, server: ServerProcess):
        self.process = subprocess.Popen(
            [client.command, "-server", server.address_text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=client.environment,
        )
        self.shown = b""
        os.set_blocking(self.process.stdout.fileno(), False)

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def type(self, text: str) -> None:
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while self.shown.count(text.encode()) < times:
            if time.monotonic() > deadline:
                raise ServerFailed(f"no {text!r} ({times} times) in {self.shown.decode()!r}")
            select.select([self.process.stdout], [], [], 0.5)
            self.shown += self.process.stdout.read() or b""

    def end(self) -> subprocess.CompletedProcess[bytes]:
        os.set_blocking(self.process.stdout.fileno(), True)
        out, errors = self.process.communicate(timeout=RUN_SECONDS_MAX)
        return subprocess.CompletedProcess([], self.process.returncode, self.shown + out, errors)


def run_with_restart(client: Client, server: ServerProcess) -> dict[str, list[str]]:
    """Watches and ephemeral znodes outlive a restart of the server; the client tells that it was away."""
    with Dialogue(client, server) as dialogue:
        dialogue.type(BEFORE)
        dialogue.wait_for(BEFORE_SHOWN)
        server.stop()
        dialogue.wait_for("state:Disconnected")
        server.start()
        dialogue.wait_for(AGAIN_SHOWN, times=2)
        dialogue.type(AFTER)
        dialogue.wait_for(AFTER_SHOWN)
        result = normalised(dialogue.end(), server.address_text)
    # How often the client found the server away is a matter of time.
    result["events"] = [event for event, _ in itertools.groupby(result["events"])]
    return result


def normalised(result: subprocess.CompletedProcess[bytes], address: str) -> dict[str, list[str]]:
    renaming = Renaming()
    out = [renaming.apply(line.replace(address, "SERVER")) for line in result.stdout.decode().splitlines()]
    events, others = split_events(out)
    errors = [line for line in result.stderr.decode().splitlines() if not line.startswith("SLF4J: ")]
    return {"output": others, "events": events, "errors": errors, "status": [str(result.returncode)]}


class Renaming:
    """Names for what differs from run to run; the same thing has the same name."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def apply(self, line: str) -> str:
        line = re.sub(r"^([cm]time) = .*", r"\1 = TIME", line)
        return re.sub(r"^([cmp]Zxid|ephemeralOwner) = (0x[0-9a-f]+)$", self._rename, line)

    def _rename(self, match: re.Match[str]) -> str:
        kind, value = match.groups()
        if value == "0x0":
            return match.group()
        return f"{kind} = {self.names.setdefault(value, f'NUMBER-{len(self.names) + 1}')}"


def split_events(lines: list[str]) -> tuple[list[str], list[str]]:
    """Takes the blocks of events out of the lines: a blank line, WATCHER::, a blank line, the event."""
    events, others = [], []
    at = 0
    while at < len(lines):
        if lines[at] == "" and lines[at + 1 : at + 3] == ["WATCHER::", ""]:
            events.append(lines[at + 3])
            at += 4
        else:
            others.append(lines[at])
            at += 1
    return events, others


def difference(label: str, expected: dict[str, list[str]], found: dict[str, list[str]]) -> list[str]:
    lines: list[str] = []
    for part, wanted in expected.items():
        lines += difflib.unified_diff(
            wanted, found[part], f"{label}: {part} of zkCli.sh", f"{label}: {part} of grange", lineterm="", n=4
        )
    return lines


def compare(kind: str, clients: list[Client]) -> tuple[int, list[str]]:
    """Runs everything on servers of one kind; returns how many lines were compared, and the differences."""
    results = []
    for client in clients:
        with SERVERS[kind](Options(fsync=False)) as server:
            runs = {"session": client.run_session(server, COMMANDS.lstrip("\n"))}
            for arguments in SINGLE:
                runs[" ".join(arguments)] = client.run(server, arguments, "")
            runs["restart"] = run_with_restart(client, server)
            results.append(runs)
    expected, found = results
    lines = [line for name in expected for line in difference(f"{name} on {kind}", expected[name], found[name])]
    count = sum(len(part) for run in expected.values() for part in run.values())
    return count, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=[*SERVERS, "both"], default="both", help="on which servers (default both)")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    if not REFERENCE.exists():
        print(f"{REFERENCE} is missing: apt-get install zookeeper", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="interop-zkcli-") as directory:
        link = pathlib.Path(directory) / "zkCli.sh"
        link.symlink_to(pathlib.Path(binary()).resolve())
        environment = dict(
            os.environ,
            LC_ALL="C.UTF-8",
            TZ="UTC",
            ZOO_LOG_DIR=directory,
            CLIENT_JVMFLAGS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        )
        clients = [Client("zkCli.sh", str(REFERENCE), environment), Client("grange", str(link), environment)]
        differs = False
        for kind in SERVERS if args.server == "both" else [args.server]:
            try:
                count, lines = compare(kind, clients)
            except ServerFailed as error:
                print(error, file=sys.stderr)
                return 3
            print("\n".join(lines), end="\n" if lines else "")
            commands = sum(bool(line) and not line.startswith("SHOWN ") for line in COMMANDS.splitlines())
            print(f"{kind}: {commands} commands and {len(SINGLE)} single ones, {count} lines, {len(lines)} differences")
            differs |= bool(lines)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
