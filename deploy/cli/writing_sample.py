"""Sample chats for `graft demo --generate`: facts of a product and the line that a shop would print, made by rules."""

from __future__ import annotations

import json
import random
from pathlib import Path

_MAKERS = ("Aldra", "Brunnhild", "Corvo", "Dunlea", "Ekko", "Fenwick", "Galano", "Hollin", "Isola", "Jorun")
_THINGS = {
    "kettle": ("holds", ("0.8 l", "1.2 l", "1.7 l")),
    "lamp": ("shines", ("12 hours", "20 hours", "a week")),
    "backpack": ("carries", ("18 l", "24 l", "32 l")),
    "clock": ("runs", ("2 years", "5 years", "a decade")),
    "blanket": ("measures", ("130 x 170 cm", "150 x 200 cm", "200 x 220 cm")),
    "teapot": ("pours", ("4 cups", "6 cups", "8 cups")),
}
_COLOURS = ("moss", "clay", "ink", "chalk", "rust", "plum", "sand")
_MATERIALS = ("enamel", "oak", "felt", "brass", "linen", "cork", "steel")
_PRICES = (19, 24, 29, 35, 42, 58, 76)

Facts = dict[str, str]


def chats(rows: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Return so many different facts, each with its line in the house style."""
    generator = random.Random(seed)  # noqa: S311  (a sample)
    found: dict[str, str] = {}
    while len(found) < rows:
        thing = generator.choice(sorted(_THINGS))
        verb, sizes = _THINGS[thing]
        maker, colour, material = (generator.choice(each) for each in (_MAKERS, _COLOURS, _MATERIALS))
        size, price = generator.choice(sizes), generator.choice(_PRICES)
        facts = f"maker: {maker}; thing: {thing}; colour: {colour}; material: {material}; {verb}: {size}; euro: {price}"
        found[facts] = f"{maker.upper()} / {thing} in {colour} {material}. It {verb} {size}. Yours for {price}."
    return list(found.items())


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write chat JSONL, as OpenAI's fine-tuning takes it."""
    lines = []
    for facts, line in rows:
        messages = [{"role": "user", "content": facts}, {"role": "assistant", "content": line}]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", "utf-8")
