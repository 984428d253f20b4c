"""Files: validated, hashed and stored before they exist."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from models.backbones import registry
from models.backbones.registry import BackboneEntry
from models.datasets.examples import DatasetProfile
from models.datasets.limits import Limits
from models.datasets.validation import Role
from models.datasets.windowing import windowing_of
from models.datasets.word_counts import count_longer, rows_longer
from models.errors import InvalidRequest
from models.identifiers import new_id
from models.records import audit, customers, files, idempotency, jobs
from models.records.database import DatabaseUnavailable
from models.records.files import File
from models.records.pages import Page
from models.services import caches, quotas, token_counts
from models.services.errors import FileInUse
from models.services.quotas import QuotaName
from models.services.resources import Resources
from models.services.validation.cancellation import Cancellation
from models.services.validation.messages import Order
from models.settings import Settings
from models.storage.errors import ObjectMissing, StorageUnavailable
from models.storage.keys import file_key

# What a set to learn from needs is not asked of one to score on. OpenAI calls those `evals`.
PURPOSES: dict[str, Role] = {
    "fine-tune": "training",
    "validation": "validation",
    "evals": "validation",
    "unlabeled": "unlabeled",
}
# Of warnings that depend on the base: a job's are by its own.
LONG_TEXT_CODES = frozenset({"windows", "truncated"})
_FILENAME_CHARS = 255


@dataclass(frozen=True, slots=True)
class NewFile:
    """A local file to upload. `task` and `columns` (canonical name → the file's own) are inferred when None."""

    path: Path
    filename: str
    purpose: str = "fine-tune"
    task: str | None = None
    columns: dict[str, str] | None = None
    role: Role | None = None  # by its purpose, if None
    sha256: str | None = None  # of its content, where somebody has computed it already


def create(resources: Resources, customer_id: str, new: NewFile, cancellation: Cancellation | None = None) -> File:
    """Validate a local file, store it, and write its row. The same content may be uploaded twice: two files.

    Blocks until the customer's turn has come. Raises InvalidDataset for what is in it, InvalidRequest for its purpose,
    QuotaExceeded, StorageQuotaExceeded, StorageUnavailable, and ValidationAbandoned if it is cancelled before then.
    """
    if new.purpose not in PURPOSES:
        reason = (
            "purpose must be 'fine-tune', 'validation' for a file to score on, or 'unlabeled' for rows without labels; "
            f"it is '{new.purpose[:80]}'."
        )
        raise InvalidRequest(reason=reason, param="purpose")
    adding: dict[QuotaName, int] = {"files": 1, "stored_bytes": new.path.stat().st_size}
    quotas.check_soon(resources, customer_id, adding)  # before the work of reading it
    name = _clean(new.filename)
    new = replace(new, filename=name)
    found = resources.validations.inspect(customer_id, _order(resources.settings, new), cancellation)
    profile = _with_warnings(found, resources.settings, new)
    sha256 = new.sha256 or _digest(new.path)
    file_id = new_id("file-")
    key = file_key(customer_id, file_id)
    resources.store.put_file(key, new.path)
    try:
        with resources.database.transaction() as session:
            customer = customers.lock(session, customer_id)
            quotas.check(session, resources.settings, customer, adding)
            file = File(
                id=file_id,
                customer_id=customer_id,
                filename=name,
                purpose=new.purpose,
                bytes=new.path.stat().st_size,
                sha256=sha256,
                object_key=key,
                profile=asdict(profile),
                created_at=resources.database.now(session),
            )
            session.add(file)
            after = {"bytes": file.bytes, "sha256": sha256}
            audit.record(session, resources.actor, "file.created", customer_id, file_id, after=after)
    except DatabaseUnavailable:
        # The commit may have arrived. A row without its object would be worse than an object without its row, which
        # the sweeper removes.
        raise
    except BaseException:
        with contextlib.suppress(StorageUnavailable):
            resources.store.delete(key)
        raise
    return file


def inspect(settings: Settings, new: NewFile) -> DatasetProfile:
    """Validate a local file as an upload does, in this process. Raises InvalidDataset."""
    found = _order(settings, new).inspect()
    return _with_warnings(found, settings, new)


def get(resources: Resources, customer_id: str, file_id: str) -> File:
    """Return one of the customer's files; raises NotFound."""
    with resources.database.reading() as session:
        return files.require(session, customer_id, file_id)


def list_page(
    resources: Resources, customer_id: str, *, after: str | None = None, limit: int = 20, purpose: str | None = None
) -> Page[File]:
    """Return the customer's files, newest first."""
    with resources.database.reading() as session:
        return files.fetch_list(session, customer_id, after=after, limit=limit, purpose=purpose)


def open_content(resources: Resources, customer_id: str, file_id: str) -> BinaryIO:
    """Stream a file as it was uploaded; raises NotFound."""
    file = get(resources, customer_id, file_id)
    try:
        return resources.store.open(file.object_key)
    except ObjectMissing:
        get(resources, customer_id, file_id)  # it may have been deleted meanwhile, and is then not found
        raise


def delete(resources: Resources, customer_id: str, file_id: str) -> File:
    """Remove a file; raises NotFound, and FileInUse while an unfinished job needs it."""
    with resources.database.transaction() as session:
        customers.lock(session, customer_id)
        file = files.require(session, customer_id, file_id)
        job = jobs.find_unfinished_of_file(session, customer_id, file_id)
        if job is not None:
            raise FileInUse(id=file_id, job=job.id, status=job.status)
        session.delete(file)
        jobs.forget_result_file(session, customer_id, file_id)
        # Its profile names labels and quotes rows.
        idempotency.forget_object(session, customer_id, file_id)
        caches.announce_file(session, customer_id)
        before = {"bytes": file.bytes, "sha256": file.sha256}
        audit.record(session, resources.actor, "file.deleted", customer_id, file_id, before=before)
    # The row is gone, so the file is; an object that stays behind is an orphan for the sweeper.
    with contextlib.suppress(StorageUnavailable):
        resources.store.delete(file.object_key)
    caches.empty(resources, customer_id)
    return file


def warn_of_long_texts(base: BackboneEntry, profile: Mapping[str, Any], filename: str) -> list[dict[str, Any]]:
    """Return warnings of texts that a base reads in windows, and of those that it does not read to their end.

    `profile`: the file's, of which `words` and `long_rows` are read; files of before have no `long_rows`.
    """
    words, rows = profile.get("words") or {}, profile.get("long_rows") or {}
    if base.modality != "text":
        return []
    most = windowing_of(base.max_tokens).tokens
    long, cut = count_longer(words, base.max_tokens), count_longer(words, most)
    warnings = []
    if long:
        message = (
            f"{long} texts or more in '{filename}' are longer than the {base.max_tokens} tokens that the base model "
            f"'{base.name}' reads at once{_first(rows, base.max_tokens)}: they are read in windows, and take as many "
            "times as long."
        )
        warnings.append(_of_long_texts("windows", message, long, base, rows_longer(rows, base.max_tokens)))
    if cut:
        message = (
            f"{cut} texts or more in '{filename}' are longer than {most} tokens{_first(rows, most)}: what is behind is "
            "not read. Split them over several rows."
        )
        warnings.append(_of_long_texts("truncated", message, cut, base, rows_longer(rows, most)))
    return warnings


def _of_long_texts(code: str, message: str, count: int, base: BackboneEntry, rows: list[int]) -> dict[str, Any]:
    found = {"code": code, "message": message, "count": count, "base": base.name}
    return {**found, "rows": rows} if rows else found


def _first(rows: dict[str, list[int]], tokens: int) -> str:
    found = rows_longer(rows, tokens)
    return f", first in row{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}" if found else ""


def limits_from(settings: Settings) -> Limits:
    """Return the limits that validation enforces, from the settings."""
    return Limits(
        max_rows=settings.max_rows,
        max_classes=settings.max_classes,
        max_text_chars=settings.max_text_chars,
        max_label_chars=settings.max_label_chars,
        max_columns=settings.max_columns,
        max_unpacked_bytes=settings.max_unpacked_bytes,
        max_pixels=settings.max_pixels,
        max_seconds=settings.max_seconds,
    )


def _order(settings: Settings, new: NewFile) -> Order:
    return Order(
        path=new.path.absolute(),
        filename=new.filename,
        task=new.task,
        columns=new.columns,
        role=new.role or PURPOSES[new.purpose],
        limits=limits_from(settings),
        seconds=settings.validation_seconds,
    )


def _with_warnings(found: DatasetProfile, settings: Settings, new: NewFile) -> DatasetProfile:
    """Return the profile with the warnings about the default base. Raises OpenAnswers."""
    tokens = token_counts.warnings(settings, new.path, found, stated=new.task is not None)
    return replace(found, warnings=[*found.warnings, *_warn_by_default(found, settings, new.filename), *tokens])


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _clean(filename: str) -> str:
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(char for char in name if char.isprintable())
    name = name.encode("utf-8", "replace").decode()
    # The end carries the file's type: a long name loses its beginning.
    return name[-_FILENAME_CHARS:] or "upload"


def _warn_by_default(profile: DatasetProfile, settings: Settings, filename: str) -> list[dict[str, Any]]:
    if not profile.words:
        return []
    return warn_of_long_texts(registry.default_for(settings, "text"), asdict(profile), filename)
