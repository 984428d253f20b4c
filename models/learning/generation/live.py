"""The best version of a run and the live one on the same held-out rows.

Rows of which the live version learned nothing come first. Which rows are held out follows from the rows themselves
(`material`), so that most of those that one job holds out were held out by the jobs before it, too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.artifacts.folder import Artifact
from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.learning.contract.comparison import LiveComparison, LiveVersion
from models.learning.data.row_record import RowRecord
from models.learning.evaluation import against_live
from models.learning.evaluation.against_live import Answered
from models.learning.generation import judging
from models.learning.generation.judging import PREFERENCE, Judgement
from models.learning.generation.material import Material
from models.learning.generation.network import of_parts
from models.learning.run import Run


def compare(
    run: Run, backbone: DecoderBackbone, material: Material, live: LiveVersion, judgement: Judgement
) -> LiveComparison:
    """Compare the best version, judged on all held-out rows, with the live one. Raises only Stopped."""

    def answer(artifact: Artifact, record: RowRecord | None) -> Answered:
        picked, seen = against_live.pick_unseen(run, material.held.places, record)
        network = of_parts(backbone, artifact.parts)
        part = replace(material, held=material.held.take(picked.tolist()))
        theirs = judging.judge(run, backbone, part, network, Prompt.of(artifact.manifest))
        ours = judgement.take(picked)
        # Behind a long prompt an answer may be cut: what one of them was not asked says nothing of either.
        same = np.flatnonzero(ours.scores.tokens_N == theirs.scores.tokens_N)
        return Answered(ours.tally.take(same), theirs.tally.take(same), seen)

    found = against_live.compare(run, live, answer)
    return replace(found, metric=PREFERENCE) if material.pairs and found.metric else found
