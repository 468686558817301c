#!/usr/bin/env python3
"""Compares `grange serve` with Apache ZooKeeper 3.8.0 on this machine, in one run, with `grange bench` as the load.

Both servers run at the same time and take turns, so that whatever else the machine does hurts both. Each figure is the
median of the rounds. Prints a table with ratios and whether each floor holds. Exit status: 0 every floor holds, 1 one
does not, 2 usage, 3 a server or the load failed.

The data directories are below the temporary directory ($TMPDIR): put it on the disk that is to be measured.
"""
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator

import servers
from servers import ServerFailed, ServerProcess

Report = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Floor:
    """A bound on b's figure divided by a's, or on b's figure itself."""

    at_least: float | None = None
    at_most: float | None = None
    of_ratio: bool = True

    def holds(self, b: float, ratio: float | None) -> bool | None:
        value = ratio if self.of_ratio else b
        if value is None:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        sign, bound = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{sign} {bound:g}" + ("x" if self.of_ratio else "")


@dataclasses.dataclass(frozen=True)
class LoadRow:
    """A figure out of the report of one `grange bench` run."""

    title: str
    arguments: str
    figure: Callable[[Report], float]
    form: str
    floor: Floor | None
    timed: bool = True
    # Handshakes come one or two to a round: with a sync for each of those, `answers-only` would measure the disk.
    answers_only_syncs: bool = True


@dataclasses.dataclass
class Line:
    """A line of the table: one figure of each server."""

    title: str
    form: str
    figures: dict[str, float]
    floor: Floor | None = None


def per_second(report: Report) -> float:
    return float(report["operations_per_second"])


def p50_ms(report: Report) -> float:
    return float(report["latency"]["p50_us"]) / 1000


LOAD_ROWS = [
    LoadRow("setData 64x64", "--op set -c 64 -i 64", per_second, "{:,.0f}/s", Floor(at_least=6)),
    LoadRow("setData 64x16", "--op set -c 64 -i 16", per_second, "{:,.0f}/s", None),
    LoadRow("create 64x16", "--op create -c 64 -i 16", per_second, "{:,.0f}/s", Floor(at_least=6)),
    LoadRow("getData 64x64", "--op get -c 64 -i 64", per_second, "{:,.0f}/s", Floor(at_least=6)),
    LoadRow("setData 1x1, p50", "--op set -c 1 -i 1", p50_ms, "{:.3f} ms", Floor(at_most=0.6)),
    LoadRow(
        "{sessions:,} idle sessions, opens",
        "--op sessions --count {sessions} -i 48",
        per_second,
        "{:,.0f}/s",
        Floor(at_least=5),
        timed=False,
        answers_only_syncs=False,
    ),
]


class Benchmark:
    """The rows, one after the other; `lines` grows with them."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.names = [args.a] if args.b == "none" else [args.a, args.b]
        self.labels = label(self.names)
        self.lines: list[Line] = []

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            running = {name: stack.enter_context(servers.make(kind)) for name, kind in zip(self.labels, self.names)}
            for name, server in running.items():
                self.preheat(name, server)
            for row in filter(self.is_wanted, LOAD_ROWS):
                if self.args.answers_only:
                    with servers.AnswerOnly(syncs=row.answers_only_syncs) as answers_only:
                        self.load_row(row, {**running, answers_only.name: answers_only})
                else:
                    self.load_row(row, running)
        if self.args.rows is None:
            self.tree_rows()

    def is_wanted(self, row: LoadRow) -> bool:
        return self.args.rows is None or any(part in row.title for part in self.args.rows)

    def preheat(self, name: str, server: ServerProcess) -> None:
        """Gives a just-in-time compiler the time that it has had in production."""
        progress(f"preheating {name}")
        seconds = self.args.preheat / 3
        for operation in ("mixed:50", "create", "set"):
            self.bench(server, f"--op {operation} -i 32 --warmup 0 --duration {seconds}")

    def load_row(self, row: LoadRow, everyone: dict[str, ServerProcess]) -> None:
        arguments, title = (text.format(sessions=self.args.sessions) for text in (row.arguments, row.title))
        if row.timed:
            arguments += f" --duration {self.args.duration} --warmup {self.args.warmup}"
        reports: dict[str, list[Report]] = {name: [] for name in everyone}
        for number in range(self.args.rounds):
            for name, server in everyone.items():
                progress(f"{title}: {name}, round {number + 1} of {self.args.rounds}")
                reports[name].append(self.bench(server, arguments))

        def median(figure: Callable[[Report], float]) -> dict[str, float]:
            return {name: statistics.median(map(figure, each)) for name, each in reports.items()}

        self.lines.append(Line(title, row.form, median(row.figure), row.floor))
        self.lines.append(Line("  server CPU per operation", "{:.2f} us", median(lambda each: each["server"]["cpu_us"])))
        generator = median(lambda each: each["generator_cpu_us"])
        self.lines.append(Line("  load generator's own", "{:.2f} us", generator))

    def tree_rows(self) -> None:
        """Memory and restart, on servers that hold nothing but the znodes in question."""
        resident, heap, stopped, killed = ({} for _ in range(4))
        for name, kind in zip(self.labels, self.names):
            with servers.make(kind) as server:
                per_znode, per_znode_live = self.fill(name, server)
                resident[name] = per_znode
                if per_znode_live is not None:
                    heap[name] = per_znode_live
                stopped[name] = self.restarts(name, server, "a clean stop", server.stop)
                killed[name] = self.restarts(name, server, "kill -9", server.kill)
        znodes = f"{self.args.znodes:,} znodes"
        self.lines.append(
            Line(f"resident per znode, {znodes}", "{:,.0f} B", resident, Floor(at_most=270, of_ratio=False))
        )
        if heap:
            self.lines.append(Line("  live heap per znode", "{:,.0f} B", heap))
        floor = Floor(at_most=0.6, of_ratio=False)
        self.lines.append(Line(f"restart, {znodes}, clean stop", "{:.2f} s", stopped, floor))
        self.lines.append(Line(f"restart, {znodes}, kill -9", "{:.2f} s", killed, floor))

    def fill(self, name: str, server: ServerProcess) -> tuple[float, float | None]:
        # From a fresh server on: a heap that earlier load has already grown would hide what the znodes take.
        progress(f"filling {name} with {self.args.znodes:,} znodes")
        heap_before, before = server.live_heap_bytes(), servers.resident_bytes(server)
        self.bench(server, f"--op fill --nodes {self.args.znodes} --keep -c 16 -i 64")
        after, heap_after = servers.resident_bytes(server), server.live_heap_bytes()
        live = None if heap_before is None or heap_after is None else (heap_after - heap_before) / self.args.znodes
        return (after - before) / self.args.znodes, live

    def restarts(self, name: str, server: ServerProcess, how: str, end: Callable[[], None]) -> float:
        seconds = []
        for number in range(self.args.rounds):
            progress(f"restart of {name} after {how}, round {number + 1} of {self.args.rounds}")
            end()
            seconds.append(servers.seconds_until_it_answers(server))
            found = servers.znode_count(server)
            if found < self.args.znodes:
                raise ServerFailed(f"{name} has {found} znodes after {how}, not {self.args.znodes}")
        return statistics.median(seconds)

    def bench(self, server: ServerProcess, arguments: str) -> Report:
        program = os.environ.get("GRANGE_BIN") or str(servers.release_directory() / "grange")
        command = [program, "bench", "--json", "--servers", server.address_text, "--server-pid", str(server.pid)]
        done = subprocess.run([*command, *arguments.split()], capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(f"{' '.join(command)} {arguments} on {server.name}:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)


def label(names: list[str]) -> list[str]:
    """Names that differ even when a server is compared with itself."""
    return names if len(set(names)) == len(names) else [f"{name} {number}" for number, name in enumerate(names, 1)]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def verdict(line: Line, labels: list[str]) -> tuple[str, str, bool | None]:
    """The ratio of the second server to the first as text, the floor as text, and whether it holds."""
    a, b = line.figures.get(labels[0]), line.figures.get(labels[-1])
    ratio = b / a if len(labels) == 2 and a and b is not None else None
    ratio_text = "" if ratio is None else f"{ratio:.2f}"
    if line.floor is None or b is None:
        return ratio_text, "" if line.floor is None else str(line.floor), None
    return ratio_text, str(line.floor), line.floor.holds(b, ratio)


def table(lines: list[Line], labels: list[str], columns: list[str]) -> Iterator[str]:
    cells = [["", *columns, "ratio", "floor", "holds"]]
    for line in lines:
        figures = [line.form.format(line.figures[name]) if name in line.figures else "" for name in columns]
        ratio, floor, holds = verdict(line, labels)
        cells.append([line.title, *figures, ratio, floor, {None: "", True: "yes", False: "NO"}[holds]])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for number, row in enumerate(cells):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--a", choices=list(servers.SERVERS), default="apache", help="the server to compare with")
    parser.add_argument("--b", choices=[*servers.SERVERS, "none"], default="grange", help="the server to judge")
    parser.add_argument("--quick", action="store_true", help="one short round, a tenth of the znodes and sessions")
    parser.add_argument("--rows", metavar="TEXT", nargs="+", help="only throughput rows with one of these in their titles")
    parser.add_argument("--rounds", type=int, help="rounds of each figure (default 3)")
    parser.add_argument("--duration", type=float, help="seconds of each measurement (default 8)")
    parser.add_argument("--no-build", action="store_true", help="measure the release build that is there")
    parser.add_argument("--no-answers-only", dest="answers_only", action="store_false", help="leave out that server")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    rounds, duration = (1, 2.0) if args.quick else (3, 8.0)
    args.rounds, args.duration = args.rounds or rounds, args.duration or duration
    args.warmup, args.preheat = (1, 6) if args.quick else (3, 45)
    args.znodes, args.sessions = (100_000, 1_000) if args.quick else (1_000_000, 10_000)
    return args


def main() -> int:
    args = arguments()
    servers.end_cleanly_on_sigterm()
    benchmark = Benchmark(args)
    try:
        servers.install_apache()
        if not args.no_build:
            servers.build()
        load = os.getloadavg()[0]
        benchmark.run()
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    columns = [*benchmark.labels, *([servers.AnswerOnly.name] if args.answers_only else [])]
    for line in table(benchmark.lines, benchmark.labels, columns):
        print(line)
    print(f"\n{os.cpu_count()} CPUs, load {load:.1f} before; {args.rounds} rounds of {args.duration:g} s")
    if args.json:
        with open(args.json, "w") as file:
            json.dump([{"title": each.title.strip(), "figures": each.figures} for each in benchmark.lines], file, indent=1)
    return 1 if any(verdict(line, benchmark.labels)[2] is False for line in benchmark.lines) else 0


if __name__ == "__main__":
    sys.exit(main())
