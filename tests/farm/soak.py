#!/usr/bin/env python3
"""A farm of several hosts and two consumers, to which everything happens, and which must be right when it is quiet again.

Storms of a few seconds follow one another: edits of the hosts' configuration, sets from outside, SIGKILL and SIGSTOP of
`grange farm join`, of `grange farm export` and of the server. After each storm everything is started again. It is quiet when the
server answers and every host's znode belongs to a session that has a connection, as have both consumers; from then on
everything must be right within --patience seconds, see `Soak.problems`: configurations, znodes, files, and what programs were told
to read of these.

A seed sets what happens when, not how processes are scheduled. After a failure the directory is kept.
Exit status: 0 everything was right; 1 not; 2 usage; 3 the server does not start.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import actors
from actors import FARM, Actor, Consumer, Farm, Host

import grange_server
from server_process import Options, ServerFailed, end_cleanly_on_sigterm

# Sessions of all hosts have to be back: this is the longest of their timeouts several times, on a busy machine.
QUIET_SECONDS_MAX = 90.0
SET_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.05
WHOLE_SECONDS = 0.01
EVENTS_SHOWN = 150
# A value is a name, a number, something of varying length, and an end by which one sees that it is whole.
VALUE_LENGTH_MAX = 60


class Wrong(Exception):
    """Something is not as it must be."""


class Soak:
    """Everybody who takes part, and what has happened."""

    def __init__(self, server: grange_server.Grange, directory: pathlib.Path, seed: int, patience: float):
        self.server, self.farm, self.patience = server, Farm(server), patience
        self.dice = random.Random(seed)
        address = server.address_text
        self.hosts = [Host(f"10.0.0.{n}", (2, 3, 4)[n % 3], address, directory, n % 2 == 1) for n in range(1, 6)]
        self.consumers = [Consumer(f"settle-{settle}", settle, address, directory) for settle in (0, 300)]
        self.everybody: list[Actor] = [*self.hosts, *self.consumers]
        self.events: list[str] = []
        self.began = time.monotonic()
        self.count = 0
        self.later: list[tuple[float, object, str]] = []
        self.sets: list[tuple[subprocess.Popen, Host, str, str]] = []
        self.server_is_stopped = False
        self.broken: list[str] = []
        self.is_over = threading.Event()
        self.watcher = threading.Thread(target=self.look_for_halves)

    def note(self, text: str) -> None:
        self.events.append(f"{time.monotonic() - self.began:8.2f} {text}")

    def look_for_halves(self) -> None:
        """Reads everything that is written, all the time."""
        while not self.is_over.wait(WHOLE_SECONDS):
            self.broken += [half for actor in self.everybody if (half := actor.whole())]

    # ---- what happens

    def value(self, field: str) -> str:
        self.count += 1
        return f"{field}-{self.count}-{'x' * self.dice.randrange(VALUE_LENGTH_MAX)}."

    def edit(self) -> None:
        host, field = self.dice.choice(self.hosts), f"l{self.dice.randrange(actors.FIELDS_EACH)}"
        value = self.dice.choice((self.value(field),) * 4 + (None, host.edited_before[field]))
        in_place = self.dice.random() < 0.3
        self.note(f"edit {host.name} {field} {value}{' in place' if in_place else ''}")
        host.edit(field, value, in_place)

    def set(self) -> None:
        host, field = self.dice.choice(self.hosts), f"r{self.dice.randrange(actors.FIELDS_EACH)}"
        value = self.value(field) if self.dice.random() < 0.85 else None
        if field in host.in_flight:
            return
        host.ask(field, value)
        change = ["set", f"{FARM}/{host.name}", field, value] if value else ["unset", f"{FARM}/{host.name}", field]
        what = f"set {host.name} {field} {value}"
        self.note(what)
        environment = dict(os.environ, GRANGE_SERVERS=self.server.address_text, GRANGE_CONFIG="/dev/null")
        process = subprocess.Popen(
            [grange_server.binary(), "farm", *change], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=actors.END_WITH_PARENT,
        )
        self.sets.append((process, host, field, what))

    def kill(self, actor: Actor) -> None:
        if actor.is_running:
            after = self.dice.choice((0.0, 0.0, self.dice.uniform(0, 5)))
            self.note(f"kill {actor.name}, back after {after:.2f} s")
            actor.kill()
            self.do_later(after, actor.start, f"start {actor.name}")

    def pause(self, actor: Actor, timeout: float) -> None:
        if actor.is_running and not actor.is_stopped:
            seconds = self.dice.uniform(0.1, 2 * timeout)
            self.note(f"stop {actor.name} for {seconds:.2f} s")
            actor.stop()
            self.do_later(seconds, actor.go_on, f"go on {actor.name}")

    def kill_host(self) -> None:
        host = self.dice.choice(self.hosts)
        host.is_disturbed = True
        self.kill(host)

    def pause_host(self) -> None:
        host = self.dice.choice(self.hosts)
        host.is_disturbed = True
        self.pause(host, host.timeout)

    def kill_consumer(self) -> None:
        self.kill(self.dice.choice(self.consumers))

    def pause_consumer(self) -> None:
        self.pause(self.dice.choice(self.consumers), 3)

    def harm_server(self) -> None:
        for host in self.hosts:
            host.is_disturbed = True
        if not self.server.running() or self.server_is_stopped:
            return
        seconds = self.dice.choice((0.0, self.dice.uniform(0, 6)))
        if self.dice.random() < 0.5:
            self.note(f"kill the server, back after {seconds:.2f} s")
            self.server.kill()
            self.do_later(seconds, self.start_server, "start the server")
        else:
            self.note(f"stop the server for {seconds:.2f} s")
            os.kill(self.server.pid, signal.SIGSTOP)
            self.server_is_stopped = True
            self.do_later(seconds, self.server_goes_on, "the server goes on")

    def start_server(self) -> None:
        if not self.server.running():
            self.server.launch()

    def server_goes_on(self) -> None:
        if self.server_is_stopped:
            os.kill(self.server.pid, signal.SIGCONT)
        self.server_is_stopped = False

    # ---- storms

    def do_later(self, seconds: float, action, what: str) -> None:
        self.later.append((time.monotonic() + seconds, action, what))

    def tick(self, now: float) -> None:
        """Does what is due, and learns what has come of the sets."""
        due = [entry for entry in self.later if entry[0] <= now]
        self.later = [entry for entry in self.later if entry[0] > now]
        for _, action, what in sorted(due, key=lambda entry: entry[0]):
            self.note(what)
            action()
        for entry in [entry for entry in self.sets if entry[0].poll() is not None]:
            process, host, field, what = entry
            self.sets.remove(entry)
            self.note(f"status {process.returncode}: {what}")
            host.answered(field, process.returncode == 0)
        for host in self.hosts:
            host.landed()
        for actor in self.everybody:
            if (status := actor.ended()) is not None:
                raise Wrong(f"{actor.name} has ended with status {status}")
        if self.broken:
            raise Wrong(f"half-written: {self.broken}")

    def storm(self, end: float) -> None:
        events = [self.edit] * 8 + [self.set] * 8
        for harm in (self.kill_host, self.pause_host, self.kill_consumer, self.pause_consumer):
            events += [harm] * self.dice.randrange(3)
        events += [self.harm_server] * self.dice.randrange(2)
        length = self.dice.uniform(2, 8)
        self.note(f"a storm of {length:.1f} s")
        end = min(end, time.monotonic() + length)
        while (now := time.monotonic()) < end:
            self.dice.choice(events)()
            pause = now + self.dice.uniform(0.01, 0.3)
            while time.monotonic() < pause:
                self.tick(time.monotonic())
                time.sleep(0.01)
        self.note("the storm is over")
        self.tick(float("inf"))
        self.server.wait_until_it_serves()

    def calm(self) -> float:
        """Waits until it is quiet, and then until all is right; returns how long that took."""
        self.wait("not quiet", QUIET_SECONDS_MAX, self.unrest)
        self.note("it is quiet")
        quiet = time.monotonic()
        self.wait("not right", self.patience, self.problems)
        self.note("all is right")
        hosts, _, _ = self.farm.read()
        for host in self.hosts:
            host.at_rest(hosts[host.name])
        return time.monotonic() - quiet

    def wait(self, what: str, seconds_max: float, look) -> None:
        deadline = time.monotonic() + seconds_max
        while problems := look():
            if time.monotonic() > deadline:
                raise Wrong(f"{what} after {seconds_max:.0f} s:\n" + "\n".join(problems))
            self.tick(time.monotonic())
            time.sleep(LOOK_SECONDS)

    def unrest(self) -> list[str]:
        if self.sets:
            return [f"still on its way: {what}" for _, _, _, what in self.sets]
        try:
            connected = self.farm.connected()
            _, owners, _ = self.farm.read()
        except OSError as error:
            return [f"the server does not answer: {error}"]
        found = [f"{host.name} is not in the farm" for host in self.hosts if host.name not in owners]
        found += [f"{name} belongs to a session without a connection" for name, owner in owners.items() if owner not in connected]
        if len(connected) < len(self.everybody):
            found.append(f"{len(connected)} sessions are connected, of {len(self.everybody)}")
        return found

    def problems(self) -> list[str]:
        """What is not as it must be when it is quiet."""
        try:
            hosts, _, own = self.farm.read()
        except OSError as error:
            return [f"the farm cannot be read: {error}"]
        found = []
        if set(hosts) != {host.name for host in self.hosts} or own != {"size": len(self.hosts)}:
            found.append(f"the farm is {own} and has the hosts {sorted(hosts)}")
        for host in self.hosts:
            conf, znode = host.read(), hosts.get(host.name, {})
            if conf != znode:
                found.append(f"{host.name}: the configuration is {conf}, the znode {znode}")
            found += host.problems(conf)
        for consumer in self.consumers:
            found += consumer.problems(hosts)
        return found

    def run(self, seconds: float) -> str:
        for actor in self.everybody:
            actor.start()
        self.watcher.start()
        took, end = [self.calm()], time.monotonic() + seconds
        while time.monotonic() < end:
            self.storm(end)
            took.append(self.calm())
        return f"{len(took) - 1} storms, {len(self.events)} events; right at most {max(took):.1f} s after it was quiet"

    def end(self) -> None:
        self.is_over.set()
        if self.watcher.is_alive():
            self.watcher.join()
        self.server_goes_on()
        for process, *_ in self.sets:
            process.kill()
            process.wait()
        for actor in self.everybody:
            actor.kill()

    def tell(self, wrong: Wrong) -> None:
        print("\n".join(self.events[-EVENTS_SHOWN:]))
        for actor in self.everybody:
            print(f"---- {actor.name} says:\n{actor.log_tail()}")
        print(f"----\n{wrong}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long there are storms (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--patience", type=float, default=5.0, help="until all is right when it is quiet (default 5)")
    args = parser.parse_args()
    args.seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    end_cleanly_on_sigterm()
    print(f"seed {args.seed}", flush=True)
    directory, is_kept = pathlib.Path(tempfile.mkdtemp(prefix="farm-soak-")), False
    try:
        with grange_server.Grange(Options(tick_ms=500, fsync=False)) as server:
            soak = Soak(server, directory, args.seed, args.patience)
            try:
                print(soak.run(args.seconds))
            except Wrong as wrong:
                is_kept = True
                soak.tell(wrong)
                print(f"seed {args.seed} FAILED; everything is kept in {directory}")
                return 1
            finally:
                soak.end()
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 3
    finally:
        if not is_kept:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
