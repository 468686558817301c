#!/usr/bin/env python3
"""kazoo and `grange` on the same queues, barriers, counters and sets: run by mixed_recipes.py with kazoo's Python."""
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO

from kazoo.client import KazooClient

SECONDS_MAX = 60
COUNT = 60


def main() -> int:
    server, binary, share_out = sys.argv[1:]
    environment = dict(os.environ, GRANGE_SERVERS=server, GRANGE_CONFIG="/dev/null")
    client = KazooClient(hosts=server)
    client.start()

    def grange(*arguments: str, text: str | None = None, status: int = 0) -> str:
        done = subprocess.run([binary, *arguments], env=environment, input=text, text=True, capture_output=True, timeout=SECONDS_MAX)
        assert done.returncode == status, f"{arguments}: {done}"
        return done.stdout

    def locking_queue() -> None:
        """Both put, both take, at the same time; each item is done once."""
        queue, path = client.LockingQueue("/locking"), "/locking"
        queue.put_all([f"kazoo {number}".encode() for number in range(COUNT)])
        grange("queue", "put", path, text="".join(f"grange {number}\n" for number in range(COUNT)))
        grange("queue", "put", path, "--priority", "1", "first")
        assert queue.get() == b"first" and grange("queue", "len", path) == f"{2 * COUNT + 1}\n"
        assert queue.consume()
        worker = subprocess.Popen(
            [binary, "queue", "work", path, "--until-empty", "--jobs", "2", "--", "sh", "-c", 'read -r item; echo "$item"'],
            env=environment, stdout=subprocess.PIPE, text=True,
        )
        taken = []
        while (item := queue.get(timeout=0.5)) is not None or worker.poll() is None:
            if item is not None:
                taken.append(item.decode())
                assert queue.consume()
        others = worker.communicate(timeout=SECONDS_MAX)[0].splitlines()
        everything = [f"{kind} {number}" for kind in ("kazoo", "grange") for number in range(COUNT)]
        assert sorted(taken + others) == sorted(everything), (taken, others)
        assert len(queue) == 0
        # What one holds, the other does not get.
        queue.put(b"held")
        assert queue.get() == b"held"
        grange("queue", "get", path, "--wait", "0", status=1)
        assert queue.release()
        assert grange("queue", "get", path) == "held"

    def plain_queue() -> None:
        queue = client.Queue("/plain")
        queue.put(b"late")
        queue.put(b"early", priority=1)
        assert grange("queue", "get", "--plain", "/plain") == "early"
        grange("queue", "put", "--plain", "/plain", "last")
        assert (queue.get(), queue.get(), queue.get()) == (b"late", b"last", None)

    def barrier() -> None:
        mine = client.Barrier("/barrier")
        mine.create()
        grange("barrier", "wait", "/barrier", "--wait", "0", status=1)
        waiter = subprocess.Popen([binary, "barrier", "wait", "/barrier"], env=environment)
        mine.remove()
        assert waiter.wait(SECONDS_MAX) == 0
        grange("barrier", "create", "/barrier")
        threading.Thread(target=grange, args=("barrier", "remove", "/barrier")).start()
        assert mine.wait(SECONDS_MAX)

    def double_barrier() -> None:
        for turn in range(3):
            # kazoo's member looks for the others after it has joined, and must find them inside (docs/queues.md).
            inside = pathlib.Path(directory, f"inside-{turn}")
            wait = ["sh", "-c", 'while [ ! -e "$1" ]; do sleep 0.05; done', "sh", str(inside)]
            command = [binary, "barrier", "enter", "/double", "-n", "3", "--", *wait]
            others = [subprocess.Popen(command, env=environment) for _ in range(2)]
            mine = client.DoubleBarrier("/double", 3)
            mine.enter()
            assert mine.participating
            inside.touch()
            mine.leave()
            assert [other.wait(SECONDS_MAX) for other in others] == [0, 0]

    def counter() -> None:
        for path, flags, mine in (
            ("/whole", (), client.Counter("/whole")),
            ("/fraction", (), client.Counter("/fraction", default=0.0)),
            ("/curator", ("--curator",), client.Counter("/curator", support_curator=True)),
        ):
            step = 0.5 if path == "/fraction" else 2
            for _ in range(5):
                mine += step
                grange("counter", *flags, path, f"+{step}")
            assert mine.value == 10 * step, mine.value
            assert float(grange("counter", *flags, path)) == mine.value

    def set_partitioner() -> None:
        """kazoo's member and two of ours: what each has as they come and go is everything, once."""
        mine = client.SetPartitioner("/set", tuple("abcde"), identifier="2", time_boundary=0.3)
        shares, ended = {}, threading.Event()

        def take_part() -> None:
            while not ended.is_set():
                assert not mine.failed
                if mine.release:
                    shares.pop("2", None)
                    mine.release_set()
                elif mine.acquired:
                    shares["2"] = "".join(mine)
                time.sleep(0.02)

        def follow(id: str, lines: IO[str]) -> None:
            for line in lines:
                word, *items = line.split()
                shares[id] = "".join(items) if word == "acquired" else ""

        def member(id: str) -> subprocess.Popen[str]:
            command = [share_out, server, "/set", id, "0.3", *"abcde"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            threading.Thread(target=follow, args=(id, process.stdout)).start()
            return process

        def expect(**expected: str) -> None:
            expected = {id.removeprefix("_"): share for id, share in expected.items()}
            deadline = time.monotonic() + SECONDS_MAX
            while {id: share for id, share in dict(shares).items() if share} != expected:
                assert time.monotonic() < deadline, (shares, expected)
                time.sleep(0.02)

        taking_part = threading.Thread(target=take_part, daemon=True)
        taking_part.start()
        expect(_2="abcde")
        others = []
        try:
            others.append(member("3"))
            expect(_2="ace", _3="bd")
            others.append(member("1"))
            expect(_1="ad", _2="be", _3="c")
            others[0].send_signal(signal.SIGINT)
            assert others[0].wait(SECONDS_MAX) == 0
            expect(_1="ace", _2="bd")
            ended.set()
            taking_part.join()
            mine.finish()
            del shares["2"]
            expect(_1="abcde")
            others[1].send_signal(signal.SIGINT)
            assert others[1].wait(SECONDS_MAX) == 0
        finally:
            ended.set()
            for other in others:
                other.kill()
                other.wait()

    with tempfile.TemporaryDirectory(prefix="coordination-") as directory:
        for test in (locking_queue, plain_queue, barrier, double_barrier, counter, set_partitioner):
            test()
            print(f"passed {test.__name__}", flush=True)
    client.stop()
    print("kazoo and grange agree on queues, barriers, counters and sets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
