"""A job's report as the documentation has it. Answers carry the report as it was written: nothing here filters it.

Fields may be missing: a report has the fields of its task and its strategy, and older ones have fewer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema


class Part(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(extra="forbid")


class ClassFigures(Part):
    """Scores of one label."""

    label: str = Field(description="The label.")
    precision: float = Field(description="Share of the rows given this label that carry it.")
    recall: float = Field(description="Share of the rows that carry this label that were given it.")
    f1: float = Field(description="Harmonic mean of both.")
    support: int = Field(description="Measured rows that carry it; spans, where spans are learned.")


class Confusion(Part):
    """Counts of (true, predicted) labels; beyond 40 labels those with the most errors."""

    labels: list[str] = Field(description="The labels, in the order of rows and columns.")
    matrix: list[list[int]] = Field(description="One row per true label, one column per predicted one.")
    classes_left_out: int = Field(description="Labels that are not shown.")


class CalibrationFigures(Part):
    """Calibration of the probabilities."""

    temperature: float = Field(description="What logits are divided by.")
    ece: float | None = Field(None, description="Expected calibration error over 15 bins.")


class LabelIssue(Part):
    """A row whose label the other rows contradict: for a person to look at."""

    row: int = Field(description="Row of the training file, from 1.")
    label: str = Field(description="The label that it carries.")
    suggested: str = Field(description="The label that the other rows suggest.")
    confidence: float = Field(description="Probability of the suggested label.")


class TriedStrategy(Part):
    """Score and cost of one strategy."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="The strategy.")
    score: float | None = Field(None, description="Its score on held-out rows.")
    score_low: float | None = Field(None, description="Lower end of the 95 % interval.")
    score_high: float | None = Field(None, description="Upper end of the 95 % interval.")
    seconds: float | None = Field(None, description="Seconds that it took.")


class ProbedBase(Part):
    """One base of a choice: a head on its frozen features, cross-validated."""

    base: str = Field(description="The base model.")
    parameters: int | None = Field(None, description="Number of its weights: of bases that do as well, the fewest.")
    score: float | None = Field(None, description="Its score on held-out rows; null: see `note`.")
    score_low: float | None = Field(None, description="Lower end of the 95 % interval.")
    score_high: float | None = Field(None, description="Upper end of the 95 % interval.")
    ms_per_row: float | None = Field(None, description="Milliseconds to encode a row.")
    seconds: float | None = Field(None, description="Seconds of the probe, without loading the base.")
    note: str | None = Field(None, description="Why it was not probed.")


class BaseChoice(Part):
    """The choice of a base model that a job left open."""

    model_config = ConfigDict(extra="allow")

    asked: Literal["auto"] = Field(description="What the job named.")
    chosen: str | None = Field(None, description="What it became; null: not yet.")
    reason: str | None = Field(None, description="Why.")
    metric: str | None = Field(None, description="Of the probes' scores.")
    rows: int | None = Field(None, description="Rows of the probes: 1,000 at most, the same for all.")
    seconds: float | None = Field(None, description="Seconds of all of it.")
    probes: list[ProbedBase] = Field(default_factory=list, description="Each base that could have taken the job.")


class SearchReport(Part):
    """Whether refinement was worth trying, what was tried, and why it stopped."""

    strategy: str | None = Field(description="What was tried first; null: nothing.")
    expected_gain: float = Field(description="Expected gain in score.")
    noise: float = Field(description="Standard error of the comparison, in score.")
    reason: str = Field(description="Why it was tried, or was not.")
    earlier_jobs: float = Field(
        description="How many earlier jobs the expectation is based on, weighted by similarity."
    )
    candidates: list[dict[str, Any]] = Field(
        description="Each candidate: expected gain, cost, seconds, score, whether it was better than the head in its "
        "trial (`improves`; null: it had none), and where it left (`left_at`)."
    )
    cost: dict[str, float] = Field(description="Seconds, tokens, and rows passed through the base.")


class PromotionReport(Part):
    """Whether the job's best version went live in the place of another one, and by which numbers."""

    promoted: bool = Field(description="Whether it is live since.")
    reason: str = Field(description="Why, with numbers.")
    rule: Literal["auto", "always", "never"] = Field(description="What the job or the model asked for.")
    live_version: int | None = Field(None, description="The version that was live before; null: none.")
    comparison: dict[str, Any] | None = Field(
        None, description="Both on the same held-out rows: scores, gain with its interval, rows, shared labels."
    )


class DataReport(Part):
    """The rows that it learned from."""

    model_config = ConfigDict(extra="allow")

    sha256: str = Field(description="Hash of the training file.")
    inputs_sha256: str = Field(description="Hash of the inputs alone.")
    rows: int = Field(description="Rows of the training file.")
    rows_of_head: int = Field(description="Rows that the head was fitted on.")
    validation_rows: int = Field(description="Rows of the validation file.")
    validation_rows_in_training: int = Field(description="Those of them that are in the training file too.")
    groups: dict[str, Any] | None = Field(
        None,
        description="Rows that are held out together, as rows of one document or template: `rows`, `groups`, `by`; "
        "`similar`: how many in how many groups by their frozen features, and what that means for the score.",
    )
    tokens: int = Field(description="Tokens of one pass over the rows.")
    labels: dict[str, int] = Field(description="Label → number of rows.")


class ReportObject(Part):
    """The quality of a model and how it was measured."""

    model_config = ConfigDict(extra="allow")

    task: str | None = Field(None, description="What was learned.")
    strategy: str | None = Field(None, description="The strategy of the best version.")
    metric: str | None = Field(None, description="Name of the score: accuracy, micro_f1, pearson, entity_f1, ….")
    score: float | None = Field(None, description="The score on held-out rows; more is better.")
    score_low: float | None = Field(None, description="Lower end of its 95 % interval.")
    score_high: float | None = Field(None, description="Upper end of its 95 % interval.")
    measured_on: Literal["validation_file", "held_out_training_rows"] | None = Field(
        None, description="Which rows were held out."
    )
    measured_rows: int | None = Field(None, description="How many rows were held out.")
    baseline: dict[str, float] | None = Field(
        None, description="What needs no training: `majority`, zero-shot models, and `gate`, the best of them."
    )
    per_class: list[ClassFigures] | None = Field(None, description="Figures of each label.")
    confusion: Confusion | None = Field(None, description="Which labels are taken for which.")
    calibration: CalibrationFigures | None = Field(None, description="How honest the probabilities are.")
    regression: dict[str, float] | None = Field(None, description="Of values: rmse, mae, pearson, spearman, r2.")
    spans: dict[str, float] | None = Field(None, description="Of all spans: precision, recall, f1, support.")
    suspects: list[LabelIssue] | None = Field(None, description="Likely mislabelled rows, the most doubtful first.")
    strategies_tried: list[TriedStrategy] | None = Field(None, description="What every strategy scored and cost.")
    refinement: SearchReport | None = Field(None, description="What was tried beyond the first version.")
    promotion: PromotionReport | None = Field(None, description="Whether it went live, and why.")
    situation: dict[str, Any] | None = Field(
        None, description="How much data there is and how well the base model fits it, in numbers and by name."
    )
    self_training: dict[str, Any] | None = Field(
        None,
        description="What rows without labels were worth: how many were `used` and left out, how many each round has "
        "`taken` at which `confidence`, the `gain` on held-out rows with its interval, and the `reason`.",
    )
    lexical: dict[str, Any] | None = Field(None, description="What a head on the terms of the texts added.")
    learning_curve: dict[str, Any] | None = Field(
        None,
        description="Held-out answers are of heads on a part of the rows: `scores` by `rows`, the `expected_gain` of "
        "all rows over the held-out score, and a `sentence`.",
    )
    hyperparameters: dict[str, Any] | None = Field(
        None,
        description='What was "auto", as it became; null: without effect. Of spans also `words`: what stands between '
        "spaces is one word (`joined`), or punctuation in it is a word of its own, as spans of the training rows end "
        "there (`apart`).",
    )
    warnings: list[dict[str, Any]] | None = Field(
        None, description="What is worth a look: of the job's files, of its hyperparameters, of the run."
    )
    seed: int | None = Field(None, description="Same seed and data, same model.")
    data: DataReport | None = Field(None, description="The rows that it learned from.")
    base: dict[str, str] | None = Field(None, description="Name, revision and precision of the base model.")
    base_choice: BaseChoice | None = Field(None, description="How it was chosen, where the job left that open.")
    versions: dict[str, str] | None = Field(None, description="Of the libraries that trained it.")
    seconds: dict[str, float] | None = Field(None, description="Seconds by step, and in total.")


# A report that goes out as it is. `documentation.complete` puts a reference to the type in the place of its name.
Report = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "title": ReportObject.__name__})]
