#!/usr/bin/env python3
"""Farms that kazoo writes as ZkFarmer does, read and changed by `grange farm` and by the same binary as `zkfarmer`.

What both sides do is in farm_layout_kazoo.py. ZkFarmer itself, which is not on PyPI, is not needed: its layout is its
README's and its code's, written down again.

Exit status: 0 as expected; 1 not; 2 usage; 3 a server or kazoo could not be set up.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

from apache import Apache
from grange_server import Grange, binary
from kazoo_suite import prepare
from server_process import ServerFailed, end_cleanly_on_sigterm

HERE = pathlib.Path(__file__).resolve().parent
SECONDS_MAX = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=("grange", "apache"), default="grange")
    default_cache = HERE.parents[1] / "target" / "interop"
    parser.add_argument("--cache", type=pathlib.Path, default=default_cache, help=f"default {default_cache}")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
        python, source = prepare(args.cache)
        kind = {"grange": Grange, "apache": Apache}[args.server]
        with kind() as server, tempfile.TemporaryDirectory(prefix="interop-farm-") as directory:
            link = pathlib.Path(directory) / "zkfarmer"
            link.symlink_to(binary())
            command = [str(python), str(HERE / "farm_layout_kazoo.py"), server.address_text, binary(), str(link)]
            environment = dict(os.environ, PYTHONPATH=str(source), PYTHONDONTWRITEBYTECODE="1")
            return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, timeout=SECONDS_MAX).returncode
    except subprocess.TimeoutExpired as error:
        print(error, file=sys.stderr)
        return 1
    except (ServerFailed, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
