"""JSON, as Python's own module writes it, except that all control characters are escaped.

That module has a reader as well, which takes long to load.
"""

from __future__ import annotations

_ESCAPES = str.maketrans(
    {chr(code): f"\\u{code:04x}" for code in (*range(32), *range(0x7F, 0xA0))}
    | {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)


def dump(value: object, *, on_one_line: bool = False) -> str:
    """A value of plain types as JSON; what is no Unicode in it, as libvirt may have it, becomes escapes."""
    return _written(value, "" if on_one_line else "\n").encode("utf-8", "backslashreplace").decode()


def _written(value: object, newline: str) -> str:
    """`newline` goes before each line of what belongs to `value`: nothing if all of it is on one."""
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    inner = f"{newline}  " if newline else ""
    if isinstance(value, dict):
        members = [f"{_written(name, '')}: {_written(each, inner)}" for name, each in value.items()]
        return _enclosed("{", members, "}", newline, inner)
    if isinstance(value, list):
        return _enclosed("[", [_written(each, inner) for each in value], "]", newline, inner)
    return repr(value)


def _enclosed(opening: str, members: list[str], closing: str, newline: str, inner: str) -> str:
    between = f",{inner}" if inner else ", "
    return f"{opening}{inner}{between.join(members)}{newline}{closing}" if members else opening + closing
