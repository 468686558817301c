#!/usr/bin/env python3
"""The test of farm_layout.py; runs in the environment of the kazoo suite.

    farm_layout_kazoo.py HOST:PORT GRANGE ZKFARMER
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

from kazoo.client import OPEN_ACL_UNSAFE, KazooClient
from kazoo.exceptions import BadVersionError

START_SECONDS_MAX = 30
COMMAND_SECONDS_MAX = 60
CHANGES_EACH = 15

HOSTS = {
    "10.0.0.1": {"hostname": "db-01.example.com", "enabled": "1", "mysql": {"replication_delay": "0"}},
    "10.0.0.2": {"hostname": "db-02.example.com", "enabled": "1", "mysql": {"replication_delay": "90"}, "weight": 2.5},
    "10.0.0.3": {"hostname": "dé-03 \U0001f600", "enabled": "0", "tags": ["a", None, True], "gone": None},
}


class Site:
    """A server, sessions that hold hosts, and both programs."""

    def __init__(self, address: str, grange: str, zkfarmer: str):
        self.address = address
        self.client = self.session()
        self.hosts: dict[str, KazooClient] = {}
        self._grange = grange
        self._zkfarmer = zkfarmer

    def session(self) -> KazooClient:
        client = KazooClient(self.address)
        client.start(START_SECONDS_MAX)
        return client

    def join(self, farm: str, name: str, properties: dict) -> None:
        """What ZkFarmer's `join` writes."""
        client = self.session()
        client.ensure_path(farm, acl=OPEN_ACL_UNSAFE)
        size = len([child for child in client.get_children(farm) if child != "common"]) + 1
        data, stat = client.get(farm)
        properties_of_farm = json.loads(data) if data else {}
        if size > properties_of_farm.get("size", 0):
            properties_of_farm["size"] = size
            client.set(farm, json.dumps(properties_of_farm).encode(), stat.version)
        client.create(f"{farm}/{name}", json.dumps(properties).encode(), acl=OPEN_ACL_UNSAFE, ephemeral=True)
        self.hosts[name] = client

    def leave(self, name: str) -> None:
        client = self.hosts.pop(name)
        client.stop()
        client.close()

    def read(self, path: str) -> dict:
        return json.loads(self.client.get(path)[0])

    def environment(self) -> dict[str, str]:
        return dict(os.environ, GRANGE_SERVERS=self.address, ZKHOST=self.address, GRANGE_CONFIG="/dev/null")

    def run(self, *arguments: str, program: str = "", status: int = 0) -> str:
        command = [program or self._grange, *([] if program else ["farm"]), *arguments]
        done = subprocess.run(
            command, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_SECONDS_MAX,
        )
        assert done.returncode == status, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def zkfarmer(self, *arguments: str, status: int = 0) -> str:
        return self.run(*arguments, program=self._zkfarmer, status=status)

    def watch(self, farm: str, count: int) -> subprocess.Popen:
        command = [self._grange, "farm", "watch", farm, "--json", "-n", str(count)]
        pipe = subprocess.PIPE
        watch = subprocess.Popen(command, env=self.environment(), stdout=pipe, stderr=pipe, text=True)
        assert watch.stderr and watch.stderr.readline() == f"watching {farm}\n"
        return watch

    def close(self) -> None:
        for client in (self.client, *self.hosts.values()):
            client.stop()
            client.close()


def equal(found: object, expected: object) -> None:
    assert found == expected, f"{found!r} instead of {expected!r}"


def what_zkfarmer_writes_is_read(site: Site, farm: str) -> None:
    for name, properties in HOSTS.items():
        site.join(farm, name, properties)
    common = {"shared": "x", "enabled": "1"}
    site.client.create(f"{farm}/common", json.dumps(common).encode(), acl=OPEN_ACL_UNSAFE)
    equal(site.run("ls", farm).split(), [*HOSTS, "common"])
    lines = site.run("ls", farm, "--json").splitlines()
    found = {host["host"]: host["properties"] for host in map(json.loads, lines)}
    equal(found, {**HOSTS, "common": common})
    equal(json.loads(site.run("get", farm, "-f", "json")), {"size": 3})
    equal(site.run("ls", farm, "-F", "mysql.replication_delay<60,!maintenance"), "10.0.0.1\n")


def what_grange_writes_is_read(site: Site, farm: str) -> None:
    host = f"{farm}/10.0.0.3"
    owner = site.client.exists(host).ephemeralOwner
    site.run("set", host, "mysql.replication_delay", "é5")
    site.run("set", host, "ports", "[1, 2.5]", "--json-value")
    site.run("unset", host, "gone")
    site.zkfarmer("unset", host, "mysql.none")
    expected = {**HOSTS["10.0.0.3"], "mysql": {"replication_delay": "é5"}, "ports": [1, 2.5]}
    del expected["gone"]
    equal(site.read(host), expected)
    equal(site.client.exists(host).ephemeralOwner, owner)
    site.zkfarmer("set", f"{farm}/common", "enabled", "0")
    equal(site.read(f"{farm}/common"), {"shared": "x", "enabled": "0"})


def both_change_one_host_at_a_time(site: Site, farm: str) -> None:
    host = f"{farm}/10.0.0.1"
    failures: list[BaseException] = []

    def kazoo() -> None:
        try:
            for number in range(CHANGES_EACH):
                while True:
                    data, stat = site.hosts["10.0.0.1"].get(host)
                    changed = {**json.loads(data), f"kazoo{number}": str(number)}
                    try:
                        site.hosts["10.0.0.1"].set(host, json.dumps(changed).encode(), stat.version)
                        break
                    except BadVersionError:
                        pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=kazoo)
    thread.start()
    for number in range(CHANGES_EACH):
        site.run("set", host, f"grange{number}", str(number))
    thread.join()
    equal(failures, [])
    numbers = {f"{side}{number}": str(number) for side in ("kazoo", "grange") for number in range(CHANGES_EACH)}
    equal(site.read(host), {**HOSTS["10.0.0.1"], **numbers})


def zkfarmer_prints_as_zkfarmer(site: Site, farm: str) -> None:
    equal(site.zkfarmer("ls", farm).split(), [*HOSTS, "common"])
    equal(
        site.zkfarmer("ls", farm, "--fields", "weight,mysql.replication_delay", "-F", "mysql"),
        "%-20s %s\n" % ("10.0.0.1", "weight=None, mysql.replication_delay=0")
        + "%-20s %s\n" % ("10.0.0.2", "weight=2.5, mysql.replication_delay=90")
        + "%-20s %s\n" % ("10.0.0.3", "weight=None, mysql.replication_delay=é5"),
    )
    for field in ("weight", "mysql", "tags", "hostname", "nothing"):
        value = site.read(f"{farm}/10.0.0.2").get(field)
        equal(site.zkfarmer("get", f"{farm}/10.0.0.2", field), f"{value}\n")
    tags = site.read(f"{farm}/10.0.0.3")["tags"]
    equal(site.zkfarmer("get", f"{farm}/10.0.0.3", "tags"), f"{tags}\n")
    equal(site.zkfarmer("get", farm, "-f", "json"), json.dumps(site.read(farm)))
    equal(site.zkfarmer("ls", f"{farm}/nowhere"), "")
    site.zkfarmer("ls", farm.lstrip("/"), status=2)
    site.zkfarmer("set", f"{farm}/nowhere", "a", "b", status=1)


def hosts_that_leave_are_seen(site: Site, farm: str) -> None:
    equal(site.zkfarmer("check", farm), "OK: 3/3 nodes running, 0 nodes failing, max allowed 10%\n")
    site.run("set", farm, "running_filter", "enabled=1")
    line = "CRITICAL: 2/3 nodes running, 1 nodes failing, max allowed 10%\n"
    equal(site.zkfarmer("check", farm, status=2), line)
    equal(site.run("check", farm, status=2), line)
    watch = site.watch(farm, 3)
    site.client.set(f"{farm}/10.0.0.2", json.dumps({**HOSTS["10.0.0.2"], "enabled": "0"}).encode())
    site.leave("10.0.0.1")
    site.join(farm, "10.0.0.4", {"enabled": "1"})
    told, errors = watch.communicate(timeout=COMMAND_SECONDS_MAX)
    equal((watch.returncode, errors), (0, ""))
    # What comes quickly one after the other may be told in another order.
    events = sorted((json.loads(line) for line in told.splitlines()), key=lambda event: event["host"])
    equal([(event["event"], event["host"]) for event in events], [
        ("left", "10.0.0.1"), ("changed", "10.0.0.2"), ("joined", "10.0.0.4"),
    ])
    equal(events[1]["changes"], [{"field": "enabled", "before": "1", "after": "0"}])
    line = "WARNING: 1/3 nodes running, 2 nodes failing, max allowed 3\n"
    equal(site.zkfarmer("check", "-c", "3", "-w", "2", farm, status=1), line)


def main() -> int:
    site = Site(*sys.argv[1:4])
    try:
        for test in (
            what_zkfarmer_writes_is_read,
            what_grange_writes_is_read,
            both_change_one_host_at_a_time,
            zkfarmer_prints_as_zkfarmer,
            hosts_that_leave_are_seen,
        ):
            test(site, "/services/db")
            print(f"{test.__name__.replace('_', ' ')}: yes", flush=True)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        site.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
