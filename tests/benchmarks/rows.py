"""The rows of the table: which data set, on which base, beside which peers, and the score that is expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks import box_sets, public_data, task_sets
from tests.benchmarks.peers import Peer
from tests.benchmarks.task_sets import TaskSet

# The operator's own base models: name → (modality, folder below `backbones`).
_BASES = {"mobilenet": ("image", "mobilenet_v2_1.0_224"), "yamnet": ("audio", "yamnet")}

_TFIDF = Peer("TF-IDF and logistic regression", "tfidf")
_TRAINER = Peer("`Trainer`, full fine-tune, 10 epochs at 5e-4", "trainer")
_LONG_TRAINER = Peer("`Trainer`, full fine-tune, 3 epochs at 5e-5", "trainer", {"epochs": 3, "learning_rate": 5e-5})
_SETFIT = Peer("SetFit, 20 iterations", "setfit")
_TOKEN_TRAINER = Peer("`Trainer`, token head, 10 epochs at 1e-4", "trainer-tokens")
_BUILT_IN = "mobilenet-v2"
_POOLED_BUILT_IN = Peer("pooled features and logistic regression", "pooled", {"base": _BUILT_IN})
_COSINE = Peer("cosine of the same base, untrained", "cosine")


@dataclass(frozen=True)
class BenchRow:
    """One row. `floor` is the least score that `auto` must reach; None where the score is only stated."""

    name: str
    title: str
    data: Callable[[], TaskSet]
    floor: float | None = None
    peers: tuple[Peer, ...] = ()
    base: str = "minilm"
    asked_only: bool = False  # run only when it is named


def all_rows() -> tuple[BenchRow, ...]:
    """In the order of the table. Seed 0 draws rows and trains, where nothing else is said."""
    return (
        BenchRow("banking77_10", "banking77, 10 per class", partial(_few_intents, 0), 0.875, (_TFIDF, _TRAINER)),
        BenchRow("banking77_10_draw1", "banking77, 10 per class, draw 1", partial(_few_intents, 1), asked_only=True),
        BenchRow("banking77_10_draw2", "banking77, 10 per class, draw 2", partial(_few_intents, 2), asked_only=True),
        BenchRow("banking77", "banking77, all rows", task_sets.banking77, 0.94, (_TFIDF,)),
        BenchRow("sms_spam", "sms_spam", task_sets.sms_spam, 0.985, (_TFIDF,)),
        BenchRow("trec_10", "trec, 6 classes, 10 per class", partial(_few_questions, 0), None, (_TFIDF, _SETFIT)),
        *(
            BenchRow(
                f"trec_10_draw{seed}", f"trec, 6 classes, 10 per class, draw {seed}", partial(_few_questions, seed),
                None, (_SETFIT,), asked_only=True,
            )
            for seed in (1, 2)
        ),
        BenchRow("trec", "trec, 6 classes", task_sets.trec, 0.96, (_TFIDF, _LONG_TRAINER)),
        BenchRow("xquad_de", "xquad, German, 48 articles", task_sets.xquad_de, None, (_TFIDF,)),
        BenchRow("stsb_en", "stsb, English", partial(task_sets.stsb, "en"), 0.82, (_COSINE,)),
        BenchRow("stsb_de", "stsb, German", partial(task_sets.stsb, "de"), None, (_COSINE,)),
        BenchRow(
            "nlupp_banking", "nlupp banking, 48 intents", task_sets.nlupp_banking, None,
            (Peer("TF-IDF and a logistic regression per label", "tfidf-labels"),),
        ),
        BenchRow("wnut17", "wnut17, 6 kinds of names", task_sets.wnut17, peers=(_TOKEN_TRAINER,)),
        BenchRow("restaurant8k", "restaurant8k, 5 slots", task_sets.restaurant8k),
        BenchRow(
            "hymenoptera", "hymenoptera, photos, MobileNetV2", task_sets.hymenoptera, 0.96,
            (Peer("pooled features and logistic regression", "pooled", {"base": str(_folder("mobilenet"))}),),
            base="mobilenet",
        ),
        BenchRow(
            "hymenoptera_builtin", "hymenoptera, photos, built-in base", task_sets.hymenoptera, 0.96,
            (_POOLED_BUILT_IN,), base=_BUILT_IN,
        ),
        *(
            BenchRow(
                "hymenoptera_40" + (f"_draw{seed}" if seed else ""),
                f"hymenoptera, 40 photos, built-in base{f', draw {seed}' if seed else ''}",
                partial(_few_photos, seed), 0.9, (_POOLED_BUILT_IN,), base=_BUILT_IN, asked_only=seed > 0,
            )
            for seed in (0, 1, 2)
        ),
        BenchRow(
            "fsdd_digits", "fsdd, spoken digits, YAMNet", task_sets.fsdd_digits, 0.93,
            (Peer("spectrogram and logistic regression", "spectrogram"),),
            base="yamnet",
        ),
        BenchRow("raccoon_det", "raccoons, boxes, MobileNetV2", box_sets.raccoon, 0.93, base="mobilenet"),
        BenchRow("bccd_det", "bccd, three kinds of cells, boxes", box_sets.bccd, None, base="mobilenet"),
    )  # fmt: skip


def write_base_models(path: Path) -> Path:
    """What `GRAFT_BASE_MODELS_FILE` names: the bases for pictures and sounds, from local folders."""
    entries = {
        name: {"modality": modality, "source": {"folder": str(_folder(name))}, "licence": "Apache-2.0"}
        for name, (modality, _) in _BASES.items()
    }
    path.write_text(json.dumps(entries))
    return path


def _few_intents(seed: int) -> TaskSet:
    return task_sets.few(task_sets.banking77(), 10, seed)


def _few_questions(seed: int) -> TaskSet:
    return task_sets.few(task_sets.trec(), 10, seed)


def _few_photos(seed: int) -> TaskSet:
    return task_sets.few(task_sets.hymenoptera(), 20, seed)


def _folder(name: str) -> Path:
    return public_data.place() / "backbones" / _BASES[name][1]
