"""What a remote shell is told, as pure functions: words and environment in, one line for ``sh`` out.

The user's login shell, whichever it is, only ever sees `BOOT`, in which nothing needs more quoting than all shells
agree on. It runs ``sh``, which reads one line from standard input and does what it says; what is left of the input is
the command's. So no argument is on any command line but the command's own.

The line first prints a mark on both outputs, behind whatever the login scripts have printed: what follows is the
command's. Words that are not printable ASCII are written as octal numbers, for ``printf``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unix.words import encode

BOOT = "exec /bin/sh -c 'IFS= read -r line; eval \"$line\"'"
"""The command for every login shell: sh, bash, zsh, fish, csh."""

LONGEST = 1 << 20
"""The longest line that is sent, in bytes: what a pipe can hold while nobody reads it yet."""

_LONGEST_ARGUMENT = 120_000
"""What fits into one argument (Linux: 128 KiB)."""

_PLAIN = re.compile(r"[ -~]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_FACTS = r"""
awk=$(command -v awk)
"$awk" 'BEGIN { exit system("kill -9 $$") != 265 }' > /dev/null 2>&1 || awk=-
cat=$(command -v cat)
locales=$(locale -a 2> /dev/null | tr '\n' ,)
"""

_KEEPER = """
trap '' HUP INT PIPE TERM
groups=
without() { left=; for each in $groups; do [ $each = $1 ] || left="$left $each"; done; groups=$left; }
signal() { kill -$1 -$2 || sudo -n kill -$1 -- -$2; }
stop() {
  signal TERM $1
  left=$2
  while [ $left -gt 0 ]; do kill -0 -$1 || return; sleep 0.1; left=$((left - 1)); done
  signal KILL $1
}
while read -r what group tenths; do
  case $what in
    +) groups="$groups $group" ;;
    -) without $group ;;
    x) without $group; stop $group $tenths > /dev/null 2>&1 < /dev/null & ;;
    g) kill -0 $group 2> /dev/null || stop $group $tenths > /dev/null 2>&1 < /dev/null & ;;
  esac
done
for each in $groups; do stop $each 50 > /dev/null 2>&1 < /dev/null & done
wait
"""
"""The keeper of a connection. It is told of the process groups that the connection has, and ends those that it is told
to: a whole one (``x``), or what a process that has ended left of its group (``g``); it kills what is still there after
so many tenths of a second. When its input ends, because the connection is closed or lost or the program was killed, it
ends all of them."""

_WATCH = (
    'BEGIN { s = system(ARGV[1]); if (s < 256) exit s; printf "%s %d", ARGV[2], s % 128 > "/dev/stderr"; exit 255 }'
)
"""For awk: runs a command, and tells a signal that has ended it from an exit status. To a shell both are 137."""

_USER = """
set -f; IFS=:; set -- $(getent passwd "$user"); unset IFS
[ "$1" = "$user" ] || state=1
"""

_BECOME = """
export HOME="$6" SHELL="$7" USER="$1" LOGNAME="$1"
if setpriv --reuid=$3 --regid=$4 --init-groups true 2> /dev/null
then set -- setpriv --reuid=$3 --regid=$4 --init-groups
else set -- su -s /bin/sh -c 'exec "$@"' -- "$user" sh; fi
"""

_FIND_PATH = """
state=0; [ -f "$program" ] && [ -x "$program" ] || state=126; [ -e "$program" ] || state=127
"""

_FIND = """
state=127; set -f; IFS=:
for directory in $PATH; do
  [ ! -f "$directory/$program" ] || state=126
  [ $state = 127 ] || [ ! -x "$directory/$program" ] || { state=0; break; }
done
unset IFS
"""


class Facts(NamedTuple):
    """What is known of a host that one is connected to. `awk` and `cat` are paths; None if awk cannot tell signals."""

    uid: int
    user: str
    awk: str | None
    cat: str
    locales: frozenset[str]


def keeper(mark: str) -> str:
    """The line that begins a connection: it tells the facts behind `mark`, and then keeps watch."""
    tell = f'printf \'{mark} %s %s %s %s %s\\n\' "$(id -u)" "$awk" "$cat" "$locales," "$(id -un)"'
    return _Line().evaluated(f"{_FACTS}\n{tell}\n{_KEEPER}").text()


def facts(line: str) -> Facts:
    """The facts in what the keeper has printed behind its mark."""
    uid, awk, cat, locales, user = line.strip().split(" ", 4)
    known = frozenset(filter(None, locales.split(",")))
    return Facts(int(uid), user, awk if awk.startswith("/") else None, cat, known)


def command(
    words: Sequence[str],
    *,
    mark: str,
    envs: Mapping[str, str],
    user: str | None,
    remote: Facts,
    held: bool,
    fed: bool,
) -> str:
    """The line that prints the marks and then runs `words`, as `user` (None: as the one who is connected).

    The `mark` is a line of its own. On standard error it is followed by the number of the process, and by 0 or what
    prevents the command from being started: 126, 127, or 1 if there is no such user. Unless the command is `held`, a
    signal that ended it is told at the end of standard error, as the mark and the signal's number. It is `fed` if it
    gets an input, which then comes through a pipe: sshd's socket could not be opened as /dev/stdin.
    """
    line = _beginning(words, envs, user, remote)
    words = [*_odd(envs), *words]
    line.add(f"printf '{mark}\\n'; printf '{mark} %s %s\\n' $$ $state >&2; [ $state = 0 ] || exit $state")
    if held:
        return line.add(f'exec "$@" {line.words(words)}').text()
    inner = _Line()
    inner.add(f"exec {inner.words(words)}")
    source = f"{remote.cat} | " if fed else ""
    if remote.awk and len(inner.text()) < _LONGEST_ARGUMENT:
        return line.add(f'{source}exec "$@" {remote.awk} {line.words([_WATCH, inner.text(), mark])}').text()
    line.add(f'exec 3>&2 2> /dev/null; {source}(exec "$@" {line.words(words)} 2>&3 3>&-); s=$?')
    return line.add(
        f"[ $s -gt 128 ] && [ $s -lt 193 ] || exit $s; printf '{mark} %d' $((s - 128)) >&3; exit 255"
    ).text()


def for_terminal(words: Sequence[str], *, envs: Mapping[str, str], user: str | None, remote: Facts) -> str:
    """The command for a login shell that runs `words` on a terminal: no line is sent ahead, and no mark is printed."""
    line = _beginning(words, envs, user, remote)
    line.add(f'exec "$@" {line.words([*_odd(envs), *words])}')
    return f"exec /bin/sh -c 'eval \"$(printf %b \"$0\")\"' '{_octal(line.text())}'"


def _beginning(words: Sequence[str], envs: Mapping[str, str], user: str | None, remote: Facts) -> _Line:
    """Environment and user; then ``$state`` is 0 if the command can be started, and ``$@`` what has to be before it."""
    line = _Line()
    become = user is not None and user != remote.user
    if become and remote.uid == 0:
        line.add(f"state=; user={line.word(user or '')}").evaluated(f"{_USER}{_BECOME}")
    elif become:
        line.add(f"state=; user={line.word(user or '')}").evaluated(_USER)
    for name, value in envs.items():
        if _VARIABLE.fullmatch(name):
            line.add(f"export {name}={line.word(value)}")
    line.add(f"missing=$state; program={line.word(words[0])}").evaluated(_FIND_PATH if "/" in words[0] else _FIND)
    if become:
        line.add("state=${missing:-$state}")
    if become and remote.uid != 0:
        every = [f"{name}={value}" for name, value in envs.items()]
        line.add(f'set -- sudo -n -H -u "$user" -- env {line.words(every)}')
    elif not become:
        line.add("set --")
    return line


def _odd(envs: Mapping[str, str]) -> list[str]:
    """What sets the variables that a shell could not, and would not pass on."""
    odd = [f"{name}={value}" for name, value in envs.items() if not _VARIABLE.fullmatch(name)]
    return ["env", *odd] if odd else []


class _Line:
    """One line for ``sh``, printable ASCII, made of commands in a row."""

    def __init__(self) -> None:
        self._commands: list[str] = []
        self._variables = 0

    def add(self, command: str) -> _Line:
        self._commands.append(command)
        return self

    def evaluated(self, script: str) -> _Line:
        """Add a script of several lines."""
        return self.add(f"eval {self.word(script)}")

    def word(self, word: str) -> str:
        """The expression for a word; what it needs is added as a command before it."""
        if _PLAIN.fullmatch(word):
            return "'" + word.replace("'", "'\\''") + "'"
        name = f"w{self._variables}"
        self._variables += 1
        self.add(
            f"{name}=$(printf %b '{_octal(word)}x'); {name}=${{{name}%x}}"
        )  # x: trailing newlines would be dropped
        return f'"${name}"'

    def words(self, words: Sequence[str]) -> str:
        return " ".join([self.word(word) for word in words])

    def text(self) -> str:
        return "; ".join(self._commands)


def _octal(text: str) -> str:
    return "".join([f"\\0{byte:03o}" for byte in encode(text)])
