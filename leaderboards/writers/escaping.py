"""Text for LaTeX, for CSV and for headings: what TeX or a spreadsheet would read as a command becomes what it means."""

import re
import unicodedata
from functools import lru_cache

FORMULA = ("=", "+", "-", "@", "\t")
"""Spreadsheets execute cells that begin so; a name that does is quoted."""
PLAIN = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "‖": r"$\|$",
    "…": r"\ldots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "§": r"\S{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "¶": r"\P{}",
    "◇": r"$\diamond$",
    "°": r"$^\circ$",
    "\u00a0": "~",
}
LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho varsigma sigma tau "
    "upsilon phi chi psi omega"
)
GREEK = {chr(0x03B1 + offset): rf"$\{name}$" for offset, name in enumerate(LETTERS.split()) if name != "omicron"}


@lru_cache(maxsize=1 << 14)
def latex_escape(text: str) -> str:
    """Return text that pdflatex sets as it reads, without any package; letters it lacks lose their accents or are ?."""
    return "".join(_character(character) for character in text.replace("\n", " "))


def _character(character: str) -> str:
    if character in PLAIN:
        return PLAIN[character]
    if character in GREEK:
        return GREEK[character]
    if character.isascii():
        return character if character.isprintable() else " "
    # Latin letters with accents are in every font encoding of LaTeX; of others the base letter is kept.
    if "LATIN" in unicodedata.name(character, "") and ord(character) < 0x180:
        return character
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base or "?"


ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
    "\u0328": "k",
}
LIGATURES = {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i"}


def bibtex_escape(text: str) -> str:
    """Return text as `latex_escape` does, in ASCII: styles that make labels of names cut other letters in two."""
    return "".join(_ascii(character) for character in latex_escape(text))


def _ascii(character: str) -> str:
    """Return a letter as a special character of BibTeX, which is sorted with its base and never cut."""
    if character.isascii():
        return character
    if character in LIGATURES:
        return rf"{{\{LIGATURES[character]}}}"
    decomposed = unicodedata.normalize("NFD", character)
    base, marks = decomposed[:1], decomposed[1:]
    if marks in ACCENTS:
        return rf"{{\{ACCENTS[marks]}{{{base}}}}}"
    return base if base.isascii() else "?"


NAMES = {
    "digits": "Digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tinyimagenet": "Tiny ImageNet",
    "imagenet": "ImageNet",
    "smallcnn": "SmallCNN",
    "preactresnet18": "PreActResNet-18",
    "resnet18": "ResNet-18",
    "preactresnet10-lite": "PreActResNet-10 (lite)",
    "preactresnet18-swish": "PreActResNet-18 (Swish)",
    "vit-tiny": "ViT-Ti/4",
    "wrn28-10": "WRN-28-10",
    "wrn28-10-swish": "WRN-28-10 (Swish)",
    "wrn34-10": "WRN-34-10",
    "wrn34-20": "WRN-34-20",
    "wrn70-16": "WRN-70-16",
    "wrn70-16-swish": "WRN-70-16 (Swish)",
    "resnet50": "ResNet-50",
}


def display(name: str) -> str:
    """Return a data set or network as papers write it; a name that is not known stays as it is."""
    return NAMES.get(name, name)


def plain_cell(text: str) -> str:
    """Return text for a field of CSV that no spreadsheet executes."""
    return f"'{text}" if text.startswith(FORMULA) else text


def split_address(text: str) -> tuple[str, str, str]:
    """Split a source into what stands before its web address, the address (or ""), and what stands after."""
    found = re.search(r"https?://[^\s,;]+", text)
    return (text[: found.start()], found.group(), text[found.end() :]) if found else (text, "", "")
