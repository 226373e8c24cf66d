"""Put a composed site on disk: never over files that are not a site's, and without leaving old pages behind."""

from pathlib import Path

from advbench.leaderboards.site.build import Site

MANIFEST = "site-files.txt"
"""Lists what was written, so that a later build can remove pages that are no more."""


class SiteError(ValueError):
    """A folder into which no site can be written; the message is one line with the fix."""


def check(out: Path, source: Path | None = None) -> None:
    """Refuse a folder that holds other files, or that lies where records are read from.

    Args:
        out: the folder to write into; it need not exist.
        source: the folder of records, whose copies on the site would be read as records next time.

    Raises:
        SiteError: with one line that says what to give instead.
    """
    if out.exists() and not out.is_dir():
        raise SiteError(f"{out}: a file has that name; give a folder")
    if source is not None and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise SiteError(f"{out}: lies inside the records folder {source}; give a folder outside of it")
    if out.is_dir() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise SiteError(f"{out}: holds files that no site has written; give an empty or a new folder")


def write(site: Site, out: Path) -> list[Path]:
    """Write every file of a site and remove those of the last build that it no longer has.

    Returns:
        The paths written, the manifest last.

    Raises:
        SiteError: if the folder holds other files.
    """
    check(out)
    manifest = out / MANIFEST
    before = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    for name in set(before) - set(site.files):
        stale = out / name
        if stale.resolve().is_relative_to(out.resolve()):
            stale.unlink(missing_ok=True)
    written = []
    for name, content in site.files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append(path)
    manifest.write_text("".join(f"{name}\n" for name in sorted(site.files)), encoding="utf-8")
    return [*written, manifest]
