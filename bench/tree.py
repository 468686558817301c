#!/usr/bin/env python3
"""How long 10,000 declared znodes take: `grange tree` beside kazoo, one request after the other, as zkinitree works.

Both make the same znodes (ACL of two digest users, no data) on the same fresh servers, first ours, then Apache's, and
then look at them again: vsc-zk's zkinitree asks for each znode and sets its ACL again, `grange tree` plans and finds
nothing to do. kazoo comes with its environment into --cache, as for tests/interop/kazoo_suite.py.

Exit status: 0 measured; 2 usage; 3 a server or a client failed.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
INTEROP = HERE.parent / "tests" / "interop"
sys.path.insert(0, str(INTEROP))

from apache import Apache  # noqa: E402
from grange_server import Grange, binary  # noqa: E402
from kazoo_suite import prepare  # noqa: E402
from server_process import ServerFailed, ServerProcess, end_cleanly_on_sigterm  # noqa: E402

SECONDS_MAX = 1800
PER_DIRECTORY = 100

# What zkinitree does with each znode, by the calls that it makes.
ONE_AFTER_THE_OTHER = """
import sys, time
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl
client = KazooClient(sys.argv[1], auth_data=[("digest", "root:admin")])
client.start()
acl = [make_digest_acl("root", "admin", all=True), make_digest_acl("user", "xyz", read=True, write=True)]
began = time.monotonic()
for path in open(sys.argv[2]).read().split():
    if client.exists(path):
        client.set_acls(path, acl)
    else:
        client.create(path, b"", acl=acl)
print(time.monotonic() - began)
client.stop()
"""


def paths(root: str, count: int) -> list[str]:
    """A root, directories, and znodes in them; `count` in all."""
    found = [root]
    while len(found) < count:
        directory = f"{root}/d{len(found)}"
        found += [directory, *(f"{directory}/n{number}" for number in range(PER_DIRECTORY))]
    return found[:count]


def declaration(znodes: list[str]) -> str:
    users = "[root]\npasswd=admin\n[user]\npasswd=xyz\n"
    return users + "".join(f"[{path}]\nrw=user\n" for path in znodes)


class Side:
    """Both tools on one server."""

    def __init__(
        self, tool: str, server: ServerProcess, directory: pathlib.Path, kazoo: tuple[pathlib.Path, pathlib.Path]
    ):
        self._tool = tool
        self._server = server
        self._directory = directory
        self._python, source = kazoo
        self._environment = dict(os.environ, PYTHONPATH=str(source), GRANGE_SERVERS=server.address_text)

    def _run(self, command: list[str], *statuses: int) -> str:
        done = subprocess.run(
            command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS_MAX
        )
        if done.returncode not in statuses:
            raise ServerFailed(f"{command}: status {done.returncode}: {done.stderr[-1000:]}")
        return done.stdout

    def kazoo(self, znodes: list[str]) -> float:
        """Seconds from the first request to the last reply."""
        listed = self._directory / "paths"
        listed.write_text("\n".join(znodes))
        return float(self._run([str(self._python), "-c", ONE_AFTER_THE_OTHER, self._server.address_text, str(listed)], 0))

    def grange(self, command: str, znodes: list[str]) -> float:
        """Seconds of the whole process: file, session, plan, writes, output."""
        file = self._directory / "tree.cfg"
        file.write_text(declaration(znodes))
        file.chmod(0o600)
        began = time.monotonic()
        self._run([self._tool, "tree", command, str(file)], 0)
        return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    default_cache = HERE.parent / "target" / "interop"
    parser.add_argument("--cache", type=pathlib.Path, default=default_cache, help=f"default {default_cache}")
    parser.add_argument("--tool", help="the program whose `tree` is measured (default: the one that serves)")
    parser.add_argument("--znodes", type=int, default=10_000)
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    try:
        kazoo = prepare(args.cache)
        print(f"| {args.znodes:,} znodes | made: kazoo | `tree apply` | again: kazoo | `tree apply` | `tree plan` |")
        print("|---|---|---|---|---|---|")
        for kind in (Grange, Apache):
            with kind() as server, tempfile.TemporaryDirectory(prefix="bench-tree-") as directory:
                side = Side(args.tool or binary(), server, pathlib.Path(directory), kazoo)
                theirs, ours = paths("/theirs", args.znodes), paths("/ours", args.znodes)
                figures = [
                    side.kazoo(theirs),
                    side.grange("apply", ours),
                    side.kazoo(theirs),
                    side.grange("apply", ours),
                    side.grange("plan", ours),
                ]
                cells = " | ".join(f"{seconds:.2f} s" for seconds in figures)
                print(f"| on {server.name} | {cells} |", flush=True)
    except (ServerFailed, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
