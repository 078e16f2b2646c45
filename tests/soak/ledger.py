"""The figures of a soak test: what was checked, what was wrong, and what remained unknown."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

EXPECTED_ERRORS = frozenset(
    {
        "CannotConnectError",
        "CommandTimeoutError",
        "ConnectError",
        "ConnectionLostError",
        "KeyboardInterrupt",
        "MemoryError",
        "NoRoomError",
    }
)
"""The errors that the injected faults may cause, by the names of their classes."""


@dataclass
class Ledger:
    """The figures of one worker, or the sum of all.

    `values` counts values that were compared with what is known, `actions` actions that succeeded and were found done,
    `events` events that arrived as expected. `errors` counts the errors that the faults caused, by class. Of the
    actions whose outcome was `unknown`, `done` and `not_done` say what became of them. `faults` counts what was
    injected. `defects` describes everything that must not happen.
    """

    values: int = 0
    actions: int = 0
    events: int = 0
    unknown_done: int = 0
    unknown_not_done: int = 0
    failed_not_done: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(vars(self))

    def add(self, figures: dict[str, Any]) -> None:
        """Add the figures of another ledger, as `to_json` wrote them."""
        for name, figure in figures.items():
            if isinstance(figure, int):
                setattr(self, name, getattr(self, name) + figure)
            else:
                getattr(self, name).__iadd__(Counter(figure) if isinstance(figure, dict) else figure)

    def report(self, seconds: float) -> str:
        """Return the figures as text, a line each."""
        lines = [
            f"duration                      {seconds / 60:10.1f} min",
            f"values checked                {self.values:10,}",
            f"actions checked               {self.actions:10,}",
            f"events checked                {self.events:10,}",
            f"failed, and not done          {self.failed_not_done:10,}",
            f"unknown outcome, was done     {self.unknown_done:10,}",
            f"unknown outcome, was not done {self.unknown_not_done:10,}",
            *(f"error {name:24}{count:10,}" for name, count in sorted(self.errors.items())),
            *(f"fault {name:24}{count:10,}" for name, count in sorted(self.faults.items())),
            f"defects                       {len(self.defects):10,}",
            *(f"  {defect}" for defect in self.defects[:50]),
        ]
        return "\n".join(lines)
