"""Answers of a given form: which tokens may come next so that the answer is JSON, or fits a JSON schema.

llguidance keeps the automaton; it is imported when the first answer asks for a form.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.serving.errors import InvalidInput, MissingLibrary
from models.serving.schema_length import MOST_SCHEMA_CHARS

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
# Small models lose themselves in whitespace: as `json.dumps` writes it, or without any.
WHITESPACE: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": r",[ ]?", "key_separator": r":[ ]?"}


class Constraint:
    """The form of one answer, and how far it is filled in."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._words_W = np.zeros(-(-vocabulary // 32), dtype=np.int32)
        self._vocabulary = vocabulary

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next, (V,). Raises InvalidInput where the automaton is given up on."""
        self._matcher.unsafe_compute_mask_ptr(self._words_W.ctypes.data, self._words_W.nbytes)
        self._raise_error()
        bits = np.unpackbits(self._words_W.view(np.uint8), bitorder="little")
        allowed_V: NDArray[np.bool_] = bits[: self._vocabulary].astype(np.bool_)
        return allowed_V

    def consume(self, token: int) -> None:
        """Note the token that was chosen. Raises InvalidInput as `allowed` does."""
        if not self._matcher.consume_token(token):
            self._raise_error()

    @property
    def finished(self) -> bool:
        """True if nothing can follow."""
        return bool(self._matcher.is_stopped())

    def copy(self) -> Constraint:
        """Return the constraint of another answer of the same form, as far filled in."""
        return Constraint(self._matcher.deep_copy(), self._vocabulary)

    def _raise_error(self) -> None:
        if error := self._matcher.get_error():
            raise _unusable(error)


class ConstraintCompiler:
    """Makes constraints for one vocabulary. Thread-safe; blocks for a second at the first call."""

    def __init__(self, described: str, *, vocabulary: int, ends: Sequence[int]) -> None:
        """Create a compiler for a `tokenizer.json`.

        `vocabulary` is the width of the logits, `ends` are the tokens that end an answer.
        """
        self._described = described
        self._vocabulary = vocabulary
        self._ends = list(ends)
        self._lock = threading.Lock()
        self._guided: Any = None

    def compile(self, schema: Mapping[str, Any]) -> Constraint:
        """Return the constraint of one answer; raises InvalidInput for a schema that cannot be kept to.

        What would fail at the first token fails here, before an answer has begun.
        """
        text = json.dumps(schema)
        if len(text) > MOST_SCHEMA_CHARS:
            reason = (
                f"The schema has {len(text):,} characters as JSON, {MOST_SCHEMA_CHARS:,} are accepted. Leave out what "
                "changes nothing in the answer (descriptions, examples), and write what recurs once, in $defs, "
                "with $ref."
            )
            raise InvalidInput(reason=reason, param="response_format")
        with self._lock:
            if self._guided is None:
                make = _library("llguidance").LLTokenizer
                self._guided = make(self._described, n_vocab=self._vocabulary, eos_token=self._ends)
        library = _library("llguidance")
        try:
            grammar = library.LLMatcher.grammar_from_json_schema(text, defaults=dict(WHITESPACE))
            matcher = library.LLMatcher(self._guided, grammar, log_level=0)
        except (ValueError, RuntimeError) as error:
            raise _unusable(error) from error
        if fault := matcher.get_error():
            raise _unusable(fault)
        constraint = Constraint(matcher, self._vocabulary)
        constraint.allowed()
        return constraint


def _unusable(error: object) -> InvalidInput:
    reason = f"The answer cannot be held to this schema: {str(error).splitlines()[0][:300]}"
    return InvalidInput(reason=reason, param="response_format")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibrary(what="response_format", package="llguidance") from error
