"""The walls around an answer: namespaces, another user, limits.

On Linux a process can be given its own view of the machine: its processes, its network, and a root
folder in which there is nothing but Python, the system's libraries and an empty folder of its own.
Root may do so at once, others in a user namespace, where the system grants one. `unshare` is called
by ctypes: os.unshare came with Python 3.12.
"""

import contextlib
import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterable
from typing import NamedTuple

NEWNS, NEWUTS, NEWIPC, NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
NEWPID, NEWNET = 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}  # of statvfs -> of mount
DETACH = 2
SET_DEATH_SIGNAL, SET_NO_NEW_PRIVILEGES, SET_SUBREAPER = 1, 38, 36
CAPABILITIES_VERSION = 0x20080522
SYSTEM = (
    "/usr /lib /lib32 /lib64 /bin /etc/ld.so.cache /etc/alternatives /etc/localtime /nix/store"
).split()
DEVICES = ("null", "zero", "full", "random", "urandom")
WORK = "/answer"
FOLDER_BYTES = 64 << 20  # what the throw-away folder holds
FILE_BYTES, OPEN_FILES, PROCESSES = 16 << 20, 64, 32


class Walls(NamedTuple):
    """What stands between an answer and the machine.

    `processes`: it sees its own processes only; `network`: it has none; `files`: it sees Python and
    an empty folder only; `user`: it runs as a user that owns nothing.
    """

    processes: bool = False
    network: bool = False
    files: bool = False
    user: bool = False

    def missing(self) -> list[str]:
        """What does not stand, in words. In a namespace of processes and files of its own, another
        user adds nothing that has to be named."""
        found = []
        if not self.files:
            found.append("it can read and write this user's files")
        if not self.network:
            found.append("it has the network")
        if not self.processes:
            found.append("it can send signals to this user's processes")
        return [] if self.user and not found else found


def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of the C library that returns 0; OSError where it doesn't."""
    given = [x.encode() if isinstance(x, str) else x for x in arguments]
    if getattr(libc(), name)(*given) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unshare_all(as_root: bool) -> Walls:
    """Leave the namespaces of processes, network and messages: the processes are those of the next
    fork. OSError where the system grants nothing of it."""
    flags = NEWPID | NEWNET | NEWIPC | NEWUTS
    if as_root:
        call("unshare", flags)
    else:
        uid, gid = os.getuid(), os.getgid()
        call("unshare", flags | NEWUSER)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{uid} {uid} 1")
        write("/proc/self/gid_map", f"{gid} {gid} 1")
    return Walls(processes=True, network=True)


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def new_root(folder: str, visible: Iterable[str], hidden: Iterable[str]) -> None:
    """Make `folder` the root: in it the visible paths, read-only and in their places, without the
    hidden ones; then the old root is gone. OSError where mounting is refused."""
    call("unshare", NEWNS)
    call("mount", "none", "/", None, ctypes.c_ulong(REC | PRIVATE), None)
    mount_empty(folder, "mode=755,size=1m")
    for path in places(visible):
        put(folder, path)
    for path in (f"/dev/{name}" for name in DEVICES):
        put(folder, path)
    for path in map(os.path.realpath, hidden):
        if any(path.startswith(outer + "/") for outer in places(visible)):
            hide(folder + path)
    for point in mount_points(folder):
        flags = sum(to for of, to in KEPT.items() if os.statvfs(point).f_flag & of)
        device = point.startswith(f"{folder}/dev/")
        more = 0 if device else RDONLY | NODEV
        call(
            "mount",
            "none",
            point,
            None,
            ctypes.c_ulong(REMOUNT | BIND | more | NOSUID | flags),
            None,
        )
    os.makedirs(folder + WORK, exist_ok=True)
    os.chdir(folder)
    call("pivot_root", ".", ".")
    call("umount2", ".", DETACH)
    os.chdir("/")
    call("mount", "none", "/", None, ctypes.c_ulong(REMOUNT | RDONLY | NOSUID | NODEV), None)


def places(visible: Iterable[str]) -> list[str]:
    """The paths that are there, outer ones first, without those that an outer one brings along."""
    found: list[str] = []
    wanted = {os.path.abspath(path) for path in (*SYSTEM, *visible)}
    wanted |= {os.path.realpath(path) for path in wanted}
    for path in sorted(wanted):
        inside = any(path.startswith(outer + "/") for outer in found if not os.path.islink(outer))
        if os.path.lexists(path) and path != "/" and not inside:
            found.append(path)
    return found


def put(root: str, path: str) -> None:
    """A folder, file or link of the old root at its place in the new one."""
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        if not os.path.lexists(target):
            os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    call("mount", path, target, None, ctypes.c_ulong(BIND | REC), None)


def hide(path: str) -> None:
    """Something empty over a folder or a file of the new root, if it is there."""
    if os.path.isdir(path):
        mount_empty(path, "mode=755,size=4k")
    elif os.path.exists(path):
        call("mount", "/dev/null", path, None, ctypes.c_ulong(BIND), None)


def mount_empty(path: str, options: str) -> None:
    call("mount", "tmpfs", path, "tmpfs", ctypes.c_ulong(NOSUID | NODEV), options)


def mount_points(root: str) -> list[str]:
    """What is mounted below a folder."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split()[4] for line in file]
    plain = [re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), point) for point in points]
    return [point for point in plain if point.startswith(root + "/")]


def fresh_folder(uid: int, is_used: bool) -> None:
    """An empty folder at WORK in a new root, in the place of the one that was used."""
    if is_used:
        call("umount2", WORK, DETACH)
    mount_empty(WORK, f"mode=700,uid={uid},size={FOLDER_BYTES}")


def become(uid: int | None) -> None:
    """Give up what this process may do beyond its user: root becomes another user, others put their
    capabilities in a user namespace away."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if sys.platform == "linux":
        libc().prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0)
        libc().capset(header, (ctypes.c_uint32 * 6)())


def die_with_parent(number: int = 9) -> None:
    """This process gets the signal when its parent is gone."""
    if sys.platform == "linux":
        libc().prctl(SET_DEATH_SIGNAL, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Processes whose parents have left become children of this one, so that it can find them."""
    if sys.platform == "linux":
        libc().prctl(SET_SUBREAPER, 1, 0, 0, 0)


def limit(seconds: float, memory: int, processes: int) -> None:
    """The limits of a process: seconds on the CPU, bytes of addresses, processes of its user, the
    size of a file, open files."""
    lower(resource.RLIMIT_CPU, int(seconds) + 2)
    lower(resource.RLIMIT_AS, memory)
    lower(resource.RLIMIT_NPROC, processes)
    lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    lower(resource.RLIMIT_CORE, 0)


def lower(which: int, number: int) -> None:
    """Set a limit, where the system knows it and it is not lower already."""
    hard = resource.getrlimit(which)[1]
    number = number if hard == resource.RLIM_INFINITY else min(number, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (number, number))


def address_space() -> int:
    """The bytes of addresses that this process has taken; 4 GiB where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 4 << 30
