#!/usr/bin/env python3
"""`grange tree` and `zkinitree` seen by kazoo: the ACLs of vsc-zk's rules, and copies that are equal.

The rules are those of vsc-zk 2.0.7, written down again in declared_tree_kazoo.py, because that program does not run
with Python 3 (it calls `iteritems`). What is made by our binary is read with kazoo; what is made with kazoo goes out
and in again by our binary.

Exit status: 0 as expected; 1 not; 2 usage; 3 a server or kazoo could not be set up.
"""
from __future__ import annotations

import pathlib
import subprocess
import sys

from grange_server import binary
from with_kazoo import Place, Wrong, main

HERE = pathlib.Path(__file__).resolve().parent
SECONDS_MAX = 120

SITE = """\
[MAIN]
servers=127.0.0.1:1

; a comment
[root]                 ; the administrator
passwd=admin
path=/

[user1]                ; another user
passwd=xyz
[user2]
passwd: colon:and=equals
[user3]
passwd=100%%

[/admin]
r=user3                ; letters
rw=user2,user1
cd=user2
rwcda=user3
all=                   ; grants nothing
value=hello

[/admin/deep/down]
all=user1
dr=user1,user2
makepath=true
[/admin/none]
"""
MORE = "[user3]\npasswd=changed\n[/admin/none]\nc=user2\n"


class Site:
    """A directory with declarations, the server they are for, and both programs."""

    def __init__(self, place: Place):
        self.directory, self.server = place.directory, place.server
        self._python, self._environment = place.python, place.environment
        self._link = self.directory / "zkinitree"
        self._link.symlink_to(binary())

    def put(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)

    def _run(self, command: list[str], **environment: str) -> str:
        done = subprocess.run(
            command, cwd=self.directory, env=dict(self._environment, **environment), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS_MAX,
        )
        if done.returncode != 0:
            raise Wrong(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def zkinitree(self, files: str) -> None:
        printed = self._run([str(self._link), f"--configfiles={files}", "--servers", self.server.address_text])
        if printed:
            raise Wrong(f"zkinitree prints {printed!r}")

    def tree(self, *arguments: str, chroot: str = "") -> str:
        servers = self.server.address_text + chroot
        return self._run([binary(), "tree", *arguments], GRANGE_SERVERS=servers, GRANGE_AUTH="digest:root:admin")

    def kazoo(self, *arguments: str) -> None:
        self._run([self._python, str(HERE / "declared_tree_kazoo.py"), self.server.address_text, *arguments])


def acls_are_those_of_the_rules(site: Site) -> None:
    site.put("site.cfg", SITE)
    site.put("more.cfg", MORE)
    site.zkinitree("site.cfg")
    site.kazoo("expect", "site.cfg")
    # Another one's change of data stays, that of an ACL does not.
    site.kazoo("disturb", "/admin")
    site.zkinitree("site.cfg")
    site.kazoo("expect", "--data", "/admin=disturbed", "site.cfg")
    site.zkinitree("site.cfg,more.cfg")
    site.kazoo("expect", "--data", "/admin=disturbed", "site.cfg", "more.cfg")


def copies_are_equal(site: Site) -> None:
    site.kazoo("build", "/odd")
    site.tree("export", "/odd", "--output", "odd.toml")
    site.kazoo("create", "/copy")
    site.tree("apply", "odd.toml", "--allow-lockout", chroot="/copy")
    site.kazoo("compare", "/odd", "/copy/odd")
    again = site.tree("apply", "odd.toml", "--allow-lockout", chroot="/copy")
    if again != "nothing to do\n":
        raise Wrong(f"a second apply has something to do: {again}")


def declared_tree(place: Place) -> None:
    site = Site(place)
    for test in (acls_are_those_of_the_rules, copies_are_equal):
        test(site)
        print(f"{test.__name__.replace('_', ' ')}: yes")


if __name__ == "__main__":
    sys.exit(main(__doc__, declared_tree))
