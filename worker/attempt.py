"""One attempt at one job, from the claim to the last write: a loop over events, chores and the clock.

The loop never blocks for long. Trainer and uploads report to its mailbox; what it does by itself is to renew the
lease, and to notice in time that somebody wants the job stopped, that nothing moves, or that the lease is gone.
"""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable
from dataclasses import fields
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

import structlog

from models.errors import GraftError, Unavailable
from models.learning.events import Candidate, Finished, Progress
from models.learning.request import DatasetSource, Hyperparameters, TrainRequest
from models.records.files import File
from models.records.jobs import Job
from models.services import claims
from models.services.claims import Claim
from models.services.errors import LeaseLost
from models.services.resources import Resources
from worker import metrics
from worker.chores import Chores, Done
from worker.errors import DiskFull, StorageFailed, TrainerDied, TrainerStalled, TrainingTimeout
from worker.keeper import TrainerKeeper
from worker.protocol import Died, Failed, Stop, Stopped, Train
from worker.trainer_process import TrainerProcess
from worker.workspace import Workspace, shrink_caches

log = structlog.get_logger(__name__)

# How an attempt ends: the job's state after it, or that the job is somebody else's by now.
Outcome = Literal["succeeded", "failed", "cancelled", "paused", "queued", "lost"]
T = TypeVar("T")

# Together with one heartbeat these stay below the 10 s in which a cancelled job must free the device.
_GENTLE_STOP_S = 3.0
_TERMINATE_S = 3.0
_SHUTDOWN_S = 5.0
_TICK_S = 0.2
_MOST_EVENTS = 50  # per heartbeat: a chart needs no more


class ShutDown:
    """Message: the worker is going; give the job back."""


class Attempt:
    """Runs one claimed job. Made, run once, thrown away."""

    def __init__(
        self, resources: Resources, claim: Claim, keeper: TrainerKeeper, chores: Chores, mailbox: SimpleQueue[Any]
    ) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._claim = claim
        self._keeper = keeper
        self._chores = chores
        self._mailbox = mailbox
        self._run = f"{claim.job.id}/{claim.attempt}"
        self._workspace = Workspace(
            self._settings.cache_dir,
            customer_id=claim.job.customer_id,
            job_id=claim.job.id,
            attempt=claim.attempt,
            worker=claim.worker,
        )
        self._begin = time.monotonic()
        self._outcome: Outcome | None = None
        self._request: TrainRequest | None = None  # set when the data sets are here
        self._trainer: TrainerProcess | None = None
        self._training = False  # the trainer is at work on this run
        self._concluding = False  # the last write is under way
        self._abandoned = False  # chores that wait or repeat give up
        self._release_to: Literal["cancelled", "paused", "queued"] | None = None
        self._stop_stage: list[tuple[float, Callable[[], None]]] = []
        self._next_heartbeat = self._begin + self._settings.heartbeat_s
        self._last_sign = self._begin
        self._give_up_at: float | None = None
        self._progress: Progress | None = None
        self._events: list[tuple[str, str, str, dict[str, Any]]] = []
        self._published = 0

    def run(self) -> Outcome:
        """Work until the job has ended, was given back, or belongs to somebody else."""
        self._chore("prepare", self._prepare)
        while self._outcome is None:
            try:
                run, message = self._mailbox.get(timeout=_TICK_S)
            except Empty:
                pass
            else:
                if run is None or run == self._run:
                    self._take(message)
            if self._outcome is None:
                self._watch_clock()
        self._clean_up()
        return self._outcome

    # What arrives

    def _take(self, message: Any) -> None:
        self._last_sign = time.monotonic()
        match message:
            case ShutDown():
                self._give_up_at = time.monotonic() + _SHUTDOWN_S
                if not self._concluding:
                    self._end_trainer()
                    self._release_to = "queued"
            case Done():
                self._take_done(message)
            case Progress():
                self._note(message)
            case Candidate():
                self._report()
                self._chore("publish", lambda: self._publish(message))
            case Finished():
                self._training = False
                self._report()
                self._conclude("finish", lambda: claims.finish(self._resources, self._claim, message))
            case Stopped():
                self._training = False
            case Failed():
                self._training = False
                self._take_failure(message)
            case Died():
                self._take_death(message)

    def _take_done(self, done: Done) -> None:
        if isinstance(done.error, LeaseLost):
            self._lose()
        elif done.chore == "prepare" and done.error is None:
            self._request = done.result
        elif done.chore == "publish" and done.error is None:
            self._published += 1
            if self._published == 1:
                metrics.FIRST_VERSION_SECONDS.observe(time.monotonic() - self._begin)
            log.info("version_published", version=done.result.number, candidate=done.result.candidate)
        elif done.chore in ("prepare", "publish"):
            if self._release_to is None and not self._concluding:
                self._end_trainer()
                self._retry(_blameless(done.error))
        elif done.error is None:
            self._outcome = done.result.status
        elif isinstance(done.error, Unavailable):
            # Nothing can be written; the lease runs out and the sweeper does what we could not.
            self._lose()
        else:
            log.error("conclusion_failed", chore=done.chore, exc_info=done.error)
            if done.chore == "finish":
                self._retry(_blameless(done.error))
            else:
                self._lose()

    def _take_failure(self, failed: Failed) -> None:
        if failed.fatal and self._trainer is not None:
            self._end_trainer()
        if self._release_to is not None or self._concluding:
            return
        if failed.blame == "user":
            self._conclude("fail", lambda: claims.fail(self._resources, self._claim, failed.as_error()))
        else:
            self._retry_with(failed.as_error())

    def _take_death(self, died: Died) -> None:
        was_training, self._training, self._trainer = self._training, False, None
        if was_training and self._release_to is None and not self._concluding:
            self._retry(TrainerDied(how=_describe_status(died.status)))

    def _note(self, progress: Progress) -> None:
        self._progress = progress
        position = {"step": progress.step, "percent": progress.percent}
        if progress.seconds_remaining is not None:
            position["seconds_remaining"] = progress.seconds_remaining
        if progress.metrics:
            text = progress.message or progress.step
            self._events.append(("info", "metrics", text, {**position, **progress.metrics}))
        elif progress.message:
            self._events.append(("info", "message", progress.message, position))
        if len(self._events) > _MOST_EVENTS:
            oldest_metrics = next((i for i, event in enumerate(self._events) if event[1] == "metrics"), 0)
            del self._events[oldest_metrics]

    # What the clock says

    def _watch_clock(self) -> None:
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._report()
        if self._outcome is not None:
            return
        if self._give_up_at is not None and now > self._give_up_at:
            self._end_trainer()
            if self._release_to is None:
                self._release_to = "queued"
                self._release()
            self._outcome = self._outcome or "lost"
        elif self._release_to is not None:
            self._stop(now)
        elif self._concluding:
            pass
        elif self._training:
            self._watch_training(now)
        elif self._request is not None:
            self._hand_over(self._request)

    def _report(self) -> None:
        """Heartbeat: renew the lease, say how far it is, hear what the customer wishes."""
        if self._abandoned:
            return
        progress, events = self._progress, self._events
        try:
            wish = claims.heartbeat(
                self._resources,
                self._claim,
                step=progress.step if progress else None,
                percent=progress.percent if progress else None,
                seconds_remaining=progress.seconds_remaining if progress else None,
                events=events,
            )
        except LeaseLost:
            if self._concluding:
                self._abandoned = True  # our own last write may be what ended the lease: its result decides
            else:
                self._lose()
        except Unavailable:
            log.warning("heartbeat_failed", exc_info=True)
        else:
            self._events = []
            if wish is not None and self._release_to is None:
                log.info("stop_requested", wish=wish)
                self._release_to = "cancelled" if wish == "cancel" else "paused"
        self._next_heartbeat = time.monotonic() + self._settings.heartbeat_s

    def _watch_training(self, now: float) -> None:
        if now - self._begin > self._settings.train_timeout_s:
            self._end_trainer()
            error = _as_error(TrainingTimeout(seconds=self._settings.train_timeout_s))
            self._conclude("fail", lambda: claims.fail(self._resources, self._claim, error))
        elif now - self._last_sign > self._settings.stall_timeout_s:
            self._end_trainer()
            self._retry(TrainerStalled(seconds=self._settings.stall_timeout_s))

    def _hand_over(self, request: TrainRequest) -> None:
        trainer = self._keeper.current()
        if trainer is None:
            if time.monotonic() - self._last_sign > self._settings.stall_timeout_s:
                self._retry(TrainerDied(how="it could not be started"))
            return
        self._trainer, self._training = trainer, True
        self._last_sign = time.monotonic()
        trainer.used = True
        trainer.attach(self._mailbox)
        job = self._claim.job
        context = {"job_id": job.id, "attempt": self._claim.attempt, "customer_id": job.customer_id}
        trainer.send(Train(self._run, request, context))

    def _stop(self, now: float) -> None:
        """One step towards a free device: ask, then SIGTERM, then SIGKILL; then the job is let go."""
        trainer = self._trainer
        if not self._training or trainer is None:
            self._release()
            return
        if not self._stop_stage:
            trainer.send(Stop(self._run))
            self._stop_stage = [
                (now + _GENTLE_STOP_S, lambda: trainer.signal_group(signal.SIGTERM)),
                (now + _GENTLE_STOP_S + _TERMINATE_S, self._end_trainer),
            ]
        elif now >= self._stop_stage[0][0]:
            act = self._stop_stage[0][1]
            if len(self._stop_stage) > 1:
                del self._stop_stage[0]
            act()

    # How it ends

    def _release(self) -> None:
        assert self._release_to is not None  # noqa: S101
        self._abandoned = True
        try:
            job = claims.release(self._resources, self._claim, to=self._release_to)
        except LeaseLost:
            if not self._concluding:
                self._lose()
            # else the last write came first, and its result is on its way
        except Unavailable:
            log.warning("release_failed", exc_info=True)  # tried again at the next tick
        else:
            self._outcome = job.status  # type: ignore[assignment]  # the customer may have wished for another by now

    def _retry(self, error: GraftError) -> None:
        self._retry_with(_as_error(error))

    def _retry_with(self, error: dict[str, Any]) -> None:
        log.warning("attempt_failed", code=error["code"], reason=error["message"])

        def retry() -> Job:
            if error["code"] == DiskFull().code:
                # Everything there can be computed again; without room the next attempt ends like this one.
                shrink_caches(self._settings.cache_dir, 0)
            return claims.retry(self._resources, self._claim, error)

        self._conclude("retry", retry)

    def _conclude(self, chore: str, write: Callable[[], Job]) -> None:
        """Submit the last write: it comes after every upload that is still under way."""
        self._concluding = True
        self._chore(chore, lambda: self._persist(write))

    def _lose(self) -> None:
        log.warning("lease_lost")
        self._abandoned = True
        self._end_trainer()
        self._outcome = "lost"

    def _end_trainer(self) -> None:
        if self._trainer is not None:
            self._keeper.discard(self._trainer)
        self._trainer, self._training = None, False

    def _clean_up(self) -> None:
        if self._training:
            self._end_trainer()
        elif self._trainer is not None:
            self._trainer.detach()
        job_ended = self._outcome in ("succeeded", "failed", "cancelled")
        self._chores.submit("clean up", lambda: self._workspace.remove(job_ended=job_ended))

    # What the chores thread does

    def _chore(self, name: str, function: Callable[[], Any]) -> None:
        self._chores.submit(name, function, lambda done: self._mailbox.put((self._run, done)))

    def _prepare(self) -> TrainRequest:
        self._workspace.create()
        job, settings = self._claim.job, self._settings
        known = {field.name for field in fields(Hyperparameters)}
        chosen = {name: value for name, value in job.hyperparameters.items() if name in known}
        validation = self._claim.validation_file
        return TrainRequest(
            training=self._fetch(self._claim.training_file),
            validation=self._fetch(validation) if validation is not None else None,
            task=job.task,
            output_dir=self._workspace.output,
            base_model=job.base_model,
            strategy=job.strategy,  # type: ignore[arg-type]  # checked when the job was submitted
            hyperparameters=Hyperparameters(**chosen),
            seed=job.seed,
            device=settings.device,
            precision=settings.precision,
            threads=settings.threads,
            refine_budget_s=settings.refine_budget_s,
            feature_cache_dir=self._workspace.features,
            checkpoint_dir=self._workspace.checkpoints,
        )

    def _fetch(self, file: File) -> DatasetSource:
        path = self._persist(lambda: self._workspace.fetch(self._resources.store, file))
        return DatasetSource(path, file.profile["format"], file.profile["columns"], file.sha256)

    def _publish(self, candidate: Candidate) -> Any:
        return self._persist(
            lambda: claims.publish(self._resources, self._claim, candidate, promote=candidate.servable_before_end)
        )

    def _persist(self, write: Callable[[], T]) -> T:
        """Do it, again and again while database or object store are away: the work is done and waiting is cheap."""
        deadline = time.monotonic() + self._settings.stall_timeout_s
        pause_s = 0.25
        while True:
            try:
                return write()
            except Unavailable as error:
                if self._abandoned or _is_disk_full(error) or time.monotonic() + pause_s > deadline:
                    raise
                log.warning("storage_unavailable", reason=str(error), again_in_s=pause_s)
                time.sleep(pause_s)
                pause_s = min(10.0, pause_s * 2)


def _as_error(error: GraftError) -> dict[str, Any]:
    return {"code": error.code, "message": str(error), "param": error.param, "blame": "server"}


def _blameless(error: Exception | None) -> GraftError:
    """A failure of the machinery in words for the customer; the details go to the log."""
    if _is_disk_full(error):
        return DiskFull()
    if isinstance(error, GraftError) and not isinstance(error, Unavailable):
        return error
    log.error("chore_failed", exc_info=error)
    return StorageFailed()


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def _describe_status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"{name}, often for lack of memory" if -status == signal.SIGKILL else name
