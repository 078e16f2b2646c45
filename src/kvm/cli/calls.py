"""What is asked for -> a call of a group's method, and its value.

The options of a command are the keywords of its method, under the same names; what is otherwise stands in the tables
here. Files with XML, keys and secrets are this machine's: they are read once, before any host is asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from kvm.cli.arguments import Invocation, UsageError, method_of, options_of, reader_of

if TYPE_CHECKING:
    import threading

    from kvm.cli.progress import Shown
    from kvm.hypervisor import Hypervisor
    from kvm.virsh.plan import Plan
    from unix.result import Result

_KEYWORDS = {"from", "async", "await", "import", "class"}

_JOINED = {
    ("desc", "new-desc"),
    ("net-desc", "new-desc"),
    ("qemu-agent-command", "cmd"),
    ("qemu-monitor-command", "cmd"),
}
"""What virsh takes in several words and makes one text of."""

_TERMINAL = {"console", "lxc-enter-namespace"}
"""Commands that take the terminal."""

_STREAMING = {
    "event", "net-event", "pool-event", "nodedev-event", "secret-event", "qemu-monitor-event", "await",
}  # fmt: skip
"""Commands that print as things happen; without a method they are virsh's own, and its text goes where it goes."""

_WAITING = {"wait", "pivot", "finish", "keep-overlay", "timeout"}
"""The options with which virsh waits for a block job; otherwise it only begins it, as it always does with a backup."""

_NOT_OF_THE_METHOD = {"domtime": {"pretty"}}
"""Options that only shape virsh's text, and that the method does not take."""

_BLOCK_JOBS = {"blockcommit", "blockcopy", "blockjob", "blockpull"}
"""Commands whose bandwidth is in MiB a second on virsh's command line, unless there is ``--bytes``."""

DOCUMENTS = {
    "backup-dumpxml", "capabilities", "checkpoint-dumpxml", "cpu-baseline", "domcapabilities", "domxml-from-native",
    "dumpxml", "find-storage-pool-sources", "find-storage-pool-sources-as", "hypervisor-cpu-baseline", "iface-dumpxml",
    "managedsave-dumpxml", "net-dumpxml", "net-port-dumpxml", "nodedev-dumpxml", "nwfilter-binding-dumpxml",
    "nwfilter-dumpxml", "pool-capabilities", "pool-dumpxml", "save-image-dumpxml", "secret-dumpxml", "snapshot-current",
    "snapshot-dumpxml", "sysinfo", "vol-dumpxml",
}  # fmt: skip
"""Commands that print XML."""

_NO_DOCUMENT = {"xpath", "name", "snapshotname"}
"""The options with which such a command prints something other than a document."""

DESTRUCTIVE = {
    "checkpoint-delete", "destroy", "detach-device", "detach-device-alias", "detach-disk", "detach-interface",
    "iface-destroy", "iface-undefine", "inject-nmi", "managedsave-remove", "net-destroy", "net-port-delete",
    "net-undefine", "nodedev-destroy", "nodedev-undefine", "nodesuspend", "nwfilter-binding-delete",
    "nwfilter-undefine", "pool-build", "pool-delete", "pool-destroy", "pool-undefine", "reset", "secret-undefine",
    "snapshot-delete", "snapshot-revert", "undefine", "vol-delete", "vol-resize", "vol-upload", "vol-wipe",
}  # fmt: skip
"""Commands that take something away that may not come back."""


def keyword(option: str) -> str:
    """An option's name as a keyword in Python."""
    name = option.replace("-", "_")
    return name + "_" if name in _KEYWORDS else name


_TIMEOUT = 60.0
_LONG_TIMEOUT = 600.0
"""Seconds that each of several hosts has for a command, and for one that may take long."""


def default_timeout(asked: Invocation) -> float | None:
    """Seconds that each of several hosts has; None where progress is shown, or the end is an option of the command."""
    if asked.command == "qemu-img":
        return None if watched(asked) else _LONG_TIMEOUT
    from kvm.virsh.manners import LONG

    if asked.command in _STREAMING or _keywords(asked):
        return None
    return _LONG_TIMEOUT if asked.command in LONG else _TIMEOUT


def is_destructive(asked: Invocation) -> bool:
    """Whether it takes something away that may not come back."""
    if asked.command == "qemu-img":
        from kvm.cli import images

        return images.changes(asked)
    return asked.command in DESTRUCTIVE


def is_verbose(asked: Invocation) -> bool:
    """Whether how far it is is to be told where there is no terminal as well."""
    if asked.command == "qemu-img":
        from kvm.cli import images

        return images.is_verbose(asked)
    return bool(asked.options.get("verbose"))


def command_line(asked: Invocation, uri: str | None) -> list[str]:
    """Return the command line, of virsh or of qemu-img, for a command on a hypervisor with this URI."""
    if asked.command == "qemu-img":
        from kvm.cli import images

        return images.command_line(asked)
    return ["virsh", *(["--connect", uri] if uri else []), *command_words(asked)]


def command_words(asked: Invocation) -> list[str]:
    """The words that virsh is given, each option by its name."""
    words = [asked.command]
    for name, value in asked.options.items():
        for one in value if isinstance(value, list) else [value]:
            words.append(f"--{name}" if one is True else f"--{name}={_number_of(asked, name, one)}")
    return words


def _number_of(asked: Invocation, option: str, value: object) -> object:
    """Convert a text with a unit to the plain number that virsh takes; virsh checks all other values."""
    from kvm.errors import InvalidArgumentError
    from kvm.virsh.units import unit_of, word

    unit = unit_of(asked.command, option)
    if unit is None or not isinstance(value, str) or (option == "bandwidth" and asked.command in _BLOCK_JOBS):
        return value
    try:
        return word(asked.command, option, value, unit)
    except InvalidArgumentError:
        return value


def wants_terminal(asked: Invocation) -> bool:
    """Whether virsh itself is to have the terminal."""
    return asked.command in _TERMINAL or bool(asked.options.get("interactive") or asked.options.get("edit"))


def prints_xml(asked: Invocation) -> bool:
    """Whether virsh answers with a document."""
    if "print-xml" in asked.options:
        return True
    return asked.command in DOCUMENTS and not _NO_DOCUMENT & asked.options.keys()


def check(asked: Invocation) -> None:
    """Refuse options that have no effect or no meaning, before any host is connected to; also in a dry run."""
    command = asked.command
    if "yaml" in asked.flags and not command.endswith("edit"):
        raise UsageError(f"--yaml is for commands that edit, not for {command}, which takes YAML without it")
    if wants_terminal(asked) or command.endswith("edit"):
        if asked.output != "table":
            raise UsageError(f"{command} takes the terminal, so it has no -o {asked.output}")
        if asked.timeout is not None:
            raise UsageError(f"{command} takes the terminal, so it has no --timeout")
    if command in _STREAMING and asked.timeout is not None:
        raise UsageError(f"{command} waits for events; give its time limit after the command: {command} --timeout")
    if command == "snapshot-edit" and "snapshotname" not in asked.options:
        raise UsageError("snapshot-edit needs <snapshotname>")
    if command == "schedinfo":
        for text in cast(list[str], asked.options.get("set", [])):
            _assignment(text)


def read_files(asked: Invocation, hosts: int) -> None:
    """Replace the names of files on this machine in `asked` by their contents."""
    for option in options_of(asked.command):
        given = asked.options.get(option.name)
        if option.is_document and given is not None:
            several = [_document(each) for each in given] if isinstance(given, list) else _document(given)
            asked.options[option.name] = _as_bytes(several) if asked.output == "raw" else several
    if asked.command == "vol-upload" and asked.options["file"] == "-":
        import sys

        asked.options["file"] = sys.stdin.buffer
        if hosts > 1:
            raise UsageError("what comes from standard input can go to one host only")
    elif asked.command == "vol-upload" and not os.access(sent := str(asked.options["file"]), os.R_OK):
        raise UsageError(f"cannot read {sent}: {os.strerror(errno.EACCES if os.path.exists(sent) else errno.ENOENT)}")
    if asked.command == "set-user-sshkeys" and isinstance(file := asked.options.get("file"), str):
        asked.options["file"] = content(file).decode().splitlines()
    elif asked.command == "domxml-from-native":
        asked.options["config"] = content(str(asked.options["config"]))


def ask_for_secrets(asked: Invocation) -> None:
    """Add the secrets that `asked` needs: prompt for them, or read standard input."""
    if asked.command in ("set-user-password", "secret-set-value"):
        from kvm.cli.secrets import password, secret_value

        if asked.command == "secret-set-value":
            asked.options = {"secret": asked.options["secret"], "value": secret_value(asked.options)}
        elif "password" not in asked.options:
            asked.options["password"] = password(f"New password of {asked.options['user']}: ")


def _document(given: object) -> object:
    """Return a document that is given as XML, or is in a file on this machine as XML, JSON or YAML; ``-`` is stdin.

    XML stays text; JSON and YAML become values, as ``edit --yaml`` shows them.
    """
    text = str(given)
    if text.lstrip().startswith("<"):
        return text
    found = content(text)
    beginning = found.lstrip()[:1]
    if not beginning or beginning == b"<" or found[:2] in (b"\xff\xfe", b"\xfe\xff") or found[:3] == b"\xef\xbb\xbf":
        return found
    return _values(found, "standard input" if text == "-" else text)


def _as_bytes(document: object) -> bytes:
    """Return a document as XML, for virsh itself."""
    if isinstance(document, str):
        return document.encode("utf-8", "surrogateescape")
    if not isinstance(document, bytes):
        raise UsageError("-o raw takes one document, as XML; leave -o raw out to give JSON or YAML")
    return document


def _values(found: bytes, where: str) -> dict[str, object]:
    """Return the mapping that is written in JSON or YAML."""
    try:
        text = found.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{where} must be XML, or JSON or YAML in UTF-8") from None
    from kvm.cli.yaml import load

    values = _of_json(text, where) if text.lstrip().startswith("{") else load(text, where)
    if not isinstance(values, dict):
        raise UsageError(f"{where} must be XML, or a mapping in JSON or YAML, not {type(values).__name__}")
    return values


def _of_json(text: str, where: str) -> object:
    """Return the value of JSON, or of YAML if it is not JSON."""
    import json

    try:
        return json.loads(text)
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply") from None
    except ValueError as error:
        try:
            from kvm.cli.yaml import load
        except UsageError:
            raise UsageError(f"{where} is not JSON: {error}") from None
        return load(text, where)


def content(path: str) -> bytes:
    """The content of a file of this machine; ``-`` is standard input."""
    import sys

    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read {'standard input' if path == '-' else path}: {error.strerror}") from error


class Watch:
    """Somebody who watches a call that takes long: which of its method's ``progress`` and ``cancel`` are of use."""

    def __init__(self, takes: frozenset[str], host: str, shown: Shown, cancelled: threading.Event) -> None:
        self.takes = takes
        self.host = host
        self.shown = shown
        self.cancelled = cancelled
        self.has_begun = False

    def keywords(self, hypervisor: Hypervisor, command: str, options: Mapping[str, Any]) -> dict[str, object]:
        """What its method is given, which begins now."""
        from kvm.errors import KvmError

        given: dict[str, object] = {"cancel": self.cancelled} if "cancel" in self.takes else {}
        if "progress" in self.takes and (self.shown.is_wanted or not given):
            total = _bytes(hypervisor, command, options) if self.shown.is_wanted else None
            told = self.shown.of(self.host, total)

            def progress(done: float) -> None:
                if self.cancelled.is_set() and "cancel" not in given:  # that ends the others
                    raise KvmError("it was cancelled")
                told(done)

            given["progress"] = progress
        self.has_begun = True
        return given


def watched(asked: Invocation) -> frozenset[str]:
    """Which of ``progress`` and ``cancel`` a command's method takes; none if it does not wait for what it begins."""
    if asked.command == "qemu-img":
        from kvm.cli import images

        return images.watched(asked)
    waits = not asked.command.startswith(("block", "backup")) or bool(_WAITING & asked.options.keys())
    return _keywords(asked) if waits and asked.output != "raw" else frozenset()


def _keywords(asked: Invocation) -> frozenset[str]:
    """Which of ``progress`` and ``cancel`` a command's method takes."""
    import unix
    from kvm.hypervisor import Hypervisor

    group, name = method_of(asked.command)
    method = getattr(getattr(Hypervisor(unix.Local()), group), name, None)
    keywords: Mapping[str, object] = getattr(method, "__kwdefaults__", None) or {}
    return frozenset({"progress", "cancel"} & keywords.keys())


def _bytes(hypervisor: Hypervisor, command: str, options: Mapping[str, Any]) -> int | None:
    """How many bytes a call is about, if that is known: those of a file that is sent, or of a volume."""
    from kvm.errors import KvmError

    if "vol" not in options or "length" in options:
        return cast(int | None, options.get("length"))
    try:
        if command == "vol-upload":
            return os.stat(options["file"]).st_size or None
        pool = {"pool": options["pool"]} if "pool" in options else {}
        return int(hypervisor.volume.info(options["vol"], **pool)["capacity"]) - int(options.get("offset", 0))
    except (OSError, TypeError, KvmError):
        return None  # the call itself will tell what is wrong


def value_of(hypervisor: Hypervisor, asked: Invocation, watch: Watch | None = None) -> object:
    """What the method of the command returns on this hypervisor.

    Where there is no method, or none for such options, what virsh itself says.
    """
    group, name = method_of(asked.command)
    method = getattr(getattr(hypervisor, group), name, None)
    options = {keyword(option): value for option, value in asked.options.items()}
    for dropped in _NOT_OF_THE_METHOD.get(asked.command, ()):
        options.pop(dropped, None)
    options = {name: _with_unit(asked, name, value) for name, value in options.items()}
    for command, option in _JOINED:
        if asked.command == command and isinstance(words := options.get(keyword(option)), list):
            options[keyword(option)] = " ".join(words)
    if "domain" in options:
        options["domain"] = _domains(hypervisor, options["domain"])
    if asked.command == "screenshot":
        return _screenshot(hypervisor, **options)
    if method is None:
        return raw(hypervisor, asked)
    if asked.command == "domstats":
        return method(*cast(list[object], options.pop("domain", [])), **options)
    if asked.command == "send-key":
        return method(options.pop("domain"), *cast(list[object], options.pop("keycode")), **options)
    if asked.command == "node-memory-tune":
        names = ("shm_pages_to_scan", "shm_sleep_millisecs", "shm_merge_across_nodes")
        return method(*(options.get(each) for each in names) if options else ())
    if asked.command == "schedinfo" and "set" in options:
        options["set"] = dict(_assignment(each) for each in cast(list[str], options["set"]))
    if asked.command.endswith("edit"):
        from kvm.cli.editor import Editor

        with Editor(asked.command, as_yaml="yaml" in asked.flags) as editor:
            return editor.until_done(lambda function: method(function=function, **options))
    if asked.command.endswith("event") and "list" not in options:
        options = {"loop": False, **options}  # as virsh: the first one, unless there is --loop
    return method(**options, **(watch.keywords(hypervisor, asked.command, options) if watch else {}))


def begin(hypervisor: Hypervisor, asked: Invocation) -> None:
    """Have virsh start while the rest of this program is still being loaded."""
    from kvm.virsh.connection import named
    from kvm.virsh.manners import LONG

    connection = named(asked.connect)
    is_live = asked.command not in LONG or connection is None or connection.keeps_state
    if not wants_terminal(asked) and asked.command not in _STREAMING and is_live:
        hypervisor.start()


def raw(hypervisor: Hypervisor, asked: Invocation) -> object:
    """Return the result of virsh itself."""
    if not any(isinstance(value, bytes) for value in asked.options.values()):
        first, *rest = command_words(asked)
        return hypervisor.virsh(first, *rest)
    from kvm.virsh.command import Command

    options = {keyword(option): value for option, value in asked.options.items()}

    def plan() -> Plan[Result]:
        (result,) = yield (Command(asked.command, options, reads=reader_of(asked.command) is not None),)
        return result

    return hypervisor.call(plan())


def interactive(hypervisor: Hypervisor, asked: Invocation) -> int:
    """Run virsh itself with this terminal; its exit status."""
    return hypervisor.interact_words(command_words(asked)).return_code


def streams(asked: Invocation) -> bool:
    """Return whether virsh itself prints its text, as events happen."""
    return asked.command in _STREAMING and asked.output == "raw"


def comments(value: object) -> list[str]:
    """Return the errors that virsh has reported although the command succeeded."""
    from kvm.virsh import manners
    from unix.result import Result

    return manners.comments(value) if isinstance(value, Result) else []


def _with_unit(asked: Invocation, name: str, value: object) -> object:
    """Add virsh's unit to a plain number: the library's methods take sizes and rates in bytes."""
    from kvm.virsh.units import unit_of

    option = name.removesuffix("_").replace("_", "-")
    unit = unit_of(asked.command, option)
    if option == "bandwidth" and asked.command in _BLOCK_JOBS and "bytes" not in asked.options:
        unit = "MiB/s"
    is_size = unit is not None and unit.partition("/")[0] in ("bytes", "KiB", "MiB")  # a time is in virsh's unit anyway
    return f"{value} {unit}" if is_size and type(value) is int and value >= 0 else value


def _domains(hypervisor: Hypervisor, given: object) -> object:
    """Domains as virsh takes them: a number is an id, if there is such a domain, and otherwise a name."""
    if isinstance(given, list):
        return [_domains(hypervisor, each) for each in given]
    text = str(given)
    if not (text.isdecimal() and text.isascii()):
        return text
    ids = {domain["id"] for domain in hypervisor.domain.list().values()}
    return int(text) if int(text) in ids else text


def _assignment(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    try:
        return name, int(value)
    except ValueError:
        raise UsageError(f"schedinfo takes name=number, not {text!r}") from None


def _screenshot(hypervisor: Hypervisor, **options: Any) -> object:
    """A picture of a screen in a file of this machine."""
    import shlex
    import tempfile

    from kvm.errors import KvmError

    file, domain = options.pop("file", None), options.pop("domain")
    made, path, why = hypervisor.execute("mktemp")
    if not made:
        raise KvmError(f"cannot make a temporary file on {hypervisor.host}: {why.strip()}")
    path = path.strip()
    try:
        said = hypervisor.domain.screenshot(domain, file=path, **options).stdout
        picture = hypervisor.read(path)
    finally:
        hypervisor.execute("rm", path, f=True)
    kind = "png" if picture.startswith(b"\x89PNG") else "ppm"
    if file is None:
        handle, file = tempfile.mkstemp(prefix=f"{domain}-", suffix=f".{kind}", dir=".")
        with open(handle, "wb") as out:
            out.write(picture)
    else:
        with open(file, "wb") as out:
            out.write(picture)
    from unix.result import Result

    return Result(0, said.replace(path, shlex.quote(str(file))))
