#!/usr/bin/env python3
"""The leader of three members is killed: who holds something goes on holding it, who waits for it gets it in turn."""
from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "ensemble"))

import members  # noqa: E402, adds the interop tests' directory to the path

import grange_server  # noqa: E402
from server_process import end_cleanly_on_sigterm  # noqa: E402

# Longer than the members need to agree on another leader on a busy machine.
SESSION_SECONDS = 30
SECONDS_MAX = 60.0
RECIPES = (("lock", "/lock"), ("lock", "/shared", "--shared"), ("semaphore", "/semaphore", "-n", "1"), ("elect", "/election"))


class Case:
    """A holder and one who waits."""

    def __init__(self, recipe: tuple[str, ...], servers: str):
        self.recipe = recipe
        self.grange = [grange_server.binary(), *recipe, "--servers", servers]
        flags = [*self.grange, "--session-timeout", str(SESSION_SECONDS), "--connect-timeout", "60"]
        # The holder's command ends when it is given a line. One that shares does not wait for another one that does.
        self.holder = self.start([*flags, "--id", "holder", "--", "sh", "-c", "read line; echo held all the time"])
        self.wait(["holder"])
        waiter = [flag for flag in flags if flag != "--shared"]
        self.waiter = self.start([*waiter, "--id", "waiter", "--", "echo", "got it"])
        self.contenders = self.wait(["holder", "waiter"])

    def start(self, command: list[str]) -> subprocess.Popen:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self, ids: list[str]) -> list[dict]:
        """Waits until these contend, and returns what is known of them."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            done = subprocess.run([*self.grange, "--list", "--json"], capture_output=True, text=True)
            found = json.loads(done.stdout)["contenders"] if done.returncode == 0 else []
            if [contender["id"] for contender in found] == ids:
                return found
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.recipe}: {found} instead of {ids}")
            time.sleep(0.1)

    def check(self) -> None:
        """Nothing may have changed."""
        now = self.wait(["holder", "waiter"])
        if now != self.contenders:
            raise SystemExit(f"{self.recipe}: {now} instead of {self.contenders}")

    def finish(self) -> None:
        for process, line, wanted in ((self.holder, "\n", "held all the time\n"), (self.waiter, "", "got it\n")):
            said, _ = process.communicate(line, timeout=SECONDS_MAX)
            if (process.returncode, said) != (0, wanted):
                raise SystemExit(f"{self.recipe}: status {process.returncode}, {said!r}")

    def end(self) -> None:
        for process in (self.holder, self.waiter):
            process.kill()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    options = dataclasses.replace(members.default_options(), session_timeout_ms_max=SESSION_SECONDS * 1000)
    with members.Ensemble(args.server, 3, options) as ensemble:
        cases: list[Case] = []
        try:
            for recipe in RECIPES:
                cases.append(Case(recipe, ",".join(ensemble.addresses)))
            ensemble.leader().kill()
            ensemble.leader()
            for case in cases:
                case.check()
            for case in cases:
                case.finish()
        finally:
            for case in cases:
                case.end()
    print(f"{len(cases)} holders held on, and {len(cases)} that waited had their turn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
