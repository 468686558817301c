#!/usr/bin/env python3
"""A command that `grange lock` or `grange barrier enter` runs has the terminal: it reads what is typed, Ctrl-C ends it, Ctrl-Z
stops it for a while. Ctrl-C reaches a command of `grange watch`, too."""
from __future__ import annotations

import argparse
import os
import pathlib
import pty
import select
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import grange_server  # noqa: E402
from apache import Apache  # noqa: E402
from server_process import Options, end_cleanly_on_sigterm  # noqa: E402

SECONDS_MAX = 30.0


class Terminal:
    """A process with a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def until(self, text: str) -> None:
        """Waits until the screen shows `text` behind what was waited for before."""
        deadline = time.monotonic() + SECONDS_MAX
        while text not in self.shown:
            if not select.select([self.screen], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SystemExit(f"no {text!r} in {self.shown!r}")
            try:
                more = os.read(self.screen, 65536)
            except OSError:
                more = b""
            if not more:
                raise SystemExit(f"it ended without {text!r}: {self.shown!r}")
            self.shown += more.decode(errors="replace")
        self.shown = self.shown.partition(text)[2]

    def status(self) -> int:
        """Waits for the end and returns the exit status."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.screen)
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise SystemExit(f"it does not end: {self.shown!r}")
            if select.select([self.screen], [], [], 0.02)[0]:
                try:
                    self.shown += os.read(self.screen, 65536).decode(errors="replace")
                except OSError:
                    time.sleep(0.02)


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: {found!r} instead of {wanted!r}")


def has_terminal(holder: list[str], environment: dict[str, str]) -> None:
    terminal = Terminal([*holder, "--", "sh", "-c", "echo ready; read line; echo got $line; exit 4"], environment)
    terminal.until("ready")
    terminal.type("hello\n")
    terminal.until("got hello")
    expect("status after a line was read", terminal.status(), 4)

    # Not a shell: Debian's loses a Ctrl-C that comes while it forks.
    terminal = Terminal([*holder, "--", "cat"], environment)
    terminal.type("ready\n")
    terminal.until("ready")  # what was typed
    terminal.until("ready")  # what `cat` has read
    terminal.type("\x03")
    expect("status after Ctrl-C", terminal.status(), 128 + signal.SIGINT)


def run(environment: dict[str, str]) -> None:
    lock = [grange_server.binary(), "lock", "/terminal", "--session-timeout", "20"]
    has_terminal(lock, environment)
    has_terminal([grange_server.binary(), "barrier", "enter", "/barrier", "-n", "1"], environment)

    watch = [grange_server.binary(), "watch", "/", "--initial", "--", "sh", "-c", "echo ready; exec sleep 60"]
    terminal = Terminal(watch, environment)
    terminal.until("ready")
    terminal.type("\x03")
    expect("status of a watch after Ctrl-C", terminal.status(), 128 + signal.SIGINT)

    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], dict(environment, PS1="prompt> "))
    shell.until("prompt>")
    shell.type(" ".join(lock) + " -- sh -c 'read first; echo it re''ads; read line; echo got $line'\n")
    # Once it reads it has been given the terminal, which takes back a stop of before.
    shell.type("it is there\n")
    shell.until("it reads")
    shell.type("\x1a")
    shell.until("Stopped")
    shell.until("prompt>")
    shell.type("echo the shell has the ter''minal; fg\n")
    shell.until("the shell has the terminal")
    shell.type("after a while\n")
    shell.until("got after a while")
    shell.until("prompt>")
    # In the background it is stopped when it wants to read; in the foreground it may.
    shell.type(" ".join(lock) + " -- sh -c 'read line; echo got $line' & sleep 0.5; wait\n")
    shell.until("Stopped")
    shell.type("fg\n")
    shell.until("sh -c")
    shell.type("once more\n")
    shell.until("got once more")
    # Who waits can be stopped and go on, too.
    shell.type(" ".join(lock) + " -- sleep 60 & sleep 1; " + " ".join(lock) + " -- echo my tu''rn\n")
    shell.until("waiting")
    shell.type("\x1a")
    shell.until("Stopped")
    shell.type("kill %1; fg\n")
    shell.until("my turn")
    # The lock is free, and who waits for it can be interrupted.
    shell.type(" ".join(lock) + " --wait 0 -- echo it is fr''ee\n")
    shell.until("it is free")
    shell.until("prompt>")
    shell.type("exit 0\n")
    expect("status of the shell", shell.status(), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    server_type = grange_server.Grange if args.server == "grange" else Apache
    with server_type(Options(tick_ms=1000, fsync=False)) as server:
        run(dict(os.environ, GRANGE_SERVERS=server.address_text, TERM="dumb"))
    print("input, Ctrl-C and Ctrl-Z reach the command")
    return 0


if __name__ == "__main__":
    sys.exit(main())
