"""Members as processes: one ensemble of Apache's or of our server, each member with a place, a disk and a clock.

Start, stop, kill and settings come from the interop tests; here is what only members have.
"""
from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import wire  # noqa: E402
from apache import Apache  # noqa: E402
from grange_server import Grange  # noqa: E402
from server_process import SUPER_PASSWORD, Options, ServerFailed, ServerProcess, serves  # noqa: E402

import network  # noqa: E402

CLIENT_PORT, QUORUM_PORT, ELECTION_PORT = 2181, 2888, 3888
TICK_MS = 500
DISK_MIB = 256
SERVE_SECONDS_MAX = 60.0
WORD_SECONDS_MAX = 2.0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a member is: its number, its address and ports, and how a command gets there."""

    number: int
    host: str
    client_port: int
    quorum_port: int
    election_port: int
    prefix: tuple[str, ...]

    def server_line(self) -> str:
        peers = f"{self.host}:{self.quorum_port}:{self.election_port}:participant"
        return f"server.{self.number}={peers};{self.host}:{self.client_port}"


class Member(ServerProcess):
    """What a member has beyond a server that stands alone; mixed into Apache's and ours."""

    place: Place
    ensemble: "Ensemble"

    def __init__(self, ensemble: "Ensemble", place: Place, options: Options):
        self.ensemble, self.place, self.host = ensemble, place, place.host
        super().__init__(dataclasses.replace(options, extra=dict(options.extra)), port=place.client_port)
        self.name = f"{self.name} {place.number}"
        self.disk = self.directory / "data"
        self.disk.mkdir()
        self._is_mounted = ensemble.has_small_disks
        if self._is_mounted:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(self.disk)]
            subprocess.run(mount, check=True)
        self._faults = self.directory / "faults"
        self.set_faults()

    def config_lines(self) -> list[str]:
        """Every member names all of them."""
        members = [place.server_line() for place in self.ensemble.places]
        return [*super().config_lines(), "initLimit=20", "syncLimit=5", "standaloneEnabled=false", *members]

    def write_config(self, config: pathlib.Path) -> None:
        # Apache's server writes its members there after a reconfig: only a blank member gets what it is told.
        my_id = self.disk / "myid"
        if not my_id.exists():
            super().write_config(config)
            my_id.write_text(f"{self.place.number}\n")

    def rewrite_config(self) -> None:
        """Makes a change of `options` count from the next start on."""
        super().write_config(self.directory / "zoo.cfg")

    def command(self, config: pathlib.Path) -> list[str]:
        return [*self.place.prefix, *super().command(config)]

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        if self.ensemble.preload is not None:
            environment.update(LD_PRELOAD=str(self.ensemble.preload), GRANGE_FAULTS=str(self._faults))
        return environment

    def set_faults(self, sync_us: int = 0, clock_ms: int = 0) -> None:
        """How much longer each sync takes, and how far the wall clock is off, from now on."""
        with open(self._faults, "r+b" if self._faults.exists() else "wb") as file:
            file.write(struct.pack("=qq", sync_us, clock_ms * 1_000_000))

    def fill_disk(self) -> None:
        with open(self.disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))

    def free_disk(self) -> None:
        (self.disk / "filler").unlink(missing_ok=True)

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self.running():
            os.killpg(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """The data directory of a machine that is new."""
        for each in self.disk.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        for each in self.directory.glob("zoo.cfg*"):
            each.unlink()

    def word(self, word: str) -> str:
        """The answer to a four-letter word; empty if there is none."""
        try:
            connection = wire.Connection(self.address, WORD_SECONDS_MAX)
        except OSError:
            return ""
        with contextlib.closing(connection), contextlib.suppress(wire.Silence):
            connection.send(word.encode())
            return connection.receive_all(WORD_SECONDS_MAX).decode(errors="replace")
        return ""

    def mode(self) -> str:
        """`leader`, `follower`, ... or nothing while it does not serve."""
        found = re.search(r"^Mode: (\S+)", self.word("srvr"), re.MULTILINE)
        return found.group(1) if found else ""

    def _remove(self) -> None:
        if self._is_mounted:
            subprocess.run(["umount", "-l", str(self.disk)], check=False)
        super()._remove()


class ApacheMember(Member, Apache):
    """A member of Apache's ensemble."""

    main_class = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


class GrangeMember(Member, Grange):
    """A member of our ensemble."""


MEMBERS: dict[str, type[Member]] = {"apache": ApacheMember, "grange": GrangeMember}


def default_options() -> Options:
    """Short ticks, so that sessions expire within a test; small files, so that disks may be small."""
    extra = {
        "reconfigEnabled": "true", "preAllocSize": "8192", "snapCount": "2000", "snapSizeLimitInKb": "16384",
        "autopurge.purgeInterval": "1",
    }  # fmt: skip
    return Options(tick_ms=TICK_MS, heap="192m", extra=extra)


class Ensemble:
    """All members; a context manager that starts them and leaves nothing behind."""

    def __init__(self, kind: str, count: int, options: Options | None = None, preload: pathlib.Path | None = None):
        self.kind = kind
        self.preload = preload
        self.network = network.make(count)
        self.has_small_disks = network.inside()
        self.places = [self._place(number) for number in self.network.numbers]
        self._options = options or default_options()
        self.members: list[Member] = []

    def _place(self, number: int) -> Place:
        ports = [self.network.port(port) for port in (CLIENT_PORT, QUORUM_PORT, ELECTION_PORT)]
        return Place(number, self.network.host(number), *ports, tuple(self.network.prefix(number)))

    @property
    def addresses(self) -> list[str]:
        return [member.address_text for member in self.members]

    def __enter__(self) -> "Ensemble":
        try:
            self.members = [MEMBERS[self.kind](self, place, self._options) for place in self.places]
            for member in self.members:
                member.launch()
            self.wait_until_all_serve()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for member in self.members:
            member.kill()
        for member in self.members:
            member._remove()

    def wait_until_all_serve(self, seconds_max: float = SERVE_SECONDS_MAX) -> float:
        """Returns after how many seconds every member answers a handshake; raises ServerFailed if one does not."""
        began = time.monotonic()
        for member in self.members:
            member.wait_until_it_serves(max(1.0, began + seconds_max - time.monotonic()))
        return time.monotonic() - began

    def leader(self, seconds_max: float = SERVE_SECONDS_MAX) -> Member:
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            for member in self.members:
                if member.running() and member.mode() == "leader":
                    return member
            time.sleep(0.05)
        raise ServerFailed(f"no member leads after {seconds_max:.0f} s")

    def reconfigure(self, leaving: Member | None = None, joining: Member | None = None) -> None:
        """Takes a member out of the ensemble, or in, by a request at another one; tries again while it changes."""
        arguments = (
            wire.ustring(joining.place.server_line() if joining else None),
            wire.ustring(str(leaving.place.number) if leaving else None),
            wire.ustring(None),
            wire.i64(-1),
        )
        deadline = time.monotonic() + SERVE_SECONDS_MAX
        others = [member for member in self.members if member not in (leaving, joining)]
        answer: object = None
        for attempt in range(1_000_000):
            answer = ask_as_super(others[attempt % len(others)].address, "reconfig", b"".join(arguments))
            if answer == 0:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        raise ServerFailed(f"reconfig is answered {answer} after {SERVE_SECONDS_MAX:.0f} s")


def ask_as_super(address: tuple[str, int], op: str, body: bytes) -> int | str:
    """One request of the super user in a session of its own; the error code of the reply, or why there is none."""
    token = f"super:{SUPER_PASSWORD}".encode()
    auth = wire.header(wire.XID_AUTH, wire.OPCODES["auth"]) + wire.i32(0) + wire.ustring("digest") + wire.buffer(token)
    try:
        with contextlib.closing(wire.Connection(address)) as connection:
            for each in (wire.connect_request(), auth, wire.header(1, wire.OPCODES[op]) + body):
                connection.send(wire.frame(each))
            connection.receive(SERVE_SECONDS_MAX)
            while (payload := connection.receive(SERVE_SECONDS_MAX)) is not None:
                reply = wire.decode_reply(payload, {1: op}.get)
                if reply.get("xid") == 1:
                    connection.send(wire.frame(wire.header(2, wire.OPCODES["closeSession"])))
                    return reply["err"]
    except (OSError, wire.Silence) as error:
        return repr(error)
    return "closed"


def build_preload(directory: pathlib.Path) -> pathlib.Path | None:
    """Compiles `faults.c`; None without a C compiler: then disks are not slow and clocks not wrong."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "faults.so"
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(HERE / "faults.c"), "-ldl"]
    return library if subprocess.run(command).returncode == 0 else None


__all__ = ["Ensemble", "Member", "ServerFailed", "build_preload", "serves"]
