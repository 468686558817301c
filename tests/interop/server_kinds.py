"""The servers that are compared, by the names that command lines have for them."""
from __future__ import annotations

from apache import Apache
from grange_server import Grange
from server_process import ServerProcess

SERVERS: dict[str, type[ServerProcess]] = {"grange": Grange, "apache": Apache}
