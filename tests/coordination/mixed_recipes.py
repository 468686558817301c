#!/usr/bin/env python3
"""kazoo and `grange` share queues, barriers, counters and sets (kazoo_mixed.py), on one server."""
from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import apache  # noqa: E402
import grange_server  # noqa: E402
import kazoo_suite  # noqa: E402
from server_process import Options, end_cleanly_on_sigterm  # noqa: E402


def share_out() -> str:
    """The example of grange-client that is a member of a set, as `cargo test` or `cargo build` made it."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target"))
    example = target / "debug" / "examples" / "share_out"
    if not example.exists():
        sys.exit(f"{example} is not there; make it with cargo build -p grange-client --example share_out")
    return str(example)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", nargs="?", choices=("grange", "apache"), default="grange")
    parser.add_argument("--cache", type=pathlib.Path, default=HERE.parents[1] / "target" / "interop")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    end_cleanly_on_sigterm()
    server_type = grange_server.Grange if args.server == "grange" else apache.Apache
    with server_type(Options(tick_ms=500, fsync=False)) as server:
        python, source = kazoo_suite.prepare(args.cache)
        environment = dict(os.environ, PYTHONPATH=str(source), PYTHONDONTWRITEBYTECODE="1")
        command = [str(python), str(HERE / "kazoo_mixed.py"), server.address_text, grange_server.binary(), share_out()]
        return subprocess.run(command, env=environment, timeout=300).returncode


if __name__ == "__main__":
    sys.exit(main())
