"""Faults inside of a pass: they fail rows, never a thread."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from models.backbones.text import TextBackbone
from models.serving.encoders.input_modes import tokenize
from models.serving.encoders.pass_cost import PassCost
from models.serving.encoders.passes import answer
from models.serving.errors import PassFailed
from tests.models.serving.conftest import TEXTS, until
from tests.models.serving.encoders.test_engine import running


class Panic(BaseException):
    """What a panic of a library in Rust is raised as: no Exception."""


@pytest.mark.parametrize("fault", [Panic, SystemExit, StopIteration])
@pytest.mark.parametrize("where", ["answer", "tokenize"])
def test_no_fault_in_a_pass_ends_a_thread(backbone: TextBackbone, fault: type[BaseException], where: str) -> None:
    """Before, one hostile input ended a compute thread, and everybody's rows waited for ever from then on."""
    parts: dict[str, Any] = {"answer": answer, "tokenize": tokenize}

    def hit(_backbone: Any, items: Any, *arguments: Any) -> Any:
        if where == "tokenize" and "hostile" in items:
            raise fault
        if where == "answer" and any(len(item) == hostile_tokens for item in items):
            raise fault
        return parts[where](_backbone, items, *arguments)

    others = {len(tokens) for tokens in tokenize(backbone, TEXTS, ["text"] * len(TEXTS))}
    lengths = {count: len(tokenize(backbone, ["no " * count], ["text"])[0]) for count in range(1, 40)}
    count, hostile_tokens = next((count, length) for count, length in lengths.items() if length not in others)
    hostile = "hostile" if where == "tokenize" else "no " * count

    async def run() -> None:
        async with running(backbone, **{where: hit}) as engine:
            both = [
                asyncio.create_task(engine.submit("attacker", engine.embedding, [hostile])),
                asyncio.create_task(engine.submit("other", engine.embedding, TEXTS)),
            ]
            failed, answered = await asyncio.gather(*both, return_exceptions=True)
            assert isinstance(failed, PassFailed)
            if where == "answer":  # the request that fails alone is failed alone
                assert not isinstance(answered, BaseException)
            again = await engine.submit("other", engine.embedding, TEXTS)
            assert all(output.size for output in again.outputs)
            assert engine.alive
            assert engine.rows == len(TEXTS) * (1 if isinstance(answered, BaseException) else 2)
            await until(lambda: not engine.busy)
            assert (engine.waiting_rows, engine.waiting_of("attacker")) == (0, 0)
        assert not engine.alive

    asyncio.run(run())


def test_a_fault_outside_of_the_computation_fails_its_rows_and_the_thread_goes_on(backbone: TextBackbone) -> None:
    class Faulty(PassCost):
        faults = 1

        def observe(self, tokens: int, rows: int, seconds: float) -> None:
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError
            super().observe(tokens, rows, seconds)

    async def run() -> None:
        async with running(backbone, cost=Faulty()) as engine:
            with pytest.raises(ZeroDivisionError):
                await engine.submit("a", engine.embedding, TEXTS)
            assert (await engine.submit("a", engine.embedding, TEXTS)).left == 0
            await until(lambda: not engine.busy)
            assert (engine.rows, engine.alive) == (len(TEXTS), True)

    asyncio.run(run())


def test_too_few_outputs_fail_the_request_and_are_not_counted(backbone: TextBackbone) -> None:
    def short(*arguments: Any) -> Any:
        return answer(*arguments)[1:]

    async def run() -> None:
        async with running(backbone, answer=short) as engine:
            with pytest.raises(PassFailed):
                await engine.submit("a", engine.embedding, TEXTS)
            assert (engine.passes, engine.rows, engine.alive) == (0, 0, True)

    asyncio.run(run())
