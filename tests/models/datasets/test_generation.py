"""Rows of models that write: every layout, what is wrong in them, and when answers are labels instead."""

from __future__ import annotations

import json

import pytest

from models.datasets.errors import NothingToPrefer, NothingToWrite
from models.datasets.examples import Answer

TASK = "text-generation"


def lines(*rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def chat(*messages, **more):
    return {"messages": [{"role": role, "content": content} for role, content in messages], **more}


def written(number):
    return chat(("system", "Be brief."), ("user", f"fact {number}"), ("assistant", f"The answer to {number} is long."))


def test_answers_that_hardly_recur_are_texts(profile):
    found = profile(lines(*map(written, range(12))))
    assert found.task == TASK
    (note,) = [warning for warning in found.warnings if warning["code"] == "taken_for"]
    assert "12 different answers in 12 rows" in note["message"]


def test_answers_that_recur_are_labels_unless_the_task_is_stated(profile):
    rows = [chat(("user", f"mail {number}"), ("assistant", ("spam", "ham")[number % 2])) for number in range(12)]
    found = profile(lines(*rows))
    assert (found.task, sorted(found.labels)) == ("text-classification", ["ham", "spam"])
    assert "2 different answers" in found.warnings[-1]["message"]
    assert profile(lines(*rows), task=TASK).task == TASK


def test_a_prompt_and_its_completion(profile, examples):
    table = "prompt,completion\n" + "".join(f"ask {n},say {n}\n" for n in range(6))
    assert profile(table).task == TASK
    first = examples(table)[0]
    assert json.loads(first.input.messages) == [{"role": "user", "content": "ask 0"}]
    assert first.target == Answer("say 0")


def test_completions_that_recur_are_labels(profile):
    table = "prompt,completion\n" + "".join(f"ask {n},{'yes' if n % 2 else 'no'}\n" for n in range(8))
    found = profile(table)
    assert (found.task, found.columns) == ("text-classification", {"text": "prompt", "label": "completion"})


def test_texts_alone_are_learned_where_it_is_said(examples):
    found = examples("text\nonce upon\na time\nthere was\nan end\n", task=TASK)
    assert (found[0].input.form, found[0].target.text) == ("text", "once upon")


def test_pairs_in_openais_form(profile, examples):
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"q{n}"}], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [{"role": "assistant", "content": f"good {n}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"bad {n}"}],
        }
        for n in range(5)
    ]
    assert profile(lines(*rows)).task == TASK
    assert examples(lines(*rows))[0].target == Answer("good 0", rejected="bad 0")


def preferred(number, better, worse):
    asked = {"messages": [{"role": "user", "content": f"q{number}"}]}
    return {"input": asked, "preferred_output": better, "non_preferred_output": worse}


def test_pairs_of_the_same_answer_are_named(profile, refusal):
    same = [preferred(number, [{"content": f"a {number}"}], [{"content": f"a {number}"}]) for number in range(6)]
    other = [preferred(number, [{"content": f"a {number}"}], [{"content": "b"}]) for number in range(6)]
    assert isinstance(refusal(lines(*same)), NothingToPrefer)
    assert not any(warning["code"] == "same_answers" for warning in profile(lines(*other)).warnings)
    (note,) = [each for each in profile(lines(*other, *same)).warnings if each["code"] == "same_answers"]
    assert (note["count"], note["rows"]) == (6, [7, 8, 9, 10, 11, 12])
    assert "6 of 12 rows" in note["message"]


def test_the_calls_of_both_answers_of_a_pair_are_kept(examples, profile):
    def by_call(name):
        return [{"content": None, "tool_calls": calling(name, "{}")}]

    rows = [preferred(number, by_call(f"f{number}"), by_call("g")) for number in range(6)]
    target = examples(lines(*rows))[0].target
    assert (target.text, target.rejected) == ("", "")
    assert json.loads(target.calls)[0]["function"]["name"] == "f0"
    assert json.loads(target.rejected_calls)[0]["function"]["name"] == "g"
    assert not any(warning["code"] == "same_answers" for warning in profile(lines(*rows)).warnings)


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        (["a"], "holds a text where a message is expected"),
        ([1], "holds a number where a message is expected"),
        ([{"content": "a", "tool_calls": [1]}], "tool_calls that are no list of calls"),
    ],
)
def test_pairs_that_hold_no_messages_are_bad_rows(refusal, better, reason):
    error = refusal(lines(*(preferred(number, better, [{"content": "b"}]) for number in range(8))))
    assert (error.total, error.details[0]["column"]) == (8, "preferred_output")
    assert reason in error.details[0]["reason"]


def test_calls_in_a_history_are_checked_against_the_tools(refusal):
    rows = [called(number) for number in range(5)]
    for row in rows:
        row["messages"] += [
            {"role": "tool", "content": "{}"},
            {"role": "assistant", "content": f"answer {row['messages'][0]['content']}"},
        ]
    rows[4]["tools"][0]["function"]["name"] = "g"
    (detail,) = refusal(lines(*rows)).details
    assert (detail["row"], detail["column"]) == (5, "messages")
    assert "calls the function 'f'" in detail["reason"]


def test_the_last_answer_that_is_to_be_learned_ends_the_row(examples):
    row = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ignored = json.loads(json.dumps(row))
    ignored["messages"][3]["weight"] = 0
    found = examples(lines(row, ignored, written(1), written(2)), task=TASK)
    assert [len(json.loads(example.input.messages)) for example in found[:2]] == [3, 1]
    assert [example.target.text for example in found[:2]] == ["d", "b"]


def test_calls_of_tools_are_answers(examples):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}], "tools": [call]}
    found = examples(lines(row, *map(written, range(4))), task=TASK)[0]
    assert json.loads(found.target.calls) == [call]
    assert json.loads(found.input.tools) == [call]


def calling(name, arguments="{}"):
    return [{"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}]


def called(number, **more):
    answer = {"role": "assistant", "content": None, "tool_calls": calling("f", json.dumps({"n": number})), **more}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    return {"messages": [{"role": "user", "content": f"ask {number}"}, answer], "tools": tools}


@pytest.mark.parametrize("more", [{}, {"content": "One moment."}, {"weight": 1}])
@pytest.mark.parametrize("plain", [0, 12])
def test_answers_that_call_tools_are_no_labels(profile, examples, plain, more):
    labels = [chat(("user", f"mail {number}"), ("assistant", ("spam", "ham")[number % 2])) for number in range(plain)]
    content = lines(*labels, *(called(number, **more) for number in range(12)))
    found = profile(content)
    assert (found.task, found.rows) == (TASK, plain + 12)
    (note,) = [warning for warning in found.warnings if warning["code"] == "taken_for"]
    assert f"row {plain + 1} answers with a call of a tool" in note["message"]
    assert json.loads(examples(content)[-1].target.calls)[0]["function"]["name"] == "f"


def called_as_earlier(number):
    """A conversation in OpenAI's earlier form: functions, a call, what it returned, another call."""
    call = {"name": "f", "arguments": json.dumps({"n": number})}
    answer = {"role": "assistant", "content": None, "function_call": call}
    returned = {"role": "function", "name": "f", "content": "{}"}
    messages = [{"role": "user", "content": f"ask {number}"}, answer, returned, answer]
    return {"messages": messages, "functions": [{"name": "f", "parameters": {"type": "object"}}]}


def test_calls_of_openais_earlier_form_are_learned(profile, examples):
    content = lines(*map(called_as_earlier, range(12)))
    found = profile(content)
    assert found.task == TASK
    assert [warning["code"] for warning in found.warnings if warning["code"] != "few_rows"] == ["taken_for"]
    example = examples(content)[3]
    call = {"type": "function", "function": {"name": "f", "arguments": '{"n": 3}'}}
    assert json.loads(example.target.calls) == [call]
    asked = json.loads(example.input.messages)
    assert [message["role"] for message in asked] == ["user", "assistant", "tool"]
    assert asked[1]["tool_calls"] == [call]
    assert json.loads(example.input.tools) == called(3)["tools"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (chat(("user", "a"), ("assistant", " ")), "an empty answer"),
        (chat(("user", "a")), "no message of the assistant"),
        (chat(("assistant", "a")), "asks nothing"),
        (chat(("wizard", "a"), ("assistant", "b")), "role 'wizard'"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
            "weight 0",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 2}]},
            "weight 2",
        ),
        (called(1, tool_calls=5), "tool_calls that are no list of calls"),
        (called(1, tool_calls=[1]), "tool_calls that are no list of calls"),
        (called(1, tool_calls=[{"function": "f"}]), "tool_calls that are no list of calls"),
        (called(1, tool_calls=calling("f", {"a": json.loads("[" * 900 + "]" * 900)})), "nested too deeply"),
        (called(1, tool_calls=calling("g")), "calls the function 'g', which the row's tools do not have"),
        (called(1, tool_calls=calling("f", "{'n': 1}")), "calls 'f' with arguments that are not JSON"),
        (called(1, tool_calls=calling("f", "[" * 20_000)), "calls 'f' with arguments that are not JSON"),
        (called(1, tool_calls=calling("f", "5")), "calls 'f' with arguments that are a number"),
        (called(1, tool_calls=calling(None)), "a function without its name"),
        (called(1, tool_calls=None, function_call="f"), "has a function_call that is a text"),
        (called(1, tool_calls=None, function_call={"name": "f", "arguments": "{'n'"}), "arguments that are not JSON"),
        (called(1, tool_calls=None, function_call={"name": "g"}), "calls the function 'g'"),
        ({**called_as_earlier(1), "functions": {"name": "f"}}, "has tools that are an object"),
        ({"messages": "hello"}, "not a list of messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(refusal, row, reason):
    error = refusal(lines(*map(written, range(4)), row), task=TASK)
    (detail,) = error.details
    assert detail["row"] == 5
    assert reason in detail["reason"]


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ([1], "has as tool 1 a number that is no function"),
        (["f"], "has as tool 1 a text that is no function"),
        ([*called(1)["tools"], {"type": "function", "function": "f"}], "has as tool 2 an object that is no function"),
        ([{"type": "web_search"}], "has as tool 1 a function without its name"),
        ([{"type": "function", "function": {"name": 5}}], "has as tool 1 a function without its name"),
        ({"name": "f"}, "has tools that are an object"),
        ("none", "has tools that are a text"),
    ],
)
def test_tools_that_are_no_functions_are_bad_rows(refusal, tools, reason):
    pair = preferred(2, [{"content": "a"}], [{"content": "b"}])
    pair["input"]["tools"] = tools
    pairs = [preferred(number, [{"content": f"a {number}"}], [{"content": "b"}]) for number in range(4)]
    answers = [*map(written, range(4)), {**written(4), "tools": tools}]
    for rows, column in ((answers, "tools"), ([*pairs, pair], "input")):
        (detail,) = refusal(lines(*rows), task=TASK).details
        assert (detail["row"], detail["column"], detail["reason"]) == (5, column, reason)
        assert '"function": {"name"' in detail["mend"]


@pytest.mark.parametrize("tools", [None, [], ""])
def test_a_row_may_have_no_tools(examples, tools):
    rows = [{**written(number), "tools": tools} for number in range(5)]
    assert {example.input.tools for example in examples(lines(*rows), task=TASK)} == {""}


@pytest.mark.parametrize("task", [None, TASK])
def test_instructions_are_told_how_they_become_prompts(refusal, profile, task):
    rows = [{"instruction": f"say {n}", "input": "", "output": f"answer {n}"} for n in range(6)]
    mend = refusal(lines(*rows), task=task).details[0]["mend"]
    assert "join 'instruction' and 'input' of each row into one column 'prompt'" in mend
    assert 'task="text-generation", columns={"prompt": "instruction", "completion": "output"}' in mend
    columns = {"prompt": "instruction", "completion": "output"}
    assert profile(lines(*rows), task=TASK, columns=columns).rows == 6
    assert "join" not in refusal("instruction,response\na,b\n", task=task).details[0]["mend"]


def test_one_answer_for_all_rows_teaches_nothing(refusal):
    rows = [chat(("user", f"q{n}"), ("assistant", "the same")) for n in range(5)]
    assert isinstance(refusal(lines(*rows), task=TASK), NothingToWrite)


def test_rows_that_repeat_are_named(profile):
    found = profile(lines(written(1), written(1), written(2), written(3), written(4)))
    (note,) = [warning for warning in found.warnings if warning["code"] == "near_duplicates"]
    assert note["rows"] == [[1, 2]]
    assert "prompt and answer" in note["message"]
    other = chat(("system", "Be brief."), ("user", "fact 1"), ("assistant", "Another answer to it."))
    found = profile(lines(written(1), other, written(1), written(2), written(3)))
    (note,) = [warning for warning in found.warnings if warning["code"] == "near_duplicates"]
    assert note["rows"] == [[1, 3]]


def test_texts_repeat_where_the_texts_do(profile):
    found = profile("text\nonce upon\na time\nOnce  upon\nonce upon\nan end\n", task=TASK)
    (note,) = [warning for warning in found.warnings if warning["code"] == "near_duplicates"]
    assert note["rows"] == [[1, 4]]
