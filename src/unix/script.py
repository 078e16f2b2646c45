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

from unix.controls import OF_ONE_USER
from unix.words import encode

BOOT = "exec /bin/sh -c 'IFS= TMOUT= read -r unix_line; eval \"$unix_line\"'"
"""The command for every login shell: sh, bash, zsh, fish, csh."""

FOR_ZSH = '[ -z "$ZSH_VERSION" ] || emulate sh; '
"""Begins a line that is sent, because a login script such as ``.bashrc`` may have replaced the login shell by zsh."""

LONGEST = 1 << 20
"""The longest line that is sent, in bytes: what a pipe can hold while nobody reads it yet."""

LONGEST_ARGUMENT = 128 << 10
"""What Linux takes as one argument or variable, in bytes, with the NUL behind it."""

_RUN = "%01000d"
"""Prints zeros before a mark, so that a thousand bytes can be read at once without reading beyond the mark."""

_PLAIN = re.compile(r"[ -~]*")
_FOR_EXPORT = re.compile(
    r"(?!(IFS|PATH|OPT\w+|E?UID|PPID|(OLD)?PWD|SHELLOPTS|BASH\w*|ENV|LINENO|RANDOM|SECONDS|PS\d|_|unix_\w+)\Z)"
    r"[A-Za-z_][A-Za-z0-9_]*",
    re.ASCII,
)
"""The names of variables that a shell passes on as they are."""

_FACTS = r"""
unix_awk=$(command -v awk)
"$unix_awk" 'BEGIN { exit system("kill -9 $$") != 265 }' > /dev/null 2>&1 || unix_awk=-
unix_tools=$(command -v cat)' '$(command -v env)' '$(command -v setsid || echo -)
unix_locales=$(locale -a 2> /dev/null | tr '\n' ,)
"""

_KEEPER = """
trap '' HUP INT PIPE TERM
unset TMOUT  # or bash would take a quiet time for the end of the input
groups=
without() { left=; for each in $groups; do [ $each = $1 ] || left="$left $each"; done; groups=$left; }
signal() { kill -$1 $2 || sudo -n kill -$1 -- $2; }
stop() {
  signal TERM -$1
  left=$2
  while [ $left -gt 0 ]; do kill -0 -$1 || return; sleep 0.1; left=$((left - 1)); done
  signal KILL -$1
}
while read -r what group tenths; do
  case $what in
    +) groups="$groups $group" ;;
    -) without $group ;;
    x) without $group; stop $group $tenths > /dev/null 2>&1 < /dev/null & ;;
    g) kill -0 $group 2> /dev/null || stop $group $tenths > /dev/null 2>&1 < /dev/null & ;;
    u) signal USR1 $group > /dev/null 2>&1 ;;
  esac
done
for each in $groups; do stop $each 50 > /dev/null 2>&1 < /dev/null & done
wait
"""
"""The keeper of a connection. It is told of the process groups that the connection has, and ends those that it is told
to: a whole one (``x``), or what a process that has ended left of its group (``g``); it kills what is still there after
so many tenths of a second. When its input ends, because the connection is closed or lost or the program was killed, it
ends all of them. It also passes on a sign to go on (``u``)."""

_WATCH = (
    'BEGIN { s = system(ARGV[1]); if (s < 256) exit s; printf "%s %d;", ARGV[2], s % 128 > "/dev/stderr"; exit 255 }'
)
"""For awk: runs a command, and tells a signal that has ended it from an exit status. To a shell both are 137."""

_PIPED = "exec 4>&1; s=$({{ {{ ({whole}) 3>&- 4>&-; echo $? >&3; }} | {cat} >&4 3>&- 4>&-; }} 3>&1); exit $s"
"""Runs what is `whole` with a pipe to ``cat`` as its output, and exits as it does."""

_USER = """
set -f; IFS=:; set -- $(getent passwd "$unix_user"); unset IFS
[ "$1" = "$unix_user" ] || unix_nobody=1
"""

_BECOME = f"""
unset {" ".join(OF_ONE_USER)}
export HOME="$6" SHELL="$7" USER="$1" LOGNAME="$1"
if setpriv --reuid=$3 --regid=$4 --init-groups true 2> /dev/null
then set -- setpriv --reuid=$3 --regid=$4 --init-groups
else set -- su -s /bin/sh -c 'exec "$@"' -- "$unix_user" sh; fi
"""

_FIND_PATH = """
unix_state=0; [ -f "$unix_program" ] && [ -x "$unix_program" ] || unix_state=126
[ -e "$unix_program" ] || unix_state=127
"""

_FIND = """
unix_state=127; set -f; IFS=:
for unix_directory in $unix_path; do
  [ ! -f "$unix_directory/$unix_program" ] || unix_state=126
  [ $unix_state = 127 ] || [ ! -x "$unix_directory/$unix_program" ] || { unix_state=0; break; }
done
unset IFS
"""


class Facts(NamedTuple):
    """What is known of a host that one is connected to.

    The programs are paths; there is no `awk` if it cannot tell signals, and no `setsid` if there is none.
    """

    uid: int
    user: str
    awk: str | None
    cat: str
    env: str
    setsid: str | None
    locales: frozenset[str]


def printed(mark: str) -> bytes:
    """Return a `mark` in its printed form."""
    return (_RUN % 0 + mark).encode()


def keeper(mark: str) -> str:
    """The line that begins a connection: it tells the facts behind `mark`, and then keeps watch."""
    told = '"$(id -u)" "$unix_awk" "$unix_tools" "$unix_locales," "$(id -un)"'
    return _Line().evaluated(f"{_FACTS}\nprintf '{_RUN}{mark} %s %s %s %s %s\\n' 0 {told}\n{_KEEPER}").text()


def facts(line: str) -> Facts:
    """The facts in what the keeper has printed behind its mark."""
    uid, awk, cat, env, setsid, locales, user = line.strip().split(" ", 6)
    known = frozenset(filter(None, locales.split(",")))
    return Facts(int(uid), user, awk if awk != "-" else None, cat, env, setsid if setsid != "-" else None, known)


def command(
    words: Sequence[str],
    *,
    mark: str,
    envs: Mapping[str, str],
    user: str | None,
    remote: Facts,
    held: bool,
    fed: bool,
    named: bool = False,
) -> str:
    """The line that prints the marks and then runs `words`, as `user` (None: as the one who is connected).

    The `mark` is a line of its own. On standard error it is followed by the number of the process, by 0 or what
    prevents the command from being started (126, 127, or 1 if there is no such user), and by the number again. Unless
    the command is `held`, it has a session of its own, and a signal that ended it is told on standard error, as the
    mark, the signal's number and a semicolon. It is `fed` if it gets an input, which then comes through a pipe: sshd's
    socket could not be opened as /dev/stdin. With `named` its output goes through a pipe as well, to be opened as
    /dev/stdout.
    """
    line = _beginning(words, envs, user, remote)
    if held:
        line.add(_marks(mark, "$unix_state"))
        return _run(line, words, envs, user, remote).text()
    line.add(f"[ $unix_state = 0 ] || {{ {_marks(mark, '$unix_state')}; }}")
    inner = _run(_Line().add(f"set --; {_marks(mark, '0')}"), words, envs, None, remote)
    alone = _Line()
    alone.add(f"exec {remote.setsid} /bin/sh -c {alone.word(inner.text())}" if remote.setsid else inner.text())
    watched = _Line()
    if remote.awk:
        watched.add(f"exec {remote.awk} {watched.words([_WATCH, alone.text(), mark])}")
    else:
        watched.add(_watched(alone.text(), mark))
    whole = _with_pipes(watched.text(), remote, fed=fed, named=named)
    if len(whole) >= LONGEST_ARGUMENT:
        return _in_arguments(line, words, mark=mark, envs=envs, remote=remote, fed=fed, named=named)
    if user is not None and user != remote.user:
        return line.add(f'exec "$@" /bin/sh -c {line.word(whole)}').text()
    return line.add(whole).text()


def _in_arguments(
    line: _Line,
    words: Sequence[str],
    *,
    mark: str,
    envs: Mapping[str, str],
    remote: Facts,
    fed: bool,
    named: bool,
) -> str:
    """The same for a line that is too long to be one argument: each word is one here, which awk could not pass on."""
    assigned = [remote.env, *[f"{name}={value}" for name, value in envs.items()]] if envs else []
    alone = _Line()
    begun = alone.word(f'{_marks(mark, "0")}; exec "$@"')
    alone.add(f'exec {remote.setsid or ""} /bin/sh -c {begun} sh "$@"')
    whole = _with_pipes(_watched(alone.text(), mark), remote, fed=fed, named=named)
    return line.add(f'exec "$@" /bin/sh -c {line.word(whole)} sh {line.words([*assigned, *words])}').text()


def _watched(alone: str, mark: str) -> str:
    """Runs what is `alone` in a shell, which takes statuses of 129 to 192 for signals."""
    return (
        f"exec 3>&2 2> /dev/null; (exec 2>&3 3>&-; {alone}); s=$?; [ $s -gt 128 ] && [ $s -lt 193 ] || exit $s; "
        f"printf '{mark} %d;' $((s - 128)) >&3; exit 255"
    )


def _with_pipes(watched: str, remote: Facts, *, fed: bool, named: bool) -> str:
    whole = f"{remote.cat} | {{ {watched}; }}" if fed else watched
    return _PIPED.format(whole=whole, cat=remote.cat) if named else whole


def for_terminal(words: Sequence[str], *, envs: Mapping[str, str], user: str | None, remote: Facts) -> str:
    """The command for a login shell that runs `words` on a terminal: no line is sent ahead, and no mark is printed."""
    line = _run(_beginning(words, envs, user, remote), words, envs, user, remote)
    return f"exec /bin/sh -c 'eval \"$(printf %b \"$0\")\"' '{_octal(line.text())}'"


def _marks(mark: str, state: str) -> str:
    told = f"printf '{_RUN}{mark} %s %s %s\\n' 0 $$ {state} $$ >&2"
    return f"printf '{_RUN}{mark}\\n' 0; {told}; [ {state} = 0 ] || exit {state}"


def _beginning(words: Sequence[str], envs: Mapping[str, str], user: str | None, remote: Facts) -> _Line:
    """Then ``$unix_state`` is 0 if the command can be started, and ``$@`` is what has to be before it for the user."""
    line = _Line()
    become = user is not None and user != remote.user
    line.add("unix_nobody=")
    if become:
        line.add(f"unix_user={line.word(user or '')}").evaluated(_USER + (_BECOME if remote.uid == 0 else ""))
    line.add(f"unix_path={line.word(envs['PATH']) if 'PATH' in envs else '$PATH'}")
    line.add(f"unix_program={line.word(words[0])}").evaluated(_FIND_PATH if "/" in words[0] else _FIND)
    line.add("unix_state=${unix_nobody:-$unix_state}")
    if not become:
        line.add("set --")
    elif remote.uid != 0:
        line.add('set -- sudo -n -H -u "$unix_user" --')
    return line


def _run(line: _Line, words: Sequence[str], envs: Mapping[str, str], user: str | None, remote: Facts) -> _Line:
    """Add what becomes `words` with these variables; ``env`` sets those that a shell, or sudo, would not pass on."""
    by_sudo = user is not None and user != remote.user and remote.uid != 0
    exported = {name for name in envs if _FOR_EXPORT.fullmatch(name) and not by_sudo}
    for name in exported:
        line.add(f"export {name}={line.word(envs[name])}")
    odd = [f"{name}={value}" for name, value in envs.items() if name not in exported]
    return line.add(f'exec "$@" {line.words([remote.env, *odd, *words] if odd else words)}')


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
