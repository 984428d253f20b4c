"""The peer of learning to write: Hugging Face's Trainer with PEFT's LoRA, padded batches, as documented."""

from __future__ import annotations

import math
import tempfile
import time
from typing import Any

import torch

from models.artifacts.parts import LowRankWeights
from models.backbones.decoder import LINEAR_LAYERS
from models.backbones.writing import DecoderBackbone
from models.learning.contract.request import TrainRequest
from models.learning.data.corpus import read_training
from models.learning.generation.material import collect
from models.learning.report import ReportBuilder
from models.learning.run import Run
from models.learning.tasks.text_generation import TextGeneration

_SCALE = 2  # of the product, in ranks: ours


def fit(
    base: DecoderBackbone, request: TrainRequest, settings: dict[str, Any]
) -> tuple[dict[str, Any], LowRankWeights]:
    """Train on the very rows and masks that our learner takes, in fp32, on as many threads.

    Returns held-out loss, tokens and seconds, and the matrices as ours would be stored.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    corpus, task, _ = read_training(request.training, TextGeneration(), request.hyperparameters.rare())
    run: Any = Run(request, base, task, corpus, None, lambda: False, ReportBuilder())  # type: ignore[arg-type]
    material = collect(run, base)
    torch.manual_seed(0)
    torch.set_num_threads(base.threads)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    rank = settings["lora_rank"]
    model = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=_SCALE * rank, target_modules=names, task_type="CAUSAL_LM")
    )
    rows = [_example(row) for row in material.training.tokens]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings["batch_size"],
            num_train_epochs=settings["n_epochs"],
            learning_rate=settings["learning_rate"],
            warmup_steps=max(1, round(0.06 * math.ceil(len(rows) / settings["batch_size"]))),
            lr_scheduler_type="cosine",
            weight_decay=0.0,
            max_grad_norm=1.0,
            save_strategy="no",
            report_to=[],
            use_cpu=base.device.type == "cpu",
            disable_tqdm=True,
            seed=0,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=_collate)
        began = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - began
    tokens = sum(map(len, material.training.tokens)) * settings["n_epochs"]
    model.eval()
    total = learned = 0.0
    with torch.inference_mode():
        for row in material.held.tokens:
            batch = _collate([_example(row)])
            count = row.learned
            total += float(model(**batch).loss) * count
            learned += count
    figures = {"loss": total / learned, "tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}
    return figures, _matrices(model, base.blocks, names)


def _matrices(model: Any, blocks: int, names: list[str]) -> LowRankWeights:
    values = {name: tensor.detach() for name, tensor in model.named_parameters() if ".lora_" in name}
    pairs = {}
    for block in range(blocks):
        for layer in LINEAR_LAYERS:
            assert layer.rpartition(".")[2] in names
            place = f"base_model.model.model.layers.{block}.{layer}"
            down, up = (values[f"{place}.lora_{part}.default.weight"] for part in "AB")
            pairs[block, layer] = down, up * _SCALE
    return LowRankWeights(pairs)


def _example(row: Any) -> dict[str, list[int]]:
    labels = [int(token) if learned else -100 for token, learned in zip(row.tokens_T, row.learned_T, strict=True)]
    return {"input_ids": row.tokens_T.tolist(), "labels": labels}


def _collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 2, "labels": -100}
    batch = {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
    return {**batch, "attention_mask": mask}
