"""This machine as a host."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Unpack, cast

from unix.controls import OF_ONE_USER, Controls
from unix.errors import CommandTimeoutError, UnixError, UserError
from unix.host import Host, Path

if TYPE_CHECKING:
    from io import FileIO
    from pwd import struct_passwd

    from unix.process import Process


_NO_PLACE_BESIDE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOENT)
"""What is said where a file can be written but none be put in its place: in /proc, or where it is a mount."""


class Local(Host):
    """This machine. Keyword arguments are the controls that it starts with: ``Local(timeout=30)``."""

    def __init__(self, **controls: Unpack[Controls]) -> None:
        self._controls = self._control_set(controls)

    def __str__(self) -> str:
        return "this machine"

    def __repr__(self) -> str:
        return "Local()"

    def _start(
        self,
        words: Sequence[str],
        *,
        stdin: bool = True,
        terminal: bool = False,
        held: bool = False,  # noqa: ARG002  # it makes no difference here
        own_terminal: bool = False,
        named: bool = False,
    ) -> Process:
        from unix import process

        controls = cast(Controls, self.controls)
        added = dict(controls["envs"])
        if controls["locale"] is not None:
            added = {"LC_ALL": controls["locale"], "LANGUAGE": "", **added}
        name = controls["su"]
        user = _user(name) if name is not None else None
        if user is None or user.pw_uid == os.geteuid():
            env, switch = {**os.environ, **added}, None
        elif os.geteuid() == 0:
            ours = {name: value for name, value in os.environ.items() if name not in OF_ONE_USER}
            env, switch = {**ours, **_environment(user), **added}, user
        else:
            # sudo clears the environment, so what the controls add has to be set behind it
            words = [
                "sudo",
                "-n",
                "-H",
                "-u",
                user.pw_name,
                "--",
                "env",
                *(f"{n}={v}" for n, v in added.items()),
                *words,
            ]
            env, switch = dict(os.environ), None
        return process.start(
            words,
            env=env,
            terminal=terminal,
            own_terminal=own_terminal,
            stdin=stdin,
            named=named,
            user=switch.pw_uid if switch else None,
            group=switch.pw_gid if switch else None,
            extra_groups=os.getgrouplist(switch.pw_name, switch.pw_gid) if switch else None,
        )

    def open(self, path: Path, mode: str = "rb") -> BinaryIO:
        self._refuse_su()
        return cast(BinaryIO, open(path, mode if "b" in mode else mode + "b"))

    def read(self, path: Path) -> bytes:
        """As `Host.read`. `CommandTimeoutError` if it takes longer than the ``timeout`` control allows."""
        self._refuse_su()
        limit = self.time_limit()
        return super().read(path) if limit is None or os.path.isfile(path) else _read_within(path, limit)

    def write(self, path: Path, data: bytes | str) -> None:
        """As `Host.write`; where its directory lets nothing be put beside the file, it is written in place."""
        self._refuse_su()
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(memoryview(data))
        path = os.path.realpath(os.fsencode(path))
        if os.path.exists(path) and not os.path.isfile(path):  # a device, a pipe: nothing to replace
            self._write_in_place(path, content)
            return
        try:
            self._replace(path, content)
        except OSError as error:
            if error.errno not in _NO_PLACE_BESIDE or not os.path.exists(path):
                raise
            self._write_in_place(path, content)

    def _write_in_place(self, path: bytes, content: bytes) -> None:
        limit = self.time_limit()
        if limit is None or os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(content)
        else:
            _write_within(path, content, limit)

    def _replace(self, path: bytes, content: bytes) -> None:
        """Put a new file with the same owner and mode in the place of the one at `path`."""
        import tempfile

        directory, name = os.path.split(path)
        handle, temporary = tempfile.mkstemp(prefix=b"." + name[:200] + b".", dir=directory)
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            if os.path.exists(path):
                found = os.stat(path)
                if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                    os.chown(temporary, found.st_uid, found.st_gid)
                os.chmod(temporary, stat.S_IMODE(found.st_mode))
            else:
                os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def exists(self, path: Path) -> bool:
        self._refuse_su()
        return os.path.exists(path)

    def listdir(self, path: Path = ".") -> list[str]:
        self._refuse_su()
        return sorted(os.fsdecode(name) for name in os.listdir(path))

    def mkdir(self, path: Path, *, parents: bool = False) -> None:
        self._refuse_su()
        if parents:
            os.makedirs(path, exist_ok=True)
        else:
            os.mkdir(path)

    def remove(self, path: Path, *, recursive: bool = False) -> None:
        self._refuse_su()
        if not os.path.isdir(path) or os.path.islink(path):
            os.unlink(path)
        elif recursive:
            import shutil

            shutil.rmtree(path)
        else:
            os.rmdir(path)

    def which(self, command: str) -> str | None:
        import shutil

        self._refuse_su()
        envs = cast(Mapping[str, str], self.get_control("envs"))
        return shutil.which(command, path=envs.get("PATH"))

    def _refuse_su(self) -> None:
        name = self.get_control("su")
        if name is not None and _user(str(name)).pw_uid != os.geteuid():
            raise UnixError(
                f"files of this machine are reached as {_current_user()}, not as {name!r}: run a command such as "
                "cat or tee under the su control instead, or leave its block first"
            )


def _read_within(path: Path, limit: float) -> bytes:
    """Read a file that may be a pipe without a writer, within `limit` seconds."""
    deadline = time.monotonic() + limit
    pieces: list[bytes] = []
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        while poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            piece = file.read(1 << 16)
            if piece == b"":
                return b"".join(pieces)
            pieces.append(piece or b"")
            if time.monotonic() > deadline:
                break
    raise CommandTimeoutError(["read", os.fsdecode(path)], limit)


def _write_within(path: bytes, content: bytes, limit: float) -> None:
    """Write to a file that may be a pipe without a reader, within `limit` seconds."""
    deadline = time.monotonic() + limit
    left = memoryview(content)
    while (file := _opened_to_write(path)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if file is not None:
        with file:
            poll = select.poll()
            poll.register(file, select.POLLOUT)
            while left and poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                left = left[file.write(left) or 0 :]
    if left or file is None:
        raise CommandTimeoutError(["write", os.fsdecode(path)], limit)


def _opened_to_write(path: bytes) -> FileIO | None:
    """Open a file for writing, without waiting; None for a pipe without a reader."""
    try:
        return open(path, "wb", buffering=0, opener=_without_waiting)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        raise


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _user(name: str) -> struct_passwd:
    import pwd

    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise UserError(f"there is no user {name!r} on this machine to run commands as (control su)") from None


def _environment(user: struct_passwd) -> dict[str, str]:
    return {"HOME": user.pw_dir, "SHELL": user.pw_shell, "USER": user.pw_name, "LOGNAME": user.pw_name}


def _current_user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def _umask() -> int:
    """This process's umask, read where reading does not mean setting."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))
