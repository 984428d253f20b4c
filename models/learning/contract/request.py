"""Request for a training run. Plain types: no torch, no database, no customer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from models.datasets.rare_labels import RareLabels, Rule
from models.learning.contract.comparison import LiveVersion
from models.learning.contract.outcomes import Outcome

Strategy = Literal["auto", "zero-shot", "few-shot", "head", "lora", "partial", "full", "scratch"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Values that a customer may set; `"auto"` everywhere else, and the report states what it became."""

    n_epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate: float | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"
    lora_rank: int | Literal["auto"] = "auto"
    trainable_blocks: int | Literal["auto"] = "auto"
    regularization: float | Literal["auto"] = "auto"
    features: str | Literal["auto"] = "auto"
    lexical: bool | Literal["auto"] = "auto"  # an n-gram part beside the head
    min_rows_per_label: int | Literal["auto"] = "auto"  # labels with fewer are rare
    rare_labels: Rule | Literal["auto"] = "auto"

    # Of models that write
    method: Literal["supervised", "dpo", "auto"] = "auto"
    beta: float | Literal["auto"] = "auto"  # of DPO
    long_rows: Literal["cut", "refuse", "auto"] = "auto"  # rows that exceed what the base reads

    def rare(self) -> RareLabels:
        """Return the rule for labels of few rows."""
        default = RareLabels()
        return RareLabels(
            default.minimum if self.min_rows_per_label == "auto" else self.min_rows_per_label,
            default.rule if self.rare_labels == "auto" else self.rare_labels,
        )


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A local file in one of the accepted formats, already validated when it was uploaded."""

    path: Path
    format: str
    columns: dict[str, str] = field(default_factory=dict)  # canonical name → the file's own name
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """One attempt at training one model. Everything that decides the result is in here."""

    training: DatasetSource
    task: str
    output_dir: Path
    base_model: str = "minilm"
    validation: DatasetSource | None = None
    unlabeled: DatasetSource | None = None  # rows without labels, of the kind of the training rows
    strategy: Strategy = "auto"
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    refine_budget_s: float = 900.0
    feature_cache_dir: Path | None = None  # one customer's own folder, never shared
    checkpoint_dir: Path | None = None
    priors: tuple[Outcome, ...] = ()  # outcomes of earlier jobs, of all customers
    live: LiveVersion | None = None  # what the best version is compared with; None: nothing
    base_candidates: tuple[str, ...] = ()  # where `base_model` is left open: bases to choose from, the cheapest first
    base_choice: dict[str, Any] | None = None  # how `base_model` was chosen, for the report; None: it was asked for

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form; `from_dict` reads it back."""
        values: dict[str, Any] = _jsonable(asdict(self))
        return values

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainRequest:
        """Read what `to_dict` wrote."""
        values = dict(data)
        values["training"] = _source(values["training"])
        for name in ("validation", "unlabeled"):
            values[name] = _source(values[name]) if values.get(name) else None
        values["hyperparameters"] = Hyperparameters(**values.get("hyperparameters", {}))
        for name in ("output_dir", "feature_cache_dir", "checkpoint_dir"):
            values[name] = Path(values[name]) if values.get(name) else None
        values["priors"] = tuple(Outcome.from_dict(each) for each in values.get("priors", ()))
        values["base_candidates"] = tuple(values.get("base_candidates", ()))
        live = values.get("live")
        values["live"] = None if live is None else LiveVersion(live["number"], Path(live["folder"]))
        return cls(**values)


def _source(data: dict[str, Any]) -> DatasetSource:
    return DatasetSource(**{**data, "path": Path(data["path"])})


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value
