"""pytest plugin: kazoo's own test suite talks to a server that `kazoo_suite.py` controls.

kazoo's harness launches Java servers by itself.  This plugin replaces its cluster by one whose
members are the addresses in $KAZOO_EXTERNAL_ADDRESS; tests that bounce a server ask the runner to
do it, over the Unix socket $KAZOO_EXTERNAL_CONTROL (a word and which one in, `ok` or a reason out).
Outcomes go to $KAZOO_EXTERNAL_RESULTS as JSON lines while the suite runs.
"""
import json
import os
import socket
import sys
import warnings

import pytest

warnings.filterwarnings("ignore")

CONTROL_SECONDS_MAX = 90
_outcomes = {}


def _ask_runner(word):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(CONTROL_SECONDS_MAX)
        sock.connect(os.environ["KAZOO_EXTERNAL_CONTROL"])
        sock.sendall(word.encode() + b"\n")
        answer = sock.makefile().readline().strip()
    if answer == "unsupported":
        pytest.skip(f"external server: no way to {word} it")
    if answer != "ok":
        raise RuntimeError(f"the server did not {word}: {answer}")


class ExternalServer:
    """The part of kazoo.testing.common.ManagedZooKeeper that tests use."""

    def __init__(self, index, address):
        self._index = index
        self.address = address
        self.secure_address = ""
        self.host, _, port = address.rpartition(":")
        self.client_port = int(port)
        self.secure_client_port = 0
        self.running = True

    def run(self):
        if not self.running:
            _ask_runner(f"start {self._index}")
            self.running = True

    def stop(self):
        if self.running:
            _ask_runner(f"stop {self._index}")
            self.running = False

    # The data is not ours to destroy: every test works below a fresh random path.
    destroy = reset = run

    def get_logs(self, num_lines=100):
        return []


class ExternalCluster:
    """The part of kazoo.testing.common.ZookeeperCluster that tests use."""

    def __init__(self, addresses):
        self._servers = [ExternalServer(index, address) for index, address in enumerate(addresses)]

    def __getitem__(self, index):
        if index >= len(self._servers):
            pytest.skip(f"the external servers are {len(self._servers)}")
        return self._servers[index]

    def __iter__(self):
        return iter(self._servers)

    def start(self):
        for server in self._servers:
            server.run()

    def stop(self):
        for server in self._servers:
            server.stop()

    terminate = reset = start

    def get_logs(self):
        return []

    def get_ssl_client_configuration(self):
        pytest.skip("the external server has no TLS port")


def pytest_configure(config):
    import kazoo.testing.harness

    cluster = ExternalCluster(os.environ["KAZOO_EXTERNAL_ADDRESS"].split(","))
    kazoo.testing.harness.get_global_cluster = lambda: cluster


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    outcome = _outcomes.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0, "why": ""})
    outcome["seconds"] += report.duration
    if report.failed:
        outcome.update(outcome="failed", why=str(report.longreprtext)[-4000:])
    elif report.skipped and outcome["outcome"] == "passed":
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        outcome.update(outcome="skipped", why=why)
    if report.when == "teardown":
        with open(os.environ["KAZOO_EXTERNAL_RESULTS"], "a") as results:
            results.write(json.dumps({"test": report.nodeid, **outcome}) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    # Client threads left over by a failed test must not keep this process alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
