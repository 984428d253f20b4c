"""Small sets that are made up on the spot: pairs of texts with a value, texts with spans."""

from __future__ import annotations

from typing import Any

import numpy as np

_DOINGS = (
    "A man is playing a guitar",
    "A woman is slicing an onion",
    "Two dogs run through the snow",
    "The train leaves at noon",
    "A child rides a red bicycle",
    "The market closed higher today",
    "An airplane is landing",
    "Somebody paints the kitchen wall",
)
_WAYS = ("{}.", "{} outside.", "Look: {}!", "I think that {}.", "{} again and again.")
_CITIES = ("Berlin", "New York", "Rome", "San Francisco", "Lyon", "Oslo", "Hong Kong", "Madrid", "Lima", "Cape Town")
_DAYS = ("Monday", "Tuesday", "Wednesday", "next Thursday", "Friday", "Sunday")
_ASKS = (
    "Book a flight to {city} on {day}",
    "Is there a train from {city} {day} morning?",
    "I want to leave {city}, please",
    "What is on in {city} on {day}?",
    "Nothing on {day}, thanks",
    "Cancel my last order",
)


def nearness(rows: int, *, seed: int) -> list[dict[str, Any]]:
    """Two texts, and how near they are: 4 for the same doing, 0 for another, with some noise."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        first, second = generator.integers(0, len(_DOINGS), 2)
        if generator.uniform() < 0.5:
            second = first
        ways = generator.integers(0, len(_WAYS), 2)
        value = (4.0 if first == second else 0.0) - 0.3 * (ways[0] != ways[1]) + generator.normal(0, 0.2)
        text, pair = (_WAYS[way].format(_DOINGS[what]) for way, what in zip(ways, (first, second), strict=True))
        found.append({"text": text, "text_pair": pair, "value": float(value)})
    return found


def places(rows: int, *, seed: int) -> list[dict[str, Any]]:
    """Requests with spans `city` and `day`; some have none."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        ask = _ASKS[generator.integers(0, len(_ASKS))]
        words = {
            "city": _CITIES[generator.integers(0, len(_CITIES))],
            "day": _DAYS[generator.integers(0, len(_DAYS))],
        }
        text, spans = "", []
        for part in ask.replace("{", "|{").replace("}", "}|").split("|"):
            name = part.strip("{}")
            if part.startswith("{"):
                spans.append({"start": len(text), "end": len(text) + len(words[name]), "label": name})
            text += words[name] if part.startswith("{") else part
        found.append({"text": text, "spans": spans})
    return found


def coded(rows: int, *, seed: int, classes: int = 8) -> list[tuple[str, str]]:
    """Notes in a code that no base has ever read, and the desk that each goes to: two of its words tell."""
    words = np.random.default_rng(0)  # the same code whatever the seed of the rows
    letters = np.array(list("bcdfgklmnprstvzaeiou"))
    codes = ["".join(words.choice(letters, 5)) for _ in range(200 + 10 * classes)]
    usual, own = codes[:200], np.array(codes[200:]).reshape(classes, 10)
    generator = np.random.default_rng(seed)
    found = []
    for row in range(rows):
        desk = row % classes
        text = [*generator.choice(usual, 6), *generator.choice(own[desk], 2)]
        found.append((" ".join(generator.permutation(text)), f"desk {desk}"))
    return found
