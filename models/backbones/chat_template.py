"""Chats as tokens: a base's own chat template and tokenizer, without torch. Training, serving and uploads share it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from models.datasets.formats.messages import function_of, read_calls
from models.datasets.problems import BadValue, excerpt

Message = Mapping[str, Any]

# Stand for a message's content while the template is rendered; from the range that Unicode leaves to private use.
_HELD = "\ue000{}\ue001"
_HELD_PLACE = re.compile("\ue000(\\d+)\ue001")
_PLAIN = (
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


class ChatTokenizer:
    """The tokenizer of a base that writes, and how it wants chats laid out. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._literal = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # A message that spells "<|im_end|>" is a text: it must not end the message.
        self._literal.encode_special_tokens = True
        for tokenizer in (self._tokenizer, self._literal):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        settings = _read(folder / "tokenizer_config.json")
        self._special = {name: _spelling(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token")}
        self._controls = tuple(token.content for token in self._tokenizer.get_added_tokens_decoder().values())
        self.ends: tuple[int, ...] = self._ends(folder)  # tokens that end an answer
        self._source = _template(folder, settings)
        self._template = _environment().from_string(self._source)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool,
    ) -> list[int]:
        """Return the tokens of a conversation; with `add_generation_prompt` those after which an answer begins.

        Raises ValueError where the template refuses the roles in this order, and for what is no message.
        """
        plain = [_plain(message, self._source) for message in messages]
        if not any(control in message["content"] for message in plain for control in self._controls):
            return self._ids(self._tokenizer, self._render(plain, tools, add_generation_prompt))
        held = [{**message, "content": _HELD.format(at)} for at, message in enumerate(plain)]
        pieces = _HELD_PLACE.split(self._render(held, tools, add_generation_prompt))
        tokens: list[int] = []
        for at, piece in enumerate(pieces):
            own = at % 2 == 0
            tokens += self._ids(
                self._tokenizer if own else self._literal, piece if own else plain[int(piece)]["content"]
            )
        return tokens

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of a text that is no conversation, as the base's texts began when it was trained."""
        ids: list[int] = self._literal.encode(text).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, control tokens left out."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def _render(self, messages: list[dict[str, Any]], tools: Any, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages, tools=tools, add_generation_prompt=add_generation_prompt, **self._special
            )
        except (TemplateError, TypeError, AttributeError, ValueError, RecursionError) as error:
            # What a template does with a message that it does not expect is its own.
            raise ValueError(f"the base's chat template does not take these messages: {error}") from error

    @staticmethod
    def _ids(tokenizer: Any, text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _ends(self, folder: Path) -> tuple[int, ...]:
        for file in ("generation_config.json", "config.json"):
            named = _read(folder / file).get("eos_token_id")
            if named is not None:
                return tuple(named) if isinstance(named, list) else (int(named),)
        found = self._tokenizer.token_to_id(self._special["eos_token"])
        return () if found is None else (int(found),)


def _plain(message: Message, template: str) -> dict[str, Any]:
    """Return a message whose content is a text; calls of tools are written into it unless the template lays them out.

    The notation is Hermes', which most small models that call tools were trained on.
    """
    content = message.get("content") or ""
    if not isinstance(content, str | list) or not isinstance(message.get("role"), str):
        raise ValueError("a message has a role that is a text, and a content that is a text or a list of its parts")
    if not isinstance(content, str):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    try:
        calls = read_calls(message)
    except BadValue as error:
        raise ValueError(f"a message {error.reason}. {error.mend}") from error
    if calls and "tool_calls" not in template:
        content = "\n".join([content] * bool(content) + [_spell_call(function_of(call)) for call in calls])
    return {**message, "content": content}


def _spell_call(function: Mapping[str, Any]) -> str:
    name, arguments = function.get("name", ""), function.get("arguments", {})
    try:
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError):  # then it stays as it was written
                arguments = json.loads(arguments)
        spelt = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    except RecursionError:
        raise ValueError(f"the arguments of a call of '{excerpt(name, 40)}' are nested too deeply") from None
    return f"<tool_call>\n{spelt}\n</tool_call>"


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return the template's source; of several the one called default; one of ours for a base without any."""
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text("utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = next((each["template"] for each in found if each.get("name") == "default"), None)
    return str(found) if found else _PLAIN


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the environment for which templates on the Hugging Face hub are written."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationTag]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment


class _GenerationTag(Extension):
    """`{% generation %}` marks what the assistant says, for libraries that ask the template for it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _spelling(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, Mapping) else str(token or "")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
