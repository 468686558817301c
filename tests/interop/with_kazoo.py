"""The frame of tests in which Python programs with kazoo and our binary meet on one server."""
from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable

from kazoo_suite import prepare
from server_process import Options, ServerFailed, ServerProcess, end_cleanly_on_sigterm
from server_kinds import SERVERS

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


class Wrong(Exception):
    """Something is not as it should be."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A server that runs, a temporary directory, and a Python that has kazoo if `environment` is its own."""

    server: ServerProcess
    directory: pathlib.Path
    python: str
    environment: dict[str, str]


def main(description: str, test: Callable[[Place], None], options: Options = Options()) -> int:
    """Runs a test as the command line says: `--server` and `--cache`.

    Returns the exit status: 0 as expected; 1 the test raised Wrong, or something took too long; 2 usage; 3 a server or kazoo
    could not be set up.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=SERVERS, default="grange")
    default_cache = REPOSITORY / "target" / "interop"
    parser.add_argument("--cache", type=pathlib.Path, default=default_cache, help=f"default {default_cache}")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
        python, source = prepare(args.cache)
        environment = dict(os.environ, PYTHONPATH=str(source), PYTHONDONTWRITEBYTECODE="1")
        with SERVERS[args.server](options) as server, tempfile.TemporaryDirectory(prefix="interop-") as directory:
            test(Place(server, pathlib.Path(directory), str(python), environment))
    except (Wrong, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    except (ServerFailed, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 3
    return 0
