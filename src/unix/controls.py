"""The controls of a host: settings that a ``with`` block changes for the current thread or task only.

A host's defaults are given when it is made and hold everywhere. What is set later lives in one context
variable, an immutable map from host to overrides, so a thread or task sees its own settings and no other's,
and leaving a block takes away what that block brought.
"""

from __future__ import annotations

import math
import sys
import time
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Literal, TypedDict, cast

from unix.errors import ControlError

LONGEST = 1_000_000
"""The longest time limit, in seconds."""


class Deadline:
    """A common deadline for all commands of one call, as a value of the control ``timeout``.

    It is `seconds` from now, or never (`math.inf`). A command has at least `least` seconds, even near the deadline,
    because the outcome of an interrupted command may be unknown.
    """

    def __init__(self, seconds: float, least: float = 0) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._least = least

    @property
    def end(self) -> float | None:
        """The deadline in terms of `time.monotonic`; None if there is none."""
        return None if self._end == math.inf else self._end

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return max(self._end - time.monotonic(), 0)

    @property
    def limit(self) -> float:
        """The seconds for a command that begins now; tenths, as error messages show them."""
        left = self.left
        return max(left if left == math.inf else math.ceil(left * 10) / 10, self._least, 0.1)


class Controls(TypedDict, total=False):
    """The controls that every host has.

    - ``options_place``: options come ``'before'`` or ``'after'`` the arguments of `Host.execute`.
    - ``locale``: the locale commands run in (``LC_ALL``); None leaves the host's own.
    - ``decode``: the codec of their output; None leaves it bytes.
    - ``envs``: environment variables added to the host's own.
    - ``timeout``: seconds after which a command is ended, with its whole process group; None: never. A `Deadline` is
      for all commands together.
    - ``escape_args``: True passes each argument as one word; False splits it into words as a shell would,
      or, under ``shell``, leaves it to the shell.
    - ``shell``: True or the name of a shell runs commands through it; None or False: no shell reads them.
    - ``su``: the user to run commands as; None: the one who is connected.
    """

    options_place: Literal["before", "after"]
    locale: str | None
    decode: str | None
    envs: Mapping[str, str]
    timeout: float | Deadline | None
    escape_args: bool
    shell: bool | str | None
    su: str | None


class Control:
    """One control: its default, what it accepts, and how that reads in an error."""

    def __init__(self, default: object, accepts: Callable[[object], bool], wanted: str) -> None:
        self.default = default
        self.accepts = accepts
        self.wanted = wanted


def is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_codec(value: object) -> bool:
    try:
        return value is None or (isinstance(value, str) and isinstance(b"a".decode(value, "ignore"), str))
    except (LookupError, ValueError):
        return False


def _is_environment(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(text, str) and name and "=" not in name and "\0" not in name + text
        for name, text in value.items()
    )


def _is_timeout(value: object) -> bool:
    return isinstance(value, Deadline | None) or (
        isinstance(value, int | float) and not isinstance(value, bool) and (0 <= value <= LONGEST or value == math.inf)
    )


def _is_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and value != "" and "\0" not in value)


HOST_CONTROLS: Mapping[str, Control] = {
    "options_place": Control("before", lambda v: v in ("before", "after"), "'before' or 'after'"),
    "locale": Control("C.UTF-8", _is_name, "the name of a locale, or None"),
    "decode": Control("utf-8", _is_codec, "the name of a codec, or None"),
    "envs": Control(MappingProxyType({}), _is_environment, "a mapping of names to texts"),
    "timeout": Control(None, _is_timeout, f"a number of seconds from 0 (no limit) to {LONGEST}, or None"),
    "escape_args": Control(True, is_bool, "True or False"),
    "shell": Control(None, lambda v: is_bool(v) or _is_name(v), "True, the name of a shell, or None"),
    "su": Control(None, _is_name, "the name of a user, or None"),
}

OF_ONE_USER = (
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
)
"""Environment variables with one user's directories, which another user (the control ``su``) does not inherit."""

CONTROLS: Mapping[str, object] = MappingProxyType({name: c.default for name, c in HOST_CONTROLS.items()})
"""The controls of a host and their defaults."""

_Frames = tuple[tuple[object, Mapping[str, object]], ...]
"""What was set, from the outermost block to the innermost; each block takes its own frame away, in whatever order."""

_Overrides = tuple[object, Mapping["weakref.ref[ControlSet]", _Frames]]
"""Who has set them, and the frames by host. A task inherits the variable of the one that made it, not its controls."""

_overrides: ContextVar[_Overrides] = ContextVar("unix.controls", default=(None, {}))


def _current() -> object:
    """The current thread and, where there is one, its current asyncio task."""
    asyncio = sys.modules.get("asyncio")
    try:
        return (get_ident(), asyncio.current_task() if asyncio else None)
    except RuntimeError:
        return (get_ident(), None)


class ControlSet:
    """The controls of one host; with a `base`, further controls on top of that host's."""

    def __init__(
        self, known: Mapping[str, Control], given: Mapping[str, object], base: ControlSet | None = None
    ) -> None:
        self._known = known
        self._base = base
        self._ref = weakref.ref(self)
        self._check(given)
        self.given = {name: dict(value) if isinstance(value, Mapping) else value for name, value in given.items()}
        self._defaults = {name: self.given.get(name, control.default) for name, control in known.items()}

    def current(self) -> dict[str, object]:
        values = {**(self._base.current() if self._base else {}), **self._defaults}
        for _, overrides in self._frames():
            values.update(overrides)
        return values

    def get(self, name: str) -> object:
        if name not in self._known:
            self._check_name(name)
            return cast(ControlSet, self._base).get(name)
        for _, overrides in reversed(self._frames()):
            if name in overrides:
                return overrides[name]
        return self._defaults[name]

    def set(self, name: str, value: object) -> None:
        self._check({name: value})
        if name in self._known:
            *below, (block, overrides) = self._frames() or ((None, {}),)
            self._put((*below, (block, {**overrides, name: value})))
        elif self._base:
            self._base.set(name, value)

    def changed(self, controls: Mapping[str, object]) -> AbstractContextManager[None]:
        """Apply `controls` for the duration of a block; what the block itself sets ends with it, too."""
        self._check(controls)
        return self._block(controls)

    @contextmanager
    def _block(self, controls: Mapping[str, object]) -> Iterator[None]:
        block, owners = object(), self._owners()
        for owner in owners:
            own = {name: value for name, value in controls.items() if name in owner._known}
            owner._put((*owner._frames(), (block, own)))
        try:
            yield
        finally:
            for owner in owners:
                owner._put(tuple(frame for frame in owner._frames() if frame[0] is not block))

    def _owners(self) -> list[ControlSet]:
        return [self, *(self._base._owners() if self._base else ())]

    def _frames(self) -> _Frames:
        setter, overrides = _overrides.get()
        return overrides.get(self._ref, ()) if overrides and setter == _current() else ()

    def _put(self, frames: _Frames) -> None:
        setter, overrides = _overrides.get()
        others = {ref: f for ref, f in overrides.items() if ref is not self._ref and ref() is not None}
        others = others if setter == _current() else {}
        _overrides.set((_current(), {**others, self._ref: frames} if frames else others))

    def _check(self, controls: Mapping[str, object]) -> None:
        for name, value in controls.items():
            control = self._check_name(name)
            if not control.accepts(value):
                given = (
                    f"what was given ({type(value).__name__})" if name == "envs" else repr(value)
                )  # which may have secrets
                raise ControlError(f"the control {name!r} takes {control.wanted}, not {given}")

    def _check_name(self, name: str) -> Control:
        known = {name: control for owner in self._owners() for name, control in owner._known.items()}
        if name not in known:
            raise ControlError(f"there is no control {name!r}; the controls are {', '.join(sorted(known))}")
        return known[name]
