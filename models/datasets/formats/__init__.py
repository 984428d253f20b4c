"""The table of file formats. A new one is a new file in this folder and a line here."""

from __future__ import annotations

from models.datasets.formats.archive import ZIP
from models.datasets.formats.chat import CHAT
from models.datasets.formats.conll import CONLL
from models.datasets.formats.delimited import CSV
from models.datasets.formats.format import Format
from models.datasets.formats.json_lines import JSONL
from models.datasets.formats.parquet import PARQUET

# In the order in which content is recognised: the narrow ones first, CSV (any text) last.
FORMATS: dict[str, Format] = {entry.name: entry for entry in (PARQUET, ZIP, CHAT, JSONL, CONLL, CSV)}
