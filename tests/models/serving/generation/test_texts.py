"""Text out of tokens, and answers of a given form, on a byte-level vocabulary made here."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from models.serving.errors import InvalidInput
from models.serving.generation.constraints import ANY_OBJECT, ConstraintCompiler
from models.serving.generation.token_bytes import TextStream, TokenBytes

END = "<|end|>"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["card", "refund"]},
        "amounts": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
    },
    "required": ["name", "kind", "amounts"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=[END], show_progress=False)
    made.train_from_iterator(["the quick brown fox", '{"name": "card", "kind": "refund"}'] * 3, trainer)
    made.add_special_tokens([AddedToken(END, special=True)])
    return made


@pytest.mark.parametrize("text", ["plain", "Grüße 👋🏽 an alle,\n\n 你好", "  two  spaces "])
def test_characters_come_whole_however_many_tokens_they_are(tokenizer: Tokenizer, text: str) -> None:
    stream = TextStream(TokenBytes(tokenizer.to_str()))
    shown = [stream.add(token) for token in tokenizer.encode(text).ids] + [stream.end()]
    assert "".join(shown) == text
    assert "�" not in "".join(shown)


def test_a_character_that_is_cut_off_is_shown_as_such(tokenizer: Tokenizer) -> None:
    stream = TextStream(TokenBytes(tokenizer.to_str()))
    for token in tokenizer.encode("👋").ids[:-1]:
        assert stream.add(token) == ""
    assert stream.end() == "�"


def test_special_tokens_are_no_text(tokenizer: Tokenizer) -> None:
    token_bytes = TokenBytes(tokenizer.to_str())
    assert token_bytes[tokenizer.token_to_id(END)] == b""
    assert token_bytes[10**6] == b""


def test_a_stop_string_across_tokens_ends_the_text_before_it(tokenizer: Tokenizer) -> None:
    stream = TextStream(TokenBytes(tokenizer.to_str()), ("\nUser:",))
    shown = ""
    for token in tokenizer.encode("Yes.\nUse it.\nUser: no").ids:
        shown += stream.add(token)
        assert not shown.endswith("\nUser")
        if stream.stopped:
            break
    assert (shown + stream.end(), stream.stopped) == ("Yes.\nUse it.", True)


def test_sentencepiece_tokens_are_bytes_too() -> None:
    words = {"▁Hello": 0, "▁wor": 1, "ld": 2, "<0xC3>": 3, "<0xBC>": 4}
    described = {
        "model": {"type": "BPE", "vocab": words},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Strip"}]},
    }
    stream = TextStream(TokenBytes(json.dumps(described)))
    assert "".join(stream.add(token) for token in (0, 1, 2, 3, 4)) == "Hello worldü"


@pytest.mark.parametrize("schema", [SCHEMA, ANY_OBJECT], ids=["schema", "any object"])
def test_answers_of_a_form_parse_and_validate(tokenizer: Tokenizer, schema: dict[str, object]) -> None:
    size, end = tokenizer.get_vocab_size(), tokenizer.token_to_id(END)
    compiler = ConstraintCompiler(tokenizer.to_str(), vocabulary=size, ends=[end])
    token_bytes, random = TokenBytes(tokenizer.to_str()), np.random.default_rng(0)
    closing = [token for token in range(size) if token_bytes[token][:1] in b'"}]']
    for _ in range(5):
        constraint, written = compiler.compile(schema), b""
        for step in range(400):
            allowed = np.flatnonzero(constraint.allowed())
            near = [token for token in closing if token in allowed] if step > 40 else []
            token = end if end in allowed else int(random.choice(near or allowed))
            if token == end:
                break
            constraint.consume(token)
            written += token_bytes[token]
        jsonschema.validate(json.loads(written), schema)


def test_a_schema_that_cannot_be_kept_to_is_refused(tokenizer: Tokenizer) -> None:
    compiler = ConstraintCompiler(tokenizer.to_str(), vocabulary=tokenizer.get_vocab_size(), ends=[0])
    with pytest.raises(InvalidInput) as caught:
        compiler.compile({"type": "object", "properties": {"a": {"$ref": "http://elsewhere/schema"}}})
    assert caught.value.param == "response_format"
