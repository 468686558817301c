#!/usr/bin/env python3
"""The kazoo side of declared_tree.py; runs in the environment of the kazoo suite.

    declared_tree_kazoo.py HOST:PORT expect [--data PATH=TEXT] FILE...   the tree is as vsc-zk's rules say
    declared_tree_kazoo.py HOST:PORT disturb PATH                        other data, another ACL
    declared_tree_kazoo.py HOST:PORT create PATH
    declared_tree_kazoo.py HOST:PORT build PATH                          odd names, data and ACLs; ephemerals
    declared_tree_kazoo.py HOST:PORT compare PATH PATH                   equal but for ephemerals and null data
"""
from __future__ import annotations

import argparse
import configparser
import sys

from kazoo.client import KazooClient
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Permissions, make_acl, make_digest_acl

START_SECONDS_MAX = 30
ABOUT_CREATION = ("value", "ephemeral", "sequence", "makepath")


def expected(files: list[str]) -> dict[str, list[ACL]]:
    """The ACLs that vsc-zk's rules give: `root` first, then each key in the order of the file."""
    # Python 2's parser, which vsc-zk was written for, takes ` ;` for a comment.
    config = configparser.ConfigParser(inline_comment_prefixes=(";",))
    config.optionxform = str  # type: ignore[assignment, method-assign]
    for file in files:
        with open(file) as lines:
            config.read_file(lines)
    sections = {name: dict(config.items(name)) for name in config.sections() if name != "MAIN"}
    users = {name: keys["passwd"] for name, keys in sections.items() if not name.startswith("/")}
    acls = {}
    for path in (name for name in sections if name.startswith("/")):
        acl = [make_digest_acl("root", users["root"], all=True)]
        for key, value in sections[path].items():
            if not value or key in ABOUT_CREATION:
                continue
            permissions = {
                word: key == "all" or letter in key
                for letter, word in (("r", "read"), ("w", "write"), ("c", "create"), ("d", "delete"), ("a", "admin"))
            }
            acl += [make_digest_acl(user, users[user], **permissions) for user in value.split(",")]
        acls[path] = acl
        if sections[path].get("makepath"):
            parent = path.rpartition("/")[0]
            while parent and parent not in sections:
                acls[parent] = acl
                parent = parent.rpartition("/")[0]
    return acls


def expect(client: KazooClient, files: list[str], data: dict[str, str]) -> None:
    wanted = expected(files)
    found = set(below(client, "/admin"))
    assert found == set(wanted), f"{found} instead of {set(wanted)}"
    for path, acl in wanted.items():
        live, _ = client.get_acls(path)
        # A server keeps one of two equal entries.
        assert live == list(dict.fromkeys(acl)), f"{path}: {live} instead of {acl}"
    value = data.get("/admin", "hello")
    assert client.get("/admin")[0] == value.encode(), client.get("/admin")[0]


def below(client: KazooClient, path: str) -> list[str]:
    """The path and all below it that stays; `root` may read everything here."""
    names = client.get_children(path)
    children = [f"{path}/{name}" for name in sorted(names)]
    stays = [child for child in children if client.exists(child).ephemeralOwner == 0]
    return [path, *(found for child in stays for found in below(client, child))]


def odd_acls() -> list[list[ACL]]:
    root = make_digest_acl("root", "admin", all=True)
    return [
        OPEN_ACL_UNSAFE,
        [root],
        [make_acl("world", "anyone", read=True, admin=True), make_acl("ip", "127.0.0.0/8", write=True)],
        [make_digest_acl("a b", "c:d", delete=True), root, make_digest_acl("é", "ü", create=True)],
        [ACL(Permissions.READ, root.id), ACL(Permissions.WRITE | Permissions.ADMIN, root.id)],
    ]


def build(client: KazooClient, root: str) -> None:
    client.create(root, b"", acl=OPEN_ACL_UNSAFE)
    names = ["a b", "é日本", '"quoted"', "it's", "back\\slash", "${x}", "$${y}", "# not a comment", "[x]", "a.b", "=", "..."]
    data = [None, b"", b"text", "é\n\ttext".encode(), bytes(range(256)), b"\xff", b"${z} $${z}", b"x" * 900_000]
    acls = odd_acls()
    for number, name in enumerate(names):
        path = f"{root}/{name}"
        client.create(path, data[number % len(data)], acl=acls[number % len(acls)])
        if acls[number % len(acls)] == OPEN_ACL_UNSAFE:
            client.create(f"{path}/below", data[-2], acl=acls[1])
    client.create(f"{root}/ephemeral", b"gone", ephemeral=True)


def compare(client: KazooClient, one: str, other: str) -> None:
    paths = below(client, one)
    copied = below(client, other)
    assert [path[len(one):] for path in paths] == [path[len(other):] for path in copied], (paths, copied)
    for path, copy in zip(paths, copied):
        # The client library that the copy was made with does not know null.
        assert (client.get(path)[0] or b"") == (client.get(copy)[0] or b""), path
        assert client.get_acls(path)[0] == client.get_acls(copy)[0], path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("command", choices=("expect", "disturb", "create", "build", "compare"))
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("arguments", nargs="+")
    args = parser.parse_args()
    client = KazooClient(args.server, auth_data=[("digest", "root:admin")])
    client.start(START_SECONDS_MAX)
    try:
        if args.command == "expect":
            expect(client, args.arguments, dict(text.split("=", 1) for text in args.data))
        elif args.command == "disturb":
            client.set(args.arguments[0], b"disturbed")
            client.set_acls(args.arguments[0], OPEN_ACL_UNSAFE)
        elif args.command == "create":
            client.create(args.arguments[0])
        elif args.command == "build":
            build(client, args.arguments[0])
        else:
            compare(client, *args.arguments)
    finally:
        client.stop()
        client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
