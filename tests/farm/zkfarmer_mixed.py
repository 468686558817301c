#!/usr/bin/env python3
"""Hosts, consumers and administrators of ZkFarmer's kind and of grange's in one farm.

ZkFarmer is not on PyPI; its side is zkfarmer_like.py, which does what its README and its code say. What both sides do is in
mixed_steps.py.

Exit status: 0 as expected; 1 not; 2 usage; 3 a server or kazoo could not be set up.
"""
from __future__ import annotations

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

from grange_server import binary  # noqa: E402
from mixed_steps import Site, run  # noqa: E402
from server_process import Options  # noqa: E402
from with_kazoo import Place, main  # noqa: E402


def mixed(place: Place) -> None:
    address = place.server.address_text
    like = [place.python, str(HERE / "zkfarmer_like.py")]
    environment = dict(place.environment, GRANGE_CONFIG="/dev/null", GRANGE_SERVERS=address, ZKHOST=address)
    with Site(place.directory, address, binary(), like, environment) as site:
        run(site)


if __name__ == "__main__":
    sys.exit(main(__doc__, mixed, Options(tick_ms=500)))
