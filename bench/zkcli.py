#!/usr/bin/env python3
"""Times `zkCli.sh`: Apache's, which starts a Java machine, and grange called by that name, in turns on one server.

Rows: `get /` from the start of the program to its end; `ls -R` and `deleteall` of a tree of znodes. Each figure is the
median of the rounds. The servers of the tree are fresh for each deletion.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from servers import Options, ServerFailed, ServerProcess, end_cleanly_on_sigterm
from grange_server import binary
from server_kinds import SERVERS

REFERENCE = "/usr/share/zookeeper/bin/zkCli.sh"
FOLDERS = 100


def timed(command: list[str], environment: dict[str, str]) -> float:
    began = time.monotonic()
    result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    if result.returncode != 0:
        raise ServerFailed(f"{command} failed: {result.stderr.decode()[-500:]}")
    return time.monotonic() - began


def fill(server: ServerProcess, count: int) -> None:
    """Makes /tree with so many znodes, in folders, by an import."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write('{"grangeExport":1}\n{"path":"/","data":""}\n')
        file.writelines(f'{{"path":"/{folder}","data":""}}\n' for folder in range(FOLDERS))
        rest = count - FOLDERS - 1
        file.writelines(f'{{"path":"/{n % FOLDERS}/{n}","data":"some data"}}\n' for n in range(rest))
        file.write(f'{{"znodes":{count}}}\n')
        file.flush()
        shell = [binary(), "shell", "--servers", server.address_text, "import", file.name, "/tree"]
        subprocess.run(shell, check=True, capture_output=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=SERVERS, default="grange", help="on which server (default grange)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--znodes", type=int, default=100_000)
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="bench-zkcli-") as directory:
        link = pathlib.Path(directory) / "zkCli.sh"
        link.symlink_to(pathlib.Path(binary()).resolve())
        environment = dict(os.environ, LC_ALL="C.UTF-8", ZOO_LOG_DIR=directory)
        clients = {"Apache's zkCli.sh": REFERENCE, "grange": str(link)}
        times: dict[tuple[str, str], list[float]] = {}
        try:
            for _ in range(args.rounds):
                for client, program in clients.items():
                    with SERVERS[args.server](Options(fsync=False)) as server:
                        start = [program, "-server", server.address_text]
                        fill(server, args.znodes)
                        for row in ("get /", "ls -R /tree", "deleteall /tree"):
                            seconds = timed([*start, *row.split()], environment)
                            times.setdefault((row, client), []).append(seconds)
        except ServerFailed as error:
            print(error, file=sys.stderr)
            return 3
        print(f"| {args.znodes} znodes, {args.server}'s server | {' | '.join(clients)} |\n|---|---|---|")
        for row in ("get /", "ls -R /tree", "deleteall /tree"):
            cells = [f"{statistics.median(times[row, client]):.3f} s" for client in clients]
            print(f"| `{row}` | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
