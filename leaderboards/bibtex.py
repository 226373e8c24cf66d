"""Write the BibTeX entries of the methods on a board, from what their records hold."""

import re
from collections.abc import Iterable

from advbench.benchmark.records.schema import MethodIdentity
from advbench.leaderboards.cells import BoardError
from advbench.leaderboards.writers.escaping import bibtex_escape

JOURNALS = re.compile(
    r"\b(journal|transactions|letters|arxiv|preprint|TPAMI|TMLR|JMLR|IJCV|TIFS|TNNLS|neurocomputing)\b", re.IGNORECASE
)
VENUES = {
    "AAAI": "Proceedings of the AAAI Conference on Artificial Intelligence",
    "BMVC": "British Machine Vision Conference",
    "CVPR": "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    "ECCV": "European Conference on Computer Vision",
    "ICCV": "Proceedings of the IEEE/CVF International Conference on Computer Vision",
    "ICLR": "International Conference on Learning Representations",
    "ICML": "International Conference on Machine Learning",
    "ICONIP": "International Conference on Neural Information Processing",
    "NeurIPS": "Advances in Neural Information Processing Systems",
}
"""Venue on a card → its name in full; what is not here stays as it is."""
EPRINT = re.compile(r"https?://arxiv\.org/(?:abs|pdf)/([a-z-]+/\d{7}|\d{4}\.\d{4,5})")
DOI = re.compile(r"https?://(?:dx\.)?doi\.org/(10\.\S+)")
KEY = re.compile(r"[^\s\"#%'(),={}~\\]+")


def write(methods: Iterable[MethodIdentity]) -> str:
    """Return one BibTeX entry per citation key, sorted by key.

    Raises:
        BoardError: if a method has no citation, a key BibTeX cannot read, or two papers share a key.
    """
    entries: dict[str, tuple[str, str]] = {}
    for method in methods:
        text = entry(method)
        known = entries.setdefault(method.key, (text, method.name))
        if known[0] != text:
            raise BoardError(f"citation key {method.key!r} names two papers, of {known[1]} and {method.name}")
    return "\n".join(entries[key][0] for key in sorted(entries))


def gather(methods: Iterable[MethodIdentity]) -> tuple[str, tuple[str, ...]]:
    """Return the entries of the methods that can be cited, as `write` does, and why the others cannot."""
    entries: dict[str, str] = {}
    problems: dict[str, None] = {}
    for method in methods:
        try:
            text = entry(method)
        except BoardError as error:
            problems[str(error)] = None
            continue
        if entries.setdefault(method.key, text) != text:
            problems[f"method {method.name!r} is not cited: another paper has its key {method.key!r}"] = None
    return "\n".join(entries[key] for key in sorted(entries)), tuple(problems)


def citable(method: MethodIdentity) -> bool:
    """Whether a method has an entry: a table cites no other."""
    try:
        entry(method)
    except BoardError:
        return False
    return True


def entry(method: MethodIdentity) -> str:
    """Return the entry of one method: an article where the venue is a journal or a preprint, else inproceedings.

    Raises:
        BoardError: if key, title or authors are missing, or the key is not one BibTeX reads.
    """
    for name in ("key", "title", "authors"):
        if not getattr(method, name).strip():
            raise BoardError(f"method {method.name!r} cannot be cited: its card has no {name}")
    if not KEY.fullmatch(method.key):
        raise BoardError(f"method {method.name!r} cannot be cited: {method.key!r} is no BibTeX key")
    kind, where = ("article", "journal") if JOURNALS.search(method.venue) else ("inproceedings", "booktitle")
    fields = {
        "title": f"{{{bibtex_escape(method.title)}}}",  # second braces keep the capitals
        "author": bibtex_escape(method.authors),
        where: bibtex_escape(VENUES.get(method.venue, method.venue)),
        "year": str(method.year),
        "doi": doi[1] if (doi := DOI.fullmatch(method.url)) else "",
        "eprint": eprint[1] if (eprint := EPRINT.fullmatch(method.url)) else "",
        "archiveprefix": "arXiv" if eprint else "",
        "url": method.url.replace("{", "").replace("}", ""),
    }
    lines = [f"  {name:<13} = {{{value}}}" for name, value in fields.items() if value.strip()]
    return f"@{kind}{{{method.key},\n" + ",\n".join(lines) + "\n}\n"
