"""Errors of adding base models: each says what is wrong with which model, and how to mend it."""

from __future__ import annotations

from models.errors import GraftError, InvalidRequest, Unavailable


class UnknownModelReference(InvalidRequest):
    """What was named is none of what a base can be made of."""

    message = (
        "'{given}' is no name of the catalogue, no folder, no wheel, no installed package and no id of a hub "
        "(`organisation/name`).{hint}"
    )


class NoModelInFolder(InvalidRequest):
    """A folder or a wheel that lacks files of a model."""

    message = "{place} holds no model: there is no {missing} in it. {mend}"


class ModelNotOnHub(InvalidRequest):
    """A hub that knows no such model or revision, or shows it to others only."""

    message = (
        "{endpoint} shows no model '{id}'{at}. Look at the spelling; a private one needs HF_TOKEN with a token that "
        "may read it; another hub or mirror is named by HF_ENDPOINT."
    )


class GatedModel(InvalidRequest):
    """A model whose owner wants its terms accepted first."""

    message = (
        "'{id}' is gated: accept its terms at {endpoint}/{id}, then set HF_TOKEN to a token of the account that has "
        "({token})."
    )


class HubUnreachable(Unavailable):
    """A hub that could not be asked, for a model that is not on this machine."""

    message = (
        "'{id}' is not on this machine, and {endpoint} cannot be asked for it: {reason}. {mend} Or copy the model's "
        "folder here and add that."
    )


class NoSafeWeights(InvalidRequest):
    """A model whose weights come pickled only, or in another program's form."""

    message = (
        "'{id}' has no safetensors weights ({found}). Pickled weights can run code and are never read: use another "
        "revision or a converted copy of it."
    )


class UnknownLicence(InvalidRequest):
    """A model that states no licence, which every customer is told."""

    message = "'{given}' states no licence. Find it out, and say it: --licence Apache-2.0."


class UnreadableModel(InvalidRequest):
    """A model that does not say what it reads."""

    message = "'{given}' is not a model that can be used here: {reason}."


class BaseNameTaken(InvalidRequest):
    """A name under which there is another base: features and adapters belong to one revision."""

    message = (
        "There is a base model '{name}' already, from {source}. The weights behind a name never change, since models "
        "were trained on them: add this one under another name (--name)."
    )


class InvalidBaseName(InvalidRequest):
    """A name that no base can have."""

    message = (
        "'{name}' cannot name a base model: 1 to 64 lower-case letters, digits, '.', '_' and '-', and not 'auto'. "
        "Say another with --name."
    )


class NotInFile(GraftError):
    """A base that is to be changed and that nobody knows."""

    message = "There is no base model '{name}'. Known: {known}."
