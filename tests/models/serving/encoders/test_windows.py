"""Long texts as serving reads them: every kind of adapter, alone and beside others, and what the engine counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.backbones import word_shapes
from models.backbones.pairs import PairBackbone
from models.backbones.text import TextBackbone
from models.backbones.words import WordBackbone
from models.datasets.examples import TextPair
from models.datasets.windowing import windowing_of
from models.serving.adapters.adapter import Adapter
from models.serving.adapters.assembly import assemble
from models.serving.encoders.engine import CPU_PASS_TOKENS
from models.serving.encoders.input_modes import tokenize
from models.serving.encoders.passes import answer
from tests.models.learning import inference
from tests.models.serving.conftest import TEXTS, lora_tensors
from tests.models.serving.encoders.test_engine import running
from tests.models.serving.encoders.test_passes import (
    VERSION,
    adapters_of_every_kind,
    changed,
    expected,
    make,
    own_blocks,
)

# A letter is a token of this base.
LONG = " ".join(f"word{number}" for number in range(40))
LONGER = " ".join(f"word{number}" for number in range(340))  # 2,000 tokens
ALL = [TEXTS[0], LONG, TEXTS[1]]


@pytest.fixture(scope="module")
def windowed(backbone: TextBackbone) -> TextBackbone:
    return backbone.with_windowing(windowing_of(backbone.entry.max_tokens))


def test_every_kind_reads_a_long_text_as_the_plain_network_does(windowed: TextBackbone) -> None:
    kinds = adapters_of_every_kind(windowed)
    owners, rows = [adapter for adapter, _ in kinds], windowed.tokenize(ALL)
    mixed = answer(windowed, [row for row in rows for _ in owners], owners * len(ALL))
    for at, (adapter, artifact) in enumerate(kinds):
        found = np.stack(mixed[at :: len(kinds)])
        np.testing.assert_allclose(found, np.stack(answer(windowed, rows, [adapter] * len(ALL))), atol=1e-4)
        np.testing.assert_allclose(found, expected(windowed, artifact, ALL), atol=2e-4)
    (longer,) = windowed.tokenize([LONGER])
    for adapter, artifact in (kinds[0], kinds[2], kinds[6]):
        (output,) = answer(windowed, [longer], [adapter])
        np.testing.assert_allclose(output, expected(windowed, artifact, [LONGER])[0], atol=2e-4)


def test_words_and_pairs_of_long_texts_beside_others(windowed: TextBackbone) -> None:
    names = ("word.5", "before.5", "after.2", "shape_before.0")
    tagged = {"task": "token-classification", "labels": ("city", "name"), "features": names}
    head = {"head.weight": torch.randn(5, 3 * windowed.width + word_shapes.WIDTH), "head.bias": torch.zeros(5)}
    paired = {"task": "text-pair-classification", "features": ("cosine_mean.6", "product_unit_mean.3")}
    pair_head = {"head.weight": torch.randn(3, 1 + windowed.width), "head.bias": torch.zeros(3)}
    made = [
        *(
            make(windowed, **tagged, more={**head, **more})
            for more in ({}, lora_tensors(2), own_blocks(windowed, 4, 1))
        ),
        *(make(windowed, **paired, more={**pair_head, **more}) for more in ({}, lora_tensors(3))),
    ]
    asked: list[tuple[Adapter, Any, Any]] = []
    for adapter, artifact in made:
        pairs = [TextPair(LONG, text) for text in ALL]
        asked += [(adapter, artifact, item) for item in (pairs if adapter.input_mode == "pair" else ALL)]
    rows = tokenize(
        windowed,
        [item for *_, item in asked],
        [adapter.input_mode for adapter, *_ in asked],
        [windowed.windowing] * len(asked),
    )
    mixed = answer(windowed, rows, [adapter for adapter, *_ in asked])
    for (adapter, artifact, item), row, output in zip(asked, rows, mixed, strict=True):
        logits = _logits(artifact, windowed, item)
        right = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
        np.testing.assert_allclose(output, right if adapter.input_mode == "words" else right[0], atol=1e-3)
        np.testing.assert_allclose(output, answer(windowed, [row], [adapter])[0], atol=1e-4)


def test_what_is_read_and_what_is_not_is_counted(backbone: TextBackbone) -> None:
    most = windowing_of(backbone.entry.max_tokens).tokens
    before, artifact = make(backbone)
    now = assemble(changed(artifact, windowing=windowing_of(backbone.entry.max_tokens)), VERSION, backbone)
    texts = ["a " * 500, "a " * (most + 1), "a"]

    async def run() -> None:
        async with running(backbone) as engine:
            cut = await engine.submit("a", before, texts)
            read = await engine.submit("a", now, texts)
            embedded = await engine.submit("a", engine.embedding, texts)
            assert (cut.tokens, sorted(cut.truncated)) == (64 + 64 + 3, [0, 1])
            assert read.truncated == embedded.truncated == [1]
            windows = [-(-500 // 62), -(-most // 62)]
            assert read.tokens == embedded.tokens == 500 + most + 2 * sum(windows) + 3
            assert not np.allclose(read.outputs[0], cut.outputs[0])
            np.testing.assert_allclose(read.outputs[2], cut.outputs[2], rtol=1e-5)  # kernels round by the pass

    asyncio.run(run())


def _logits(artifact: Any, backbone: TextBackbone, item: Any) -> Any:
    view = PairBackbone(backbone) if isinstance(item, TextPair) else WordBackbone(backbone)
    return inference.logits(artifact, view, [item])


def test_a_long_text_leaves_in_pieces_and_is_answered_as_in_one_pass(windowed: TextBackbone) -> None:
    names = ("word.5", "before.5", "after.2")
    tagged = {"task": "token-classification", "labels": ("city", "name"), "features": names}
    head = {"head.weight": torch.randn(5, len(names) * windowed.width), "head.bias": torch.zeros(5)}
    tagger, _ = make(windowed, **tagged, more={**head, **lora_tensors(2)})
    made = [tagger, *(adapter for adapter, _ in adapters_of_every_kind(windowed)[:8:2])]
    adapters = [replace(adapter, windowing=windowed.windowing) for adapter in made]
    longest: list[int] = []

    def note_and_answer(base: Any, rows: Any, owners: Any) -> Any:
        longest.append(max(map(len, rows)))
        return answer(base, rows, owners)

    async def run() -> None:
        async with running(windowed, answer=note_and_answer) as engine:
            found = await asyncio.gather(
                *(engine.submit(str(at), adapter, [LONGER, *ALL]) for at, adapter in enumerate(adapters))
            )
            assert (engine.rows, engine.waiting_rows) == (len(adapters) * (1 + len(ALL)), 0)
            assert all(not engine.waiting_of(str(at)) for at in range(len(adapters)))
        for adapter, request in zip(adapters, found, strict=True):
            modes = [adapter.input_mode] * (1 + len(ALL))
            rows = tokenize(windowed, [LONGER, *ALL], modes, [windowed.windowing] * len(modes))
            assert request.tokens == sum(map(len, rows))
            for row, output in zip(rows, request.outputs, strict=True):
                np.testing.assert_allclose(output, answer(windowed, [row], [adapter])[0], atol=1e-4)

    asyncio.run(run())
    assert max(longest) <= CPU_PASS_TOKENS


def test_a_pass_that_fails_over_a_piece_is_run_again(windowed: TextBackbone) -> None:
    ours, theirs = (replace(make(windowed)[0], windowing=windowed.windowing) for _ in range(2))
    failures = iter([RuntimeError("once"), RuntimeError("twice")])

    def fail_twice(base: Any, rows: Any, owners: Any) -> Any:
        if len(set(owners)) > 1 and (failure := next(failures, None)):  # alone each of them goes through
            raise failure
        return answer(base, rows, owners)

    async def run() -> None:
        async with running(windowed, answer=fail_twice) as engine:
            first, second = await asyncio.gather(
                engine.submit("a", ours, [LONGER, "short"]), engine.submit("b", theirs, [LONGER])
            )
            np.testing.assert_allclose(first.outputs[0], second.outputs[0], atol=1e-5)

    asyncio.run(run())
