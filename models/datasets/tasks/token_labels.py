"""token-classification: stretches of a text that carry a label.

Either `text` and `spans` (a list of {"start", "end", "label"} or [start, end, label], in characters, `end` exclusive),
or `tokens` and `tags` (IOB, IOB2 or BIOES), which are joined by single spaces. In CSV a list is written as JSON.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from models.datasets.examples import Example, Span
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import BadValue, Problem, excerpt
from models.datasets.tasks import cells
from models.datasets.tasks.classes import ClassStatistics
from models.datasets.tasks.task import Remark, Task
from models.datasets.word_borders import is_inside_word

_BEGINS = {"B", "S", "U"}
_INSIDE = {"I", "E", "L", "M"}
_SPAN = 'Write spans as {"start": 0, "end": 6, "label": "city"} for "Berlin …"; characters count, the end is exclusive.'
_NO_TOKENS: list[str] = []
_NO_TAGS: list[tuple[str, str]] = []
_NO_SPANS: tuple[Span, ...] = ()
_CUT = (
    "Words are cut at white space and punctuation, and an answer has all of a word: such a span is answered wider than "
    "it is marked, or not at all, and counts as missed. Move its borders to the word's, or write a space there."
)
_EMPTY = "There is no word to find: such a span is not learned, and counts as missed. Remove it or move its borders."
_LABEL_KEYS = ("label", "labels", "entity")
_TAG = "Write O, B-label or I-label."


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """Return the example of a row with `text` and `spans`, or `tokens` and `tags`, or its problems."""
    taken = cells.Cells(row, limits)
    if "tokens" in row.values:
        tokens = taken.take("tokens", _tokens, _NO_TOKENS)
        tags = taken.take("tags", _tags, _NO_TAGS)
        if not taken.problems and len(tokens) != len(tags):
            reason = f"has {len(tags)} tags for {len(tokens)} tokens"
            taken.problems.append(Problem(row.number, row.line, "tags", reason, "Write one tag per token."))
        return taken.problems or Example(" ".join(tokens), _joined(tokens, tags), row.number)
    text = taken.take("text", cells.text, "")
    spans = taken.take("spans", _spans, _NO_SPANS)
    for span in spans:
        if not taken.problems and span.end > len(text):
            reason = f"has a span {span.start}–{span.end} beyond the text's {len(text)} characters"
            taken.problems.append(Problem(row.number, row.line, "spans", reason, _SPAN))
    return taken.problems or Example(text, spans, row.number)


def _spans(value: Any, limits: Limits) -> tuple[Span, ...]:
    if value is None:
        raise BadValue("has no spans", "Write the spans, or [] if there are none.")
    spans = sorted((_span(item, limits) for item in cells.json_list(value)), key=lambda span: span.start)
    for before, after in pairwise(spans):
        if after.start < before.end:
            reason = f"has spans that overlap: {before.start}–{before.end} and {after.start}–{after.end}"
            raise BadValue(reason, "Keep one of them.")
    return tuple(spans)


def _span(item: Any, limits: Limits) -> Span:
    if isinstance(item, dict):
        item = [_first(item, *names) for names in (("start", "start_offset"), ("end", "end_offset"), _LABEL_KEYS)]
    if not isinstance(item, (list, tuple)) or len(item) != 3:
        raise BadValue(f"has a span that is none: {excerpt(item)}", _SPAN)
    start, end, label = item
    whole = all(isinstance(place, int) and not isinstance(place, bool) for place in (start, end))
    if not whole or not 0 <= start < end:
        raise BadValue(f"has a span without a valid start and end: {excerpt(item)}", _SPAN)
    return Span(start, end, cells.label(label, limits))


def _first(item: dict[str, Any], *names: str) -> Any:
    """Return the value of the first of these keys that is there: annotation tools call the same things differently."""
    return next((item[name] for name in names if item.get(name) is not None), None)


def _tokens(value: Any, limits: Limits) -> list[str]:
    if value is None:
        raise BadValue("is empty", "Write the tokens or remove the row.")
    tokens = cells.json_list(value)
    if not tokens:
        raise BadValue("is empty", "Write the tokens or remove the row.")
    cells.text(" ".join(cells.text(token, limits) for token in tokens), limits)
    return tokens


def _tags(value: Any, limits: Limits) -> list[tuple[str, str]]:
    if value is None:
        raise BadValue("has no tags", "Write one tag per token.")
    return [_tag(item, limits) for item in cells.json_list(value)]


def _tag(item: Any, limits: Limits) -> tuple[str, str]:
    if item == "O":
        return "O", ""
    prefix, _, label = item.partition("-") if isinstance(item, str) else ("", "", "")
    if prefix not in _BEGINS | _INSIDE or not label:
        raise BadValue(f"has a tag that is none: {excerpt(item)}", _TAG)
    return prefix, cells.label(label, limits)


def _joined(tokens: list[str], tags: list[tuple[str, str]]) -> tuple[Span, ...]:
    spans: list[Span] = []
    position, previous = 0, ""  # the label of the token before; "" outside and after the end of a span
    for token, (prefix, label) in zip(tokens, tags, strict=True):
        end = position + len(token)
        if prefix in _INSIDE and label == previous:
            spans[-1] = Span(spans[-1].start, end, label)
        elif prefix != "O":
            spans.append(Span(position, end, label))
        previous = "" if prefix in {"O", "S", "U", "E", "L"} else label
        position = end + 1
    return tuple(spans)


def remarks(row: Row, example: Example) -> list[Remark]:  # noqa: ARG001
    """Return which borders of spans are none of words, or hold no word: there what is learned is not what is marked.

    Stretches of joined tokens begin and end at spaces.
    """
    text = str(example.input)
    found: list[Remark] = []
    spans = [span for span in example.target if isinstance(span, Span)] if isinstance(example.target, tuple) else []
    marked = [text[span.start : span.end] for span in spans]
    if any(is_inside_word(text, place) for span in spans for place in (span.start, span.end)):
        found.append(Remark("Spans begin or end inside a word", _CUT))
    if any(not said.strip() for said in marked):
        found.append(Remark("Spans hold nothing but white space", _EMPTY))
    if any(said.strip() and said != said.strip() for said in marked):
        found.append(Remark("White space at the ends of spans is not learned, and not answered,"))
    return found


def _labels_of(example: Example) -> tuple[str, ...]:
    assert isinstance(example.target, tuple)  # noqa: S101  (what parse() makes)
    return tuple(dict.fromkeys(span.label for span in example.target if isinstance(span, Span)))


def _statistics(limits: Limits) -> ClassStatistics:
    # One kind of span is enough: the rest of the text is its contrast.
    return ClassStatistics(limits, _labels_of, column="spans", minimum=0)


TOKEN_CLASSIFICATION = Task(
    "token-classification",
    "text",
    "encoder",
    (("text", "spans"), ("tokens", "tags")),
    parse,
    _statistics,
    remarks=remarks,
)
