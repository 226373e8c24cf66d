"""Make a checkout ready to be built as a release: its links and addresses are those of the repository it lies in.

Usage: .ci/release.py v1.2.3 https://host/owner/name. A package index shows the README without the files beside it, so
relative links become absolute; the tag must be the version of pyproject.toml.
"""

import re
import sys
import tomllib
from pathlib import Path

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<path>[^)]+)\)")


def absolute(text: str, place: str, tag: str) -> str:
    """Return Markdown with links to files of the repository at a tag, and pictures to their content."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if match["image"] else "blob"
        return f"{match['image']}[{match['text']}]({place}/{kind}/{tag}/{match['path']})"

    return LINK.sub(link, text)


def main(tag: str, place: str, root: Path) -> None:
    """Rewrite README.md and pyproject.toml in a checkout."""
    pyproject, readme = root / "pyproject.toml", root / "README.md"
    plain = pyproject.read_text(encoding="utf-8")
    version = tomllib.loads(plain)["project"]["version"]
    if tag != f"v{version}":
        sys.exit(f"tag {tag} is not version {version} of pyproject.toml: set the one or the other")
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), place, tag), encoding="utf-8")
    urls = {"Homepage": place, "Issues": f"{place}/issues", "Changelog": f"{place}/blob/{tag}/CHANGELOG.md"}
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    pyproject.write_text(f"{plain}\n[project.urls]\n{lines}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3], Path.cwd())
