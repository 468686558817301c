#!/usr/bin/env python3
"""Runs `grange serve` in a temporary directory.

The binary is $GRANGE_BIN, or target/release/grange, or target/debug/grange.
As a library: `with Grange() as server: ... server.address`.
As a command: `grange_server.py run --print-address -- CMD ...`.
"""
from __future__ import annotations

import os
import pathlib
import sys

from server_process import Options, ServerFailed, ServerProcess, main

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def binary() -> str:
    """The path of the binary under test; a release build is preferred to a debug build."""
    named = os.environ.get("GRANGE_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise ServerFailed(f"GRANGE_BIN={named} is not an executable file")
        return named
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    for profile in ("release", "debug"):
        candidate = target / profile / "grange"
        if os.access(candidate, os.X_OK):
            return str(candidate)
    raise ServerFailed(f"no grange binary below {target}: cargo build -p grange, or set GRANGE_BIN")


class Grange(ServerProcess):
    """`grange serve`, configured by the same zoo.cfg as Apache's server."""

    name = "grange"

    def command(self, config: pathlib.Path) -> list[str]:
        data = str(self.directory / "data")
        return [binary(), "serve", "--config", str(config), "--data", data, "--listen", self.address_text]


__all__ = ["Grange", "Options", "binary"]

if __name__ == "__main__":
    sys.exit(main(Grange, __doc__ or ""))
