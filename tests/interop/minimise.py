"""Reduces a list of steps that shows a difference to a short one that still does."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from operations import PERSONAS, Step


def minimised(steps: list[Step], shows: Callable[[list[Step]], bool], seconds_max: float) -> list[Step]:
    """The fewest steps found within the time; first without whole steps, then without requests of a window.

    The steps that open the clients' sessions stay.
    """
    deadline = time.monotonic() + seconds_max
    opening, rest = steps[: len(PERSONAS)], steps[len(PERSONAS) :]
    rest = _without_chunks(rest, lambda some: shows(opening + some), deadline)
    for index, step in enumerate(rest):
        if step.kind == "window" and len(step.ops) > 1:

            def with_ops(ops: list, index: int = index, step: Step = step) -> list[Step]:
                return [*rest[:index], dataclasses.replace(step, ops=ops), *rest[index + 1 :]]

            ops = _without_chunks(step.ops, lambda some: bool(some) and shows(opening + with_ops(some)), deadline)
            rest = with_ops(ops)
    return opening + rest


def _without_chunks(items: list, shows: Callable[[list], bool], deadline: float) -> list:
    """Tries to leave out halves, then quarters, and so on down to single items, the last items first."""
    size = max(1, len(items) // 2)
    while True:
        at = len(items) - size
        while at > -size and time.monotonic() < deadline:
            fewer = items[: max(at, 0)] + items[at + size :]
            if len(fewer) < len(items) and shows(fewer):
                items = fewer
            at -= size
        if size == 1 or time.monotonic() >= deadline:
            return items
        size //= 2
