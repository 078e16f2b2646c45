"""What the commands that tune a domain have in common: of which of its two configurations they speak."""

from __future__ import annotations

from typing import TypedDict


class Affected(TypedDict, total=False):
    """Of what a command speaks: of the running domain (`live`), or of what its next start takes (`config`).

    `current` is the running domain if it runs and its definition otherwise, which is also meant if none is given,
    unless the method says otherwise. What sets values takes `live` and `config` together.
    """

    config: bool
    live: bool
    current: bool
