from __future__ import annotations

import gzip
import hashlib
import io
import socket
import stat
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

import pytest

from isobit.core.errors import DownloadFailed, FileDamaged, FileUnwritable
from isobit.data import download as module
from isobit.data.cifar import CifarSource
from isobit.data.download import Job, download
from isobit.data.idx import IdxFile, IdxFiles, IdxSource
from isobit.data.place import Place, locate
from isobit.data.source import Published

BODY = bytes(range(256)) * 1000  # several chunks


class Web(Protocol):
    files: dict[str, bytes]
    declared: dict[str, int]
    asked: list[str]
    url: str


def published(path: str, content: bytes) -> Published:
    return Published(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def fetch(folder: Path, *urls: str) -> Path:
    target = folder / "toy" / "file.bin"
    job = Job(published=published("toy/file.bin", BODY), urls=urls, target=target)
    download("toy", [job], folder, "Place it by hand.")
    return target


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_a_file_arrives_whole_and_readable(web: Web, tmp_path: Path) -> None:
    web.files["/file.bin"] = BODY
    target = fetch(tmp_path, f"{web.url}file.bin")
    assert target.read_bytes() == BODY
    assert left(tmp_path) == ["file.bin"]
    assert stat.S_IMODE(target.stat().st_mode) & 0o444 == 0o444  # not mkstemp's 0600


def test_size_and_place_are_announced_on_stderr(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    web.files["/file.bin"] = BODY
    fetch(tmp_path, f"{web.url}file.bin")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"toy: downloading 0.3 MB (1 file) to {tmp_path}\n"


def test_a_terminal_gets_a_bar(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    web.files["/file.bin"] = BODY
    fetch(tmp_path, f"{web.url}file.bin")
    out, err = capsys.readouterr()
    assert out == ""
    assert "256.0/256.0 kB" in err


@pytest.mark.parametrize(
    ("body", "declared", "why"),
    [
        (None, None, "HTTP 404 Not Found"),
        (BODY[:70000], None, "ended after 70000 bytes"),
        (BODY[:70000], len(BODY), "bytes"),  # worded by Python, differently from 3.13 on
        (BODY + b"x", None, f"sent more than {len(BODY)} bytes"),
        (b"x" + BODY[1:], None, "sent another file (SHA-256"),
        (b"", None, "ended after 0 bytes"),
    ],
)
def test_a_bad_mirror_is_skipped(
    web: Web, tmp_path: Path, body: bytes | None, declared: int | None, why: str
) -> None:
    if body is not None:
        web.files["/bad.bin"] = body
    if declared is not None:
        web.declared["/bad.bin"] = declared
    with pytest.raises(DownloadFailed) as caught:
        fetch(tmp_path, f"{web.url}bad.bin")
    (problem,) = caught.value.problems
    assert f"{web.url}bad.bin: " in problem.got
    assert why in problem.got
    assert hashlib.sha256(BODY).hexdigest() in problem.want
    assert problem.fix == "Place it by hand."
    assert left(tmp_path) == []

    web.files["/good.bin"] = BODY
    target = fetch(tmp_path, f"{web.url}bad.bin", f"{web.url}good.bin")
    assert target.read_bytes() == BODY
    assert left(tmp_path) == ["file.bin"]


def test_every_mirror_tried_is_named(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed) as caught:
        fetch(tmp_path, f"{web.url}absent.bin", "http://127.0.0.1:1/file.bin")
    got = caught.value.problems[0].got
    assert "absent.bin: HTTP 404" in got
    assert "http://127.0.0.1:1/file.bin: " in got
    assert "refused" in got


def test_a_silent_mirror_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "STALL_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, never answers
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file.bin"
        with pytest.raises(DownloadFailed, match="timed out"):
            fetch(tmp_path, url)
    assert left(tmp_path) == []


def test_a_mirror_that_speaks_no_http_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"garbage\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file.bin"
        with pytest.raises(DownloadFailed, match="garbage"):
            fetch(tmp_path, url)
        thread.join()
    assert left(tmp_path) == []


def test_an_interruption_leaves_nothing(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/file.bin"] = BODY
    original = module._chunks
    seen: list[str] = []

    def interrupted(url: str) -> Iterator[bytes]:
        for count, chunk in enumerate(original(url)):
            if count == 2:
                seen.extend(left(tmp_path))
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(module, "_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, f"{web.url}file.bin")
    assert len(seen) == 1, "the test must interrupt while a temporary file is there"
    assert seen != ["file.bin"]
    assert left(tmp_path) == []


def test_a_failing_disk_leaves_nothing(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(url: str, job: Job, stream: BinaryIO, report: object) -> None:
        stream.write(BODY[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_stream", full)
    with pytest.raises(FileUnwritable, match="No space left on device") as caught:
        fetch(tmp_path, "http://127.0.0.1:1/")
    assert caught.value.problems[0].where == str(tmp_path / "toy" / "file.bin")
    assert left(tmp_path) == []


def test_a_file_in_place_of_the_cache_is_said(web: Web, tmp_path: Path) -> None:
    (tmp_path / "toy").write_text("a file")
    web.files["/file.bin"] = BODY
    with pytest.raises(FileUnwritable):
        fetch(tmp_path, f"{web.url}file.bin")


IMAGES = gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 2, 1, 1) + b"\x07\x09", mtime=0)
LABELS = gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 2) + b"\x01\x00", mtime=0)


def idx_source(*mirrors: str) -> IdxSource:
    def file(name: str, content: bytes) -> IdxFile:
        return IdxFile(
            name=name,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            plain_size_bytes=0,
            plain_sha256="0" * 64,
        )

    return IdxSource(
        name="toy",
        classes=("a", "b"),
        height=1,
        width=1,
        mirrors=mirrors,
        files=IdxFiles(
            train_images=file("train-images.gz", IMAGES),
            train_labels=file("train-labels.gz", LABELS),
            test_images=file("t10k-images.gz", IMAGES),
            test_labels=file("t10k-labels.gz", LABELS),
        ),
    )


def serve_idx(web: Web, folder: str = "/") -> None:
    for split in ("train", "t10k"):
        web.files[f"{folder}{split}-images.gz"] = IMAGES
        web.files[f"{folder}{split}-labels.gz"] = LABELS


def test_the_cache_is_filled_once(web: Web, cache: Path) -> None:
    serve_idx(web)
    source = idx_source(web.url)
    for _ in range(2):
        train, test = source.load(locate(None), verified=True)
        assert (train.images.ravel().tolist(), train.labels.tolist()) == ([7, 9], [1, 0])
        assert (len(test), test.verified) == (2, True)
        assert len(web.asked) == 4
    assert sorted(left(cache)) == [
        "t10k-images.gz",
        "t10k-labels.gz",
        "train-images.gz",
        "train-labels.gz",
    ]
    assert (cache / "toy").is_dir()


def test_only_absent_files_are_fetched_from_any_mirror(web: Web, cache: Path) -> None:
    serve_idx(web, "/second/")
    web.files["/first/train-images.gz"] = IMAGES
    source = idx_source(f"{web.url}first/", f"{web.url}second/")
    source.load(locate(None), verified=True)
    (cache / "toy" / "t10k-labels.gz").unlink()
    web.asked.clear()
    source.load(locate(None), verified=True)
    assert web.asked == ["/first/t10k-labels.gz", "/second/t10k-labels.gz"]


def test_files_that_arrived_stay_when_a_later_one_fails(web: Web, cache: Path) -> None:
    serve_idx(web)
    del web.files["/t10k-images.gz"]
    with pytest.raises(DownloadFailed) as caught:
        idx_source(web.url).load(locate(None), verified=True)
    (problem,) = caught.value.problems
    assert problem.what == "download of t10k-images.gz"
    for part in (str(cache / "toy"), "t10k-labels.gz", "ISOBIT_DATA"):
        assert part in problem.fix
    assert sorted(left(cache)) == ["train-images.gz", "train-labels.gz"]


def test_a_download_is_always_checked(web: Web, cache: Path) -> None:
    serve_idx(web)
    web.files["/train-labels.gz"] = IMAGES
    with pytest.raises(DownloadFailed):
        idx_source(web.url).load(locate(None), verified=False)
    assert "train-labels.gz" not in left(cache)


def test_a_damaged_cache_is_named_not_replaced(web: Web, cache: Path) -> None:
    serve_idx(web)
    source = idx_source(web.url)
    source.load(locate(None), verified=True)
    path = cache / "toy" / "train-labels.gz"
    path.write_bytes(b"other")
    with pytest.raises(FileDamaged, match="Delete it"):
        source.load(locate(None), verified=True)
    assert path.read_bytes() == b"other"


RECORDS = {"bin/train.bin": bytes([1]) + bytes(3072), "bin/test.bin": bytes([0]) + b"\x05" * 3072}


def archive(files: dict[str, bytes], folders: tuple[str, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
    return stream.getvalue()


def cifar_source(web: Web, content: bytes) -> CifarSource:
    web.files["/toy.tar.gz"] = content
    return CifarSource(
        name="toy",
        classes=("a", "b"),
        label_limits=(2,),
        archive=published("toy.tar.gz", content),
        urls=(f"{web.url}toy.tar.gz",),
        train=(published("bin/train.bin", RECORDS["bin/train.bin"]),),
        test=(published("bin/test.bin", RECORDS["bin/test.bin"]),),
    )


def test_an_archive_leaves_only_the_files_wanted(web: Web, cache: Path) -> None:
    content = archive({**RECORDS, "bin/readme.html": b"x", "../outside.txt": b"x"})
    source = cifar_source(web, content)
    for _ in range(2):
        train, test = source.load(locate(None), verified=True)
        assert (train.labels.tolist(), test.labels.tolist()) == ([1], [0])
        assert int(test.images.min()) == 5
    assert web.asked == ["/toy.tar.gz"]
    assert sorted(left(cache.parent)) == ["test.bin", "train.bin"]
    assert [path.name for path in cache.iterdir()] == ["bin"]


def test_a_failed_archive_leaves_nothing_and_says_how_to_unpack(web: Web, cache: Path) -> None:
    source = replace(cifar_source(web, archive(RECORDS)), urls=(f"{web.url}absent",))
    with pytest.raises(DownloadFailed) as caught:
        source.load(locate(None), verified=True)
    assert f"tar -xzf toy.tar.gz -C {cache}" in caught.value.problems[0].fix
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (archive({"bin/train.bin": b"x"}), "bin/test.bin"),
        (archive({"bin/train.bin": b"x"}, folders=("bin/test.bin",)), "not a plain file"),
        (archive(RECORDS)[:-20], ""),
        (b"no archive at all", "not a gzip file"),
    ],
)
def test_an_archive_without_the_files_is_refused(
    web: Web, cache: Path, content: bytes, got: str
) -> None:
    with pytest.raises(FileDamaged) as caught:
        cifar_source(web, content).load(locate(None), verified=True)
    (problem,) = caught.value.problems
    assert problem.where == "toy.tar.gz"
    assert got in problem.got
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_an_archive_needs_a_writable_cache(web: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    place = Place(root=tmp_path / "file" / "data", is_cache=True)
    with pytest.raises(FileUnwritable, match="XDG_CACHE_HOME"):
        cifar_source(web, archive(RECORDS)).load(place, verified=True)
