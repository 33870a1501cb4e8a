"""Models on the Hugging Face hub, pulled and pushed by its own client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densekit._extras import need

SCHEME = "hub:"
WEIGHTS, CARD = "model.safetensors", "README.md"
"""The two files of a repository."""


def repository(source: str) -> tuple[str, str | None]:
    """The name of a repository and its revision, from `hub:OWNER/REPO` or `hub:OWNER/REPO@TAG`.

    Raises:
        ValueError: It is of another form.
    """
    name, at, revision = source.removeprefix(SCHEME).partition("@")
    if name.count("/") != 1 or not all(name.split("/")) or (at and not revision):
        raise ValueError(
            f"hub: expected {SCHEME}OWNER/REPO or {SCHEME}OWNER/REPO@TAG, got {source}"
        )
    return name, revision or None


def pull(source: str) -> Path:
    """Downloads a checkpoint into the hub's cache unless it is there; returns its path.

    Args:
        source: `hub:OWNER/REPO`, with `@TAG` for a branch, tag or commit. Private repositories need
            the token of `hf auth login` or HF_TOKEN.

    Raises:
        ValueError: The name is of another form, or there is no such model.
        ConnectionError: It cannot be downloaded.
        ImportError: The hub's client is not installed.
    """
    name, revision = repository(source)
    hub = need("huggingface_hub", source, "hub")
    with _plain_errors(source):
        return Path(hub.hf_hub_download(name, WEIGHTS, revision=revision))


def push(folder: Path, source: str) -> str:
    """Uploads the two files of a folder in one commit; creates the repository unless it exists.

    Args:
        folder: With `model.safetensors` and `README.md`.
        source: `hub:OWNER/REPO`, with `@BRANCH` for another branch than the main one.

    Returns:
        The address of the commit.

    Raises:
        ValueError: The name is of another form.
        ConnectionError: It cannot be uploaded.
        ImportError: The hub's client is not installed.
    """
    name, revision = repository(source)
    hub = need("huggingface_hub", source, "hub")
    with _plain_errors(source):
        api = hub.HfApi()
        api.create_repo(name, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=[WEIGHTS, CARD],
            revision=revision,
            commit_message="A model of densekit",
        )
    return str(commit.commit_url)


@contextmanager
def _plain_errors(source: str) -> Iterator[None]:
    """Turns the client's errors into one sentence."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except LocalEntryNotFoundError as error:  # the client's word for no network
        raise ConnectionError(
            f"{source}: expected the hub to answer, got: {error.__cause__ or error}; without a"
            f" network download {WEIGHTS} elsewhere and say checkpoint=FILE"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise ValueError(
            f"{source}: expected a repository with {WEIGHTS} that you may read, got:"
            f" {_first_line(error)}"
        ) from error
    except HFValidationError as error:
        raise ValueError(f"{source}: expected a name of the hub, got: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        raise ConnectionError(
            f"{source}: expected the hub to accept this, got: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
