"""The members of a zip archive, by the standard library: judged from the directory, unpacked in memory, never to disk.

What a member declares is all that comes out of it: reading stops there, and a wrong checksum is an error.
"""

from __future__ import annotations

import io
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.datasets.errors import OverlongName, OverlongNames, OversizedArchive, TooManyMembers, UnreadableArchive
from models.datasets.limits import Limits
from models.datasets.problems import BadValue, excerpt

_ENTRY = b"PK\x01\x02"
_MAX_DIRECTORY_BYTES = 64 * 2**20
_ENCRYPTED, _UTF8 = 0x1 | 0x40 | 0x2000, 0x800
_CHUNK = 2**20
MAX_NAME_CHARS = 1_024  # with the folders
MAX_NAMES_CHARS = 2**24
_DRIVE = re.compile(r"[A-Za-z]:")
# What file managers leave in archives.
_JUNK_NAMES = {"thumbs.db", "desktop.ini", ".ds_store"}
_JUNK_FOLDERS = {"__MACOSX", ".git", ".ipynb_checkpoints", "@eaDir"}


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive: its name with forward slashes, and the folders above it."""

    number: int  # 1-based, junk and folders not counted
    name: str
    folders: tuple[str, ...]
    info: zipfile.ZipInfo

    @property
    def suffix(self) -> str:
        """The ending of the name in lower case: `.jpg`."""
        return PurePosixPath(self.name).suffix.lower()


class Archive:
    """An open archive and its members; folders and what file managers add are left out."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self.members = list(_members(file.infolist()))

    def read(self, member: Member) -> bytes:
        """Return a member's content. Raises BadValue if it cannot be unpacked."""
        return b"".join(self.chunks(member))

    def head(self, member: Member, size: int) -> bytes:
        """Return the first bytes of a member; none if it cannot be unpacked."""
        try:
            with self._file.open(member.info) as content:
                return content.read(size)
        except Exception:  # whoever reads it in full will say why
            return b""

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Yield a member's content as `read` returns it, in pieces of bounded size."""
        try:
            with self._file.open(member.info) as content:
                while chunk := content.read(_CHUNK):
                    yield chunk
        except Exception as error:
            # Damaged bytes make the library raise errors of half a dozen kinds.
            found = excerpt(str(error) or type(error).__name__, 80)
            raise BadValue(f"cannot be unpacked ({found})", "Make the archive again and upload it whole.") from None


@contextmanager
def open_archive(path: Path, filename: str, *, max_entries: int) -> Iterator[Archive]:
    """Open an archive; raises UnreadableArchive and TooManyMembers before its directory is taken into memory."""
    with _Bounded(path, filename, max_entries) as bounded:
        try:
            file = zipfile.ZipFile(bounded)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, IndexError, OverflowError) as error:
            raise UnreadableArchive(filename=filename, error=excerpt(str(error), 120)) from None
        except Exception as error:
            if isinstance(error, TooManyMembers):
                raise
            raise UnreadableArchive(filename=filename, error=type(error).__name__) from None
        with file:
            refuse_long_names(file.infolist(), filename)
            yield Archive(file)


def refuse_long_names(infos: Sequence[zipfile.ZipInfo], filename: str) -> None:
    """Refuse names that are too long, alone or together, before anything composes, splits or compares them."""
    total = 0
    for info in infos:
        length = len(info.orig_filename)
        total += length
        if length > MAX_NAME_CHARS:
            start = excerpt(info.orig_filename, 40)
            raise OverlongName(filename=filename, length=length, start=start, limit=MAX_NAME_CHARS)
        if total > MAX_NAMES_CHARS:
            raise OverlongNames(filename=filename, limit=MAX_NAMES_CHARS)


def judge(archive: Archive, path: Path, filename: str, limits: Limits) -> None:
    """Refuse an archive that would unpack to too much."""
    declared = sum(member.info.file_size for member in archive.members)
    if declared > limits.max_unpacked_bytes:
        raise OversizedArchive(filename=filename, what=f"{declared} bytes", limit=f"{limits.max_unpacked_bytes} bytes")
    ratio = declared / max(path.stat().st_size, 1)
    if ratio > limits.max_ratio and declared > limits.harmless_bytes:
        what = f"{ratio:.0f} times its size"
        raise OversizedArchive(filename=filename, what=what, limit=f"{limits.max_ratio:g} times")


def danger(member: Member, limits: Limits) -> BadValue | None:
    """Return why a member is not to be unpacked."""
    info = member.info
    absolute = "\0" in info.orig_filename or _DRIVE.match(member.name) or member.name.startswith("/")
    foreign = info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    size = f"declares {info.file_size} bytes; the limit is {limits.max_media_bytes}"
    dangers = (
        (absolute, "has an absolute or malformed name", "Archive the files with relative names."),
        (".." in member.folders, "has a name that leads out of the archive", "Archive the files with relative names."),
        (stat.S_ISLNK(info.external_attr >> 16), "is a symbolic link", "Archive the file itself."),
        (info.flag_bits & _ENCRYPTED, "is encrypted", "Make the archive without a password."),
        (foreign, f"is packed with method {info.compress_type}", "Make the archive with the usual method, deflate."),
        (info.file_size > limits.max_media_bytes, size, "Use smaller pictures or shorter sounds."),
    )
    return next((BadValue(reason, mend) for present, reason, mend in dangers if present), None)


def _members(infos: list[zipfile.ZipInfo]) -> Iterator[Member]:
    number = 0
    for info in infos:
        name = _name(info)
        *folders, last = name.split("/")
        if not last or last.lower() in _JUNK_NAMES or last.startswith("._") or _JUNK_FOLDERS & set(folders):
            continue
        number += 1
        yield Member(number, name, tuple(folders), info)


def _name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & _UTF8:
        # Many writers use UTF-8 and forget to say so.
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    # macOS writes ü as u and ¨, which would make a label of its own.
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return re.sub(r"^(\./+)+|(?<=/)(\./+)+", "", name)


class _Bounded(io.BufferedReader):
    """A file that does not hand out a directory with more than `max_entries`, wherever the archive says that it is.

    The library takes the directory in one piece and makes an object of half a kilobyte from every entry, which is
    46 bytes at least; the number that the archive states is not looked at.
    """

    def __init__(self, path: Path, filename: str, max_entries: int) -> None:
        super().__init__(io.FileIO(path))
        self._size, self._filename, self._max_entries = path.stat().st_size, filename, max_entries

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._size - self.tell() if size is None or size < 0 else size
        if wanted > _MAX_DIRECTORY_BYTES:
            raise self._too_many()
        data = super().read(wanted)
        if data.startswith(_ENTRY) and data.count(_ENTRY) > self._max_entries:
            raise self._too_many()
        return data

    def _too_many(self) -> TooManyMembers:
        return TooManyMembers(filename=self._filename, limit=self._max_entries)
