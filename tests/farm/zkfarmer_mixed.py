#!/usr/bin/env python3
"""Hosts, consumers and administrators of ZkFarmer's kind and of grange's in one farm.

ZkFarmer is not on PyPI; its side is zkfarmer_like.py, which does what its README and its code say. What both sides do is in
mixed_steps.py.

Exit status: 0 as expected; 1 not; 2 usage; 3 a server or kazoo could not be set up.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

from apache import Apache  # noqa: E402
from grange_server import Grange, binary  # noqa: E402
from kazoo_suite import prepare  # noqa: E402
from mixed_steps import Site, Wrong, run  # noqa: E402
from server_process import Options, ServerFailed, end_cleanly_on_sigterm  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("grange", "apache"), default="grange")
    default_cache = HERE.parents[1] / "target" / "interop"
    parser.add_argument("--cache", type=pathlib.Path, default=default_cache, help=f"default {default_cache}")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    try:
        python, source = prepare(args.cache)
        like = [str(python), str(HERE / "zkfarmer_like.py")]
        environment = dict(os.environ, PYTHONPATH=str(source), PYTHONDONTWRITEBYTECODE="1", GRANGE_CONFIG="/dev/null")
        kind = {"grange": Grange, "apache": Apache}[args.server]
        with kind(Options(tick_ms=500)) as server, tempfile.TemporaryDirectory(prefix="farm-mixed-") as directory:
            environment.update(GRANGE_SERVERS=server.address_text, ZKHOST=server.address_text)
            with Site(pathlib.Path(directory), server.address_text, binary(), like, environment) as site:
                run(site)
    except (Wrong, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    except (ServerFailed, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
