"""Labels by folder and by table."""

import pathlib

import numpy as np
import pytest

from xai_traffic.capture.records import SESSION
from xai_traffic.data.labels import apply_label_table, label_by_folder, read_label_table
from xai_traffic.errors import ConfigError


@pytest.mark.parametrize(
    ("path", "root", "label", "binary"),
    [
        ("/d/ustc/Malware/Zeus.pcap", "/d/ustc", "Zeus", "Malware"),
        ("/d/ustc/Malware/Zeus.pcap", "/d/ustc/Malware", "Zeus", "Malware"),
        ("/d/ustc/Malware/Zeus.pcap", "/d/ustc/Malware/Zeus.pcap", "Zeus", "Malware"),
        ("/d/ustc/BENIGN/Gmail.pcapng.gz", "/d/ustc", "Gmail", "Benign"),
        ("/d/malware/Emotet/a.pcap", "/d/malware", "Emotet", "Malware"),
        ("/d/malware/Emotet/a.pcap", "/d/malware/Emotet", "Emotet", "Malware"),
        ("/d/malware/Emotet/a.pcap", "/d/malware/Emotet/a.pcap", "Emotet", "Malware"),
        ("/d/malware/lab/benign/web/a.pcap", "/d/malware/lab", "web", "Benign"),
        ("/d/protocols/DNS/x.pcap", "/d/protocols", "DNS", None),
        ("/d/malware/work/protocols/DNS/x.pcap", "/d/malware/work/protocols", "DNS", None),
        ("/x.pcap", "/x.pcap", "x", None),
    ],
)
def test_folders_give_the_labels(path, root, label, binary):
    assert label_by_folder(path, root) == (label, binary)


def test_relative_paths_are_made_absolute(tmp_path, monkeypatch):
    folder = tmp_path / "Malware"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert label_by_folder("Zeus.pcap", ".") == ("Zeus", "Malware")
    assert label_by_folder("../Malware/Zeus.pcap", "..") == ("Zeus", "Malware")
    assert label_by_folder("../Zeus.pcap", "..") == (tmp_path.name, None)


def sessions(*ends):
    rows = np.zeros(len(ends), SESSION)
    for row, (source, port) in zip(rows, ends, strict=True):
        row["source"][:4] = source
        row["destination"][:4] = (192, 0, 2, 1)
        row["source_port"], row["destination_port"] = 40000, port
        row["protocol"], row["family"] = 6, 4
    return rows


def table(tmp_path: pathlib.Path, text: str):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return read_label_table(path)


def test_first_matching_row_wins(tmp_path):
    rules = table(
        tmp_path,
        "capture,filter,label,binary_label\n"
        "monday.pcap,src host 10.0.0.9,Scan,malware\n"
        "*.pcap,tcp port 443,TLS,\n"
        ",tcp port 443 and greater 1000,never,\n"
        "deep/*,,Rest,Benign\n",
    )
    rows = sessions(((10, 0, 0, 9), 443), ((10, 0, 0, 8), 443), ((10, 0, 0, 8), 80))
    wire = np.full(3, 60)
    assert apply_label_table(rules, "monday.pcap", rows, wire).tolist() == [0, 1, -1]
    assert apply_label_table(rules, "tuesday.pcap", rows, wire).tolist() == [1, 1, -1]
    assert apply_label_table(rules, "deep/x.cap", rows, wire).tolist() == [3, 3, 3]
    assert apply_label_table(rules, "other.cap", rows, wire).tolist() == [-1, -1, -1]
    assert apply_label_table(rules, "other.cap", rows, np.full(3, 1500)).tolist() == [2, 2, -1]
    assert [rule.binary_label for rule in rules] == ["Malware", None, None, "Benign"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("capture,filter,label,colour\nx,,A,\n", "colour"),
        ("capture,filter\nx,\n", "label at least"),
        ("", "missing"),
        ("label\n", "no rows"),
        ("capture,filter,label,binary_label\nx,,,\n", "line 2: the label is empty"),
        ("label,binary_label\nA,Benign\nB,evil\n", "line 3: binary_label 'evil'"),
        ("label,filter\nA,tcp prt 5\n", "line 2: filter"),
        ("label,filter\nA,tcp,5\n", "line 2: more values"),
    ],
)
def test_errors_say_where(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        table(tmp_path, text)


def test_missing_table(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_label_table(tmp_path / "none.csv")
