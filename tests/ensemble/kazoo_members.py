#!/usr/bin/env python3
"""Runs kazoo's own test suite against three members, of which its tests may stop and start each.

What `../interop/kazoo_suite.py` says holds here too; `kazoo_expected_more.txt` has the names that only an ensemble passes.
"""
from __future__ import annotations

import argparse
import pathlib
import sys

from members import Ensemble, Options, ServerFailed

import kazoo_suite

HERE = pathlib.Path(__file__).resolve().parent
MEMBERS = 3


def open_members(args: argparse.Namespace) -> Ensemble:
    if args.server not in ("apache", "grange"):
        raise ServerFailed("--server is apache or grange here")
    options = Options(super_password=kazoo_suite.SUPER_PASSWORD, extra={"reconfigEnabled": "true"})
    return Ensemble(args.server, MEMBERS, options)


if __name__ == "__main__":
    expected = (kazoo_suite.EXPECTED, HERE / "kazoo_expected_more.txt")
    sys.exit(kazoo_suite.main(open_members, expected, __doc__))
