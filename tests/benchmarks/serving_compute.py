"""Rows that are about computing: mixed heads, mixed low-rank adapters, the encoder, memory."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from models.backbones import loading, registry
from models.backbones.packed import pool
from models.backbones.text import TextBackbone
from models.services.catalog import ResolvedVersion
from models.serving.adapters import Adapter
from models.serving.assembly import assemble
from models.serving.depot import Artifact as StoredArtifact
from models.serving.engine import Engine
from models.serving.passes import answer
from models.settings import Settings
from tests.benchmarks.serving_world import head_artifact, lora_of

Row = dict[str, Any]


def load(precision: str, threads: int = 0) -> TextBackbone:
    """MiniLM."""
    return loading.load(registry.find(Settings(), "minilm"), device="cpu", precision=precision, threads=threads)


def adapter(backbone: TextBackbone, seed: int, *, classes: int = 10, lora: bool = False) -> Adapter:
    """A customer's adapter in memory."""
    made = head_artifact(backbone, seed, classes=classes, more=lora_of(seed) if lora else None)
    manifest = {
        "task": made.task,
        "labels": list(made.labels),
        "features": list(made.features),
        "temperature": 1.0,
        "thresholds": None,
        "base": {"name": made.base, "revision": made.base_revision},
    }
    version = ResolvedVersion("cus", "mod", "tickets", "ft:minilm:cus:tickets", 1, "", "", "minilm", made.task)
    return assemble(StoredArtifact(manifest, made.tensors), version, backbone)


def interleave(arms: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every arm once per round, in turn, after one round that does not count; what each returned."""
    for arm in arms.values():
        arm()
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds):
        names = list(arms)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody is always first
            found[name].append(arms[name]())
    return found


def medians(found: dict[str, list[float]]) -> dict[str, float]:
    """The median of each arm."""
    return {name: statistics.median(values) for name, values in found.items()}


def timed(work: Callable[[], Any], units: int) -> Callable[[], float]:
    """A callable that returns units per second."""

    def measure() -> float:
        began = time.perf_counter()
        work()
        return units / (time.perf_counter() - began)

    return measure


def mixed_heads(texts: Sequence[str], rounds: int) -> Row:
    """Row 1: single-row requests, each of a customer of its own, over the same requests of one customer."""
    count = 1_024
    texts = list(texts[:count])

    async def run() -> Row:
        backbone = load("auto")
        lanes = torch.get_num_threads()
        engine = Engine(backbone, batch_tokens=8_192, queue_per_customer=10 * count, lanes=lanes)
        engine.start()
        found: dict[str, list[float]] = {}
        for classes in (10, 77):
            adapters = [adapter(backbone, seed, classes=classes) for seed in range(count)]

            async def send(owners: Sequence[int], adapters: Sequence[Adapter] = adapters) -> float:
                began = time.perf_counter()
                await asyncio.gather(
                    *(
                        engine.submit(f"customer-{owner}", adapters[owner], [text])
                        for owner, text in zip(owners, texts, strict=True)
                    )
                )
                return count / (time.perf_counter() - began)

            arms = {f"all different, {classes} classes": list(range(count)), f"all one, {classes} classes": [0] * count}
            for owners in arms.values():
                await send(owners)
            for _ in range(rounds):
                for name, owners in arms.items():
                    found.setdefault(name, []).append(await send(owners))
        await engine.close()
        middle = medians(found)
        ratios = {
            classes: middle[f"all different, {classes} classes"] / middle[f"all one, {classes} classes"]
            for classes in (10, 77)
        }
        return {"value": ratios[10], "ratios": ratios, "rows_per_s": middle, "rounds": found}

    return asyncio.run(run())


def mixed_lora(texts: Sequence[str], rounds: int, *, peft: bool = True) -> Row:
    """Row 3: 64 customers with LoRA in a batch of 64 over the bare base, and over PEFT; all arms on one thread."""
    row: Row = {}
    before = torch.get_num_threads()
    try:
        for precision in ("fp32", "bf16"):
            backbone = load(precision, threads=1)
            encoder = backbone.packed
            if encoder is None:
                raise RuntimeError("no packed encoder")
            tokens = backbone.tokenize(list(texts[:64]))
            adapters = [adapter(backbone, seed, lora=True) for seed in range(64)]

            def bare(backbone: TextBackbone = backbone, tokens: Any = tokens) -> None:
                encoder = backbone.packed
                with torch.inference_mode():
                    batch = encoder.pack(tokens)
                    _, tapped = encoder.run(batch, encoder.embed(batch), 0, backbone.blocks, taps=[backbone.blocks])
                    pool(tapped[backbone.blocks], batch, "mean")

            arms = {
                "bare base": timed(bare, 64),
                "64 adapters": timed(lambda e=backbone, t=tokens, a=adapters: answer(e, t, a), 64),
                "one adapter": timed(lambda e=backbone, t=tokens, a=adapters: answer(e, t, a[:1] * 64), 64),
            }
            if peft:
                arms["peft adapter_names"] = timed(_peft_batch(backbone, texts[:64], precision), 64)
            found = interleave(arms, rounds)
            middle = medians(found)
            row[precision] = {
                "rows_per_s": middle,
                "over_base": middle["64 adapters"] / middle["bare base"],
                "one_over_base": middle["one adapter"] / middle["bare base"],
                "over_peft": middle["64 adapters"] / middle["peft adapter_names"] if peft else None,
                "rounds": found,
                "tokens": sum(map(len, tokens)),
            }
    finally:
        torch.set_num_threads(before)
    return {"value": row["fp32"]["over_base"], **row}


def _peft_batch(backbone: TextBackbone, texts: Sequence[str], precision: str) -> Callable[[], Any]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel, AutoTokenizer

    folder = registry.folder_of(backbone.entry)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    base = AutoModel.from_pretrained(folder, dtype=dtype).eval()
    config = LoraConfig(
        r=8, lora_alpha=8, target_modules=["query", "key", "value", "dense"], exclude_modules=["pooler.dense"]
    )
    model = get_peft_model(base, config, adapter_name="a0").eval()
    for number in range(1, 64):
        model.add_adapter(f"a{number}", config)
    model = model.to(dtype).eval()
    batch = AutoTokenizer.from_pretrained(folder)(list(texts), padding=True, return_tensors="pt")
    names = [f"a{number}" for number in range(64)]

    def run() -> None:
        with torch.inference_mode():
            model(**batch, adapter_names=names)

    return run


def encoder_rate(
    texts: Sequence[str], rounds: int, labelled: tuple[Sequence[str], Sequence[str], Sequence[str]]
) -> Row:
    """Row 6: texts per second of the engine over sentence-transformers' own `encode`, and what bf16 costs.

    `labelled` is (training texts, their labels, test texts, their labels).
    """
    from sentence_transformers import SentenceTransformer

    folder = registry.folder_of(registry.find(Settings(), "minilm"))
    peer = SentenceTransformer(str(folder), device="cpu")
    backbones = {name: load(name) for name in ("fp32", "bf16")}
    arms = {"sentence-transformers": timed(lambda: peer.encode(list(texts), show_progress_bar=False), len(texts))}
    for name, backbone in backbones.items():
        arms[name] = timed(lambda b=backbone: b.encode(list(texts), ["mean.6"]), len(texts))
    found = interleave(arms, rounds)
    middle = medians(found)
    theirs = _normalised(np.asarray(peer.encode(list(texts), show_progress_bar=False)))
    ours = {name: backbone.encode(list(texts), ["mean.6"]) for name, backbone in backbones.items()}
    training, labels, test, expected = labelled
    accuracy = {}
    for name, backbone in backbones.items():
        learned, judged = (backbone.encode(list(some), ["mean.6"]) for some in (training, test))
        accuracy[name] = _accuracy(learned, labels, judged, expected)
    return {
        "value": middle["bf16"] / middle["sentence-transformers"],
        "fp32_over_peer": middle["fp32"] / middle["sentence-transformers"],
        "bf16_over_peer": middle["bf16"] / middle["sentence-transformers"],
        "texts_per_s": middle,
        "fp32_largest_difference": float(np.abs(_normalised(ours["fp32"]) - theirs).max()),
        "accuracy": accuracy,
        "rounds": found,
    }


def _normalised(vectors_ND: NDArray[Any]) -> NDArray[Any]:
    unit_ND: NDArray[Any] = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return unit_ND


def _accuracy(training: Any, labels: Sequence[str], test: Any, expected: Sequence[str]) -> float:
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=10.0, max_iter=200).fit(_normalised(training), list(labels))
    return float((head.predict(_normalised(test)) == np.array(expected)).mean())


def memory_slope(count: int) -> Row:
    """Row 4: resident bytes per further head customer over those of a full copy of the base."""
    backbone = load("auto", threads=1)
    process = psutil.Process()
    held: list[Any] = [adapter(backbone, seed) for seed in range(200)]
    sizes, resident = [], []
    for step in range(8):
        held += [adapter(backbone, 1_000 + step * count + seed) for seed in range(count)]
        gc.collect()
        sizes.append(len(held))
        resident.append(process.memory_info().rss)
    slope = float(np.polyfit(sizes, resident, 1)[0])
    before = process.memory_info().rss
    copy = backbone.trainable_copy()
    copied = sum(parameter.nbytes for parameter in copy.parameters())
    grown = process.memory_info().rss - before
    return {
        "value": slope / copied,
        "bytes_per_customer": slope,
        "bytes_of_a_copy": copied,
        "resident_growth_of_a_copy": grown,
        "customers": sizes,
        "resident": resident,
        "accounted": held[-1].nbytes,
    }
