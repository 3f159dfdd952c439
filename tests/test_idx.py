"""IDX image sets: read with every bound checked, and taken into datasets."""

import gzip
import struct

import numpy as np
import pytest

import xai_traffic as xt
from xai_traffic.capture.idx import is_image_set, labels_beside, read_images, read_labels, stem_of
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.errors import CaptureError, ConfigError

RANDOM = np.random.default_rng(28)
RULES = ReadingRules()


def idx(values: np.ndarray, kind: int = 8, count: int | None = None) -> bytes:
    """Return an IDX file of uint8 values."""
    sizes = (len(values) if count is None else count, *values.shape[1:])
    head = struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *sizes)
    return head + values.tobytes()


def images(count: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, 28, 28), np.uint8)


def all_of(path) -> np.ndarray:
    parts = list(read_images(path))
    return np.concatenate(parts) if parts else np.zeros((0, 784), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 7, 4096, 4097, 9000])
def test_images_come_whole(tmp_path, count):
    made = images(count)
    path = tmp_path / "x-images-idx3-ubyte"
    path.write_bytes(idx(made))
    np.testing.assert_array_equal(all_of(path), made.reshape(-1, 784))
    path.write_bytes(gzip.compress(idx(made), 1))
    np.testing.assert_array_equal(all_of(path), made.reshape(-1, 784))


@pytest.mark.parametrize(
    "data, message, kept",
    [
        (b"", r"byte offset 0: it begins with nothing", 0),
        (b"\0\0", r"byte offset 0: it begins with 00 00, not with 00 00 08 03", 0),
        (idx(images(2), kind=9), r"offset 0: it begins with 00 00 09 03", 0),
        (idx(images(2))[:11], r"offset 11: it is cut short in its header", 0),
        (idx(images(2)[:, :, :20]), r"offset 8: its images are 28 x 20, not 28 x 28", 0),
        (idx(images(2), count=3), r"offset 1584: it is cut short: 3 images are promised, 2", 2),
        (
            idx(images(5000), count=2**32 - 1),
            r"4294967295 images are promised, 5000",
            5000,
        ),
        (idx(images(4096), count=4097), r"4097 images are promised, 4096", 4096),
        (idx(images(2))[:-1], r"offset 1583: it is cut short: 2 images are promised, 1", 1),
        (idx(images(4097), count=4096), r"offset 3211280: it goes on behind", 4096),
        (idx(images(1)) + b"x", r"offset 800: it goes on behind what its header promises", 1),
    ],
)
def test_damaged_images_are_refused_where_the_damage_is(tmp_path, data, message, kept):
    path = tmp_path / "x-images-idx3-ubyte"
    path.write_bytes(data)
    seen = 0
    with pytest.raises(CaptureError, match=message):
        for part in read_images(path):
            seen += len(part)
    assert seen == kept


def test_labels(tmp_path):
    path = tmp_path / "x-labels-idx1-ubyte"
    path.write_bytes(idx(np.arange(5, dtype=np.uint8)))
    assert read_labels(path).tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(idx(np.arange(5, dtype=np.uint8), count=6))
    with pytest.raises(CaptureError, match="offset 13: it is cut short: 6 labels are promised, 5"):
        read_labels(path)
    path.write_bytes(idx(np.arange(5, dtype=np.uint8), count=4))
    with pytest.raises(CaptureError, match="offset 12: it goes on"):
        read_labels(path)


def test_names(tmp_path):
    for name, stem in (
        ("Tinba-session-all-layers-idx3-ubyte.gz", "Tinba"),
        ("train-images-idx3-ubyte", "train"),
        ("Virut-flow-l7-idx3-ubyte", "Virut"),
        ("a-b-idx3-ubyte.xz", "a-b"),
    ):
        assert is_image_set(tmp_path / name) and stem_of(name) == stem
    for name in ("train-labels-idx1-ubyte", "a.pcap", "idx3-ubyte", "a-idx3-ubyte.zip"):
        assert not is_image_set(name)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    assert labels_beside(path) is None
    (tmp_path / "train-labels-idx1-ubyte").touch()
    assert labels_beside(path) == tmp_path / "train-labels-idx1-ubyte"
    assert labels_beside(tmp_path / "train-idx3-ubyte") is None


def write_pair(folder, name, made, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(made)))
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.array(numbers, np.uint8)))


def test_a_pair_becomes_a_dataset(tmp_path):
    made = images(110)
    made[30], numbers = made[8], np.arange(110) % 11
    write_pair(tmp_path / "in", "train", made, numbers)
    made_of = convert([tmp_path / "in"], tmp_path / "out", rules=RULES, seed=3)
    dataset = xt.open_dataset(made_of.dataset)
    assert dataset.rules == ReadingRules(layout="ustc28") and not made_of.failures
    assert dataset.classes == [f"{number:02}" for number in range(11)]
    kept = np.delete(np.arange(110), 30)  # of label 8, as image 8 is
    np.testing.assert_array_equal(dataset.images(np.arange(109)), made[kept])
    np.testing.assert_array_equal(dataset.labels, numbers[kept])
    assert dataset.table["source"].to_pylist() == [f"image {number}" for number in kept]
    assert len(dataset.packets) == 0 and set(dataset.table["packet_rows"].to_pylist()) == {0}
    assert dataset.grid == 4 and dataset.tiles.shape == (109 * 4, 256)
    sizes = [len(dataset.rows(split)) for split in ("train", "validation", "test")]
    assert min(sizes) > 0 and sum(sizes) == 109
    (capture,) = dataset.manifest["captures"]
    assert capture["sessions"] == 110 and capture["dropped_sessions"] == {"duplicate": 1}


def test_a_class_a_file_is_labelled_by_folder(tmp_path):
    for folder, name in (("Benign", "FTP"), ("Malware", "Zeus")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        path = tmp_path / "in" / folder / f"{name}-session-all-layers-idx3-ubyte"
        path.write_bytes(idx(images(10)))
    dataset = xt.open_dataset(convert([tmp_path / "in"], tmp_path / "out", rules=RULES).dataset)
    assert dataset.classes == ["FTP", "Zeus"] and len(dataset) == 20
    assert dataset.task_labels("binary").tolist() == [0] * 10 + [1] * 10
    alone = tmp_path / "in/Malware/Zeus-session-all-layers-idx3-ubyte"
    assert convert([alone], tmp_path / "one", rules=RULES).manifest["classes"] == ["Zeus"]


def test_what_is_good_is_kept(tmp_path):
    write_pair(tmp_path / "in", "a", images(5), [0, 1, 2, 3, 4])
    write_pair(tmp_path / "in", "b", images(5), [0, 1, 2, 3])
    write_pair(tmp_path / "in", "c", images(5), [0, 1, 2, 3, 4, 5])
    (tmp_path / "in/d-images-idx3-ubyte").write_bytes(idx(images(3), count=9))
    made = convert([tmp_path / "in"], tmp_path / "out", rules=RULES)
    assert [name for name, _ in made.failures] == [
        "b-images-idx3-ubyte.gz",
        "c-images-idx3-ubyte.gz",
        "d-images-idx3-ubyte",
    ]
    reasons = [reason for _, reason in made.failures]
    assert "it labels 4 images" in reasons[0] and "it labels 6 images" in reasons[1]
    assert reasons[2] == "byte offset 2368: it is cut short: 9 images are promised, 3 are there"
    assert len(xt.open_dataset(made.dataset)) == 13


def test_wishes_that_images_cannot_meet(tmp_path):
    write_pair(tmp_path / "in", "a", images(5), [0, 1, 2, 3, 4])
    for rules, message in (
        (ReadingRules(mask="ports"), r"mask 'ports': an image set holds images"),
        (ReadingRules(min_packets=2), r"min_packets 2"),
        (ReadingRules(most_per_capture=2), r"most_per_capture 2"),
        (ReadingRules(layout="packet"), r"layout 'packet': image sets have layout 'ustc28'"),
    ):
        with pytest.raises(ConfigError, match=message):
            convert([tmp_path / "in"], tmp_path / "out", rules=rules)
    (tmp_path / "b.pcap").touch()
    with pytest.raises(ConfigError, match=r"a-images-idx3-ubyte.gz is an image set, .*b.pcap is n"):
        convert([tmp_path / "in", tmp_path / "b.pcap"], tmp_path / "out", rules=RULES)


def test_published_images_are_those_of_the_capture(tmp_path, captures):
    folder = captures / "ustc/original"
    published = folder / "Tinba-session-all-layers-idx3-ubyte.gz"
    dataset = xt.open_dataset(convert([published], tmp_path / "out", rules=RULES).dataset)
    assert len(dataset) == 850
    sessions = xt.read_capture(folder / "Tinba.pcap", rule="five_tuple", layout="ustc28")
    ours = {image.tobytes() for image in sessions.images()}
    assert {image.tobytes() for image in dataset.images(np.arange(850))} <= ours
    assert [each["capture"] for each in dataset.manifest["captures"]] == [published.name]
