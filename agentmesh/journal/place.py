"""The file system of a folder: a run's file needs memory that its processes share, which networks do not give."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["file_system", "is_network"]

_NETWORK = frozenset(
    {
        "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs",
        "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs",
        "vboxsf", "virtiofs", "vmhgfs", "webdav", "wekafs",
    }
)  # fmt: skip
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.encfs", "fuse.bindfs", "fuse.mergerfs"})
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def is_network(kind: str) -> bool:
    """Whether a file system of this kind may be written by other machines as well.

    What a program of the user's serves (`fuse.…`) counts as one unless it is known to stay on this machine.
    """
    return kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def file_system(folder: Path, *, mounts: Path = _MOUNTS) -> str:
    """The kind of the file system that a folder is on, as Linux names it; empty where the system does not tell."""
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    path, best, kind = folder.resolve(), -1, ""
    for line in table.splitlines():
        place, _, served = line.partition(" - ")
        fields, of = place.split(" "), served.split(" ")
        if len(fields) < 5:
            continue
        point = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        if len(point.parts) >= best and path.is_relative_to(point):  # of two at one place, the later one covers
            best, kind = len(point.parts), of[0]
    return kind
