"""Reading in pieces: compression by content, damage, pipes, folders."""

import gzip
import io
import lzma
import os
import pathlib
import random
import subprocess
import sys
import threading
import time
import zlib

import pytest
import zstandard

from xai_traffic.capture.inputs import find_inputs
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
    chunks = list(map(bytes, open_chunks(path)))
    assert b"".join(chunks) == DATA
    assert max(map(len, chunks)) <= CHUNK and min(map(len, chunks)) > 0


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_piece_is_good_until_the_next_one_is_asked_for(tmp_path, compression):
    data = b"".join(number.to_bytes(4, "big") for number in range(1_500_000))
    path = tmp_path / "a.pcap"
    path.write_bytes(COMPRESSIONS[compression](data))
    at = 0
    for chunk in open_chunks(path):
        time.sleep(0.02)  # what is read ahead meanwhile must not show
        assert chunk == data[at : at + len(chunk)]
        at += len(chunk)
    assert at == len(data)


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_a_bomb_comes_in_pieces(tmp_path, compression):
    path = tmp_path / "bomb"
    path.write_bytes(COMPRESSIONS[compression](bytes(20_000_000)))
    assert path.stat().st_size < 100_000
    sizes = [len(chunk) for chunk in open_chunks(path)]
    assert sum(sizes) == 20_000_000 and max(sizes) <= CHUNK


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_a_bomb_takes_no_memory(tmp_path, compression):
    """A gigabyte of zeros: the reading process may not grow by more than 64 MiB."""
    path = tmp_path / "bomb"
    pack = {
        "gzip": lambda data: gzip.compress(data, 1),
        "xz": lambda data: lzma.compress(data, preset=0),
        "zstd": lambda data: zstandard.compress(data, 1),
    }
    path.write_bytes(8 * pack[compression](bytes(1 << 27)))
    code = """
import resource, sys
from xai_traffic.capture.reader import open_chunks
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
size = sum(map(len, open_chunks(sys.argv[1])))
print(size, peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parents[1],
    )
    size, grown = map(int, result.stdout.split())
    assert size == 1 << 30 and grown < 64 << 10


def test_a_block_of_zstd_that_says_it_is_huge(tmp_path):
    """Run-length blocks of 4 bytes give 128 KiB each; longer ones are refused by libzstd."""
    path = tmp_path / "a.zst"
    frame = b"\x28\xb5\x2f\xfd\x00\x38"  # a window of 128 KiB
    block = (1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"z"
    path.write_bytes(frame + block * 1000)
    read, error = read_until_damage(path)
    assert read == b"z" * (128_000 << 10) and "ends early" in str(error)
    path.write_bytes(frame + block * 3 + (1 << 1 | (1 << 20) << 3).to_bytes(3, "little") + b"z")
    read, error = read_until_damage(path)
    assert read == b"z" * (384 << 10) and "near byte 18 " in str(error)


def test_closing_early_ends_the_thread(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000), 1))
    before = threading.active_count()
    chunks = open_chunks(path)
    next(chunks)
    assert threading.active_count() == before + 1
    chunks.close()
    assert threading.active_count() == before
    assert list(map(len, open_chunks(path)))
    assert threading.active_count() == before


def test_a_compressed_pipe_is_handed_on_as_it_comes(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    packer = zlib.compressobj(wbits=31)
    with open(os.open(path, os.O_RDWR), "wb", buffering=0) as stream:
        chunks = open_chunks(path)
        for word in (b"hello", b"world"):
            stream.write(packer.compress(word) + packer.flush(zlib.Z_SYNC_FLUSH))
            read = b""
            while len(read) < len(word):
                read += next(chunks)
            assert read == word
        chunks.close()


def test_it_tells_how_far_it_read(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(zstandard.compress(DATA))
    told = []
    for _ in open_chunks(path, told.append):
        pass
    assert told == sorted(told) and told[-1] == path.stat().st_size


@pytest.mark.parametrize("data", [b"", b"\x1f", b"abc", b"\xfd7zXZ"])
def test_short_files(tmp_path, data):
    path = tmp_path / "short"
    path.write_bytes(data)
    assert b"".join(map(bytes, open_chunks(path))) == data


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
    assert b"".join(map(bytes, open_chunks("-"))) == DATA


def test_a_pipe_that_trickles():
    code = "import sys; from xai_traffic.capture.reader import open_chunks; "
    code += "sys.stdout.buffer.write(b''.join(map(bytes, open_chunks('-'))))"
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


def test_reading_that_fails(monkeypatch):
    class Failing(io.BytesIO):
        def readinto(self, memory):
            if count := super().readinto(memory):
                return count
            raise OSError(5, "Input/output error")

        readinto1 = readinto

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


def test_patterns_and_lists(tmp_path, monkeypatch):
    for name in ("day/2.pcap", "day/1.pcap", "day/deep/3.pcap", "day/[x].pcap", "day/notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    names = [name for name, _ in find_captures(["day/?.pcap"])]
    assert names == ["day/1.pcap", "day/2.pcap"]
    assert [name for name, _ in find_captures(["day/[x].pcap"])] == ["day/[x].pcap"]
    assert len(find_captures(["day/**/*.pcap"])) == 4
    assert {found.root for found in find_inputs(["da*"])} == {pathlib.Path("day")}
    with pytest.raises(CaptureError, match=r"day/\*.cap: nothing matches this pattern"):
        find_captures(["day/*.cap"])
    (tmp_path / "list").write_text("# a comment\nday/2.pcap\n\nday/?.pcap\nday/missing\n")
    missing = []
    found = find_captures([], missing, ["list", "no list"])
    assert [name for name, _ in found] == ["day/2.pcap", "day/1.pcap"]
    assert str(missing[0]).startswith("list, line 5: day/missing: there is no such file")
    assert "no list: the list of captures cannot be read" in str(missing[1])
    with pytest.raises(CaptureError, match="line 5"):
        find_captures([], lists=["list"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"day/1.pcap\n")))
    assert [name for name, _ in find_captures([], lists=["-"])] == ["day/1.pcap"]


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
    assert b"".join(map(bytes, open_chunks(found))) == b"x"
    str(CaptureError(os.fsdecode(path), "wrong")).encode()
