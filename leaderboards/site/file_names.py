"""File names of pages: readable, safe on every file system, and never shared by two pages."""

import hashlib
import re

UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def slug(text: str) -> str:
    """Return a file name for a text; one that had to be changed carries a digest of the whole text.

    Capitals count as changed, since some file systems ignore them, and "index" is taken.
    """
    safe = UNSAFE.sub("-", text).strip("-.")[:60]
    if safe and safe == text == text.lower() and safe != "index":
        return safe
    return f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")


def board_slug(protocol: str, digest: str) -> str:
    """Return the file name of a protocol and its board, which two digests under one name do not share."""
    return f"{UNSAFE.sub('-', protocol).strip('-.')[:60]}-{digest[:8]}".lstrip("-")
