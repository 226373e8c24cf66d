"""The papers of the house: what they name exists."""

import re

import pytest

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`((?:benchmark|leaderboards|methods|reports|tests|docs)/[\w./-]*\w/?)`")
SHORT = re.compile(r"`((?:cli|data|models|attacks|training|evaluation|records|runs|review)/[\w./-]*\w/?)`")


def test_links_between_documents_lead_somewhere(root, tracked):
    documents = [path for path in tracked if path.suffix == ".md" and path.parts[0] != "leaderboards"]
    assert len(documents) > 30
    for path in documents:
        for target in LINK.findall((root / path).read_text(encoding="utf-8")):
            assert (root / path.parent / target).exists(), f"{path} links {target}"


@pytest.mark.parametrize("document", ["docs/architecture.md", "docs/README.md", "docs/glossary.md", "tests/README.md"])
def test_files_that_are_named_exist(root, document):
    text = (root / document).read_text(encoding="utf-8")
    for name in FILE.findall(text):
        assert (root / name).exists(), f"{document} names {name}"
    for name in SHORT.findall(text):
        assert (root / "benchmark" / name).exists() or (root / "tests" / name).exists(), f"{document} names {name}"


def test_every_room_is_on_the_map(root, modules):
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.parts[1] for path in modules if path.parts[0] == "benchmark" and len(path.parts) > 2}
    for room in rooms:
        assert f"`benchmark/{room}/`" in text or room == "protocols", f"docs/architecture.md does not name {room}"


def test_the_index_answers_at_least_twenty_questions(root):
    text = (root / "docs/architecture.md").read_text(encoding="utf-8").partition("## Where is it decided?")[2]
    questions = [line for line in text.splitlines() if line.startswith("| ") and "? |" in line]
    assert len(questions) >= 20


def test_every_folder_of_tests_is_on_the_map(root, tracked):
    text = (root / "tests/README.md").read_text(encoding="utf-8")
    for folder in {path.parts[1] for path in tracked if path.parts[0] == "tests" and len(path.parts) > 2}:
        assert f"`{folder}/`" in text, f"tests/README.md does not name {folder}"
