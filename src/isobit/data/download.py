"""Fetching published files from the first mirror that has them: whole and checked, or not."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from isobit.core.errors import DownloadFailed, FileUnwritable
from isobit.data.source import Published

STALL_S = 30.0
"""Seconds without a byte after which a mirror is given up."""
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file to fetch: what it must be, where it may come from (in order), where it goes."""

    published: Published
    urls: tuple[str, ...]
    target: Path


class _MirrorError(Exception):
    """Why one mirror did not deliver; the next one is tried."""


def download(name: str, jobs: Sequence[Job], folder: Path, by_hand: str) -> None:
    """Fetch every job for the data set `name`, each file complete and checked before it appears.

    Announces size and destination on stderr and shows a bar there if that is a terminal. An
    interruption leaves the files that were complete and nothing else.

    Raises DownloadFailed with every mirror tried and `by_hand`, how to do without; FileUnwritable.
    """
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    total_bytes = sum(job.published.size_bytes for job in jobs)
    files = "1 file" if len(jobs) == 1 else f"{len(jobs)} files"
    console.print(f"{name}: downloading {total_bytes / 1e6:.1f} MB ({files}) to {folder}")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=total_bytes)

        def report(start_bytes: int, size_bytes: int) -> None:
            bar.update(task, completed=start_bytes + size_bytes)

        start_bytes = 0
        for job in jobs:
            # Stops at the first file that no mirror has: where one fails the network is usually
            # down, and waiting for every other file to time out would tell nothing new.
            _fetch(name, job, partial(report, start_bytes), by_hand)
            start_bytes += job.published.size_bytes


def _fetch(name: str, job: Job, report: Callable[[int], None], by_hand: str) -> None:
    attempts: list[str] = []
    for url in job.urls:
        try:
            with _appearing(job.target) as stream:
                _stream(url, job, stream, report)
            return
        except _MirrorError as failure:
            attempts.append(f"{url}: {failure}")
    raise DownloadFailed(
        where=f"data set {name}",
        what=f"download of {job.published.file_name}",
        want=f"{job.published.size_bytes} bytes with SHA-256 {job.published.sha256}",
        got="; ".join(attempts),
        fix=by_hand,
    )


def _stream(url: str, job: Job, stream: BinaryIO, report: Callable[[int], None]) -> None:
    """Copy `url` into `stream`; raises _MirrorError unless exactly the published bytes came."""
    digest, size_bytes = hashlib.sha256(), 0
    with closing(_chunks(url)) as chunks:
        for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > job.published.size_bytes:
                raise _MirrorError(f"sent more than {job.published.size_bytes} bytes")
            digest.update(chunk)
            stream.write(chunk)
            report(size_bytes)
    if size_bytes != job.published.size_bytes:
        raise _MirrorError(f"ended after {size_bytes} bytes")
    if digest.hexdigest() != job.published.sha256:
        raise _MirrorError(f"sent another file (SHA-256 {digest.hexdigest()})")


def _chunks(url: str) -> Generator[bytes, None, None]:
    request = urllib.request.Request(url, headers={"User-Agent": "isobit"})
    try:
        with urllib.request.urlopen(request, timeout=STALL_S) as response:
            while chunk := response.read(_CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _MirrorError(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error


@contextmanager
def _appearing(target: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose content becomes `target` if the block ends well, else vanishes.

    Every OSError here is one of this machine: `_chunks` turns those of the network into
    _MirrorError.
    """
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(target)
        temporary = None
    except OSError as error:
        raise FileUnwritable(
            where=str(target),
            what="cannot write",
            want="a writable cache folder with free space",
            got=error.strerror or str(error),
            fix="Free space or change its permissions, or set XDG_CACHE_HOME to another folder.",
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
