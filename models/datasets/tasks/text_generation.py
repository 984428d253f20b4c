"""text-generation: messages and the answer to them, a prompt and its completion, pairs of answers, or texts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from models.datasets.errors import NothingToPrefer, NothingToWrite
from models.datasets.examples import Answer, Conversation, Example
from models.datasets.formats.format import Row
from models.datasets.formats.messages import function_of, plain_message, read_calls
from models.datasets.limits import Limits
from models.datasets.problems import BadValue, Problem, excerpt
from models.datasets.tasks import cells
from models.datasets.tasks.task import Task

NAME = "text-generation"
PAIRS = (("input", "preferred_output", "non_preferred_output"), ("prompt", "chosen", "rejected"))
CHAT_COLUMNS = ("messages", "tools")  # of a chat file
LAYOUTS = (("messages",), *PAIRS, ("prompt", "completion"), ("text",))

_ROLES = {"system", "user", "assistant", "tool"}
_SAME_ROLES = {"developer": "system", "function": "tool", "human": "user", "gpt": "assistant", "model": "assistant"}
_FEW_ROWS = 50
_SHOWN = 20
_ARGUMENTS_MEND = 'Write a JSON object in a string, such as "{\\"city\\": \\"Bern\\"}"; "{}" for none.'
_TOOLS_MEND = 'Write [{"type": "function", "function": {"name": "…", "parameters": {…}}}, …].'
_PREFERENCE = ("preferred_output", "chosen")


class AnswerCounts:
    """Counts of a whole set: rows, distinct answers, rows with two answers."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self._rows = 0
        self._answers: set[int] = set()
        self._alike: list[int] = []  # rows of pairs whose answers are the same, the first of them
        self._alike_rows = 0

    def add(self, example: Example) -> None:
        """Count one example."""
        self._rows += 1
        self._answers.add(hash(example.target))
        answer = example.target
        if isinstance(answer, Answer) and (answer.rejected, answer.rejected_calls) == (answer.text, answer.calls):
            self._alike_rows += 1
            if len(self._alike) < _SHOWN:
                self._alike.append(example.row)

    def check(self) -> None:
        """Check that there is more than one answer to learn, and a pair of different ones if they come in pairs."""
        if self._alike_rows == self._rows:
            raise NothingToPrefer(rows=self._rows)
        if len(self._answers) < 2:
            raise NothingToWrite(rows=self._rows)

    def warnings(self) -> list[dict[str, Any]]:
        """Return warnings of pairs of which neither answer is better, and of few rows."""
        alike: list[dict[str, Any]] = []
        if self._alike_rows:
            listed = ", ".join(map(str, self._alike)) + (", …" if self._alike_rows > len(self._alike) else "")
            message = (
                f"In {self._alike_rows} of {self._rows} rows both answers are the same: nothing can be learned from "
                f"them. Rows {listed}."
            )
            alike = [{"code": "same_answers", "message": message, "count": self._alike_rows, "rows": self._alike}]
        if self._rows >= _FEW_ROWS:
            return alike
        message = (
            f"There are only {self._rows} rows. A job tries examples in the prompt as well as training on them, and "
            "its report says which did better."
        )
        return [*alike, {"code": "few_rows", "message": message}]


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """Return the example of a row in any of the layouts, or its problems."""
    values, taken = row.values, cells.Cells(row, limits)
    tools = taken.take("tools", _tools, "")
    conversation: Conversation | None
    answer: Answer | None
    if "messages" in values:
        nothing: tuple[Conversation, Answer] | None = None
        conversation, answer = taken.take("messages", _messages, nothing) or (None, None)
    elif "input" in values:
        conversation = taken.take("input", _input, None)
        answer = _pair(taken, *PAIRS[0][1:])
    elif "chosen" in values:
        conversation = taken.take("prompt", _prompt, None)
        answer = _pair(taken, *PAIRS[1][1:])
    elif "completion" in values:
        conversation = taken.take("prompt", _prompt, None)
        answer = Answer(taken.take("completion", _answer_text, ""))
    else:
        conversation, answer = Conversation("[]", form="text"), Answer(taken.take("text", cells.text, ""))
    if taken.problems or conversation is None or answer is None:
        return taken.problems
    if tools:
        conversation = Conversation(conversation.messages, tools, conversation.form)
    if (unknown := _unknown_function(conversation, answer)) is not None:
        column = next(name for name in ("messages", "input", "prompt", "text") if name in values)
        reason = f"calls the function '{excerpt(unknown, 40)}', which the row's tools do not have"
        return [Problem(row.number, row.line, column, reason, "Add it to `tools`, or correct its name.", row.member)]
    return Example(conversation, answer, row.number)


def is_preference(columns: Mapping[str, str]) -> bool:
    """Return whether the file's columns are those of pairs of answers."""
    return any(name in columns for name in _PREFERENCE)


def _unknown_function(conversation: Conversation, answer: Answer) -> str | None:
    """Return the name of a function that is called and not among the row's tools, if it has any."""
    if not conversation.tools or not (answer.calls or '"tool_calls"' in conversation.messages):
        return None
    names = [function_of(tool)["name"] for tool in orjson.loads(conversation.tools)]
    calls = orjson.loads(answer.calls) if answer.calls else []
    calls += [call for message in orjson.loads(conversation.messages) for call in message.get("tool_calls", ())]
    return next((name for call in calls if (name := str(function_of(call)["name"])) not in names), None)


def _messages(value: Any, limits: Limits) -> tuple[Conversation, Answer]:
    """Split a conversation at its last answer that is to be learned."""
    messages = [_message(each, limits) for each in _list(value)]
    last = next((at for at in reversed(range(len(messages))) if _is_learned(messages[at])), None)
    if last is None:
        weighed = any(message["role"] == "assistant" for message in messages)
        reason = "has only answers of weight 0" if weighed else "has no message of the assistant"
        raise BadValue(reason, "Add the answer that is to be learned, as the assistant's message.")
    return _conversation(messages[:last]), _answer(messages[last])


def _input(value: Any, limits: Limits) -> Conversation:
    value = _decoded(value)
    if not isinstance(value, Mapping) or "messages" not in value:
        raise BadValue("is not an object with messages", 'Write {"messages": [{"role": "user", "content": …}]}.')
    found = _conversation([_message(each, limits) for each in _list(value["messages"])])
    return Conversation(found.messages, _tools(value.get("tools"), limits))


def _prompt(value: Any, limits: Limits) -> Conversation:
    decoded = _decoded(value)
    if isinstance(decoded, list):
        return _conversation([_message(each, limits) for each in decoded])
    return _conversation([{"role": "user", "content": cells.text(value, limits)}])


def _pair(taken: cells.Cells, preferred: str, rejected: str) -> Answer | None:
    better, worse = taken.take(preferred, _output, None), taken.take(rejected, _output, None)
    if better is None or worse is None:
        return None
    return Answer(better.text, better.calls, rejected=worse.text, rejected_calls=worse.calls)


def _output(value: Any, limits: Limits) -> Answer:
    decoded = _decoded(value)
    if isinstance(decoded, list):
        messages = [_message(_by_assistant(each), limits) for each in _list(decoded)]
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            raise BadValue("is not one message of the assistant", 'Write [{"role": "assistant", "content": …}].')
        return _answer(messages[0])
    return Answer(_answer_text(value, limits))


def _by_assistant(message: Any) -> Any:
    return {"role": "assistant", **message} if isinstance(message, Mapping) else message


def _answer_text(value: Any, limits: Limits) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, list):
        return _output(value, limits).text
    return cells.text(value, limits)


def _answer(message: Mapping[str, Any]) -> Answer:
    calls = message.get("tool_calls")
    return Answer(str(message["content"]), _json(calls) if calls else "")


def _conversation(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    if not any(message["role"] != "assistant" for message in messages):
        raise BadValue("asks nothing before its answer", "Add the user's message, or a system message.")
    return Conversation(_json(messages))


def _message(value: Any, limits: Limits) -> dict[str, Any]:
    """Return a message in OpenAI's form with its content as one text."""
    if not isinstance(value, Mapping):
        raise BadValue(f"holds {cells.kind(value)} where a message is expected", 'Write {"role": …, "content": …}.')
    if (called := value.get("function_call")) and not isinstance(called, Mapping):
        raise BadValue(f"has a function_call that is {cells.kind(called)}", 'Write {"name": "…", "arguments": "{…}"}.')
    message = plain_message(dict(value))
    role = str(message.get("role"))
    role = _SAME_ROLES.get(role, role)
    if role not in _ROLES:
        known = ", ".join(sorted(_ROLES))
        raise BadValue(f"has a message of the role '{excerpt(role, 40)}'", f"The roles are {known}.")
    weight = message.get("weight")
    if weight is not None and weight not in (0, 1):
        raise BadValue(f"has a message with weight {weight!r}", "A weight is 0 (not learned) or 1.")
    calls = read_calls(message) if role == "assistant" else []
    content = _content(message.get("content"), role, limits, may_be_empty=bool(calls))
    kept: dict[str, Any] = {"role": role, "content": content}
    if calls:
        kept["tool_calls"] = [_checked_call(call) for call in calls]
    kept.update({key: message[key] for key in ("name", "tool_call_id") if isinstance(message.get(key), str)})
    if role == "assistant" and weight == 0:
        kept["weight"] = 0
    return kept


def _checked_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call of a tool as it is. Raises BadValue unless it names its function, with arguments in JSON."""
    function = function_of(call)
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise BadValue("calls a function without its name", 'Write {"function": {"name": "…", "arguments": "{…}"}}.')
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError as error:
            reason = f"calls '{excerpt(name, 40)}' with arguments that are not JSON ({error.msg.split(':')[0]})"
            raise BadValue(reason, _ARGUMENTS_MEND) from None
    if not isinstance(arguments, Mapping | None):
        raise BadValue(f"calls '{excerpt(name, 40)}' with arguments that are {cells.kind(arguments)}", _ARGUMENTS_MEND)
    return call


def _content(content: Any, role: str, limits: Limits, *, may_be_empty: bool) -> str:
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise BadValue("has content that is not text", "Only text parts can be used; remove pictures and sound.")
        content = "\n".join(str(part) for part in parts)
    if content is None or (isinstance(content, str) and not content.strip()):
        if may_be_empty:
            return ""
        what = "an empty answer" if role == "assistant" else f"an empty message of the role '{role}'"
        raise BadValue(f"has {what}", "Write its text as `content`, or remove the row.")
    return cells.text(content, limits)


def _is_learned(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("weight") != 0


def _tools(value: Any, limits: Limits) -> str:  # noqa: ARG001  (the signature of a cell)
    tools = _decoded(value) or []
    if not isinstance(tools, list):
        raise BadValue(f"has tools that are {cells.kind(tools)}", _TOOLS_MEND)
    for number, tool in enumerate(tools, 1):
        function = function_of(tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping):
            raise BadValue(f"has as tool {number} {cells.kind(tool)} that is no function", _TOOLS_MEND)
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise BadValue(f"has as tool {number} a function without its name", _TOOLS_MEND)
    return _json(tools) if tools else ""


def _list(value: Any) -> list[Any]:
    decoded = _decoded(value)
    if not isinstance(decoded, list) or not decoded:
        raise BadValue("is not a list of messages", 'Write [{"role": "user", "content": …}, …].')
    return decoded


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise BadValue("is nested too deeply", "Write objects of fewer levels.") from None


def _decoded(value: Any) -> Any:
    """Return what a cell of CSV holds as JSON; other values, and texts that are no JSON, as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _statistics(limits: Limits) -> AnswerCounts:  # noqa: ARG001  (a Task's signature)
    return AnswerCounts()


TEXT_GENERATION = Task(
    NAME,
    "text",
    "generation",
    LAYOUTS,
    parse,
    _statistics,
    optional=("tools",),
    noun="prompt",
    target="answer",
    inferred=False,
)
