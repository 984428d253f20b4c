"""Errors of the use cases."""

from __future__ import annotations

from models.errors import Conflict, Forbidden, GraftError, InvalidRequest, NotFound, RateLimited, TooLarge


class LeaseLost(GraftError):
    """This attempt no longer owns its job: stop at once and write nothing. Never reaches a customer."""

    message = "Attempt {attempt} no longer owns the job '{job_id}'."


class NameTaken(Conflict):
    """Names are unique: 409."""

    message = "There is a {kind} called '{name}' already. Choose another name."


class InvalidName(InvalidRequest):
    """A name that cannot be part of a URL or of a model's full name."""

    message = (
        "'{name}' cannot name a {kind}: use 1 to 64 lower-case letters, digits, '.', '_' and '-', "
        "with a letter or a digit at both ends."
    )


class InvalidMetadata(InvalidRequest):
    """Metadata over its limits."""

    param = "metadata"
    message = "metadata: {reason} It holds up to 16 pairs, keys of up to 64 and values of up to 512 characters."


class KeyNotActive(Conflict):
    """A key that is revoked or has expired cannot be rotated: 409."""

    message = "The key '{id}' is {state} and cannot be rotated. Issue a new one."


class KeyEndsBefore(InvalidRequest):
    """A key that would have ended before it is issued."""

    param = "expires_at"
    message = (
        "expires_at is {got:.0f}, and it is {now:.0f} by now: a key ends in the future. Give Unix seconds to come, or "
        "leave it out for one that does not end."
    )


class KeyOutreaches(Forbidden):
    """A key would issue another one that may do more, or lives longer, than itself: 403."""

    message = "A key cannot issue one that reaches further than itself: {reason}. Ask the operator."


class FileInUse(Conflict):
    """A job still needs the file: 409."""

    message = "The file '{id}' is needed by the job '{job}', which is {status}. Cancel it or wait for its end."


class UnusableFile(InvalidRequest):
    """The file exists and cannot be used for this job."""

    message = "{reason}"


class UnknownLabels(InvalidRequest):
    """The validation file has labels that the training file does not have."""

    param = "validation_file"
    message = (
        "The validation file has {count} label(s) that the training file does not have: {labels}. "
        "A model cannot learn a label that it never sees."
    )


class NotExportable(InvalidRequest):
    """A version that writes and has no form in which other programs could load it."""

    param = "model"
    message = (
        "'{model}@{version}' was made by '{strategy}': only low-rank matrices become a PEFT adapter. "
        "Train with strategy 'lora', or name such a version: {model}@N."
    )


class NotWriting(InvalidRequest):
    """A version of a model that does not write: no other program has a form for it."""

    param = "model"
    message = (
        "'{model}@{version}' does not write, it answers with {task}: only models that write are exported, as PEFT "
        "adapters. Its weights answer here alone."
    )


class StrategyNotServed(InvalidRequest):
    """A strategy whose versions nothing here could answer with: another server writes, from low-rank matrices."""

    param = "strategy"
    message = (
        "'{name}' makes blocks of a version's own, and the server that writes answers here takes low-rank matrices "
        "only. Use lora or auto."
    )


class UnknownStrategy(InvalidRequest):
    """A strategy that does not exist."""

    param = "method"
    message = "'{name}' is no strategy.{hint} There are: {known}."


class UnknownHyperparameter(InvalidRequest):
    """A hyperparameter that does not exist."""

    message = "'{name}' is no hyperparameter.{hint} There are: {known}."


class InvalidHyperparameter(InvalidRequest):
    """A hyperparameter out of its range."""

    message = '{name} must be {expected}, or "auto"; it is {got}.'


class InvalidSeed(InvalidRequest):
    """A seed out of its range."""

    param = "seed"
    message = "seed must be a whole number from 0 to 2147483647; it is {got}."


class BaseSettled(Conflict):
    """A base chosen for a job whose model another job has put on another base meanwhile."""

    message = "The model '{name}' was put on the base model '{present}' while this job chose '{chosen}'."


class ModelMismatch(Conflict):
    """A model's versions share its base model and its task: 409."""

    message = (
        "The model '{name}' has versions with {what} '{present}', this job would make one with '{asked}'. "
        "Choose another suffix, or delete the model."
    )


class _QuotaError(GraftError):
    """One code for every quota; `details` has its name and figures."""

    message = (
        "You exceeded your current quota of {what}: the limit is {limit:,}, and {used:,} are used. {mend}, or ask the "
        "operator for a higher limit."
    )

    @property
    def code(self) -> str:
        return "quota_exceeded"


class QuotaExceeded(_QuotaError, Forbidden):
    """The customer has as many of something as it may have: 403."""


class StorageQuotaExceeded(_QuotaError, TooLarge):
    """The customer stores as many bytes as it may: 413."""


class RateQuotaExceeded(_QuotaError, RateLimited):
    """The customer has used up what it may use in a time: 429."""


class JobEnded(InvalidRequest):
    """The job is over; there is nothing to stop: 400, as OpenAI answers."""

    message = "The job '{id}' has already {status} and cannot be {verb}."


class JobNotPaused(InvalidRequest):
    """Only a paused job can be resumed: 400."""

    message = "The job '{id}' is {status}; only a paused job can be resumed."


class ModelNotReady(Conflict):
    """The model exists and has no version yet, or none that is live: 409."""

    message = "The model '{model}' has no version that can answer yet.{hint}"


class UntrainedBaseModel(NotFound):
    """A base model is asked where a fine-tuned one answers: 404, as for any model that is not there."""

    param = "model"
    message = (
        "'{id}' is a base model: it answers nothing before it is trained on data of yours. Start a job from it "
        "(POST /v1/fine_tuning/jobs) and call the model by the name that the job gives it. {own}"
    )


class BaseModelIsOperators(NotFound):
    """A base model in the place of a customer's own: it has no versions, and no customer changes it. 404."""

    param = "model"
    message = (
        "'{id}' is a base model and belongs to the operator: it has no versions, and you can neither change nor delete "
        "it. GET /v1/models lists the models of your own."
    )


class WritingBaseModel(NotFound):
    """A base that writes is asked where only models of customers answer: 404, with where it does."""

    param = "model"
    message = (
        "'{id}' is a base model that writes: ask it at /v1/chat/completions, /v1/completions or /v1/responses. Here "
        "models answer that were trained on data of yours: start a job from it (POST /v1/fine_tuning/jobs)."
    )


class NoSuchVersion(NotFound):
    """The model exists, this version of it does not: 404."""

    message = "'{model}' has no version {number}; it has {known}."


class NoSuchAlias(NotFound):
    """The model exists, this alias of it does not: 404."""

    message = "'{model}' has no alias '{alias}'; it has {known}."


class ModelInUse(Conflict):
    """A job is making a version of the model: 409."""

    message = "The job '{job}', which is {status}, is making a version of '{name}'. Cancel it or wait for its end."


class VersionInUse(Conflict):
    """A version that answers under a name, or that a job still needs, cannot be deleted: 409."""

    message = "Version {number} of '{model}' cannot be deleted: {reason}"


class AliasMoved(Conflict):
    """Another request moved the alias at the same moment: 409."""

    message = "'{alias}' of '{model}' was moved meanwhile, to version {number}. Look at it, and try again."


class AliasIsLive(Conflict):
    """The alias `live` belongs to its model and cannot be deleted: 409."""

    message = (
        "'live' says which version of '{model}' answers and cannot be deleted. Promote another version, or delete the "
        "model."
    )


class InvalidAlias(InvalidRequest):
    """A name that an alias cannot have."""

    message = "'{alias}' cannot name an alias: a name follows the rules of model names and is no number."


class NothingBefore(Conflict):
    """A roll-back beyond the first version that an alias pointed at: 409."""

    message = "'{alias}' of '{model}' pointed at nothing before version {number}; there is nothing to go back to."


class IdempotencyMismatch(Conflict):
    """The key was used for another request: 409."""

    message = "The Idempotency-Key '{key}' was used for a different request. Use a new key for a new request."


class RequestInProgress(Conflict):
    """The first request with this key is still being worked on: 409, try again soon."""

    message = "The first request with the Idempotency-Key '{key}' is still being worked on. Try again in a moment."
    retry_after_s: float = 1.0


class InvalidIdempotencyKey(InvalidRequest):
    """A key that is empty or too long."""

    message = "An Idempotency-Key has 1 to 255 printable ASCII characters."


class CandidateMissing(GraftError):
    """The run named a best candidate that it never published: a mistake in the program."""

    message = "The candidate '{candidate}' of the job '{job_id}' was never published."


class ArtifactIncomplete(GraftError):
    """A candidate's folder is not a complete artifact."""

    message = "The artifact of the candidate '{candidate}' cannot be published: {reason}."
