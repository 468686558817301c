"""What zkfarmer_mixed.py checks, step by step, in one farm."""
from __future__ import annotations

import functools
import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

from server_process import end_with_parent  # noqa: E402
from with_kazoo import Wrong  # noqa: E402

FARM = "/services/db"
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.03
SHORT_TIMEOUT = "2"
EXPORTS = ("like", "grange", "zkfarmer")


class Site:
    """Processes of both kinds around one farm."""

    def __init__(self, directory: pathlib.Path, server: str, grange: str, like: list[str], environment: dict[str, str]):
        self.directory, self._environment = directory, environment
        self.link = directory / "zkfarmer"
        self.link.symlink_to(grange)
        self.kinds = {"like": [*like, server], "grange": [grange, "farm"], "zkfarmer": [str(self.link)]}
        self._processes: list[tuple[subprocess.Popen, pathlib.Path]] = []

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        for process, _log in self._processes:
            process.kill()
            process.wait()

    def start(self, kind: str, *arguments: str) -> subprocess.Popen:
        log = self.directory / f"log-{len(self._processes)}-{kind}-{arguments[0]}"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [*self.kinds[kind], *arguments], env=self._environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, preexec_fn=functools.partial(end_with_parent, signal.SIGKILL),
            )
        self._processes.append((process, log))
        return process

    def run(self, kind: str, *arguments: str) -> str:
        done = subprocess.run(
            [*self.kinds[kind], *arguments], env=self._environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=PATIENCE_SECONDS,
        )
        if done.returncode != 0:
            raise Wrong(f"{kind} {arguments}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def conf(self, name: str, fields: dict | None = None) -> pathlib.Path:
        path = self.directory / f"{name}.json"
        if fields is not None:
            write(path, fields)
        return path

    def farm(self) -> dict[str, dict]:
        """The farm, as one more program sees it."""
        lines = self.run("grange", "ls", FARM, "--json").splitlines()
        return {host["host"]: host["properties"] for host in map(json.loads, lines)}

    def size(self) -> object:
        return json.loads(self.run("grange", "get", FARM, "-f", "json")).get("size")

    def owner(self, name: str) -> str:
        """The session that a host belongs to."""
        grange = [self.kinds["grange"][0], "shell", "stat", f"{FARM}/{name}"]
        stat = subprocess.run(grange, env=self._environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return next((line for line in stat.stdout.splitlines() if line.startswith("ephemeralOwner")), "")

    def eventually(self, what: str, is_so, found=lambda: "") -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                logs = "".join(f"---- {log.name}\n{log.read_text(errors='replace')[-1000:]}" for _, log in self._processes)
                raise Wrong(f"not in time: {what}\n{found()}\n{logs}")
            time.sleep(LOOK_SECONDS)

    def exports(self) -> dict[str, dict | None]:
        return {kind: read(self.directory / f"export-{kind}.json") for kind in EXPORTS}

    def all_see(self, what: str, is_so) -> None:
        """All exports are equal, and this is so in them."""
        def agreed() -> bool:
            first, *others = self.exports().values()
            return first is not None and all(other == first for other in others) and is_so(first)
        self.eventually(f"{what}, in all exports", agreed, self.exports)


def write(path: pathlib.Path, fields: dict) -> None:
    """As an editor does."""
    other = path.with_name(f".{path.name}.edited")
    other.write_text(json.dumps(fields))
    other.rename(path)


def read(path: pathlib.Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def edit(path: pathlib.Path, **fields: object) -> None:
    write(path, {**(read(path) or {}), **fields})


def own_address() -> str | None:
    """What `zkfarmer join`, which cannot be told a name, calls this host; `None` without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("239.255.0.0", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


def hosts_of_both_kinds_are_in_all_exports(site: Site) -> None:
    for kind in EXPORTS:
        site.start(kind, "export", FARM, str(site.directory / f"export-{kind}.json"))
    site.start("like", "join", FARM, str(site.conf("like", {"enabled": "1", "né": [1, None, 2.5]})), "10.0.0.1")
    site.all_see("the first host", lambda hosts: set(hosts) == {"10.0.0.1"})
    directory = site.directory / "grange"
    (directory / "mysql").mkdir(parents=True)
    (directory / "mysql/delay").write_text("7\n")
    site.start("grange", "join", "--name", "10.0.0.2", FARM, str(directory))
    imported = str(site.conf("imported", {"enabled": "0"}))
    site.start("grange", "import", "--name", "10.0.0.3", FARM, imported)
    names = {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    if (address := own_address()) is not None:
        site.start("zkfarmer", "join", FARM, str(site.conf("zkfarmer", {"enabled": "1"})))
        names.add(address)
    site.all_see("hosts of both kinds", lambda hosts: set(hosts) == names and hosts == site.farm())
    hosts = site.exports()["like"] or {}
    hostname = socket.gethostname()
    expected = {"enabled": "1", "né": [1, None, 2.5], "hostname": hostname}
    if hosts["10.0.0.1"] != expected or hosts["10.0.0.2"] != {"mysql": {"delay": "7"}, "hostname": hostname}:
        raise Wrong(f"something else than was joined with: {hosts}")


def the_size_counts_both_kinds(site: Site) -> None:
    count = len(site.farm())
    site.eventually("the size is the number of hosts", lambda: site.size() == count, site.size)
    late = site.start("like", "join", FARM, str(site.conf("late", {})), "10.0.0.4")
    site.eventually("one of ZkFarmer's kind raises it", lambda: site.size() == count + 1, site.size)
    late.terminate()
    site.all_see("it has left", lambda hosts: "10.0.0.4" not in hosts)
    for name in ("10.0.0.4", "10.0.0.5"):
        site.start("grange", "join", "--name", name, FARM, str(site.conf(name, {})))
    site.eventually("one of grange raises it", lambda: site.size() == count + 2, site.size)


def local_edits_reach_all_exports(site: Site) -> None:
    edit(site.conf("like"), edited="by like")
    (site.directory / "grange/edited").write_text("by grange\n")
    edit(site.conf("imported"), edited="by import")
    site.all_see("edits of both kinds", lambda hosts: [hosts[f"10.0.0.{n}"].get("edited") for n in (1, 2, 3)] == [
        "by like", "by grange", "by import",
    ])
    (site.directory / "grange/edited").unlink()
    site.all_see("a removal", lambda hosts: "edited" not in hosts["10.0.0.2"])


def sets_reach_the_other_kinds_configuration(site: Site) -> None:
    for number, kind in enumerate(EXPORTS):
        site.run(kind, "set", f"{FARM}/10.0.0.1", f"set.{kind}", f"é{number}")
        site.run(kind, "set", f"{FARM}/10.0.0.2", f"set.{kind}", f"é{number}")
        site.run(kind, "set", f"{FARM}/10.0.0.3", f"set.{kind}", f"é{number}")
    values = {kind: f"é{number}" for number, kind in enumerate(EXPORTS)}
    site.eventually(
        "sets of both kinds are in the file of ZkFarmer's kind",
        lambda: (read(site.conf("like")) or {}).get("set") == values, lambda: read(site.conf("like")),
    )
    directory = site.directory / "grange/set"
    site.eventually(
        "and in the directory of grange",
        lambda: directory.is_dir() and {each.name: each.read_text() for each in directory.iterdir()
                                        if not each.name.startswith(".")} == values,
    )
    site.all_see("the sets", lambda hosts: all(hosts[f"10.0.0.{n}"].get("set") == values for n in (1, 2, 3)))
    if "set" in (read(site.conf("imported")) or {}):
        raise Wrong("import has written to the configuration")


def both_kinds_share_common(site: Site) -> None:
    like, ours = site.conf("common-like", {"first": "like"}), site.conf("common-grange", {"second": "lost"})
    site.start("like", "join", FARM, str(like), "common")
    site.all_see("common", lambda hosts: hosts.get("common") == {"first": "like"})
    site.start("zkfarmer", "join", "-c", FARM, str(ours))
    site.eventually("who comes later takes what is there", lambda: read(ours) == {"first": "like"}, lambda: read(ours))
    edit(ours, ours="1")
    site.eventually("an edit by grange arrives", lambda: (read(like) or {}).get("ours") == "1", lambda: read(like))
    edit(like, like="1")
    site.eventually("an edit by the other arrives", lambda: (read(ours) or {}).get("like") == "1", lambda: read(ours))
    site.all_see("both", lambda hosts: hosts["common"] == {"first": "like", "ours": "1", "like": "1"})
    if site.size() != len(site.farm()) - 1:
        raise Wrong(f"common is counted: {site.size()}")


def grange_takes_over_what_zkfarmer_has_left(site: Site) -> None:
    """The session that ZkFarmer's process had ends later than one that was made after it."""
    conf = site.conf("taken", {"enabled": "1"})
    name, marker = "10.0.0.8", "10.0.0.9"
    old = site.start("like", "join", FARM, str(conf), name, "--timeout", SHORT_TIMEOUT)
    site.all_see("the host", lambda hosts: name in hosts)
    owner = site.owner(name)
    old.kill()
    site.start("grange", "join", "--name", name, FARM, str(conf))
    site.eventually("the znode belongs to grange", lambda: site.owner(name) not in ("", owner))
    late = site.start("like", "join", FARM, str(site.conf("marker", {})), marker, "--timeout", SHORT_TIMEOUT)
    site.all_see("the marker", lambda hosts: marker in hosts)
    late.kill()
    site.all_see("a session that ended later is over", lambda hosts: marker not in hosts)
    if name not in site.farm():
        raise Wrong("the host went with the session of ZkFarmer")
    edit(conf, enabled="0")
    site.all_see("an edit after that", lambda hosts: hosts[name]["enabled"] == "0")


def grange_is_back_after_zkfarmer_has_adopted_its_znode(site: Site) -> None:
    name, conf = "10.0.0.10", site.conf("shared", {"enabled": "1"})
    ours = site.start("grange", "join", "--name", name, "--session-timeout", SHORT_TIMEOUT, FARM, str(conf))
    site.all_see("the host", lambda hosts: name in hosts)
    owner = site.owner(name)
    site.start("like", "join", FARM, str(conf), name)
    edit(conf, edited="1")
    site.all_see("an edit that both see", lambda hosts: hosts[name].get("edited") == "1")
    ours.send_signal(signal.SIGSTOP)
    site.all_see("the session of grange has expired", lambda hosts: name not in hosts)
    edit(conf, edited="2")
    ours.send_signal(signal.SIGCONT)
    site.all_see("the host is back", lambda hosts: hosts.get(name, {}).get("edited") == "2")
    if site.owner(name) in ("", owner):
        raise Wrong("it belongs to nobody who lives")
    edit(conf, edited="3")
    site.all_see("an edit after that", lambda hosts: hosts[name].get("edited") == "3")


def run(site: Site) -> None:
    for step in (
        hosts_of_both_kinds_are_in_all_exports,
        the_size_counts_both_kinds,
        local_edits_reach_all_exports,
        sets_reach_the_other_kinds_configuration,
        both_kinds_share_common,
        grange_takes_over_what_zkfarmer_has_left,
        grange_is_back_after_zkfarmer_has_adopted_its_znode,
    ):
        began = time.monotonic()
        step(site)
        print(f"{step.__name__.replace('_', ' ')}: yes ({time.monotonic() - began:.1f} s)", flush=True)
