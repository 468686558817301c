#!/usr/bin/env python3
"""Contenders that use kazoo: one thread for each GROUP=DIRECTORY argument, in one session, until the process is killed.

`kazoo_worker.py HOST:PORT SESSION_SECONDS GROUP=DIRECTORY...`; runs in the environment of the kazoo suite.
"""
from __future__ import annotations

import os
import pathlib
import random
import sys
import threading
import traceback

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError
from kazoo.recipe.election import Election

from section import Section, pause

# How Curator's names are told to kazoo, which otherwise takes no notice of them.
CURATOR_PATTERNS = ["-lock-"]


def count(client: KazooClient, group: str, section: Section) -> None:
    data, stat = client.get(f"/counters/{group}")
    pause()
    try:
        client.set(f"/counters/{group}", str(int(data) + 1).encode(), version=stat.version)
    except BadVersionError:
        section.violation("somebody else has counted meanwhile")


def turn(client: KazooClient, group: str, directory: pathlib.Path) -> None:
    path = f"/{group}"
    name = f"kazoo {os.getpid()}"
    if group == "lock":
        with client.Lock(path, name, extra_lock_patterns=CURATOR_PATTERNS), Section(directory, "kazoo") as section:
            count(client, group, section)
    elif group == "semaphore":
        with client.Semaphore(path, name, max_leases=1), Section(directory, "kazoo") as section:
            count(client, group, section)
    elif group == "election":

        def lead() -> None:
            with Section(directory, "kazoo") as section:
                count(client, group, section)

        Election(client, path, name).run(lead)
    elif random.random() < 0.5:
        with client.ReadLock(path, name), Section(directory, "kazoo", shared=True):
            pause()
    else:
        with client.WriteLock(path, name), Section(directory, "kazoo") as section:
            count(client, group, section)


def work(client: KazooClient, group: str, directory: pathlib.Path) -> None:
    try:
        while True:
            turn(client, group, directory)
            pause()
    except BaseException:  # noqa: BLE001: a contender that gives up silently would look like a lost wake-up
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    servers, seconds, *groups = sys.argv[1:]
    client = KazooClient(servers, timeout=float(seconds))
    client.start(30)
    threads = []
    for argument in groups:
        group, _, directory = argument.partition("=")
        threads.append(threading.Thread(target=work, args=(client, group, pathlib.Path(directory))))
        threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
