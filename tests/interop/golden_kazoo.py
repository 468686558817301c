"""The kazoo session that `record_golden.py` records; runs in the virtual environment of kazoo_suite.py."""
import sys
import threading

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.security import ACL, Id, make_digest_acl


def refused(call, *args, **kwargs):
    """For requests whose error is what is wanted."""
    try:
        call(*args, **kwargs)
    except KazooException:
        return
    raise SystemExit(f"{call} {args} did not fail")


def main():
    client = KazooClient(sys.argv[1], timeout=10, auth_data=[("digest", "alice:wonder")])
    client.start(timeout=20)
    seen = threading.Event()
    client.create("/kazoo", b"one")
    client.create("/kazoo/seq-", b"", sequence=True)
    client.create("/kazoo/eph", b"", ephemeral=True)
    client.create("/kazoo/with-stat", b"x", include_data=True)
    client.create("/kazoo/own", b"", acl=[make_digest_acl("alice", "wonder", all=True), ACL(1, Id("world", "anyone"))])
    refused(client.create, "/kazoo", b"again")
    refused(client.create, "/none/such", b"")
    client.exists("/kazoo", watch=lambda event: seen.set())
    client.exists("/kazoo/none")
    client.set("/kazoo", b"two")
    seen.wait(10)
    refused(client.set, "/kazoo", b"three", version=17)
    client.get("/kazoo")
    refused(client.get, "/none")
    client.get_children("/kazoo", watch=lambda event: None)
    client.get_children("/kazoo", include_data=True)
    client.get_acls("/kazoo/own")
    client.set_acls("/kazoo/own", [ACL(31, Id("world", "anyone"))])
    refused(client.set_acls, "/kazoo", [ACL(31, Id("nosuch", "x"))])
    client.sync("/kazoo")
    good = client.transaction()
    good.create("/kazoo/t", b"in a multi")
    good.set_data("/kazoo/t", b"v2")
    good.check("/kazoo/t", 1)
    good.delete("/kazoo/t")
    good.commit()
    bad = client.transaction()
    bad.create("/kazoo/u", b"")
    bad.check("/kazoo", 99)
    bad.delete("/kazoo/none")
    bad.commit()
    refused(client.delete, "/kazoo")
    refused(client.reconfig, "server.9=127.0.0.1:1:2:participant;3", None, None)
    client.delete("/kazoo", recursive=True)
    client.stop()
    client.close()


main()
