"""Each check finds what it is for, and leaves the rest alone."""

from __future__ import annotations

import ast
from pathlib import Path

import docstrings
import griffe
import imports
import links
import public
import pytest
import reference
import tree
import wording
from common import by_hand


def words(text: str) -> list[str]:
    listed = wording.rules("foretold -> predicted\nno good -> not valid\n# a remark\n\n")
    return [f"{finding.line}: {finding.text}" for finding in wording.findings_in("page.md", text, listed)]


def test_a_listed_word_is_found_with_its_line_and_suggestion() -> None:
    assert words("fine\nlatencies Foretold\n") == ['2: "Foretold": write predicted']


def test_a_phrase_is_found_over_a_line_break_and_a_comment_sign() -> None:
    assert words("x = 1\n    # it is no\n    # good\n") == ['2: "no good": write not valid']


def test_part_of_a_word_a_generated_table_and_a_marked_part_are_not_read() -> None:
    assert words("unforetold\n") == []
    assert words("<!-- table x -->\n| foretold |\n<!-- end of table -->\n") == []
    assert words("<!-- wording: off -->\nforetold\n<!-- wording: on -->\nforetold\n") == [
        '4: "foretold": write predicted'
    ]


def test_every_rule_of_the_list_can_be_read() -> None:
    listed = wording.rules(wording.LIST.read_text(encoding="utf-8"))
    assert len(listed) > 20
    assert all(suggestion for _, suggestion in listed)


def test_generated_tables_keep_their_lines() -> None:
    page = "a\n<!-- table x -->\n| 1 |\n<!-- end of table -->\nb\n"
    assert by_hand(page).splitlines()[-1] == "b"
    assert by_hand(page).count("\n") == page.count("\n")


def test_a_module_name_in_two_places_is_found_unless_its_role_is_given() -> None:
    twice = [("a", Path("a/model.py")), ("b", Path("b/cost/model.py"))]
    assert [finding.path for finding in tree.module_names(twice)] == ["a/model.py", "b/cost/model.py"]
    assert tree.module_names([("a", Path("a/errors.py")), ("b", Path("b/errors.py"))]) == []
    assert tree.module_names([("a", Path("a/network/__init__.py")), ("a", Path("a/cli/network.py"))]) == []
    assert len(tree.module_names([("a", Path("a/x/__init__.py")), ("b", Path("b/x.py"))])) == 2


@pytest.mark.parametrize(
    "line", ["cd /root/" + "thing", "x = '/work/" + "data'", "--index-url http" + "://host/simple"]
)
def test_a_path_of_a_machine_or_an_index_is_found(line: str) -> None:
    assert len(tree.line_findings("x.py", line)) == 1


@pytest.mark.parametrize(
    "line", ["/home/me/venv", '"$scratch"/root/var', "https://example.org/work/x", "set PIP_EXTRA_INDEX_URL"]
)
def test_other_paths_and_addresses_are_left_alone(line: str) -> None:
    assert tree.line_findings("x.py", line) == []


def test_a_tool_configured_in_a_package_is_found() -> None:
    assert [
        finding.line for finding in tree.tool_findings("x", "[project]\n[tool.ruff.lint]\n[tool.hatch.build]\n")
    ] == [2]


def test_imports_of_inner_names_are_found_in_every_form() -> None:
    text = (
        "import vit_models as vm\n"
        "from vit_models import apply, nothing_like_it\n"
        "import vit_models.torch_state\n"
        "vm.apply, vm.inner_name\n"
    )
    found = imports.inner(Path("x.py"), ast.parse(text), "spu_bench")
    assert [(finding.line, finding.text.split()[0]) for finding in found] == [
        (2, "vit_models.nothing_like_it"),
        (3, "vit_models.torch_state"),
        (4, "vit_models.inner_name"),
    ]
    assert imports.inner(Path("x.py"), ast.parse(text), "vit_models") == []


def test_examples_of_a_page_are_read() -> None:
    page = "text\n```python\nimport vit_models.torch_state\n```\n```\nnot python\n```\n"
    [(before, example)] = imports.examples(page)
    assert [finding.line for finding in imports.inner(Path("x.md"), example, None, before)] == [3]


def made(tmp_path: Path, text: str) -> griffe.Module:
    """A package of one file, as griffe reads it."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/__init__.py").write_text(text)
    loaded = griffe.load("toy", search_paths=[str(tmp_path)], allow_inspection=False)
    assert isinstance(loaded, griffe.Module)
    return loaded


TOY = '''"""Toy."""
__all__ = ["BARE", "Thing", "function"]
BARE = 1
class Thing:
    """A thing."""
    size: int = 3
    """Metres."""
    def method(self, a: int) -> str:
        return ""
def function(first: int, *, second: str = "x") -> None:
    """Do it.

    Raises:
        ValueError: never.
    """
'''


def test_public_names_without_docstrings_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = made(tmp_path, TOY)
    monkeypatch.setattr(docstrings, "SOURCES", {"toy": tmp_path})
    monkeypatch.setattr(docstrings, "ROOT", tmp_path)
    monkeypatch.setattr(public, "modules", lambda package: {package: toy})
    assert [finding.text.split()[0] for finding in docstrings.check()] == ["toy.BARE", "toy.Thing.method"]


def test_a_reference_page_has_signatures_fields_and_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = made(tmp_path, TOY)
    monkeypatch.setattr(public, "modules", lambda package: {package: toy})
    page = reference.page("toy")
    assert "def function" not in page
    assert "function(first: int, *, second: str = 'x') -> None" in page
    assert "- `size: int` = `3`. Metres." in page
    assert "- `method(a: int) -> str`" in page
    assert "ValueError: never." in page


def test_a_stale_reference_page_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = made(tmp_path, TOY)
    monkeypatch.setattr(public, "modules", lambda package: {package: toy})
    monkeypatch.setattr(reference, "SOURCES", {"toy": tmp_path})
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "docs")
    assert len(reference.check()) == 1
    reference.write()
    assert reference.check() == []
    toy.members["function"].docstring = None
    assert len(reference.check()) == 1


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `heading`, of sorts\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-heading-of-sorts) [b](other.md)\n[c](other.md#no-heading)\n[d](gone.md)\n[e](https://x/y)\n"
    )
    assert [finding.line for finding in links.broken(page)] == [2, 3]
