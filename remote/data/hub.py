"""Datasets on the Hugging Face hub: `hub:id[@revision][:split]` becomes files on this machine. Runs
no code from a repository."""

import re
from collections.abc import Callable
from pathlib import Path

from remote.data.rows import KINDS
from remote.data.source import Source, SourceError

PREFIX = "hub:"
NAME = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w.-]+))?")
DEFAULT_SPLIT = "train"


def fetch(place: str, say: Callable[[str], None]) -> Source | None:
    """The files of a split, downloaded unless they are here; None for a place that is not on the
    hub. Without a split in the name: train, or all files where none of them names a split. Raises
    SourceError."""
    if not place.startswith(PREFIX):
        return None
    named = NAME.fullmatch(place.removeprefix(PREFIX))
    if named is None:
        raise SourceError("is no name on the hub; write hub:ORG/NAME@REVISION:SPLIT")
    repository, revision, split = named["id"], named["revision"], named["split"]
    say(f"fetching the dataset {repository} from the hub")
    root = _download(repository, revision, [f"*{split or DEFAULT_SPLIT}*{kind}" for kind in KINDS])
    names = _of_split(root, split or DEFAULT_SPLIT)
    if not names and split is None:
        root = _download(repository, revision, [f"*{kind}" for kind in KINDS])
        names = _files(root)
    if not names:
        wanted = f"split {split!r}" if split else "files of rows"
        raise SourceError(
            f"the repository has no {wanted}; files that make one are {', '.join(KINDS)} "
            "with the split's name in their path"
        )
    if len(kinds := {Path(name).suffix.lower() for name in names}) > 1:
        raise SourceError(
            f"the repository holds {' and '.join(sorted(kinds))} files of this split; "
            "download the ones that are meant and give their folder"
        )
    if len(folders := {str(Path(name).parent) for name in names}) > 1:
        raise SourceError(
            f"the repository holds several datasets ({', '.join(sorted(folders))}); "
            "download the one that is meant and give its folder"
        )
    return Source(root=root, names=names)


def _download(repository: str, revision: str | None, patterns: list[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository, repo_type="dataset", revision=revision, allow_patterns=patterns
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SourceError(
            f"cannot be fetched from the hub: {reason}; is its name right, does this host reach "
            "the hub, does it need HF_TOKEN?"
        ) from error


def _files(root: Path) -> tuple[str, ...]:
    found = (path for path in root.rglob("*") if path.suffix.lower() in KINDS and path.is_file())
    return tuple(sorted(path.relative_to(root).as_posix() for path in found))


def _of_split(root: Path, split: str) -> tuple[str, ...]:
    """The files with the split's name as a word in their path."""
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z0-9])")
    return tuple(
        name for name in _files(root) if word.search(Path(name).with_suffix("").as_posix())
    )
