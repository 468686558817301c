"""Where the members of an ensemble run: a network of their own, whose links can be cut in one direction.

`enter()` starts the runner again in name spaces of its own (`unshare`): network, mounts and processes. Inside, each
member gets a network name space on a bridge. Nothing of it has a name outside, and all of it is gone with the runner,
however that ends. Where name spaces are not permitted, members share the loopback and links cannot be cut.

A link is cut by giving the sender a wrong hardware address for the receiver: its packets leave and nobody takes them.
That is silent, works in one direction, and needs no packet filter in the kernel.
"""
from __future__ import annotations

import os
import subprocess
import sys

INSIDE_VARIABLE = "GRANGE_ENSEMBLE_INSIDE"
CLIENTS = 254
_PREFIX = "10.77.0."
_NOBODY = "02:00:00:00:ff:ff"


def _mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _unshare() -> list[str]:
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *as_root, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def enter() -> None:
    """Runs this program again inside name spaces of its own, and ends with its status; returns where it may not."""
    if os.environ.get(INSIDE_VARIABLE):
        return
    try:
        probe = [*_unshare(), "sh", "-c", "ip link add probe type bridge && mount -t tmpfs tmpfs /mnt"]
        permitted = subprocess.run(probe, capture_output=True).returncode == 0
    except FileNotFoundError:
        permitted = False
    os.environ[INSIDE_VARIABLE] = "1" if permitted else "loopback"
    if permitted:
        command = [*_unshare(), sys.executable, *sys.argv]
        os.execvp(command[0], command)


def inside() -> bool:
    return os.environ.get(INSIDE_VARIABLE) == "1"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Bridge:
    """Members in network name spaces of their own, joined by a bridge on which the clients are."""

    can_cut = True

    def __init__(self, count: int):
        self.numbers = list(range(1, count + 1))
        self._cut: set[tuple[int, int]] = set()
        os.makedirs("/run/netns", exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "br0", "address", _mac(CLIENTS), "type", "bridge")
        _ip("addr", "add", f"{self.host(CLIENTS)}/24", "dev", "br0")
        _ip("link", "set", "br0", "up")
        for number in self.numbers:
            self._add(number)
        for sender in [*self.numbers, CLIENTS]:
            for receiver in [*self.numbers, CLIENTS]:
                if sender != receiver:
                    self._point(sender, receiver, _mac(receiver))

    def _add(self, number: int) -> None:
        space = f"m{number}"
        _ip("netns", "add", space)
        _ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "address", _mac(number), "netns", space)
        _ip("link", "set", f"v{number}", "master", "br0", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "addr", "add", f"{self.host(number)}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")

    def host(self, number: int) -> str:
        return f"{_PREFIX}{number}"

    def prefix(self, number: int) -> list[str]:
        """What comes before a command that is to run where that member is."""
        return ["nsenter", f"--net=/run/netns/m{number}"]

    def port(self, well_known: int) -> int:
        return well_known

    def _point(self, sender: int, receiver: int, mac: str) -> None:
        space, device = ([], "br0") if sender == CLIENTS else (["-n", f"m{sender}"], "eth0")
        _ip(*space, "neigh", "replace", self.host(receiver), "lladdr", mac, "nud", "permanent", "dev", device)

    def cut(self, sender: int, receiver: int) -> None:
        """From now on nothing of what `sender` sends reaches `receiver`."""
        self._point(sender, receiver, _NOBODY)
        self._cut.add((sender, receiver))

    def heal(self) -> None:
        for sender, receiver in sorted(self._cut):
            self._point(sender, receiver, _mac(receiver))
        self._cut.clear()


class Loopback:
    """Members on 127.0.0.1 with ports of their own; nothing can be cut."""

    can_cut = False

    def __init__(self, count: int):
        self.numbers = list(range(1, count + 1))

    def host(self, _number: int) -> str:
        return "127.0.0.1"

    def prefix(self, _number: int) -> list[str]:
        return []

    def port(self, _well_known: int) -> int:
        from server_process import free_port

        return free_port()

    def heal(self) -> None:
        pass


def make(count: int) -> Bridge | Loopback:
    return Bridge(count) if inside() else Loopback(count)
