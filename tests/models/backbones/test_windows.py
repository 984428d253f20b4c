"""Long texts in windows: what is read, what is pooled, and that rows beside them change nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from models.backbones import loading, windows
from models.backbones.text import TextBackbone
from models.backbones.windows import WindowRow
from models.backbones.words import WordBackbone, word_spans
from models.datasets.windowing import Windowing, windowing_of
from tests.models.backbones import text_checkpoints

# 64 tokens, of which 62 are the text's; a letter is a token.
LONG = " ".join(f"word{number}" for number in range(60))
SHORT = "a short one"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> TextBackbone:
    entry = text_checkpoints.write(tmp_path_factory.mktemp("tiny"))
    base = loading.load(entry, device="cpu", precision="fp32", threads=1)
    found: TextBackbone = base.with_windowing(windowing_of(entry.max_tokens))
    return found


@pytest.mark.parametrize("overlap", [0, 64])
@pytest.mark.parametrize("tokens", [1, 254, 255, 300, 508, 509, 2_000, 8_192])
def test_windows_cover_a_text_once(tokens: int, overlap: int) -> None:
    found = windows.split(tokens, most=254, overlap=overlap)
    assert (found[0].own_start, found[-1].own_stop) == (0, tokens)
    assert all(before.own_stop == after.own_start for before, after in pairwise(found))
    assert all(each.start <= each.own_start < each.own_stop <= each.stop for each in found)
    assert all(each.stop - each.start <= 254 for each in found)
    assert len(found) == max(1, -(-(tokens - overlap) // (254 - overlap)))
    for before, after in pairwise(found):  # a token's neighbours are beside it, unless the text begins or ends there
        assert before.stop - after.start == overlap
        assert before.stop - before.own_stop >= overlap // 2
        assert after.own_start - after.start >= overlap // 2


def test_a_text_that_fits_stays_one_row(backbone: TextBackbone) -> None:
    fitting = "a " * 62
    cutting = backbone.with_windowing(None)
    for text in (SHORT, fitting, ""):
        (row,), (as_before,) = backbone.tokenize([text]), cutting.tokenize([text])
        assert isinstance(row, np.ndarray)
        assert np.array_equal(row, as_before)
    (row,) = backbone.tokenize([fitting + "a"])
    assert isinstance(row, WindowRow)
    assert [len(part) for part in row.windows] == [33, 34]


def test_windows_hold_the_whole_text_with_special_tokens_around_each(backbone: TextBackbone) -> None:
    (row,) = backbone.tokenize([LONG])
    assert isinstance(row, WindowRow)
    begin, end = backbone.tokenize([""])[0]
    assert {(part[0], part[-1]) for part in row.windows} == {(begin, end)}
    inner = np.concatenate([part[1:-1] for part in row.windows])
    words = np.concatenate([backbone.tokenize([word])[0][1:-1] for word in LONG.split()])
    assert np.array_equal(inner, words)
    assert backbone.cut_tokens([LONG], [row]).tolist() == [0]


def test_what_is_beyond_the_bound_is_counted(backbone: TextBackbone) -> None:
    bounded = backbone.with_windowing(Windowing(tokens=100, overlap=16))
    rows = bounded.tokenize([LONG, SHORT, "a " * 100, "a " * 101])
    assert bounded.cut_tokens([], rows).tolist() == [sum(map(len, LONG.split())) - 100, 0, 0, 1]
    (read,) = WordBackbone(bounded).tokenize([LONG])
    assert isinstance(read.tokens, WindowRow)
    assert read.tokens.cut == bounded.cut_tokens([], rows)[0]
    assert np.array_equal(read.spans_W2, word_spans(LONG)[: len(read.spans_W2)])
    assert len(read.spans_W2) == pytest.approx(100 / 5.8, abs=2)


def test_a_mean_is_that_of_all_tokens(backbone: TextBackbone) -> None:
    rows = backbone.tokenize([LONG, SHORT])
    names = ["mean.2", "max.2", "unit_mean.2", "cls.1"]
    (found_F, _) = np.split(backbone.encode_tokens(rows, names), 2)
    parts = backbone.encode_tokens(windows.parts_of(rows[0]), names)
    shares = np.array([len(part) for part in windows.parts_of(rows[0])]) / len(rows[0])
    mean, most, unit, first = np.split(found_F[0], 4)
    np.testing.assert_allclose(mean, shares @ parts[:, :32], atol=1e-5)
    np.testing.assert_allclose(most, parts[:, 32:64].max(0), atol=1e-6)
    np.testing.assert_allclose(unit, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(first, shares @ parts[:, 96:], atol=1e-5)


def test_neighbours_change_nothing(backbone: TextBackbone) -> None:
    names = ["mean.3", "unit_max.3"]
    texts = [SHORT, LONG, "another", LONG[:200]]
    together = backbone.encode(texts, names)
    for text, features_F in zip(texts, together, strict=True):
        assert np.array_equal(backbone.encode([text], names)[0], features_F)


def test_what_trains_reads_the_same_and_has_gradients(backbone: TextBackbone) -> None:
    network = backbone.trainable_copy().eval()
    rows = backbone.tokenize([LONG, SHORT])
    batch = backbone.collate(rows)
    _, tapped = network.run(batch, network.embed(batch), 0, 3, taps={3})
    for kind in ("mean", "unit_max"):
        pooled_BD = network.pool(tapped[3], batch, kind)
        np.testing.assert_allclose(pooled_BD.detach(), backbone.encode_tokens(rows, [f"{kind}.3"]), atol=1e-5)
        assert torch.autograd.grad(pooled_BD.sum(), network.blocks[0].output.dense.weight, retain_graph=True)


def test_blocks_computed_again_have_the_same_gradients(backbone: TextBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = backbone.tokenize([LONG])

    def gradient() -> torch.Tensor:
        network = backbone.trainable_copy().eval()
        batch = backbone.collate(rows)
        hidden, _ = network.run(batch, network.embed(batch), 0, 3)
        (found,) = torch.autograd.grad(network.pool(hidden, batch, "mean").sum(), network.blocks[0].output.dense.weight)
        return found

    kept = gradient()
    monkeypatch.setattr("models.backbones.encoder._KEPT_TOKENS", 64)
    assert torch.equal(gradient(), kept)


def test_every_word_is_pooled_once_with_its_neighbours_beside_it(backbone: TextBackbone) -> None:
    words = WordBackbone(backbone)
    (row,), (short,) = words.tokenize([LONG]), words.tokenize([SHORT])
    assert np.array_equal(row.spans_W2, word_spans(LONG))
    counts = np.bincount(row.word_T[row.word_T >= 0])
    assert counts.tolist() == [end - start for start, end in row.spans_W2]  # a letter is a token
    names = ["word.3", "before.2"]
    together = words.encode_tokens([row, short], names)
    assert np.array_equal(together[len(counts) :], words.encode_tokens([short], names))
    assert np.array_equal(together[: len(counts)], words.encode([LONG], names))
    # Far from the ends of the first window they are those of the text's beginning alone.
    begin = WordBackbone(backbone.with_windowing(None)).encode([LONG], ["word.0"])
    np.testing.assert_allclose(words.encode([LONG], ["word.0"])[:5], begin[:5], atol=1e-6)


def test_a_windowed_base_shares_its_weights(backbone: TextBackbone, tmp_path: Path) -> None:
    other = backbone.with_windowing(None)
    assert other.network is backbone.network
    assert other.windowing is None
    assert backbone.windowing is not None
