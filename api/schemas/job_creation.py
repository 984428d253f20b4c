"""The request for a job, as JSON or as the fields of a multipart form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import Body, Columns, Metadata, auto_or
from models.learning.contract.request import STRATEGIES, Strategy
from models.services.hyperparameters import RANGES
from models.services.promotion import Rule

Auto = Literal["auto"]
AutoFlag = Annotated[bool | Auto, auto_or("true or false", flag=True)]

# OpenAI's other method needs a grader.
_SETTINGS = "Settings, where `type` names this method."
_NOT_OFFERED = {"reinforcement"}
_METHODS = ("supervised", "dpo")


def within(name: str) -> WrapValidator:
    """Accepts `"auto"` or a number in the one range that a hyperparameter has, in `models.services.hyperparameters`."""
    bounds = RANGES[name]
    narrow: Any = auto_or(str(bounds)).func

    def check(value: Any, handler: Any) -> Any:
        found = narrow(value, handler)
        if found != "auto" and not bounds.holds(found):
            raise PydanticCustomError("auto_or", 'must be "auto" or {what}', {"what": str(bounds)})
        return found

    return WrapValidator(check)


class HyperparametersBody(Body):
    """Hyperparameters; `"auto"` where none is given, and the job shows the value that was used."""

    n_epochs: Annotated[int | Auto, within("n_epochs")] = Field(
        "auto", description=f"Passes over the rows: {RANGES['n_epochs']}. A number is kept; `auto` may end earlier."
    )
    batch_size: Annotated[int | Auto, within("batch_size")] = Field(
        "auto", description=f"Rows per step: {RANGES['batch_size']}."
    )
    learning_rate: Annotated[float | Auto, within("learning_rate")] = Field(
        "auto", description="Of the base model's weights."
    )
    learning_rate_multiplier: Annotated[float | Auto, within("learning_rate_multiplier")] = Field(
        "auto", description="Times the strategy's own learning rate."
    )
    lora_rank: Annotated[int | Auto, within("lora_rank")] = Field(
        "auto", description=f"Rank of the low-rank matrices: {RANGES['lora_rank']}."
    )
    trainable_blocks: Annotated[int | Auto, within("trainable_blocks")] = Field(
        "auto", description="How many of the top blocks are trained."
    )
    regularization: Annotated[float | Auto, within("regularization")] = Field(
        "auto", description="Penalty on the head's weights."
    )
    features: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        "auto", description="The features of the head: a set of them, or names such as `mean.6`, with commas."
    )
    lexical: AutoFlag = Field("auto", description="Of labels of one text: whether a part on its terms is added.")
    min_rows_per_label: Annotated[int | Auto, within("min_rows_per_label")] = Field(
        "auto", description=f"Labels with fewer training rows are rare: {RANGES['min_rows_per_label']}; 2 if not given."
    )
    method: Literal["auto", "supervised", "dpo"] = Field(
        "auto", description="Of models that write: learn answers, or preferences between two (`dpo`); by the file."
    )
    beta: Annotated[float | Auto, within("beta")] = Field(
        "auto", description="Of `dpo`: how near it stays to the base."
    )
    long_rows: Literal["auto", "cut", "refuse"] = Field(
        "auto", description="Of models that write: rows that exceed what the base reads; they are cut if not given."
    )
    rare_labels: Literal["auto", "drop", "merge"] = Field(
        "auto", description="Leave rare labels out (`drop`, the default) or join them as `other` (`merge`)."
    )


class MethodSettings(Body):
    """The settings of a method."""

    hyperparameters: HyperparametersBody | None = Field(None, description="Those of this method.")


class Method(Body):
    """OpenAI's `{"type": "supervised", "supervised": {"hyperparameters": …}}`; the type may also be a strategy."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=False)

    type: str = Field("supervised", description="`supervised`, `dpo`, or a strategy.", max_length=40)
    supervised: MethodSettings | None = Field(None, description=_SETTINGS)
    auto: MethodSettings | None = Field(None, description=_SETTINGS)
    zero_shot: MethodSettings | None = Field(None, alias="zero-shot", description=_SETTINGS)
    few_shot: MethodSettings | None = Field(None, alias="few-shot", description=_SETTINGS)
    head: MethodSettings | None = Field(None, description=_SETTINGS)
    lora: MethodSettings | None = Field(None, description=_SETTINGS)
    partial: MethodSettings | None = Field(None, description=_SETTINGS)
    full: MethodSettings | None = Field(None, description=_SETTINGS)
    scratch: MethodSettings | None = Field(None, description=_SETTINGS)
    dpo: MethodSettings | None = Field(None, description=_SETTINGS)
    reinforcement: Any = Field(None, description="Not offered.")

    @model_validator(mode="after")
    def _check(self) -> Method:
        if self.type in _NOT_OFFERED:
            raise _invalid("type", f"The method '{self.type}' is not offered; {_offered()}.")
        if self.type not in _METHODS and self.type not in STRATEGIES:
            raise _invalid("type", f"Unknown method '{self.type}'; {_offered()}.")
        for name in type(self).model_fields:
            if name not in {"type", self._field} and getattr(self, name) is not None:
                raise _invalid(name, f"method.type is '{self.type}', so method.{name} has no meaning.")
        return self

    @property
    def strategy(self) -> str | None:
        """The strategy that the type names, if it names one."""
        return self.type if self.type in STRATEGIES else None

    @property
    def hyperparameters(self) -> HyperparametersBody | None:
        """The hyperparameters below the type's own name."""
        settings = getattr(self, self._field)
        return settings.hyperparameters if isinstance(settings, MethodSettings) else None

    @property
    def _field(self) -> str:
        return self.type.replace("-", "_")


class CreateJob(Body):
    """A fine-tuning job on a file that was uploaded before, on rows, or on a file in the same form."""

    training_file: str | None = Field(None, description="The id of an uploaded file.", min_length=1, max_length=64)
    training_data: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = Field(
        None, description="The rows themselves, for small data sets, in the place of a file."
    )
    validation_file: str | None = Field(None, description="The id of a file to score on; else rows are held out.")
    unlabeled_file: str | None = Field(
        None,
        description="The id of a file of rows without labels, of purpose `unlabeled`. What the head is sure of in them "
        "is learned from where held-out rows gain by it.",
        min_length=1,
        max_length=64,
    )
    model: str | None = Field(
        None,
        description="The base model; the operator's default if none is given. `auto`: the best of those installed, "
        "by a quick probe of each on some of the rows.",
        min_length=1,
        max_length=128,
    )
    suffix: str | None = Field(
        None, description="The model's name; from the file's name if none is given.", max_length=64
    )
    task: str | None = Field(None, description="Inferred from the file if none is given.", max_length=40)
    strategy: Strategy | None = Field(None, description="How to train; `auto` finds out.")
    seed: int | None = Field(
        None, description="Same seed and data, same model. Drawn if none is given.", ge=0, lt=2**31
    )
    hyperparameters: HyperparametersBody | None = Field(None, description='What is not "auto".')
    method: Method | None = Field(None, description="OpenAI's way to name a strategy and its hyperparameters.")
    promote: Rule | None = Field(
        None,
        description="What goes live by itself. `auto`: what is better than the live version on the same rows, or no "
        "worse on more data; `always`; `never`. The model's own if none is given.",
    )
    columns: Columns | None = Field(
        None, description='For rows or a file in this request: canonical name → yours, e.g. {"text": "body"}.'
    )
    metadata: Metadata | None = Field(None, description="Up to 16 pairs of your own; lists filter by them.")
    integrations: list[Any] | None = Field(None, description="Accepted when empty; Graft reports to nobody else.")

    @model_validator(mode="after")
    def _check(self) -> CreateJob:
        if self.integrations:
            raise _invalid("integrations", "Integrations are not offered; leave them out.")
        if self.method is not None:
            if self.method.strategy not in {None, self.strategy} and self.strategy is not None:
                raise _invalid("strategy", f"It is '{self.strategy}' here and '{self.method.type}' in method; say one.")
            if self.method.hyperparameters is not None and self.hyperparameters is not None:
                raise _invalid("hyperparameters", "Hyperparameters come at the top and in method; say them once.")
        return self

    @property
    def chosen_strategy(self) -> str:
        """The strategy, from either field."""
        return self.strategy or (self.method.strategy if self.method else None) or "auto"

    @property
    def chosen_hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters that were set, from either field."""
        chosen = self.hyperparameters or (self.method.hyperparameters if self.method else None)
        values = chosen.model_dump(exclude_unset=True) if chosen else {}
        if self.method is not None and self.method.type == "dpo":
            values["method"] = "dpo"
        return values


def _offered() -> str:
    return f"use {', '.join(map(repr, _METHODS))} or one of {', '.join(STRATEGIES)}"


def _invalid(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_field", "{message}", {"field": field, "message": message})
