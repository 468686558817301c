#!/usr/bin/env python3
"""Runs a standalone Apache ZooKeeper (Debian package `zookeeper`) in a temporary directory.

As a library: `with Apache() as server: ... server.address`.
As a command: `apache.py run --print-address -- CMD ...`.
"""
from __future__ import annotations

import pathlib
import shutil
import sys

from server_process import Options, ServerFailed, ServerProcess, main

JAVA_DIRECTORY = pathlib.Path("/usr/share/java")
# The server reaps containers with these system properties only, zoo.cfg cannot set them.
SYSTEM_PROPERTIES = ("znode.container.checkIntervalMs", "znode.container.maxPerMinute")


def class_path(*extra: str) -> str:
    """The jars of the Debian package; its manifest pulls in the rest."""
    jar = JAVA_DIRECTORY / "zookeeper.jar"
    if not jar.exists():
        raise ServerFailed(f"{jar} is missing: apt-get install zookeeper default-jre-headless")
    return ":".join([str(jar), str(JAVA_DIRECTORY / "slf4j-simple.jar"), *extra])


def java() -> str:
    found = shutil.which("java")
    if found is None:
        raise ServerFailed("java is missing: apt-get install default-jre-headless")
    return found


class Apache(ServerProcess):
    """Apache ZooKeeper's `ZooKeeperServerMain`, admin server off."""

    name = "apache"
    main_class = "org.apache.zookeeper.server.ZooKeeperServerMain"

    def config_lines(self) -> list[str]:
        lines = [line for line in super().config_lines() if not line.startswith(SYSTEM_PROPERTIES)]
        if not self.options.fsync:
            lines.append("forceSync=no")
        return [*lines, "admin.enableServer=false"]

    def command(self, config: pathlib.Path) -> list[str]:
        properties = [f"-D{key}={value}" for key, value in self.options.extra.items() if key in SYSTEM_PROPERTIES]
        return [
            java(),
            f"-Xmx{self.options.heap}",
            # Start-up time matters more than peak speed in a test.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dzookeeper.jmx.log4j.disable=true",
            # Passwords of digest packets are decoded with the platform's character set.
            "-Dfile.encoding=UTF-8",
            "-Djava.net.preferIPv4Stack=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *properties,
            "-cp",
            class_path(),
            self.main_class,
            str(config),
        ]


__all__ = ["Apache", "Options", "class_path", "java"]

if __name__ == "__main__":
    sys.exit(main(Apache, __doc__ or ""))
