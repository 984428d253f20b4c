"""Rows as tokens: what is learned of them, and that packing changes nothing."""

from __future__ import annotations

import json

import numpy as np
import torch

from models.artifacts.prompt import Prompt
from models.datasets.examples import Answer, Conversation
from models.learning.generation import decoding, judging, network, packing, rows, scoring
from models.learning.generation.material import Part

PLAIN = Prompt()


def _conversation(*messages, tools=""):
    return Conversation(json.dumps([{"role": role, "content": content} for role, content in messages]), tools)


def _learned(writer, row):
    return writer.decode(row.tokens_T[row.learned_T].tolist())


def test_the_answer_and_its_end_are_learned_and_nothing_else(writer):
    row = rows.encode(writer, _conversation(("system", "s"), ("user", "how?")), Answer("so"), PLAIN)
    assert _learned(writer, row) == "so"
    assert row.tokens_T[-1] in writer.config.ends
    assert row.learned_T[-1]


def test_earlier_answers_are_learned_too_unless_they_weigh_nothing(writer):
    talk = _conversation(("user", "a"), ("assistant", "first"), ("user", "b"))
    assert _learned(writer, rows.encode(writer, talk, Answer("second"), PLAIN)) == "firstsecond"
    messages = json.loads(talk.messages)
    messages[1]["weight"] = 0
    silent = Conversation(json.dumps(messages))
    assert _learned(writer, rows.encode(writer, silent, Answer("second"), PLAIN)) == "second"


def test_examples_of_a_prompt_are_read_and_not_learned(writer):
    example = rows.as_example(_conversation(("system", "s"), ("user", "q")), Answer("x"))
    prompt = Prompt("few-shot", "s", (example,))
    own = rows.encode(writer, _conversation(("system", "s"), ("user", "how?")), Answer("so"), prompt)
    assert _learned(writer, own) == "so"
    row = rows.encode(writer, _conversation(("user", "how?")), Answer("so"), prompt)
    assert _learned(writer, row) == "so"
    assert writer.decode(row.tokens_T.tolist()) == "system\ns\nuser\nq\nassistant\nx\nuser\nhow?\nassistant\nso"


def test_texts_are_learned_from_their_second_token_on(writer):
    row = rows.encode(writer, Conversation("[]", form="text"), Answer("once"), PLAIN)
    assert _learned(writer, row) == "nce"


def test_a_worse_answer_is_read_with_its_own_calls(writer):
    def calling(name):
        return json.dumps([{"type": "function", "function": {"name": name, "arguments": "{}"}}])

    pair = Answer("", calling("better"), rejected="", rejected_calls=calling("worse"))
    talk = _conversation(("user", "how?"))
    (row,) = judging.rejected(writer, Part([(talk, pair)], [], [0]), PLAIN)
    assert "worse" in _learned(writer, row)
    assert "better" not in _learned(writer, row)


def test_what_exceeds_the_context_is_cut_and_counted(writer):
    row = rows.encode(writer, _conversation(("user", "x")), Answer("y" * 600), PLAIN)
    assert len(row) == writer.max_tokens
    assert row.cut > 0


def test_packed_rows_score_as_each_alone_does(writer):
    tokens = [
        rows.encode(writer, _conversation(("system", "same"), ("user", "q" * n)), Answer("a" * (n % 5 + 1)), PLAIN)
        for n in range(1, 9)
    ]
    assert rows.shared_prefix(tokens) > 10
    base = network.frozen(writer)
    together = scoring.score(base, tokens, threads=2, stop=lambda: False)
    for at, row in enumerate(tokens):
        log_TV = _log_probabilities(writer, row.tokens_T)
        places = np.flatnonzero(row.learned_T)
        alone = log_TV[places - 1, row.tokens_T[places]].sum()
        assert abs(together.log_probability_N[at] - float(alone)) < 1e-3


def test_greedy_answers_are_those_of_one_token_after_the_other(writer):
    asked = [writer.encode_chat([{"role": "user", "content": "q" * n}], add_generation_prompt=True) for n in (1, 4, 9)]
    found = decoding.write(network.frozen(writer), asked, most=6, stop=lambda: False)
    for tokens, written in zip(asked, found, strict=True):
        expected: list[int] = []
        while len(expected) < 6:
            token = int(_log_probabilities(writer, np.array(tokens + expected))[-1].argmax())
            if token in writer.config.ends:
                break
            expected.append(token)
        assert written == expected


def _log_probabilities(writer, tokens_T):
    row = rows.TokenRow(tokens_T, np.ones(len(tokens_T), dtype=np.bool_), 0)
    row.learned_T[0] = False
    packed = packing.pack([row], 0, writer.device)
    with torch.inference_mode():
        hidden_ND = writer.network.run(writer.network.embed(packed.tokens_N), packed.positions_N, packed.attend)
        return writer.network.logits(hidden_ND).log_softmax(-1)
