#!/usr/bin/env python3
"""Performs the same random operations on two servers and compares every reply and event.

Side A is the reference (Apache ZooKeeper 3.8.0), side B the server under test. Operations come from
operations.py and hostile_steps.py, in rounds; each round has fresh servers and a seed of its own,
printed with a difference, so `--seed THAT --rounds 1` shows it again. What may differ is in
intended_differences.md. A server given as HOST:PORT must be freshly started with an empty data
directory, extendedTypesEnabled and superDigest as printed by `apache.py run`; it gets one round.

Exit status: 0 no difference; 1 a difference; 2 usage; 3 a server could not be started.
"""
from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time

import wire
from apache import Apache
from compare import AclModel, Matcher, Rules
from grange_server import Grange
from operations import OPEN, PERSONAS, SUPER_SLOT, Generator, Op, Persona, Step
from server_process import Options, ServerFailed, end_cleanly_on_sigterm, parse_address
from wire import Connection, Silence, Zxid, connect_request, decode_connect_response, decode_reply, frame, header

SESSION_TIMEOUT_MS = 600_000  # nothing expires during a run; maxSessionTimeout is raised to it
REPLY_SECONDS_MAX = 20.0
QUIET_SECONDS = 0.3  # silence after a request that may have no answer
CLOSING_ERRORS = (("unknown", -6), ("auth", -115))  # the server closes behind these
EXPIRY_TIMEOUT_MS = 4000
STOLEN_SECONDS_MAX = 1.0  # until a connection ends whose session was taken over
CONTEXT_STEPS = 12
CLOSED = {"closed": True}
RESERVED_XIDS = {wire.XID_PING: "ping", wire.XID_AUTH: "auth", wire.XID_SET_WATCHES: "setWatches"}
OPTIONS = Options(
    session_timeout_ms_max=SESSION_TIMEOUT_MS,
    fsync=False,
    # Containers must not go away by the clock in the middle of a run.
    extra={"znode.container.checkIntervalMs": "86400000"},
)


class Client:
    """One slot on one side: a connection, its session and its xid counter."""

    def __init__(self, address: tuple[str, int], persona: Persona):
        self._address = address
        self._persona = persona
        self.connection: Connection | None = None
        self.session = 0
        self._password = bytes(16)
        self._xid = 0
        self._requests = dict(RESERVED_XIDS)

    def connect(self, resume: bool) -> list[dict]:
        """Handshake and auth packets; returns the decoded answers."""
        old, self.connection = self.connection, Connection(self._address)
        if not resume:
            self.session, self._password, self._xid = 0, bytes(16), 0
        request = connect_request(
            self.session, self._password, SESSION_TIMEOUT_MS, read_only=self._persona.read_only
        )
        self.connection.send(frame(request))
        answers = []
        payload = self.connection.receive(REPLY_SECONDS_MAX)
        if payload is None:
            return [CLOSED]
        answers.append(decode_connect_response(payload))
        self.session = int(answers[0].get("session", 0))
        self._password = bytes(answers[0].get("password", b""))
        for scheme, token in self._persona.auth:
            body = wire.i32(0) + wire.ustring(scheme) + wire.buffer(token.encode())
            self.connection.send(frame(header(wire.XID_AUTH, wire.OPCODES["auth"]) + body))
            answers += self.receive(1)
        if old is not None:
            answers += self._drain(old)
            old.close()
        return answers

    @staticmethod
    def _drain(old: Connection) -> list[dict]:
        """Whether the server ends a connection whose session has moved to another one."""
        try:
            while old.receive(STOLEN_SECONDS_MAX) is not None:
                pass
            return [{"former connection": "closed"}]
        except Silence:
            return [{"former connection": "open"}]

    def encode(self, op: Op, side: "Side") -> bytes:
        if op.xid is None:
            self._xid += 1
        xid = self._xid if op.xid is None else op.xid
        if xid not in RESERVED_XIDS:
            self._requests[xid] = op.name
        body = op.body(side) if callable(op.body) else op.body
        return frame(header(xid, op.code()) + body)

    def receive(self, replies: int, seconds_max: float = REPLY_SECONDS_MAX) -> list[dict]:
        """Frames until that many replies (events come between them), or until the server closes."""
        assert self.connection is not None
        frames = []
        while replies:
            payload = self.connection.receive(seconds_max)
            if payload is None:
                frames.append(CLOSED)
                break
            frames.append(decode_reply(payload, self._requests.get))
            replies -= "event" not in frames[-1]
        return frames

    def receive_until_quiet(self) -> list[dict]:
        """The answer to a request that may close the connection, answer, or do nothing."""
        assert self.connection is not None
        frames = []
        with contextlib.suppress(Silence):
            frames += self.receive(1, QUIET_SECONDS)
        if frames and (frames[-1].get("op"), frames[-1].get("err")) in CLOSING_ERRORS:
            # No ping here: Apache may still answer one between its reply and its close.
            return frames + self.receive(1)
        if CLOSED not in frames:
            self.connection.send(frame(header(wire.XID_PING, wire.OPCODES["ping"])))
            frames += self.receive(1)
        return frames

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Side:
    """One of the two servers, with its own ids."""

    def __init__(self, name: str, address: tuple[str, int]):
        self.name = name
        self.address = address
        self.slots = [Client(address, persona) for persona in PERSONAS]
        self._zxids = [0]
        self._zxids_before = 1

    def begin_step(self) -> None:
        """Requests of a step that name a zxid mean one from before the step, whatever the pace."""
        self._zxids_before = len(self._zxids)

    def saw(self, frames: list[dict]) -> None:
        self._zxids += [int(f["zxid"]) for f in frames if f.get("xid", 0) > 0 and isinstance(f.get("zxid"), Zxid)]

    def zxid_back(self, count: int | None) -> int:
        """The zxid seen `count` replies ago; None is zero and -1 one that is far ahead."""
        if count is None:
            return 0
        last = self._zxids_before - 1
        if count < 0:
            return self._zxids[last] + 1_000_000
        return self._zxids[max(last - count, 0)]

    def perform(self, step: Step) -> list[dict]:
        """Sends a step's requests and returns everything the server said to its slot."""
        frames = getattr(self, "_" + step.kind.replace("-", "_"))(self.slots[step.slot], step)
        self.saw(frames)
        return frames

    def _open(self, client: Client, _step: Step) -> list[dict]:
        client.drop()
        return client.connect(resume=False)

    def _reattach(self, client: Client, step: Step) -> list[dict]:
        if step.argument == "drop":
            client.drop()
        return client.connect(resume=True)

    def _window(self, client: Client, step: Step) -> list[dict]:
        assert client.connection is not None
        client.connection.send(b"".join(client.encode(op, self) for op in step.ops))
        return client.receive(len(step.ops))

    def _single(self, client: Client, step: Step) -> list[dict]:
        assert client.connection is not None
        client.connection.send(client.encode(step.ops[0], self))
        return client.receive_until_quiet()

    def _raw(self, client: Client, step: Step) -> list[dict]:
        assert client.connection is not None and isinstance(step.argument, bytes)
        client.connection.send(step.argument)
        return client.receive_until_quiet()

    def _close(self, client: Client, _step: Step) -> list[dict]:
        assert client.connection is not None
        client.connection.send(client.encode(Op("closeSession", b"", "closeSession"), self))
        return client.receive(2)

    def _handshake(self, _client: Client, step: Step) -> list[dict]:
        """A handshake on a connection of its own; a session that it opens is closed again."""
        payload = step.argument(self) if callable(step.argument) else step.argument
        assert isinstance(payload, bytes)
        other = Connection(self.address)
        try:
            other.send(frame(payload))
            answer = other.receive(REPLY_SECONDS_MAX)
            if answer is None:
                return [CLOSED]
            response = decode_connect_response(answer)
            if response.get("session"):
                other.send(frame(header(1, wire.OPCODES["closeSession"])))
                return [response, *(self._rest(other))]
            return [response, *self._rest(other)]
        except Silence:
            return [{"silence": True}]
        finally:
            other.close()

    def _expiry(self, client: Client, _step: Step) -> list[dict]:
        """A session vanishes without a close; the slot watches its ephemeral node and hears of its end."""
        parent, node = "/expiring", "/expiring/node"
        other = Connection(self.address)
        other.send(frame(connect_request(timeout_ms=EXPIRY_TIMEOUT_MS)))
        other.receive(REPLY_SECONDS_MAX)
        for path, flags in ((parent, 0), (node, 1)):
            other.send(frame(header(1, wire.OPCODES["create"]) + wire.create_body(path, b"", OPEN, flags)))
            other.receive(REPLY_SECONDS_MAX)
        watches = [
            Op("getData", wire.ustring(node) + wire.boolean(1), "getData"),
            Op("getChildren", wire.ustring(parent) + wire.boolean(1), "getChildren"),
        ]
        assert client.connection is not None
        client.connection.send(b"".join(client.encode(op, self) for op in watches))
        frames = client.receive(len(watches))
        other.close()
        for _ in range(2):
            payload = client.connection.receive(REPLY_SECONDS_MAX)
            frames.append(CLOSED if payload is None else decode_reply(payload, {}.get))
        return frames

    @staticmethod
    def _rest(connection: Connection) -> list[dict]:
        frames = []
        while (payload := connection.receive(REPLY_SECONDS_MAX)) is not None:
            frames.append(decode_reply(payload, {1: "closeSession"}.get))
        return [*frames, CLOSED]

    def _first_bytes(self, _client: Client, step: Step) -> list[dict]:
        """Bytes that open a connection but no session: all that counts is whether it is closed."""
        assert isinstance(step.argument, bytes)
        other = Connection(self.address)
        try:
            other.send(step.argument)
            answer = other.receive_all(REPLY_SECONDS_MAX / 10)
            return [{"text": answer if answer in (b"imok", b"rw") else bool(answer)}, CLOSED]
        except Silence:
            return [{"silence": True}]
        finally:
            other.close()

    def close(self) -> None:
        for client in self.slots:
            client.drop()


class Difference(Exception):
    """Two answers that no rule allows."""


class Round:
    """One seed on one pair of fresh servers."""

    def __init__(self, seed: int, a: tuple[str, int], b: tuple[str, int], pace: str, b_is_apache: bool):
        self.seed = seed
        self._sides = (Side("A", a), Side("B", b))
        self._pace = pace
        self._matcher = Matcher()
        self._acls = AclModel()
        self.rules = Rules(self._acls, b_is_apache)
        self._generator = Generator(seed)
        self._read_at = [0] * len(PERSONAS)
        self._log: list[str] = []
        self.operations = 0

    def run(self, operations: int, seconds_max: float, with_expiry: bool) -> None:
        """Raises Difference. The expiry of a session takes real seconds, so one round of a run has it."""
        deadline = time.monotonic() + seconds_max
        for step in self._generator.steps():
            if self.operations >= operations or time.monotonic() > deadline:
                break
            self._perform(step)
        if with_expiry:
            for slot in range(len(PERSONAS)):
                self._perform(Step("open", slot, note="new session"))
            self._perform(Step("expiry", SUPER_SLOT, note="a session with an ephemeral node expires"))
        for slot in range(len(PERSONAS)):
            self._perform(Step("window", slot, [Op("ping", b"", "last ping", xid=wire.XID_PING)]))

    def _perform(self, step: Step) -> None:
        self._log.append(step.describe())
        a, b = self._answers(step)
        self.operations += max(1, len(step.ops))
        persona, since = PERSONAS[step.slot], self._read_at[step.slot]
        self._read_at[step.slot] = len(self._log)
        if any("broken" in f for f in a + b):
            raise Difference(self._report(step, None, a[-1], b[-1], "a server is gone"))
        strange = next((i for i, f in enumerate(a) if "undecodable" in f), None)
        if strange is not None:
            raise Difference(self._report(step, None, a[strange], b[strange:] and b[strange], "cannot decode A's reply"))
        tolerated = self._compare(step, a, b, persona, since)
        if CLOSED in a and step.kind not in ("handshake", "first-bytes", "close", "open"):
            self._perform(Step("reattach", step.slot, argument="drop", note="after the server closed"))
        elif tolerated:
            self._perform(Step("reattach", step.slot, argument="drop", note="clears a watch only A has"))

    def _answers(self, step: Step) -> tuple[list[dict], list[dict]]:
        answers = []
        for side in self._sides:
            side.begin_step()
            try:
                if self._pace == "lockstep" and side.name == "B" and step.kind == "window":
                    parts = [side.perform(Step("window", step.slot, [op])) for op in step.ops]
                    answers.append([f for part in parts for f in part])
                else:
                    answers.append(side.perform(step))
            except Silence:
                answers.append([{"silence": True}])
            except (OSError, wire.Malformed) as error:
                answers.append([{"broken": f"{type(error).__name__}: {error}"}])
        return answers[0], answers[1]

    def _compare(self, step: Step, a: list[dict], b: list[dict], persona: Persona, since: int) -> bool:
        """Walks both lists of frames; returns whether a watch may now differ. Raises Difference."""
        ops, tolerated, i, j = iter(step.ops), False, 0, 0
        while i < len(a) or j < len(b):
            x, y = a[i] if i < len(a) else {}, b[j] if j < len(b) else {}
            is_reply = "xid" in x and "event" not in x
            op = next(ops, None) if is_reply else None
            why = self._matcher.difference(x, y)
            if why is None or self.rules.rewritten_event(x, y) or self.rules.forgotten_connection(x, y):
                pass
            elif self.rules.denied_exists(x, y, op, persona, since):
                tolerated = tolerated or bool(op and op.watch)
            elif self.rules.hidden_event(x, persona, since):
                i += 1
                continue
            else:
                raise Difference(self._report(step, op, x, y, why))
            if op is not None:
                self._acls.observe(len(self._log), op, persona, x)
                self._learn(op, x)
            i, j = i + 1, j + 1
        return tolerated

    def _learn(self, op: Op, reply: dict) -> None:
        body = reply.get("body")
        if op.name.startswith("create") and isinstance(body, dict) and body.get("path", op.path) != op.path:
            self._generator.learn(body["path"])

    def _report(self, step: Step, op: Op | None, x: dict, y: dict, why: str) -> str:
        """The difference with the steps before it that touch the same slot or path."""
        who = PERSONAS[step.slot].name
        path = op.path if op else (x.get("event") or y.get("event") or {}).get("path")
        related = [
            f"  {number:6} {line[:400]}"
            for number, line in enumerate(self._log[:-1])
            if line.startswith(who + ":") or (isinstance(path, str) and len(path) > 1 and path in line)
        ]
        return "\n".join([
            f"DIFFERENCE seed={self.seed} step={len(self._log) - 1} operation={self.operations}",
            f"  at      {why}",
            *(f"  step    {line[:3000]}" for line in self._log[-2:]),
            f"  request {op.note if op else '(event or connection)'}",
            f"  A       {x}",
            f"  B       {y}",
            "  before, same client or path:",
            *related[-CONTEXT_STEPS:],
        ])  # fmt: skip

    def close(self) -> None:
        for side in self._sides:
            side.close()


@contextlib.contextmanager
def opened(server: str, options: Options, keep: bool):
    """An address for `apache`, `grange` or HOST:PORT."""
    if server in ("apache", "grange"):
        with (Apache if server == "apache" else Grange)(options, keep=keep) as process:
            yield process.address
            if not process.running():
                print(f"{process.name} ended by itself:\n{process.log_tail()}", file=sys.stderr)
    else:
        yield parse_address(server)


def run_round(args, seed: int, with_expiry: bool) -> tuple[int, str | None, dict[str, int]]:
    with opened(args.a, OPTIONS, args.keep) as a, opened(args.b, OPTIONS, args.keep) as b:
        the_round = Round(seed, a, b, args.pace_b, args.b == "apache")
        try:
            the_round.run(args.ops // args.rounds, args.seconds_max, with_expiry)
            return the_round.operations, None, the_round.rules.used
        except Difference as difference:
            return the_round.operations, str(difference), the_round.rules.used
        finally:
            the_round.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--a", default="apache", help="reference: apache (default), grange or HOST:PORT")
    parser.add_argument("--b", default="grange", help="server under test: grange (default), apache or HOST:PORT")
    parser.add_argument("--seed", type=int, help="seed of the first round; the next ones count up (default: random)")
    parser.add_argument("--ops", type=int, default=20_000, help="operations in all (default 20000)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds with fresh servers (default 4)")
    parser.add_argument("--pace-b", choices=("same", "lockstep"), default="same", help="lockstep: no pipelining on B")
    parser.add_argument("--keep", action="store_true", help="keep the servers' directories")
    parser.add_argument("--seconds-max", type=float, default=600, help="end a round after this time (default 600)")
    args = parser.parse_args()
    end_cleanly_on_sigterm()
    if ":" in args.a or ":" in args.b:
        args.rounds = 1
    first = random.SystemRandom().randrange(1, 10**6) if args.seed is None else args.seed
    began, operations, differences, used = time.monotonic(), 0, 0, dict[str, int]()
    try:
        for seed in range(first, first + args.rounds):
            done, difference, rules = run_round(args, seed, with_expiry=seed == first)
            operations += done
            for rule, count in rules.items():
                used[rule] = used.get(rule, 0) + count
            if difference:
                differences += 1
                print(difference, flush=True)
    except (ServerFailed, argparse.ArgumentTypeError, ConnectionError) as error:
        print(error, file=sys.stderr)
        return 3
    seconds = time.monotonic() - began
    print(f"differential: seeds {first}..{first + args.rounds - 1}, {operations} operations in {seconds:.0f} s, "
          f"{differences} differences, intended ones met: {used or 'none'}")  # fmt: skip
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
