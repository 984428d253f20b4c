"""A job's progress, live on a terminal, line by line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from deploy.cli.client import Client
from deploy.cli.console import duration, err
from deploy.cli.errors import ApiRefused, CommandError, ServerUnreachable
from deploy.cli.wording import in_commands
from models.records.transitions import ENDED

_GIVE_UP_AFTER_S = 60.0
_PAUSE_S = 0.25
_AGAIN_AFTER_S = 1.0


def follow(
    client: Client, job: dict[str, Any], *, servable: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Show the job until it ends or is paused, and return its last state.

    `servable` is called once, as soon as a first version answers. A server that restarts meanwhile is waited for.
    """
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    after: str | None = None
    shown = ""
    announced = False
    with _bar() as bar:
        task = bar.add_task(job["status"], total=100, visible=err.is_terminal, remaining="")
        while True:
            # Events before the job: what it was doing when they were read, it does not do any more after them.
            for event in _events_after(client, path, after):
                after = event["id"]
                if event.get("type") != "metrics":  # figures of single steps are the bar's
                    bar.console.print(_event_line(event))
            if job["status"] in ENDED or job["status"] == "paused":
                return job
            job = look_up(lambda: client.get(path))
            remaining = job.get("seconds_remaining")
            text = job.get("step") or job["status"]
            bar.update(
                task,
                description=text,
                completed=job.get("percent") or 0,
                remaining=f"about {duration(remaining)} left" if remaining else "",
            )
            if not err.is_terminal and text != shown and job["status"] not in ENDED:
                shown = text
                bar.console.print(Text(f"{text} ({job.get('percent') or 0:.0f} %)"))
            if job.get("fine_tuned_model") and not announced:
                announced = True
                servable(job)
            if job["status"] not in ENDED:
                time.sleep(_PAUSE_S)


def look_up(
    find: Callable[[], dict[str, Any]], *, waiting: Callable[[CommandError], None] = lambda _: None
) -> dict[str, Any]:
    """Return what `find` does, waiting for a server that restarts; `waiting` is called with the first error, once.

    Raises ApiRefused, and ServerUnreachable after a minute.
    """
    lost_since = time.monotonic()
    waited = False
    while True:
        try:
            return find()
        except (ServerUnreachable, ApiRefused) as error:
            passing = isinstance(error, ServerUnreachable) or error.http_status in (429, 500, 502, 503, 504)
            if not passing or time.monotonic() - lost_since > _GIVE_UP_AFTER_S:
                raise
            if not waited:
                waiting(error)
                waited = True
            time.sleep(_AGAIN_AFTER_S)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=40),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[remaining]}"),
        console=err,
        transient=True,
        disable=False,
    )


def _events_after(client: Client, path: str, after: str | None) -> Iterator[dict[str, Any]]:
    """Return the events behind the last one that was shown, oldest first, however many there are."""
    try:
        yield from client.each(f"{path}/events", order="asc", first_after=after)
    except (ServerUnreachable, ApiRefused):
        return  # the next round shows them


def _event_line(event: dict[str, Any]) -> Text:
    style = {"warn": "yellow", "error": "red"}.get(event.get("level", ""), "")
    clock = time.strftime("%H:%M:%S", time.localtime(event["created_at"]))
    return Text.assemble((f"{clock} ", "dim"), (in_commands(event["message"]), style))
