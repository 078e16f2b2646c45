"""From a command, its arguments and its options to the words a process is given. Pure functions.

Words are text; bytes that are no UTF-8 travel in it as surrogates and come out of `encode` as they went in.
No shell reads these words unless the caller asks for one. Errors do not repeat the values, which may be secret.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from unix.errors import ArgumentError

Argument = str | bytes | int | float | os.PathLike[str] | os.PathLike[bytes]
"""What can be an argument: it becomes exactly one word."""

Option = Argument | bool | None | Collection[Argument]
"""What can be the value of an option: True for a flag, None or False for none, a list for several times."""


def word(argument: Argument) -> str:
    """The one word that `argument` is."""
    if isinstance(argument, os.PathLike):
        argument = os.fspath(argument)
    if isinstance(argument, bytes):
        argument = argument.decode("utf-8", "surrogateescape")
    elif isinstance(argument, int | float) and not isinstance(argument, bool):
        argument = str(argument)
    if not isinstance(argument, str):
        raise ArgumentError(f"an argument must be text, bytes, a number or a path, not {type(argument).__name__}")
    if "\0" in argument:
        raise ArgumentError(f"an argument cannot hold a NUL byte, as this one does at {argument.index(chr(0))}")
    encode(argument)
    return argument


def encode(text: str) -> bytes:
    """The bytes that `text` was made of."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        place = error.start  # and not the error itself, which has the text
    raise ArgumentError(f"an argument or input cannot hold a lone surrogate, as this one does at {place}")


def words_of(argv: Sequence[Argument]) -> list[str]:
    """The words of a command line that is given word by word."""
    if not argv or isinstance(argv, str | bytes):
        what = "an empty one" if isinstance(argv, list | tuple) else type(argv).__name__
        raise ArgumentError(f"a command line must be a list of at least one word, not {what}")
    return [word(argument) for argument in argv]


def split(command: str) -> list[str]:
    """Split `command` into words as a shell would; nothing in it is expanded."""
    if not isinstance(command, str):
        raise ArgumentError(f"a command must be text such as 'ls -l', not {type(command).__name__}")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ArgumentError(f"cannot split the command into words: {error}; close the quote") from error
    return [word(w) for w in words]


def options_to_words(options: Mapping[str, Option]) -> list[str]:
    """``all=True`` -> ``--all``, ``c='x'`` -> ``-c x``, a list repeats the option, False and None are left out."""
    words = []
    for name, value in options.items():
        bare = name.removesuffix("_").replace("_", "-")
        if not bare:
            raise ArgumentError(f"{name!r} is no name for an option")
        flag = f"-{bare}" if len(bare) == 1 else f"--{bare}"
        several = isinstance(value, Collection) and not isinstance(value, str | bytes)
        for one in cast(Collection[Argument], value) if several else [cast(Argument | bool | None, value)]:
            if one is True:
                words.append(flag)
            elif one is not None and one is not False:
                words += [flag, word(one)]
    return words


def command_line(
    command: str,
    args: Sequence[Argument],
    options: Mapping[str, Option],
    *,
    options_place: str = "before",
    escape_args: bool = True,
    shell: bool | str | None = None,
) -> list[str]:
    """The words of the process that `Host.execute` starts under these controls."""
    arguments = [word(argument) for argument in args]
    flags = options_to_words(options)
    if shell:
        if escape_args:
            arguments = [shlex.quote(argument) for argument in arguments]
        flags = [shlex.quote(flag) for flag in flags]
    elif not escape_args:
        arguments = [part for argument in arguments for part in split(argument)]
    tail = [*flags, *arguments] if options_place == "before" else [*arguments, *flags]
    if shell:
        return ["/bin/sh" if shell is True else shell, "-c", " ".join([word(command), *tail])]
    words = split(command)
    if not words:
        raise ArgumentError("there is no command to run: it is empty")
    return [*words, *tail]
