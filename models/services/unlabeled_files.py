"""Whether a file of rows without labels suits a job: which tasks learn from it, and whether its rows are alike."""

from __future__ import annotations

from models.datasets import tasks
from models.datasets.tasks import unlabeled as unlabeled_rows
from models.records.files import File
from models.services.errors import UnusableFile

# Tasks whose rows have one label each: a pseudo-label is the most probable one.
TASKS = frozenset({"text-classification", "image-classification", "audio-classification"})
_PARAM = "unlabeled_file"


def check(training: File, unlabeled: File, strategy: str) -> None:
    """Raise UnusableFile for a file that the job cannot learn from."""
    task = str(training.profile["task"])
    if tasks.kind(task) not in TASKS:
        reason = f"unlabeled_file is for tasks with one label per row, and this job learns {task}: leave it out."
        raise UnusableFile(reason=reason, param=_PARAM)
    if strategy == "zero-shot":
        reason = (
            "strategy 'zero-shot' trains nothing, so that rows without labels have no effect: leave one of them out."
        )
        raise UnusableFile(reason=reason, param=_PARAM)
    if unlabeled.profile.get("role") != "unlabeled":
        reason = (
            f"The file '{unlabeled.id}' was uploaded with purpose '{unlabeled.purpose}'. Upload it with purpose "
            "'unlabeled': then nothing but its inputs is read."
        )
        raise UnusableFile(reason=reason, param=_PARAM)
    wanted, got = unlabeled_rows.kind_of_columns(training.profile["columns"]), str(unlabeled.profile["task"])
    if got != wanted:
        reason = (
            f"The rows of the training file are {_words(wanted)}, those of '{unlabeled.id}' {_words(got)}. "
            f"Upload it with task='{task}', and it is read as the training file is."
        )
        raise UnusableFile(reason=reason, param=_PARAM)


def _words(kind: str) -> str:
    return f"{unlabeled_rows.UNLABELED[kind].noun}s"
