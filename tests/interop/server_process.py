"""One ZooKeeper-protocol server as a child process on a loopback port.

The runners of this directory compare two servers, so they must start, stop,
kill and restart either of them in the same way.  `ServerProcess` owns what is
common (configuration, port, readiness, end of the process); `apache.py` and
`grange_server.py` add only the command line of their server.
"""
from __future__ import annotations

import argparse
import base64
import ctypes
import dataclasses
import hashlib
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

SUPER_PASSWORD = "interop-super"
ADDRESS_VARIABLE = "INTEROP_ADDRESS"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
# Below Linux' default range of ephemeral ports: a client that keeps connecting
# to the port of a stopped server can otherwise be connected to itself.
PORT_RANGE = (15000, 32000)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def digest_id(user: str, password: str) -> str:
    """The id of a digest ACL: `user:base64(SHA1(user:password))`."""
    raw = hashlib.sha1(f"{user}:{password}".encode()).digest()
    return f"{user}:{base64.b64encode(raw).decode()}"


@dataclasses.dataclass
class Options:
    """What a test may set; everything becomes a line of the server's zoo.cfg."""

    extended_types: bool = True
    whitelist: str | None = "*"
    super_password: str | None = SUPER_PASSWORD
    connections_per_address_max: int = 0
    tick_ms: int = 2000
    session_timeout_ms_max: int | None = None
    heap: str = "512m"
    fsync: bool = True
    extra: dict[str, str] = dataclasses.field(default_factory=dict)

    def lines(self) -> list[str]:
        values = {
            "tickTime": str(self.tick_ms),
            "maxClientCnxns": str(self.connections_per_address_max),
            "extendedTypesEnabled": str(self.extended_types).lower(),
        }
        if self.whitelist is not None:
            values["4lw.commands.whitelist"] = self.whitelist
        if self.super_password is not None:
            values["DigestAuthenticationProvider.superDigest"] = digest_id("super", self.super_password)
        if self.session_timeout_ms_max is not None:
            values["maxSessionTimeout"] = str(self.session_timeout_ms_max)
        values.update(self.extra)
        return [f"{key}={value}" for key, value in values.items()]


class ServerFailed(RuntimeError):
    """The server did not start, or ended by itself."""


def free_port() -> int:
    """A loopback port that was free a moment ago and is in nobody's automatic range."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(*PORT_RANGE)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed("no free port on 127.0.0.1")


def parse_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host or "127.0.0.1", int(port)


def serves(address: tuple[str, int], seconds_max: float = 2.0) -> bool:
    """Whether a whole session handshake succeeds: a port that accepts is not enough."""
    connect = struct.pack(">iqiqi16s?", 0, 0, 10000, 0, 16, bytes(16), False)
    close = struct.pack(">ii", 1, -11)
    try:
        with socket.create_connection(address, timeout=seconds_max) as sock:
            sock.settimeout(seconds_max)
            sock.sendall(struct.pack(">i", len(connect)) + connect)
            answer = sock.makefile("rb").read(41)
            if len(answer) < 41:
                return False
            sock.sendall(struct.pack(">i", len(close)) + close)
            while sock.recv(4096):
                pass
            return True
    except OSError:
        return False


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Has the kernel send this process a signal when the one that started it ends; for `preexec_fn`."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)


class ServerProcess:
    """A server that is started, stopped, killed and restarted on one port and data directory.

    Use it as a context manager: the process ends and the directory goes on every way out.
    Start it from the main thread, because the kernel ends it together with the thread that
    started it, so that a killed runner leaves nothing behind.
    """

    name = "server"
    host = "127.0.0.1"

    def __init__(self, options: Options | None = None, port: int = 0, keep: bool = False):
        self.options = options or Options()
        self.port = port or free_port()
        self._port_is_fixed = bool(port)
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"interop-{self.name}-"))
        self.log = self.directory / "server.log"

    def command(self, config: pathlib.Path) -> list[str]:
        raise NotImplementedError

    def config_lines(self) -> list[str]:
        return [
            f"dataDir={self.directory / 'data'}",
            f"clientPort={self.port}",
            f"clientPortAddress={self.host}",
            *self.options.lines(),
        ]

    @property
    def address(self) -> tuple[str, int]:
        return (self.host, self.port)

    @property
    def address_text(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def members(self) -> list["ServerProcess"]:
        """A server that stands alone is its only member."""
        return [self]

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> "ServerProcess":
        """Starts the server and returns once it answers a handshake."""
        for attempt in range(5):
            try:
                self._start_once()
                return self
            except ServerFailed:
                if self._port_is_fixed or attempt == 4 or "in use" not in self.log_tail():
                    raise
                self.port = free_port()
        return self

    def environment(self) -> dict[str, str]:
        """The environment of the server's process."""
        return dict(os.environ)

    def launch(self) -> None:
        """Starts the process and does not wait for it to serve: a member alone cannot."""
        (self.directory / "data").mkdir(exist_ok=True)
        config = self.directory / "zoo.cfg"
        self.write_config(config)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command(config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def write_config(self, config: pathlib.Path) -> None:
        """Writes the server's zoo.cfg."""
        config.write_text("\n".join(self.config_lines()) + "\n")

    def _start_once(self) -> None:
        self.launch()
        self.wait_until_it_serves()
        self._port_is_fixed = True

    def wait_until_it_serves(self, seconds_max: float = START_SECONDS_MAX) -> None:
        """Returns once the server answers a handshake; raises ServerFailed if it ends, or does not in time."""
        assert self._process is not None, "not started"
        deadline = time.monotonic() + seconds_max
        while not serves(self.address):
            if self._process.poll() is not None:
                status = self._process.returncode
                self._process = None
                raise ServerFailed(f"{self.name} ended with status {status}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.name} does not serve after {seconds_max:.0f} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self) -> str:
        """The end of what the server printed."""
        try:
            return self.log.read_text(errors="replace")[-3000:]
        except OSError:
            return ""

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when that does not end it in time."""
        if self._process is None:
            return
        if self.running():
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.kill()
                raise ServerFailed(f"{self.name} did not end within {STOP_SECONDS_MAX:.0f} s of SIGTERM") from None
        self._process = None

    def kill(self) -> None:
        """SIGKILL to the server's process group."""
        if self._process is None:
            return
        if self.running():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def __enter__(self) -> "ServerProcess":
        try:
            return self.start()
        except BaseException:
            self._remove()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._keep:
            print(f"kept {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)


def _on_sigterm(_signal: int, _frame: object) -> None:
    raise SystemExit(143)


def end_cleanly_on_sigterm() -> None:
    """Lets `with` blocks and `finally` run when the runner itself is asked to end."""
    signal.signal(signal.SIGTERM, _on_sigterm)


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-extended-types", action="store_true", help="extendedTypesEnabled=false")
    parser.add_argument("--whitelist", default="*", help="4lw.commands.whitelist (default *)")
    parser.add_argument("--no-super", action="store_true", help=f"no superDigest (default password: {SUPER_PASSWORD})")
    parser.add_argument("--heap", default="512m", help="-Xmx of a Java server (default 512m)")
    parser.add_argument("--tick-ms", type=int, default=2000, help="tickTime (default 2000)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a further zoo.cfg line")


def options_from(args: argparse.Namespace) -> Options:
    return Options(
        extended_types=not args.no_extended_types,
        whitelist=args.whitelist,
        super_password=None if args.no_super else SUPER_PASSWORD,
        heap=args.heap,
        tick_ms=args.tick_ms,
        extra=dict(item.split("=", 1) for item in args.set),
    )


def main(server_type: type[ServerProcess], description: str) -> int:
    """The command line shared by `apache.py` and `grange_server.py`."""
    parser = argparse.ArgumentParser(description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="start the server, run CMD with the address in its environment, stop the server",
        description=f"Exit status: that of CMD; 3 when the server does not start. Without CMD it serves "
        f"until SIGINT or SIGTERM. CMD finds HOST:PORT in ${ADDRESS_VARIABLE}.",
    )
    run.add_argument("--port", type=int, default=0, help="client port; 0 (default) takes a free one")
    run.add_argument("--print-address", action="store_true", help="print HOST:PORT on stdout when it serves")
    run.add_argument("--keep", action="store_true", help="keep the temporary directory")
    add_option_arguments(run)
    run.add_argument("cmd", nargs=argparse.REMAINDER, metavar="-- CMD ...")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    cmd = args.cmd[1:] if args.cmd[:1] == ["--"] else args.cmd
    try:
        with server_type(options_from(args), port=args.port, keep=args.keep) as server:
            if args.print_address:
                print(server.address_text, flush=True)
            if not cmd:
                signal.pause()
                return 0
            environment = dict(os.environ, **{ADDRESS_VARIABLE: server.address_text})
            return subprocess.run(cmd, env=environment).returncode
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
