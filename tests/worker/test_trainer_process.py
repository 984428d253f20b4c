"""The trainer process and its supervisor, with a real child process that speaks the real protocol."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from models.learning.contract.events import Finished, Progress, VersionReady
from models.learning.contract.request import DatasetSource, TrainRequest
from models.settings import Settings
from worker.protocol import Died, Failed, Stop, Stopped, Train
from worker.trainer_supervisor import TrainerSupervisor


@pytest.fixture
def trainers(tmp_path, stand_in):
    trainers = TrainerSupervisor(Settings(data_dir=tmp_path), stand_in)
    trainers.start()
    yield trainers
    trainers.close()


@pytest.fixture
def request_for(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("text,label\na,b\n")

    def make(how: str) -> TrainRequest:
        output = tmp_path / "scratch" / "output"
        output.mkdir(parents=True, exist_ok=True)
        return TrainRequest(DatasetSource(data, "csv"), "text-classification", output, base_model=how)

    return make


def take(trainers, until):
    until(trainers.current)
    trainer = trainers.current()
    mailbox: SimpleQueue = SimpleQueue()
    trainer.attach(mailbox)
    trainer.used = True
    return trainer, mailbox


def test_a_run_sends_its_events_in_order_and_leaves_the_trainer_warm(trainers, request_for, until):
    trainer, mailbox = take(trainers, until)
    trainer.send(Train("job/1", request_for("quick")))
    events = [mailbox.get(timeout=30) for _ in range(4)]
    assert [run for run, _ in events] == ["job/1"] * 4
    assert [type(event) for _, event in events] == [Progress, VersionReady, Progress, Finished]
    assert events[2][1].metrics == {"loss": 0.5}
    assert trainers.current() is trainer


def test_a_death_is_reported_with_its_signal_and_a_fresh_trainer_follows(trainers, request_for, until):
    trainer, mailbox = take(trainers, until)
    trainer.send(Train("job/1", request_for("crash")))
    assert isinstance(mailbox.get(timeout=30)[1], Progress)
    assert mailbox.get(timeout=30) == (None, Died(-signal.SIGKILL))
    until(lambda: trainers.current() not in (None, trainer))


def test_who_attaches_to_a_dead_trainer_hears_of_its_death(trainers, until):
    trainer, _ = take(trainers, until)
    trainer.signal_group(signal.SIGKILL)
    assert trainer.wait(30)
    late: SimpleQueue = SimpleQueue()
    trainer.attach(late)
    assert late.get(timeout=1) == (None, Died(-signal.SIGKILL))
    trainer.send(Stop("job/1"))  # no error


def test_a_gentle_stop_keeps_the_process(trainers, request_for, until):
    trainer, mailbox = take(trainers, until)
    trainer.send(Train("job/1", request_for("gentle")))
    assert isinstance(mailbox.get(timeout=30)[1], Progress)
    trainer.send(Stop("job/1"))
    event = mailbox.get(timeout=30)[1]
    while isinstance(event, Progress):
        event = mailbox.get(timeout=30)[1]
    assert event == Stopped()
    assert trainers.current() is trainer


def test_discarding_kills_the_whole_group_of_a_deaf_trainer(trainers, request_for, until, tmp_path):
    trainer, _ = take(trainers, until)
    trainer.send(Train("job/1", request_for("deaf")))
    note = tmp_path / "scratch" / "child.pid"
    until(lambda: note.exists() and note.read_text())
    child = psutil.Process(int(note.read_text()))
    assert os.getpgid(child.pid) == trainer.pid
    trainers.discard(trainer)
    assert trainer.wait(30)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    until(lambda: trainers.current() not in (None, trainer))


def test_an_error_tells_a_customer_nothing_of_the_inside(trainers, request_for, until):
    trainer, mailbox = take(trainers, until)
    trainer.send(Train("job/1", request_for("server-error")))
    mailbox.get(timeout=30)
    failed = mailbox.get(timeout=30)[1]
    assert isinstance(failed, Failed)
    assert failed.fatal
    assert failed.error.as_dict() == {
        "code": "training_crashed",
        "message": "Training failed with an internal error. It is not your fault.",
        "param": None,
        "blame": "server",
    }
    assert mailbox.get(timeout=30) == (None, Died(1))


def test_a_trainer_dies_with_a_parent_that_is_killed(tmp_path, stand_in, until):
    program = (
        "import sys, time\n"
        "from models.settings import Settings\n"
        "from worker.trainer_supervisor import TrainerSupervisor\n"
        f"trainers = TrainerSupervisor(Settings(data_dir={str(tmp_path)!r}), {stand_in!r})\n"
        "trainers.start()\n"
        "while trainers.current() is None: time.sleep(0.01)\n"
        "print('pid', trainers.current().pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = next(line.split()[1] for line in parent.stdout if line.startswith("pid "))
    trainer = psutil.Process(int(pid))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_trainer_that_cannot_start_is_not_started_in_a_tight_loop(tmp_path, until):
    note = tmp_path / "starts"
    command = (sys.executable, "-c", f"open({str(note)!r}, 'a').write('x')")
    trainers = TrainerSupervisor(Settings(data_dir=tmp_path), command)
    trainers.start()
    try:
        until(lambda: note.exists() and len(note.read_text()) >= 2)
        assert trainers._pause_s >= 0.5
    finally:
        trainers.close()
    starts = len(Path(note).read_text())
    assert starts < 6
