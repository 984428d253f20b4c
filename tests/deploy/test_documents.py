"""What the documents say is what the code does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer

from deploy import configuration
from deploy.cli.main import app

_ROOT = Path(__file__).resolve().parents[2]


def _commands() -> dict[str, set[str]]:
    """Every `graft` command with its options; groups as "customers create"."""
    found: dict[str, set[str]] = {}

    def walk(command: object, path: str) -> None:
        below = getattr(command, "commands", None)
        if below:
            for name, child in below.items():
                walk(child, f"{path} {name}".strip())
        else:
            found[path] = {word for option in command.params for word in [*option.opts, *option.secondary_opts]}  # type: ignore[attr-defined]

    walk(typer.main.get_command(app), "")
    return found


def test_every_setting_has_a_meaning() -> None:
    assert all(entry.meaning for entry in configuration.entries())


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "deploy/runbook.md"])
def test_every_graft_command_exists(name: str) -> None:
    commands = _commands()
    text = (_ROOT / name).read_text(encoding="utf-8")
    used = re.findall(
        r"(?:^|[`(/ ])graft ((?:[a-z-]+)(?: (?:create|list|rotate|revoke|delete))?)([^`\n]*)", text, re.MULTILINE
    )
    code = [
        (words, rest) for words, rest in used if words.split()[0] in {path.split()[0] for path in commands} | {"help"}
    ]
    assert code or name == "CONTRIBUTING.md"
    for words, rest in code:
        path = words if words in commands else words.split()[0]
        if path not in commands:  # a group: `graft customers create/list/delete`
            assert any(command.startswith(path + " ") for command in commands), words
            continue
        for option in re.findall(r"(?<![\w-])--[a-z-]+", rest):
            assert option in commands[path], f"graft {path} has no {option}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "deploy/runbook.md"])
def test_every_make_target_exists(name: str) -> None:
    text = (_ROOT / name).read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    makefile = (_ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/runbook.md", "deploy/decisions/README.md"]
)
def test_every_link_and_path_exists(name: str) -> None:
    document = _ROOT / name
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (document.parent / target).exists(), target


def test_every_decision_is_listed() -> None:
    folder = _ROOT / "deploy" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    assert all(path.name in listed for path in folder.glob("0*.md"))


def test_make_help_lists_every_documented_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    for target in ("demo", "serve", "test", "check", "bench", "clean"):
        assert f"make {target} " in shown.stdout


def test_the_ci_script_parses() -> None:
    subprocess.run(["bash", "-n", ".ci/run"], cwd=_ROOT, check=True)
    assert (_ROOT / ".ci" / "run").stat().st_mode & 0o111
