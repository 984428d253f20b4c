"""Rows that are about computing: mixed heads, mixed low-rank adapters, the encoder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbones import loading, registry
from models.backbones import precision as formats
from models.backbones.packed_batch import pool
from models.backbones.text import TextBackbone
from models.learning.heads.linear import fit_head
from models.learning.tasks.link_functions import SOFTMAX
from models.services.catalog import ResolvedVersion
from models.serving.adapters.adapter import Adapter
from models.serving.adapters.assembly import assemble
from models.serving.encoders.engine import Engine
from models.serving.encoders.engine_parts import EngineLimits
from models.serving.encoders.hot_adapter_merge import merge
from models.serving.encoders.passes import answer
from models.settings import Settings
from tests.benchmarks.public_data import Rows
from tests.benchmarks.serving_load import medians, turns
from tests.benchmarks.serving_plan import Found, Plan
from tests.benchmarks.serving_world import head_artifact, lora_of

LORA_BATCH = 64
FEW_OTHERS = 4


def load(precision: str, threads: int = 0) -> TextBackbone:
    """MiniLM."""
    settings = Settings()
    return loading.load(registry.find(settings, "minilm"), device=settings.device, precision=precision, threads=threads)


def precisions() -> tuple[str, ...]:
    """Those that are worth measuring here: bf16 that is emulated takes twenty times as long as fp32."""
    fast = formats.bf16_is_fast(formats.resolve_device(Settings().device))
    return ("fp32", "bf16") if fast else ("fp32",)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it; a processor has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def adapter(backbone: TextBackbone, seed: int, *, classes: int = 10, lora: bool = False) -> Adapter:
    """A customer's adapter in memory."""
    made = head_artifact(backbone, seed, classes=classes, more=lora_of(seed) if lora else None)
    version = ResolvedVersion("cus", "mod", "tickets", "ft:minilm:cus:tickets", 1, "", "", "minilm", made.manifest.task)
    return assemble(made, version, backbone)


def interleave(arms: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each arm returned, round after round; one round before them does not count."""
    for arm in arms.values():
        arm()
    found: dict[str, list[float]] = {name: [] for name in arms}
    for name in turns(arms, rounds):
        found[name].append(arms[name]())
    return found


def timed(work: Callable[[], Any], units: int, seconds: float = 0.0) -> Callable[[], float]:
    """A callable that returns units per second: over one call, or over as many as fill some seconds."""

    def measure() -> float:
        began = time.perf_counter()
        calls = 0
        while not calls or time.perf_counter() < began + seconds:
            work()
            calls += 1
        return calls * units / (time.perf_counter() - began)

    return measure


def mixed_heads(plan: Plan) -> Found:
    """Row 1: single-row requests, each of a customer of its own, over the same requests of one customer."""
    texts = plan.texts[:1_024]
    count = len(texts)

    async def run() -> Found:
        backbone = load("auto")
        engine = Engine(backbone, EngineLimits(8_192, 10 * count, worker_threads=torch.get_num_threads()))
        engine.start()
        adapters = {
            classes: [adapter(backbone, seed, classes=classes) for seed in range(count)] for classes in (10, 77)
        }

        async def send(classes: int, owners: Sequence[int]) -> float:
            began = time.perf_counter()
            waiting = (
                engine.submit(f"customer-{owner}", adapters[classes][owner], [text])
                for owner, text in zip(owners, texts, strict=True)
            )
            await asyncio.gather(*waiting)
            return count / (time.perf_counter() - began)

        arms = {
            f"{who}, {classes} classes": (classes, owners)
            for classes in adapters
            for who, owners in (("all different", range(count)), ("all one", [0] * count))
        }
        found: dict[str, list[float]] = {name: [] for name in arms}
        for arm in arms.values():
            await send(*arm)
        for name in turns(arms, 2 * plan.rounds):  # an arm takes less than a second
            found[name].append(await send(*arms[name]))
        await engine.close()
        middle = medians(found)
        ratios = {
            classes: middle[f"all different, {classes} classes"] / middle[f"all one, {classes} classes"]
            for classes in adapters
        }
        return {"value": min(ratios.values()), "ratios": ratios, "texts_per_s": middle, "rounds": found}

    return asyncio.run(run())


def mixed_lora(plan: Plan) -> Found:
    """Row 3: 64 customers with LoRA in a batch of 64 over the bare base, and over PEFT; all arms on one thread."""
    texts = plan.texts[:LORA_BATCH]
    row: Found = {}
    for precision in precisions():
        backbone = load(precision, threads=1)
        tokens = backbone.tokenize(texts)
        adapters = [adapter(backbone, seed, lora=True) for seed in range(LORA_BATCH)]
        merged = merge(adapters[0], backbone, limit_bytes=2**30)
        if merged is None:
            raise RuntimeError("the adapter was not merged")
        mostly = [merged] * (LORA_BATCH - FEW_OTHERS) + adapters[1 : 1 + FEW_OTHERS]
        arms = {
            "bare base": _bare_batch(backbone, tokens),
            "64 adapters": lambda: answer(backbone, tokens, adapters),  # noqa: B023 - used before the next turn
            "one adapter": lambda: answer(backbone, tokens, adapters[:1] * LORA_BATCH),  # noqa: B023
            "one adapter, merged": lambda: answer(backbone, tokens, [merged] * LORA_BATCH),  # noqa: B023
            "60 of a merged one": lambda: answer(backbone, tokens, mostly),  # noqa: B023
            "peft adapter_names": _peft_batch(backbone, texts, precision),
        }
        found = interleave(
            {name: timed(work, LORA_BATCH, plan.seconds / 4) for name, work in arms.items()}, plan.rounds
        )
        middle = medians(found)
        row[precision] = {
            "rows_per_s": middle,
            "over_base": middle["64 adapters"] / middle["bare base"],
            "one_over_base": middle["one adapter"] / middle["bare base"],
            "merged_over_base": middle["one adapter, merged"] / middle["bare base"],
            "mostly_merged_over_base": middle["60 of a merged one"] / middle["bare base"],
            "over_peft": middle["64 adapters"] / middle["peft adapter_names"],
            "rounds": found,
            "tokens": sum(map(len, tokens)),
        }
    return {"value": row["fp32"]["over_base"], **row}


def bare_pass(backbone: TextBackbone, tokens: Any) -> None:
    """The base alone, as serving runs it: no adapter, no head."""
    encoder = backbone.packed
    if encoder is None:
        raise RuntimeError("no packed encoder")
    with torch.inference_mode():
        batch = encoder.pack(tokens)
        _, tapped = encoder.run(batch, encoder.embed(batch), 0, backbone.blocks, taps=[backbone.blocks])
        pool(tapped[backbone.blocks], batch, "mean").cpu()


def _bare_batch(backbone: TextBackbone, tokens: Any) -> Callable[[], None]:
    return lambda: bare_pass(backbone, tokens)


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
    model = model.to(backbone.device, dtype).eval()
    tokenized = AutoTokenizer.from_pretrained(folder)(list(texts), padding=True, return_tensors="pt")
    batch = tokenized.to(backbone.device)
    names = [f"a{number}" for number in range(64)]

    def run() -> None:
        with torch.inference_mode():
            model(**batch, adapter_names=names)
            synchronize(backbone.device)

    return run


def encoder_rate(plan: Plan) -> Found:
    """Row 6: texts per second of the engine over sentence-transformers' own `encode`, and what bf16 costs."""
    from sentence_transformers import SentenceTransformer

    texts = plan.texts[:1_024]
    backbones = {name: load(name) for name in precisions()}
    exact = backbones["fp32"]
    peer = SentenceTransformer(str(registry.folder_of(exact.entry)), device=str(exact.device))
    arms = {"sentence-transformers": timed(lambda: peer.encode(texts, show_progress_bar=False), len(texts))}
    for name, backbone in backbones.items():
        arms[name] = timed(lambda b=backbone: b.encode(texts, ["mean.6"]), len(texts))
    found = interleave(arms, plan.rounds)
    middle = medians(found)
    theirs = _normalised(np.asarray(peer.encode(texts, show_progress_bar=False)))
    ours = _normalised(exact.encode(texts, ["mean.6"]))
    row = {
        "value": middle["fp32"] / middle["sentence-transformers"],
        "fp32_over_peer": middle["fp32"] / middle["sentence-transformers"],
        "texts_per_s": middle,
        "fp32_largest_difference": float(np.abs(ours - theirs).max()),
        "rounds": found,
    }
    if "bf16" not in backbones:
        return row
    accuracy = {name: _accuracy(backbone, plan.train, plan.test) for name, backbone in backbones.items()}
    over_peer = middle["bf16"] / middle["sentence-transformers"]
    return row | {
        "value": over_peer,
        "bf16_over_peer": over_peer,
        "points_lost_in_bf16": 100 * (accuracy["fp32"] - accuracy["bf16"]),
        "accuracy": accuracy,
    }


def _normalised(vectors_ND: NDArray[Any]) -> NDArray[Any]:
    unit_ND: NDArray[Any] = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return unit_ND


def _accuracy(backbone: TextBackbone, train: Rows, test: Rows) -> float:
    """Of a head on this backbone's features, at the penalty that Graft tries first."""
    learned_NF, judged_NF = (backbone.encode([text for text, _ in rows], ["mean.6"]) for rows in (train, test))
    names = sorted({label for _, label in train})
    targets = torch.tensor([names.index(label) for _, label in train])
    penalty = SOFTMAX.default_inverse_penalty
    head = fit_head(learned_NF, targets, SOFTMAX, outputs=len(names), inverse_penalty=penalty)
    said = head.logits(judged_NF).argmax(1)
    return float(np.mean([names[at] == label for at, (_, label) in zip(said, test, strict=True)]))
