"""One round of the differential test: the same steps on two fresh servers, compared as they go."""
from __future__ import annotations

import collections
import dataclasses
import time

import wire
from compare import AclModel, Matcher, Rules
from operations import PERSONAS, SUPER_SLOT, Generator, Op, Persona, Step
from server_process import ServerFailed, ServerProcess
from sides import CLOSED, Side
from wire import Silence

CONTEXT_STEPS = 12
MAY_BE_SILENT = ("handshake", "first-bytes", "raw")  # an unfinished frame is waited for


class Difference(Exception):
    """Two answers that no rule allows; `kind` tells one cause from another, roughly."""

    def __init__(self, report: str, kind: tuple):
        super().__init__(report)
        self.kind = kind


@dataclasses.dataclass
class Target:
    """A server to test; one that is ours can be restarted in the middle of a round."""

    address: tuple[str, int]
    process: ServerProcess | None = None


class Round:
    """One seed on one pair of fresh servers."""

    def __init__(self, seed: int, a: Target, b: Target, lockstep: str, b_is_apache: bool):
        self.seed = seed
        self._processes = [target.process for target in (a, b)]
        self._sides = (Side("A", a.address), Side("B", b.address))
        self._lockstep = lockstep
        self._matcher = Matcher()
        self._acls = AclModel()
        self.rules = Rules(self._acls, b_is_apache)
        self._generator = Generator(seed, enforces_quotas=lockstep == "AB")
        self.performed: list[Step] = []
        self._read_at = [0] * len(PERSONAS)
        self._log: list[str] = []
        self.operations = 0
        self.met: collections.Counter[tuple[str, int]] = collections.Counter()

    def run(self, operations: int, seconds_max: float, with_expiry: bool) -> None:
        """Performs the seed's steps. Raises Difference.

        The expiry of a session takes real seconds, so one round of a run has it.
        """
        deadline, restarted = time.monotonic() + seconds_max, None in self._processes
        for step in self._generator.steps():
            if self.operations >= operations or time.monotonic() > deadline:
                break
            if not restarted and self.operations >= operations // 2:
                restarted = True
                self.replay([Step("restart", SUPER_SLOT, argument=("stop", "kill")[self.seed % 2])])
            self.performed.append(step)
            self._perform(step)
        if with_expiry:
            self.replay([Step("open", slot, note="new session") for slot in range(len(PERSONAS))])
            self.replay([Step("expiry", SUPER_SLOT, note="a session with an ephemeral node expires")])
        self.replay(last_pings())

    def replay(self, steps: list[Step]) -> None:
        """Performs given steps. Raises Difference."""
        for step in steps:
            self.performed.append(step)
            if step.kind == "restart":
                self._restart(str(step.argument))
            else:
                self._perform(step)

    def _restart(self, how: str) -> None:
        """Everything acknowledged must be there afterwards, sessions and their nodes too."""
        self._log.append(f"both servers: {how} and start again")
        for process in filter(None, self._processes):
            getattr(process, how)()
            try:
                process.start()
            except ServerFailed as error:
                raise Difference(f"DIFFERENCE seed={self.seed}: no restart after {how}: {error}", ("restart",)) from error
        for slot in range(len(PERSONAS)):
            self._perform(Step("reattach", slot, argument="drop", note="after the restart"))

    def _perform(self, step: Step) -> None:
        self._log.append(step.describe())
        a, b = self._answers(step)
        self.operations += max(1, len(step.ops))
        persona, since = PERSONAS[step.slot], self._read_at[step.slot]
        self._read_at[step.slot] = len(self._log)
        if any("broken" in f for f in a + b):
            raise self._difference(step, None, a[-1], b[-1], "a server is gone")
        if step.kind not in MAY_BE_SILENT and any("silence" in f for f in a):
            raise self._difference(step, None, a[-1], b[-1], "A does not answer")
        strange = next((i for i, f in enumerate(a) if "undecodable" in f), None)
        if strange is not None:
            other = b[strange] if len(b) > strange else {}
            raise self._difference(step, None, a[strange], other, "A's reply cannot be decoded")
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
                if side.name in self._lockstep and step.kind == "window":
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
            elif self.rules.no_text(x, y, op) or self.rules.foreign_watch(x, y, op):
                pass
            elif self.rules.denied_exists(x, y, op, persona, since):
                tolerated = tolerated or bool(op and op.watch)
            elif self.rules.moved_event(a, i, b, j):
                continue
            elif self.rules.hidden_event(x, persona, since):
                i += 1
                continue
            else:
                raise self._difference(step, op, x, y, why)
            if op is not None:
                self.met[op.name, x.get("err", 0)] += 1
                self._acls.observe(len(self._log), op, persona, x)
                self._learn(op, x)
            i, j = i + 1, j + 1
        return tolerated

    def _learn(self, op: Op, reply: dict) -> None:
        body = reply.get("body")
        if op.name.startswith("create") and isinstance(body, dict) and body.get("path", op.path) != op.path:
            self._generator.learn(body["path"])

    def _difference(self, step: Step, op: Op | None, x: dict, y: dict, why: str) -> Difference:
        """The difference, with the steps before it that touch the same slot or path."""
        who = PERSONAS[step.slot].name
        path = op.path if op else (x.get("event") or y.get("event") or {}).get("path")
        related = [
            f"  {number:6} {line[:400]}"
            for number, line in enumerate(self._log[:-1])
            if line.startswith(who + ":") or (isinstance(path, str) and len(path) > 1 and path in line)
        ]
        report = "\n".join([
            f"DIFFERENCE seed={self.seed} step={len(self._log) - 1} operation={self.operations}",
            f"  at      {why}",
            *(f"  step    {line[:3000]}" for line in self._log[-2:]),
            f"  request {op.note if op else '(event or connection)'}",
            f"  A       {x}",
            f"  B       {y}",
            "  before, same client or path:",
            *related[-CONTEXT_STEPS:],
        ])  # fmt: skip
        return Difference(report, (step.kind, op.name if op else None, why.split(":")[0]))

    def close(self) -> None:
        for side in self._sides:
            side.close()


def last_pings() -> list[Step]:
    """Brings out the events that are still on their way."""
    ping = [Op("ping", b"", "last ping", xid=wire.XID_PING)]
    return [Step("window", slot, ping) for slot in range(len(PERSONAS))]
