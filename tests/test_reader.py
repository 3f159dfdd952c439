"""Reading in pieces: compression by content, damage, pipes, folders."""

import gzip
import io
import lzma
import os
import pathlib
import random
import subprocess
import sys

import pytest
import zstandard

from xai_traffic.capture.reader import CHUNK, find_captures, open_chunks
from xai_traffic.errors import CaptureError

DATA = random.Random(1).randbytes(500_000) + b"abc" * 300_000


def gzip_members(data: bytes) -> bytes:
    return gzip.compress(data[:1000]) + gzip.compress(b"") + gzip.compress(data[1000:])


def xz_streams(data: bytes) -> bytes:
    return lzma.compress(data[:1000]) + b"\0" * 8 + lzma.compress(data[1000:])


def zstd_frames(data: bytes) -> bytes:
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    frames = [zstandard.compress(part) for part in (data[:1000], data[1000:])]
    return skippable + frames[0] + skippable + frames[1]


COMPRESSIONS = {
    "none": bytes,
    "gzip": gzip.compress,
    "gzip members": gzip_members,
    "xz": lambda data: lzma.compress(data, preset=1),
    "xz streams": xz_streams,
    "zstd": zstandard.compress,
    "zstd frames": zstd_frames,
}


def read_until_damage(path) -> tuple[bytes, CaptureError]:
    read = bytearray()
    with pytest.raises(CaptureError) as caught:
        for chunk in open_chunks(path):
            read += chunk
    return bytes(read), caught.value


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("name", ["a.pcap", "a.gz"])
def test_compression_is_known_by_content(tmp_path, compression, name):
    path = tmp_path / name
    path.write_bytes(COMPRESSIONS[compression](DATA))
    chunks = list(open_chunks(path))
    assert b"".join(chunks) == DATA
    assert max(map(len, chunks)) <= CHUNK and min(map(len, chunks)) > 0


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_a_bomb_comes_in_pieces(tmp_path, compression):
    path = tmp_path / "bomb"
    path.write_bytes(COMPRESSIONS[compression](bytes(20_000_000)))
    assert path.stat().st_size < 100_000
    sizes = [len(chunk) for chunk in open_chunks(path)]
    assert sum(sizes) == 20_000_000 and max(sizes) <= CHUNK


@pytest.mark.parametrize("data", [b"", b"\x1f", b"abc", b"\xfd7zXZ"])
def test_short_files(tmp_path, data):
    path = tmp_path / "short"
    path.write_bytes(data)
    assert b"".join(open_chunks(path)) == data


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_what_comes_before_damage_is_read(tmp_path, compression):
    path = tmp_path / "a.pcap"
    whole = COMPRESSIONS[compression](DATA)

    path.write_bytes(whole[:400_000])
    read, error = read_until_damage(path)
    assert DATA.startswith(read) and len(read) > 200_000
    assert error.capture == str(path) and "ends early" in str(error)

    path.write_bytes(whole + b"something else")
    read, error = read_until_damage(path)
    assert read == DATA
    assert f"is not {compression}" in str(error) and "near byte" in str(error)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.pcap"
    whole = bytearray(gzip.compress(DATA))
    whole[len(whole) - 6] ^= 1  # of the checksum
    path.write_bytes(whole)
    read, error = read_until_damage(path)
    assert DATA.startswith(read) and len(read) > 500_000
    assert "near byte" in str(error)


def test_files_that_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(CaptureError, match="no such file"):
        open_chunks(tmp_path / "missing.pcap")
    with pytest.raises(CaptureError, match="a folder"):
        open_chunks(tmp_path)
    with pytest.raises(CaptureError, match="cannot be opened"):
        open_chunks("a\0b")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CaptureError, match="no permission"):
        open_chunks(tmp_path / "secret.pcap")


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(DATA))))
    assert b"".join(open_chunks("-")) == DATA


def test_a_pipe_that_trickles():
    code = "import sys; from xai_traffic.capture.reader import open_chunks; "
    code += "sys.stdout.buffer.write(b''.join(open_chunks('-')))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=pathlib.Path(__file__).parents[1],
    )
    with process:
        for byte in gzip.compress(b"hello, world"):
            process.stdin.write(bytes([byte]))
            process.stdin.flush()
        process.stdin.close()
        assert process.stdout.read() == b"hello, world"


def test_reading_that_fails(tmp_path, monkeypatch):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if data := super().read(size):
                return data
            raise OSError(5, "Input/output error")

        read1 = read

    monkeypatch.setattr("builtins.open", lambda *_, **__: Failing(b"some bytes"))
    read, error = read_until_damage("disk.pcap")
    assert read == b"some bytes" and "Input/output error" in str(error)


def test_find_captures(tmp_path):
    names = ["b/x.pcap", "a.PCAP", "a/y.pcapng.zst", "a/z.cap.gz", "a/w.pcap12", "a/v.pcap.xz"]
    others = ["a/notes.txt", "a/pcap", "a/x.pcap.txt", "a/x.pcap.bak"]
    for name in names + others:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "a" / "folder.pcap").mkdir()
    found = find_captures([tmp_path])
    assert found == [(name, tmp_path / name) for name in sorted(names)]

    given = tmp_path / "a" / "notes.txt"  # a file that is named is taken as it is
    assert find_captures([given, "-", given]) == [
        (given.as_posix(), given),
        ("-", pathlib.Path("-")),
    ]
    (tmp_path / "a" / "x.pcap").touch()
    clashing = dict(find_captures([tmp_path / "a", tmp_path / "b"]))
    assert clashing[f"{tmp_path}/a/x.pcap"] != clashing[f"{tmp_path}/b/x.pcap"]

    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match="no capture"):
        find_captures([tmp_path / "empty"])
    with pytest.raises(CaptureError, match="no such file"):
        find_captures([tmp_path / "missing"])


def test_a_folder_that_may_not_be_searched_is_told(tmp_path, monkeypatch):
    for name in ("open/a.pcap", "closed/b.pcap"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    closed = tmp_path / "closed"
    assert find_captures([tmp_path]) == [
        (str(closed), closed),
        ("open/a.pcap", tmp_path / "open/a.pcap"),
    ]


def test_a_link_to_a_folder_is_told_and_not_followed(tmp_path, caplog):
    for name in ("here/a.pcap", "there/b.pcap"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "c.pcap").symlink_to(tmp_path / "there" / "b.pcap")
    assert [name for name, _ in find_captures([tmp_path / "here"])] == ["a.pcap", "c.pcap"]
    assert "link links to a folder and is not followed" in caplog.text
    assert [name for name, _ in find_captures([tmp_path / "here" / "link"])] == ["b.pcap"]


def test_names_that_are_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\x1b[31m.pcap"
    with open(path, "wb") as stream:
        stream.write(b"x")
    ((name, found),) = find_captures([tmp_path])
    assert name == "\\udcff\x1b[31m.pcap" and os.fsencode(found) == path
    assert b"".join(open_chunks(found)) == b"x"
    str(CaptureError(os.fsdecode(path), "wrong")).encode()
