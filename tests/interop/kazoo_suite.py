#!/usr/bin/env python3
"""Runs kazoo's own test suite against Grange, Apache ZooKeeper or a server that is already there.

The suite (kazoo 2.11.0, from PyPI) comes with a virtual environment into --cache. Every name in
kazoo_expected.txt must pass; other tests may fail, and are listed.

Exit status: 0 every expected test that was selected passed; 1 one did not; 2 usage; 3 the suite or
the server could not be set up.
"""
from __future__ import annotations

import argparse
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import venv

from apache import Apache
from grange_server import Grange
from server_process import Options, ServerFailed, end_cleanly_on_sigterm, parse_address, serves

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = HERE / "kazoo_expected.txt"
KAZOO_VERSION = "2.11.0"
# kazoo's tests authenticate as super with this password.
SUPER_PASSWORD = "test"
RESTART_SECONDS_MAX = 60.0
RETRIED_TESTS_MAX = 5


class CommandServer:
    """A server of somebody else's, bounced by shell commands (when they are given)."""

    def __init__(self, address: str, commands: dict[str, str | None]):
        self.address_text = address
        self._commands = commands

    def _run(self, word: str) -> None:
        command = self._commands[word]
        if not command:
            raise NotImplementedError
        environment = dict(os.environ, SERVER_ADDRESS=self.address_text)
        subprocess.run(command, shell=True, check=True, env=environment, stdin=subprocess.DEVNULL)

    def start(self) -> None:
        self._run("start")
        deadline = time.monotonic() + RESTART_SECONDS_MAX
        while not serves(parse_address(self.address_text)):
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.address_text} does not serve")
            time.sleep(0.1)

    def stop(self) -> None:
        self._run("stop")

    def kill(self) -> None:
        self._run("kill")

    @property
    def members(self) -> list["CommandServer"]:
        return [self]

    def __enter__(self) -> "CommandServer":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def prepare(cache: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Makes the virtual environment and unpacks the suite; both are kept for the next run.

    Tests that run at the same time wait for each other here.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "kazoo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return prepare_alone(cache)


def prepare_alone(cache: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    environment = cache / "kazoo-venv"
    python = environment / "bin" / "python"
    wanted = (HERE / "kazoo_requirements.txt").read_text()
    ready = environment / ".ready"
    if not ready.exists() or ready.read_text() != wanted:
        venv.create(environment, clear=True, with_pip=True)
        pip(python, "install", "-r", str(HERE / "kazoo_requirements.txt"))
        ready.write_text(wanted)
    source = cache / f"kazoo-{KAZOO_VERSION}"
    if not (source / "kazoo" / "tests").is_dir():
        with tempfile.TemporaryDirectory(dir=cache) as download:
            pip(python, "download", "--no-deps", "--no-binary", ":all:", "-d", download, f"kazoo=={KAZOO_VERSION}")
            with tarfile.open(next(pathlib.Path(download).glob("*.tar.gz"))) as sdist:
                sdist.extractall(download, filter="data")
            shutil.rmtree(source, ignore_errors=True)
            (pathlib.Path(download) / source.name).rename(source)
    return python, source


def pip(python: pathlib.Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "-q", "--disable-pip-version-check", *arguments], check=True)


def serve_control(listener: socket.socket, server, stop_word: str, suite: subprocess.Popen, deadline: float) -> None:
    """Starts and stops the server on request until the suite ends.

    This runs in the main thread, because a server ends with the thread that started it.
    """
    listener.settimeout(0.2)
    while suite.poll() is None:
        if time.monotonic() > deadline:
            os.killpg(suite.pid, signal.SIGKILL)
            suite.wait()
            print("the suite did not end in time", file=sys.stderr)
            return
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(5)
            word, index = connection.makefile().readline().split()
            try:
                getattr(server.members[int(index)], {"start": "start", "stop": stop_word}[word])()
                answer = "ok"
            except NotImplementedError:
                answer = "unsupported"
            except (ServerFailed, subprocess.CalledProcessError) as error:
                answer = str(error).replace("\n", " | ") or "failed"
            connection.sendall(answer.encode() + b"\n")


def run_suite(args, server, python: pathlib.Path, source: pathlib.Path, out: pathlib.Path) -> dict[str, dict]:
    """Runs pytest beside the control socket and returns its outcomes by test name."""
    results = out / "results.jsonl"
    results.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="interop-kazoo-") as scratch, socket.socket(socket.AF_UNIX) as listener:
        control = os.path.join(scratch, "control")
        listener.bind(control)
        listener.listen()
        # Without ZOOKEEPER_VERSION the suite asks the server; with CI set it changes its timing.
        environment = {k: v for k, v in os.environ.items() if k not in ("CI", "ZOOKEEPER_VERSION")}
        environment.update(
            PYTHONPATH=f"{HERE}{os.pathsep}{source}",
            PYTHONDONTWRITEBYTECODE="1",
            PYTHONWARNINGS="ignore",
            TMPDIR=scratch,
            KAZOO_EXTERNAL_ADDRESS=",".join(member.address_text for member in server.members),
            KAZOO_EXTERNAL_CONTROL=control,
            KAZOO_EXTERNAL_RESULTS=str(results),
        )
        command = [
            str(python), "-m", "pytest", "-p", "kazoo_external", "-p", "no:cacheprovider", "-o", "addopts=",
            "--timeout", str(args.test_seconds_max), "--timeout-method=signal", "-q", "--tb=short",
            "-W", "ignore", *(args.pytest_arguments or ["kazoo/tests"]),
        ]  # fmt: skip
        with open(out / "pytest.log", "ab") as log:
            suite = subprocess.Popen(
                command, cwd=source, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            try:
                serve_control(listener, server, args.stop_kind, suite, time.monotonic() + args.seconds_max)
            finally:
                if suite.poll() is None:
                    os.killpg(suite.pid, signal.SIGKILL)
                    suite.wait()
    if not results.exists():
        return {}
    return {outcome["test"]: outcome for outcome in map(json.loads, results.read_text().splitlines())}


def expected_names(args) -> list[str]:
    lines = [line for file in args.expected for line in file.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def reason(outcome: dict) -> str:
    lines = outcome["why"].strip().splitlines() or [""]
    return ([line for line in lines if line.startswith("E ")] or lines)[-1][:160]


def did_not_pass(outcomes: dict[str, dict], args) -> list[str]:
    """The expected tests without a pass, among those that were selected."""
    expected = [name for name in expected_names(args) if not args.pytest_arguments or name in outcomes]
    return [name for name in expected if outcomes.get(name, {}).get("outcome") != "passed"]


def run_with_retries(args, server, python: pathlib.Path, source: pathlib.Path, out: pathlib.Path) -> dict[str, dict]:
    """A few of kazoo's tests race with its own threads, on Apache too; such a test gets another chance, named."""
    outcomes = run_suite(args, server, python, source, out)
    for attempt in range(args.retries):
        again = [name for name in did_not_pass(outcomes, args) if name in outcomes]
        if not again or len(again) > RETRIED_TESTS_MAX:
            break
        print(f"retry {attempt + 1}: {' '.join(again)}", flush=True)
        second = argparse.Namespace(**{**vars(args), "pytest_arguments": again})
        outcomes.update(run_suite(second, server, python, source, out))
    return outcomes


def report(outcomes: dict[str, dict], args) -> int:
    """Prints what failed and returns the number of expected tests that did not pass."""
    counts = {k: sum(o["outcome"] == k for o in outcomes.values()) for k in ("passed", "failed", "skipped")}
    seconds = sum(outcome["seconds"] for outcome in outcomes.values())
    print(f"kazoo {KAZOO_VERSION}: {len(outcomes)} tests, {counts}, {seconds:.0f} s of test time")
    for name, outcome in sorted(outcomes.items()):
        if outcome["outcome"] == "failed":
            print(f"FAILED {name}  {reason(outcome)}")
    missing = did_not_pass(outcomes, args)
    for name in missing:
        print(f"EXPECTED TO PASS {name}  ({outcomes.get(name, {'outcome': 'not run'})['outcome']})")
    print(f"expected tests that did not pass: {len(missing)} of {len(expected_names(args))}")
    return len(missing)


def open_server(args):
    options = Options(super_password=SUPER_PASSWORD, extra={"reconfigEnabled": "true"})
    if args.server == "apache":
        return Apache(options)
    if args.server == "grange":
        return Grange(options)
    parse_address(args.server)
    commands = {"start": args.start_command, "stop": args.stop_command, "kill": args.kill_command}
    return CommandServer(args.server, commands)


def main(open_servers=open_server, expected=(EXPECTED,), description: str | None = __doc__) -> int:
    """`open_servers` makes what `--server` names; its `members` are what the suite may stop and start."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="grange", help="grange (default), apache, or HOST:PORT of a running one")
    parser.add_argument("--start-command", help="shell command that starts the server at HOST:PORT again")
    parser.add_argument("--stop-command", help="shell command that stops it")
    parser.add_argument("--kill-command", help="shell command that kills it")
    parser.add_argument("--stop-kind", choices=("stop", "kill"), default="stop", help="what a test's stop() does")
    default_cache = HERE.parents[1] / "target" / "interop"
    parser.add_argument("--cache", type=pathlib.Path, default=default_cache, help=f"default {default_cache}")
    parser.add_argument("--out", type=pathlib.Path, help="pytest.log and results.jsonl (default CACHE/kazoo-results)")
    parser.add_argument("--retries", type=int, default=2, help="second chances for up to 5 tests (default 2)")
    parser.add_argument("--test-seconds-max", type=int, default=90, help="per test (default 90)")
    parser.add_argument("--seconds-max", type=int, default=1200, help="for all (default 1200)")
    parser.add_argument("pytest_arguments", nargs="*", help="tests and pytest options, after -- (default: all tests)")
    args = parser.parse_args()
    args.expected = expected
    end_cleanly_on_sigterm()
    out = args.out or args.cache / "kazoo-results"
    out.mkdir(parents=True, exist_ok=True)
    (out / "pytest.log").unlink(missing_ok=True)
    try:
        python, source = prepare(args.cache)
        with open_servers(args) as server:
            outcomes = run_with_retries(args, server, python, source, out)
    except (ServerFailed, subprocess.CalledProcessError, OSError, argparse.ArgumentTypeError) as error:
        print(error, file=sys.stderr)
        return 3
    missing = report(outcomes, args)
    if not outcomes:
        print(f"no test ran, see {out / 'pytest.log'}", file=sys.stderr)
        return 3
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
