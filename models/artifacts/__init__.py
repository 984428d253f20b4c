"""A trained version on disk: a folder with `manifest.json` and `weights.safetensors`.

Learning writes it, serving assembles from it. The manifest is written last, so a folder without one is incomplete, and
its SHA-256 identifies the version. It is JSON with sorted keys:

| key | value |
| --- | --- |
| `format` | 1, or 2 for a version with a `scale`; the reader refuses any other |
| `task`, `strategy` | the names of the task and of the candidate |
| `labels` | in the order of the outputs; empty for a task without labels |
| `features` | the names of the base's pooled features, side by side as the head reads them |
| `base` | `{"name", "revision"}` of the base model |
| `temperature` | logits are divided by it |
| `thresholds` | what a decision needs beside the outputs (per label, a margin of error, or a factor for O), or null |
| `scale` | `[offset, factor]`: a value in the customer's unit is offset + factor * output; absent: it is the output |
| `details` | what else is worth knowing: rank, first own block, versions of libraries; `generation`: see `prompt` |
| `files` | `{name: {"sha256", "bytes"}}` of every other file |

The weights' tensors belong to parts (see `parts`). A tensor's name begins with its part's prefix:

| prefix | tensors | part |
| --- | --- | --- |
| `head` | `.weight` (K, F), `.bias` (K,) | `HeadWeights` |
| `lexical` | `.buckets` and `.idf` (V,), `.weight` (V, K), `.factor` (1,) | `NgramWeights` |
| `lora` | `.{block}.{module}.A` (rank, in) and `.B` (out, rank), the scaling folded into B | `LowRankWeights` |
| `block` | `.{i}.{parameter}` of each block of its own | `BlockWeights` |
| `embeddings` | `.{parameter}`, for a whole base of its own | `EmbeddingWeights` |
| `detector` | `.{parameter}` of pyramid and head, see `models.learning.detection.network` | `DetectorWeights` |

Nothing is ever unpickled.
"""
