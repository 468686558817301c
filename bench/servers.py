"""The servers that the benchmark compares: how each is started, and what only one of them can tell.

Start, stop, kill and restart come from the interop tests, so that both servers are treated alike there and here.
"""
from __future__ import annotations

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "interop"))

from apache import Apache, class_path, java  # noqa: E402
from grange_server import Grange  # noqa: E402
from server_process import Options, ServerFailed, ServerProcess, end_cleanly_on_sigterm, serves  # noqa: E402

HEAP = "4g"
PACKAGES = ["zookeeper", "default-jdk-headless"]
# A restart that takes longer is a failure, not a figure.
RESTART_SECONDS_MAX = 120.0
RESTART_POLL_SECONDS = 0.002
# Apache's server may accept a connection while it loads its data, and never answer on it.
HANDSHAKE_SECONDS_MAX = 0.25


class BenchApache(Apache):
    """Apache's server as an operator would run it: the JVM's own choice of collector and compilers, a large heap."""

    def command(self, config: pathlib.Path) -> list[str]:
        return [
            java(),
            f"-Xmx{HEAP}",
            "-Dzookeeper.jmx.log4j.disable=true",
            "-Djava.net.preferIPv4Stack=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            class_path(),
            self.main_class,
            str(config),
        ]

    def live_heap_bytes(self) -> int | None:
        """Bytes of reachable objects, after a full collection; None without the JDK's jcmd."""
        jcmd = shutil.which("jcmd")
        if jcmd is None:
            return None
        histogram = subprocess.run([jcmd, str(self.pid), "GC.class_histogram"], capture_output=True, text=True)
        total = re.search(r"^Total\s+\d+\s+(\d+)", histogram.stdout, re.MULTILINE)
        return int(total.group(1)) if total else None


class BenchGrange(Grange):
    """`grange serve`, release build."""

    def live_heap_bytes(self) -> int | None:
        return None


class AnswerOnly(ServerProcess):
    """The example that has no tree: the most that generator and machine allow, on demand with one fdatasync per round."""

    name = "answers-only"

    def __init__(self, syncs: bool):
        super().__init__()
        self.syncs = syncs

    def command(self, config: pathlib.Path) -> list[str]:
        program = release_directory() / "examples" / "answer_only"
        sync = ["--sync", str(self.directory / "data" / "log")] if self.syncs else []
        return [str(program), "--listen", self.address_text, *sync]


SERVERS: dict[str, type[ServerProcess]] = {"apache": BenchApache, "grange": BenchGrange}


def release_directory() -> pathlib.Path:
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release"


def build() -> None:
    command = ["cargo", "build", "--release", "-p", "grange", "-p", "grange-bench", "--bins", "--examples"]
    if subprocess.run(command, cwd=REPOSITORY).returncode:
        raise ServerFailed("the release build failed")


def install_apache() -> None:
    """Installs the Debian packages that are missing."""
    if pathlib.Path("/usr/share/java/zookeeper.jar").exists() and shutil.which("java"):
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    print("installing", *PACKAGES, file=sys.stderr)
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise ServerFailed(f"Apache ZooKeeper is missing: {' '.join(command)}")


def make(name: str) -> ServerProcess:
    """A server that is not started yet, with the settings that both have in the comparison."""
    options = Options(extended_types=True, whitelist="*", super_password=None, connections_per_address_max=0)
    return SERVERS[name](options)


def resident_bytes(server: ServerProcess) -> int:
    pages = pathlib.Path(f"/proc/{server.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def znode_count(server: ServerProcess) -> int:
    """What the four-letter word `srvr` says."""
    with socket.create_connection(server.address, timeout=10) as sock:
        sock.sendall(b"srvr")
        text = sock.makefile("rb").read().decode()
    found = re.search(r"Node count: (\d+)", text)
    if found is None:
        raise ServerFailed(f"{server.name} answers srvr with {text!r}")
    return int(found.group(1))


def seconds_until_it_answers(server: ServerProcess) -> float:
    """Starts a stopped server; the time from then until a new session is accepted."""
    begin = time.monotonic()
    answered: list[float] = []

    def watch() -> None:
        while not answered and time.monotonic() - begin < RESTART_SECONDS_MAX:
            if serves(server.address, seconds_max=HANDSHAKE_SECONDS_MAX):
                answered.append(time.monotonic() - begin)
            else:
                time.sleep(RESTART_POLL_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        server.start()
    finally:
        watcher.join()
    if not answered:
        raise ServerFailed(f"{server.name} did not answer after its restart")
    return answered[0]
