#!/usr/bin/env python3
"""Compares three members of `grange serve` with three of Apache ZooKeeper 3.8.0 on loopback, in one run.

Both ensembles run at the same time and take turns under the load of `grange bench`, whose connections are spread over
all members; so whatever else the machine does hurts both. Each figure of throughput is the median of the rounds. Then
each ensemble loses its leader, by kill -9 and by SIGTERM, under a client that writes every 5 ms; and ours makes
snapshots under load, and takes a member back that has missed a million writes.

Exit status: 0 every floor holds, 1 one does not, 2 usage, 3 a server or the load failed.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import servers
from server import Floor, Line, LoadRow, Report, p50_ms, per_second, progress, table, verdict
from servers import ServerFailed

import ensembles
from ensembles import Ensemble, Member, Standstill

LOAD_ROWS = [
    LoadRow("setData 64x16", "--op set -c 64 -i 16", per_second, "{:,.0f}/s", Floor(at_least=5)),
    LoadRow("create 64x16", "--op create -c 64 -i 16", per_second, "{:,.0f}/s", Floor(at_least=5)),
    LoadRow("getData 64x64", "--op get -c 64 -i 64", per_second, "{:,.0f}/s", Floor(at_least=4)),
    LoadRow("setData 1x1, p50", "--op set -c 1 -i 1", p50_ms, "{:.3f} ms", Floor(at_most=0.7)),
]
PARTS = ("load", "kill", "handover", "snapshot", "catch-up")
# So many writes are never made here: no snapshot, unless one is asked for.
SNAP_COUNT_NEVER = 2_000_000_000
CATCH_UP_POLL_SECONDS = 0.02


class Benchmark:
    """The parts, one after the other; `lines` grows with them."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.kinds = ["grange"] if args.grange_only else ["apache", "grange"]
        self.lines: list[Line] = []

    def run(self) -> None:
        if {"load", "kill", "handover"} & set(self.args.parts):
            with contextlib.ExitStack() as stack:
                running = {kind: stack.enter_context(ensembles.make(kind)) for kind in self.kinds}
                for kind, ensemble in running.items():
                    ensembles.make_node(ensemble)
                    self.preheat(kind, ensemble)
                for row in LOAD_ROWS if "load" in self.args.parts else []:
                    self.load_row(row, running)
                if "kill" in self.args.parts:
                    self.standstills("kill -9 of the leader", running, Member.kill, at_most=(250, 500))
                if "handover" in self.args.parts:
                    self.standstills("SIGTERM of the leader", running, Member.stop, at_most=(50, 50))
        if {"snapshot", "catch-up"} & set(self.args.parts):
            with ensembles.make("grange", SNAP_COUNT_NEVER) as ensemble:
                if "catch-up" in self.args.parts:
                    self.catch_up(ensemble)
                if "snapshot" in self.args.parts:
                    self.snapshot(ensemble)

    # ---- throughput

    def preheat(self, kind: str, ensemble: Ensemble) -> None:
        """Gives a just-in-time compiler the time that it has had in production."""
        progress(f"preheating {kind}")
        for operation in ("mixed:50", "create", "set"):
            self.bench(ensemble, f"--op {operation} -i 32 --warmup 0 --duration {self.args.preheat / 3}")

    def load_row(self, row: LoadRow, running: dict[str, Ensemble]) -> None:
        arguments = f"{row.arguments} --duration {self.args.duration} --warmup {self.args.warmup}"
        reports: dict[str, list[Report]] = {kind: [] for kind in running}
        for number in range(self.args.rounds):
            for kind, ensemble in running.items():
                progress(f"{row.title}: {kind}, round {number + 1} of {self.args.rounds}")
                reports[kind].append(self.bench(ensemble, arguments))

        def median(figure: Callable[[Report], float]) -> dict[str, float]:
            return {kind: statistics.median(map(figure, each)) for kind, each in reports.items()}

        self.lines.append(Line(row.title, row.form, median(row.figure), row.floor))
        cpu = median(lambda each: each["server"]["cpu_us"])
        self.lines.append(Line("  CPU of all members per operation", "{:.2f} us", cpu))
        generator = median(lambda each: each["generator_cpu_us"])
        self.lines.append(Line("  load generator's own", "{:.2f} us", generator))

    def bench(self, ensemble: Ensemble, arguments: str) -> Report:
        program = os.environ.get("GRANGE_BIN") or str(servers.release_directory() / "grange")
        running = [member for member in ensemble.members if member.running()]
        addresses = ",".join(member.address_text for member in running)
        pids = ",".join(str(member.pid) for member in running)
        command = [program, "bench", "--json", "--servers", addresses, "--server-pid", pids]
        done = subprocess.run([*command, *arguments.split()], capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(f"{' '.join(command)} {arguments} on {ensemble.kind}:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    # ---- a leader that goes

    def standstills(
        self, what: str, running: dict[str, Ensemble], end: Callable[[Member], None], at_most: tuple[float, float]
    ) -> None:
        found: dict[str, list[Standstill]] = {kind: [] for kind in running}
        for number in range(self.args.leaders):
            for kind, ensemble in running.items():
                progress(f"{what}: {kind}, {number + 1} of {self.args.leaders}")
                found[kind].append(ensembles.standstill(ensemble, end, is_at_leader=number % 2 == 0))

        def figure(of: Callable[[list[Standstill]], float]) -> dict[str, float]:
            return {kind: of(each) for kind, each in found.items()}

        def gaps(part: slice) -> dict[str, float]:
            return figure(lambda each: statistics.median([one.gap_ms for one in each[part]] or [0.0]))

        floors = [Floor(at_most=bound, of_ratio=False) for bound in at_most]
        self.lines += [
            Line(f"{what}: longest gap, median", "{:.0f} ms", gaps(slice(None)), floors[0]),
            Line("  worst", "{:.0f} ms", figure(lambda each: max(one.gap_ms for one in each)), floors[1]),
            Line("  median of clients of the leader", "{:.0f} ms", gaps(slice(0, None, 2))),
            Line("  median of clients of others", "{:.0f} ms", gaps(slice(1, None, 2))),
            Line("  acknowledged writes lost", "{:.0f}", figure(lambda each: sum(one.lost for one in each)), _NONE),
            Line("  sessions lost", "{:.0f}", figure(lambda each: sum(not one.is_session_kept for one in each)), _NONE),
        ]

    # ---- snapshots, and a member that comes back

    def snapshot(self, ensemble: Ensemble) -> None:
        progress(f"filling grange with {self.args.znodes:,} znodes")
        self.bench(ensemble, f"--op fill --nodes {self.args.znodes} --keep -c 16 -i 64")
        load = f"--op set -c 64 -i 16 --duration {self.args.duration} --warmup {self.args.warmup}"
        progress("writes without a snapshot")
        without = self.bench(ensemble, load)
        writes = int(per_second(without) * self.args.duration)
        for member in ensemble.members:
            member.options.extra["snapCount"] = str(max(1000, writes // 8))
            member.stop()
            member.rewrite_config()
            member.start()
        ensemble.wait_until_all_serve()
        made = Snapshots(ensemble)
        progress("writes with snapshots, one after the other")
        during = self.bench(ensemble, load)
        count = made.count()
        ratio = p99_ms(during) / p99_ms(without)
        self.lines += [
            Line(f"p99 of setData 64x16, {self.args.znodes:,} znodes", "{:.2f} ms", {"grange": p99_ms(without)}),
            Line(f"  while {count} snapshots were made", "{:.2f} ms", {"grange": p99_ms(during)}),
            Line("  ratio", "{:.2f}", {"grange": ratio}, Floor(at_most=2, of_ratio=False)),
            Line("  throughput meanwhile, of that without", "{:.2f}", {"grange": per_second(during) / per_second(without)}),
        ]

    def catch_up(self, ensemble: Ensemble) -> None:
        load = f"--op set -c 64 -i 16 --warmup {self.args.warmup}"
        progress("writes to all three members")
        before = self.bench(ensemble, f"{load} --duration {self.args.duration}")
        behind = next(member for member in ensemble.members if member is not ensemble.leader())
        behind.stop()
        progress(f"{self.args.missed:,} writes without {behind.name}")
        self.bench(ensemble, f"{load} --count {self.args.missed}")
        without = self.bench(ensemble, f"{load} --duration {self.args.duration}")
        progress(f"{behind.name} comes back")
        others = [member for member in ensemble.members if member is not behind]
        report: list[Report] = []
        loader = threading.Thread(target=lambda: report.append(self.bench_on(others, ensemble, load)))
        loader.start()
        time.sleep(self.args.warmup)
        began = time.monotonic()
        behind.launch()
        seconds = seconds_until_even(behind, ensemble.leader(), began)
        loader.join()
        ensemble.wait_until_all_serve()
        if not report:
            raise ServerFailed("the load failed while a member came back")
        during = per_second(report[0])
        self.lines += [
            Line("setData 64x16, all members", "{:,.0f}/s", {"grange": per_second(before)}),
            Line("  one member down", "{:,.0f}/s", {"grange": per_second(without)}),
            Line(f"  while it catches up, {self.args.missed:,} writes behind", "{:,.0f}/s", {"grange": during}),
            Line("  caught up after", "{:.1f} s", {"grange": seconds}),
            Line(
                "  of the throughput before", "{:.2f}", {"grange": during / per_second(before)},
                Floor(at_least=0.7, of_ratio=False),
            ),
        ]  # fmt: skip

    def bench_on(self, some: list[Member], ensemble: Ensemble, load: str) -> Report:
        part = argparse.Namespace(members=some, kind=ensemble.kind)
        return self.bench(part, f"{load} --duration {self.args.duration}")


_NONE = Floor(at_most=0, of_ratio=False)


def p99_ms(report: Report) -> float:
    return float(report["latency"]["p99_us"]) / 1000


class Snapshots:
    """Counts the snapshots that members make: each has a name of its own."""

    def __init__(self, ensemble: Ensemble):
        self._ensemble = ensemble
        self._before = self._names()
        self._seen: set[str] = set(self._before)
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _names(self) -> set[str]:
        return {str(path) for member in self._ensemble.members for path in member.disk.rglob("*.snap")}

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            self._seen |= self._names()

    def count(self) -> int:
        self._is_over.set()
        self._watcher.join()
        return len(self._seen - self._before)


def seconds_until_even(behind: Member, leader: Member, began: float) -> float:
    """Until the member that came back has what its leader had a moment before."""
    while time.monotonic() < began + servers.RESTART_SECONDS_MAX:
        theirs = zxid(leader)
        if theirs and zxid(behind) >= theirs:
            return time.monotonic() - began
        time.sleep(CATCH_UP_POLL_SECONDS)
    raise ServerFailed(f"{behind.name} has not caught up after {servers.RESTART_SECONDS_MAX:.0f} s")


def zxid(member: Member) -> int:
    for line in member.word("srvr").splitlines():
        if line.startswith("Zxid: "):
            return int(line.split()[1], 16)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--grange-only", action="store_true", help="leave Apache's ensemble out")
    parser.add_argument("--quick", action="store_true", help="one short round, 4 leaders, a tenth of the znodes and writes")
    parser.add_argument("--rounds", type=int, help="rounds of each figure of throughput (default 3)")
    parser.add_argument("--leaders", type=int, help="how many leaders go, each way (default 20)")
    parser.add_argument("--duration", type=float, help="seconds of each measurement (default 8)")
    parser.add_argument("--no-build", action="store_true", help="measure the release build that is there")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    rounds, duration, leaders = (1, 2.0, 4) if args.quick else (3, 8.0, 20)
    args.rounds, args.duration = args.rounds or rounds, args.duration or duration
    args.leaders = args.leaders or leaders
    args.warmup, args.preheat = (1, 6) if args.quick else (3, 45)
    args.znodes, args.missed = (100_000, 100_000) if args.quick else (1_000_000, 1_000_000)
    return args


def main() -> int:
    args = arguments()
    servers.end_cleanly_on_sigterm()
    benchmark = Benchmark(args)
    try:
        if not args.grange_only:
            servers.install_apache()
        if not args.no_build:
            servers.build()
        load = os.getloadavg()[0]
        benchmark.run()
    except ServerFailed as error:
        # What was measured before is still worth seeing.
        print(*table(benchmark.lines, benchmark.kinds, benchmark.kinds), sep="\n")
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    for line in table(benchmark.lines, benchmark.kinds, benchmark.kinds):
        print(line)
    print(f"\n{os.cpu_count()} CPUs, load {load:.1f} before; {args.rounds} rounds of {args.duration:g} s")
    if args.json:
        with open(args.json, "w") as file:
            json.dump([{"title": each.title.strip(), "figures": each.figures} for each in benchmark.lines], file, indent=1)
    return 1 if any(verdict(line, benchmark.kinds)[2] is False for line in benchmark.lines) else 0


if __name__ == "__main__":
    sys.exit(main())
