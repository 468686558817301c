"""Hosts that have joined a farm, consumers that export it, and the farm as it is: what soak.py throws about."""
from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import grange_server  # noqa: E402
import wire  # noqa: E402
from server_process import end_with_parent  # noqa: E402

FARM = "/services/db"
FIELDS_EACH = 4
# No longer than a moment, so that a server that stands still does not hold up the run.
ANSWER_SECONDS_MAX = 2.0
LOG_TAIL = 3000
# Between the halves of a file that is not replaced but overwritten.
HALF_SECONDS = 0.02
# What a program takes to get to reading, so that it is killed before that now and then.
SLOW_SECONDS = 0.3
# Not SIGTERM, which waits for a process that stands still.
END_WITH_PARENT = functools.partial(end_with_parent, signal.SIGKILL)


class Actor:
    """One `grange farm` process that is started, killed and stopped over and over."""

    def __init__(self, name: str, command: list[str], server: str, directory: pathlib.Path):
        self.name, self.log = name, directory / f"{name}.log"
        self._command = [grange_server.binary(), "farm", *command]
        self._environment = dict(os.environ, GRANGE_SERVERS=server, GRANGE_CONFIG="/dev/null")
        self._process: subprocess.Popen | None = None
        self.is_stopped = False

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def ended(self) -> int | None:
        """Its exit status, if it has ended by itself, which it must not."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        if self._process is None:
            with open(self.log, "ab") as log:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    preexec_fn=END_WITH_PARENT,
                )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self.is_stopped = None, False

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.is_stopped = True

    def go_on(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL:] if self.log.exists() else ""


class Host(Actor):
    """A host with its configuration, and the model of what must be in it.

    The fields `l0`, `l1`… are edited here only, and are always what they were edited to last: this host is right about
    itself. The fields `r0`, `r1`… are set from outside only. What was set is certain once it was seen in the
    configuration; before, the host or the znode may be lost with it.
    """

    def __init__(self, name: str, timeout: int, server: str, directory: pathlib.Path, is_directory: bool):
        self.conf = directory / (name if is_directory else f"{name}.json")
        command = ["join", "--name", name, "--session-timeout", str(timeout), FARM, str(self.conf)]
        # A program on the host that reads what is set from outside, when it is told to. A whole file may be edited meanwhile.
        self.seen = directory / f"{name}.seen" if is_directory else None
        if self.seen:
            self.seen.mkdir()
            command += ["--changed-cmd", f"sleep {SLOW_SECONDS}; rm -f {self.seen}/*; cp {self.conf}/r* {self.seen}/ 2>/dev/null; true"]
        super().__init__(name, command, server, directory)
        self.timeout, self.is_directory = timeout, is_directory
        if is_directory:
            self.conf.mkdir()
        self.edited: dict[str, str | None] = {f"l{number}": None for number in range(FIELDS_EACH)}
        self.edited_before = dict(self.edited)
        self.possible: dict[str, list[str | None]] = {f"r{number}": [None] for number in range(FIELDS_EACH)}
        self.in_flight: set[str] = set()
        self.unsure: set[str] = set()
        self.is_disturbed = False
        # Held while a file is half-written by an editor.
        self.lock = threading.Lock()

    def read(self) -> dict:
        """Its configuration. Raises ValueError if it is half-written."""
        if not self.is_directory:
            return json.loads(self.conf.read_text()) if self.conf.exists() else {}
        return read_directory(self.conf)

    def edit(self, field: str, value: str | None, in_place: bool) -> None:
        """What an administrator does with an editor."""
        self.edited_before[field], self.edited[field] = self.edited[field], value
        with self.lock:
            if self.is_directory:
                write(self.conf / field, value, in_place, lambda: None)
                return
            # Between reading and writing a file, an editor may undo what the farm has changed; that is not the question
            # here, so `join` stands still meanwhile.
            was_stopped = self.is_stopped
            self.stop()
            fields = {**self.read(), field: value}
            text = json.dumps({key: each for key, each in fields.items() if each is not None})
            write(self.conf, text, in_place, lambda: None if was_stopped else self.go_on())
            if not was_stopped:
                self.go_on()

    def whole(self) -> str | None:
        """What is half-written, if anything is."""
        with self.lock:
            try:
                fields = self.read()
            except ValueError as error:
                return f"{self.conf}: {error}"
        for field, value in fields.items():
            if field in self.possible and not value.endswith("."):
                return f"{self.conf}: {field} is {value!r}"
        return None

    def ask(self, field: str, value: str | None) -> None:
        """Notes that a field is being set from outside, or unset."""
        self.possible[field].append(value)
        self.in_flight.add(field)

    def answered(self, field: str, is_acknowledged: bool) -> None:
        """Notes how that went. What was not acknowledged may happen later."""
        self.in_flight.discard(field)
        if not is_acknowledged:
            self.unsure.add(field)

    def landed(self) -> None:
        """Notes which fields that were set from outside have arrived."""
        try:
            fields = self.read()
        except ValueError:
            return
        for field, (*before, newest) in self.possible.items():
            value = fields.get(field)
            if before and value == newest and value not in before and field not in self.unsure:
                self.possible[field] = [newest]

    def at_rest(self, fields: dict) -> None:
        """Starts anew with what is there."""
        self.possible = {field: [fields.get(field)] for field in self.possible}
        self.is_disturbed = False
        self.unsure.clear()

    def expected(self, field: str) -> list[str | None]:
        possible = self.possible[field]
        return possible if self.is_disturbed or field in self.unsure else possible[-1:]

    def problems(self, fields: dict) -> list[str]:
        """What of this contradicts the model."""
        found = [
            f"{self.name}: {field} was edited to {value!r}, and is {fields.get(field)!r}"
            for field, value in self.edited.items() if fields.get(field) != value
        ]
        if self.seen:
            seen, there = read_directory(self.seen), {field: fields[field] for field in self.possible if field in fields}
            found += [f"{self.name}: {there} is there, and {seen} was read when it changed last"] * (seen != there)
        return found + [
            f"{self.name}: {field} is {fields.get(field)!r}, and should be one of {self.expected(field)}"
            for field in self.possible if fields.get(field) not in self.expected(field)
        ]


def read_directory(directory: pathlib.Path) -> dict[str, str]:
    """The texts of the files that are not hidden."""
    found = {}
    for path in directory.iterdir():
        if not path.name.startswith("."):
            try:
                found[path.name] = path.read_text().strip()
            except FileNotFoundError:
                pass
    return found


def write(path: pathlib.Path, text: str | None, in_place: bool, halfway) -> None:
    """Replaces, removes, or overwrites a file in two steps."""
    if text is None:
        path.unlink(missing_ok=True)
    elif in_place:
        with open(path, "w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            halfway()
            time.sleep(HALF_SECONDS)
            file.write(text[len(text) // 2 :])
    else:
        other = path.parent / f".{path.name}.edited"
        other.write_text(text)
        other.rename(path)


class Consumer(Actor):
    """An export of the farm, and a program that reads the file when it is told to."""

    def __init__(self, name: str, settle: int, server: str, directory: pathlib.Path):
        self.file, self.seen = directory / f"{name}.json", directory / f"{name}.seen"
        options = ["--settle", str(settle), "--max-drop", "100", "--session-timeout", "3"]
        options += ["--changed-cmd", f"sleep {SLOW_SECONDS}; cp {self.file} {self.seen}"]
        super().__init__(name, ["export", *options, FARM, str(self.file)], server, directory)

    def whole(self) -> str | None:
        try:
            self.read(self.file)
        except ValueError as error:
            return f"{self.file}: {error}"
        return None

    def problems(self, hosts: dict) -> list[str]:
        """What of its file, or of what was read of it, is not like the farm."""
        found = []
        for path in (self.file, self.seen):
            try:
                if (fields := self.read(path)) != hosts:
                    found.append(f"{path} is {fields}, the farm {hosts}")
            except ValueError as error:
                found.append(f"{path}: {error}")
        return found

    @staticmethod
    def read(path: pathlib.Path) -> dict | None:
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None


class Farm:
    """The farm as the server has it, read in a session of its own each time."""

    def __init__(self, server: grange_server.Grange):
        self._address = server.address

    def connected(self) -> set[int]:
        """The sessions that have a connection now."""
        connection = wire.Connection(self._address, ANSWER_SECONDS_MAX)
        try:
            connection.send(b"cons")
            answer = connection.receive_all(ANSWER_SECONDS_MAX).decode()
        finally:
            connection.close()
        return {int(sid, 16) for sid in re.findall(r"sid=0x([0-9a-f]+)", answer)}

    def read(self) -> tuple[dict[str, dict], dict[str, int], dict]:
        """The hosts' properties, the sessions that own them, and the farm's own properties. Raises OSError."""
        connection = wire.Connection(self._address, ANSWER_SECONDS_MAX)
        try:
            connection.send(wire.frame(wire.connect_request()))
            connection.receive(ANSWER_SECONDS_MAX)
            names = self._ask(connection, "getChildren", FARM)
            bodies = {name: self._ask(connection, "getData", f"{FARM}/{name}") for name in names}
            own = json.loads(self._ask(connection, "getData", FARM)["data"] or b"{}")
            connection.send(wire.frame(wire.header(2, wire.OPCODES["closeSession"])))
            connection.receive_all(ANSWER_SECONDS_MAX)
        except (wire.Silence, wire.Malformed) as error:
            raise OSError(f"no answer: {error!r}") from None
        finally:
            connection.close()
        hosts = {name: json.loads(body["data"]) for name, body in bodies.items()}
        owners = {name: int(body["stat"]["ephemeralOwner"]) for name, body in bodies.items()}
        return hosts, owners, own

    @staticmethod
    def _ask(connection: wire.Connection, operation: str, path: str) -> dict:
        body = wire.ustring(path) + wire.boolean(False)
        connection.send(wire.frame(wire.header(1, wire.OPCODES[operation]) + body))
        payload = connection.receive(ANSWER_SECONDS_MAX)
        if payload is None:
            raise OSError("closed")
        reply = wire.decode_reply(payload, lambda _: operation)
        if reply["err"]:
            raise OSError(f"{operation} {path}: {reply['err']}")
        return reply["body"]
