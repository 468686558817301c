#!/usr/bin/env python3
"""Farms that kazoo writes as ZkFarmer does, read and changed by `grange farm` and by the same binary as `zkfarmer`.

What both sides do is in farm_layout_kazoo.py. ZkFarmer itself, which is not on PyPI, is not needed: its layout is its
README's and its code's, written down again.

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


def layout(place: Place) -> None:
    link = place.directory / "zkfarmer"
    link.symlink_to(binary())
    command = [place.python, str(HERE / "farm_layout_kazoo.py"), place.server.address_text, binary(), str(link)]
    done = subprocess.run(command, env=place.environment, stdin=subprocess.DEVNULL, timeout=SECONDS_MAX)
    if done.returncode != 0:
        raise Wrong(f"farm_layout_kazoo.py ended with status {done.returncode}")


if __name__ == "__main__":
    sys.exit(main(__doc__, layout))
