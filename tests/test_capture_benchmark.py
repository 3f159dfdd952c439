"""The benchmark of reading captures: its captures are what it says, and it runs."""

import importlib
import json
import pathlib
import shutil
import subprocess
import sys

import dpkt
import numpy as np
import pytest

import xai_traffic as xt
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_batches

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_mixes_hold_what_the_benchmark_says(part, tmp_path):
    made_of = part("captures_made")
    made = made_of.make_mix(10_000, 3)
    again = made_of.make_mix(10_000, 3)
    assert np.array_equal(made.octets, again.octets)
    assert abs(made.packets.length.mean() / made_of.MEAN - 1) < 0.05
    assert set(made.packets.kind) == set(range(len(made_of.KINDS)))
    sizes = np.bincount(made.packets.session)
    assert sizes.max() > 64 and (np.diff(made.packets.session) != 0).mean() > 0.5  # interleaved
    path = tmp_path / "mix.pcap"
    made_of.write_made(made, path)
    read = xt.read_capture(path, filter="")
    arp = int((made.packets.kind == made_of.ARP).sum())
    assert read.fault is None and read.dropped == {"not IP": arp}
    wanted = sorted(sizes[np.unique(made.packets.session[made.packets.kind != made_of.ARP])])
    assert sorted(read.table["packets"].to_pylist()) == wanted
    with open(path, "rb") as file:
        times, frames = zip(*dpkt.pcap.Reader(file), strict=True)
    assert list(times) == sorted(times)
    following = {}
    for frame in frames:
        ip = dpkt.ethernet.Ethernet(frame).data
        if isinstance(ip, dpkt.ip.IP):
            right, ip.sum = ip.sum, 0
            assert dpkt.ip.IP(bytes(ip)).sum == right
            name = (ip.src, ip.dst)
            if isinstance(ip.data, dpkt.udp.UDP) and 53 in (ip.data.sport, ip.data.dport):
                assert dpkt.dns.DNS(ip.data.data).qd[0].name == "www.example"
            elif isinstance(ip.data, dpkt.tcp.TCP):
                assert following.get(name, ip.data.seq) == ip.data.seq
                length = len(ip.data.data) + bool(ip.data.flags & dpkt.tcp.TH_SYN)
                following[name] = ip.data.seq + length & 0xFFFFFFFF


def test_worst_cases_hold_what_the_benchmark_says(part, tmp_path):
    made_of = part("captures_made")
    for make, each in ((made_of.make_small, 20), (made_of.make_single, 1)):
        made = make(2000, 0)
        path = tmp_path / "worst.pcap"
        made.octets.tofile(path)
        read = xt.read_capture(path)
        assert set(read.packets["captured"].to_pylist()) == {64}
        assert read.table["packets"].to_pylist() == [each] * (2000 // each)


def test_sessions_of_a_mix_are_captures(part, tmp_path):
    made_of = part("captures_made")
    made = made_of.make_mix(3000, 0)
    written = made_of.write_sessions(made, tmp_path / "sessions")
    files = list((tmp_path / "sessions").iterdir())
    assert len(files) == written > 20
    for file in files[:10]:
        sessions = xt.read_capture(file)
        assert len(sessions) == 1 and sessions.table["packets"][0].as_py() >= 3


def test_repeated_captures_are_later_and_from_elsewhere(part, tmp_path):
    made_of = part("captures_made")
    path = tmp_path / "mix.pcap"
    made = made_of.make_mix(3000, 0)
    made_of.write_made(made, path)
    program = [sys.executable, FOLDER / "captures_made.py"]
    size = len(made.octets) * 3 - 100
    (tmp_path / "again.pcap").write_bytes(
        subprocess.check_output([*program, "repeat", path, str(size)])
    )
    once, thrice = (xt.read_capture(tmp_path / name) for name in ("mix.pcap", "again.pcap"))
    assert len(thrice) == 3 * len(once)
    clients = [set(each.table["source"].to_pylist()) for each in (once, thrice)]
    assert len(clients[1]) == 3 * len(clients[0])
    times = thrice.packets["time_ns"].to_numpy()[np.argsort(thrice.packets["frame"].to_numpy())]
    assert (np.diff(times) >= 0).all()
    (tmp_path / "syns.pcap").write_bytes(subprocess.check_output([*program, "syns", "5000"]))
    reader = read_batches(tmp_path / "syns.pcap", ReadingRules(max_open=100))
    ends = np.concatenate([batch.sessions["end"] for batch in reader])
    assert reader.fault is None and np.bincount(ends).tolist() == [100, 0, 0, 4900]


def test_runs_and_writes_its_tables(tmp_path):
    command = [sys.executable, FOLDER / "capture.py", "--quick", "--rounds", "2"]
    command += ["--cases", "small", "--out", tmp_path, "--folder", tmp_path / "made"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in (tmp_path / "capture.jsonl").read_text().splitlines()]
    assert records[0]["case"] == "about" and records[0]["versions"]["numpy"] == np.__version__
    done = [record for record in records if "seconds" in record]
    assert {record["round"] for record in done} == {0, 1}
    assert all(record["per_second"] > 0 for record in done)
    ours = next(record for record in done if record["case"] == "small")
    assert (ours["packets"], ours["sessions"], ours["tiles"]) == (2000, 100, 2000)
    table = (tmp_path / "capture.txt").read_text()
    assert table in printed + "\n" and "| limit: record walk |" in table
    again = subprocess.check_output([*command[:2], "--markdown", "--out", tmp_path], text=True)
    assert again == table


def test_every_case_names_what_it_runs(part, tmp_path):
    cases = part("capture_cases")
    bench = cases.Bench(tmp_path, None, 0, cases.QUICK)
    for case in ("tiles", "single", "pipe", "syns", "batches", "gz", "zst"):
        runs = getattr(bench, case)()
        assert len({run.name for run in runs}) == len(runs)
        for run in runs:
            assert run.absent or shutil.which(run.command[0])
            assert all(pathlib.Path(arg).exists() for arg in run.command if arg.endswith(".pcap"))
    names = {run.name: run.absent for run in bench.tiles()}
    assert names["heiFIP"] == names["NFStream"] == "no --peers DIR was given"


@pytest.mark.parametrize("form", ["images", "tiles"])
@pytest.mark.parametrize("way", ["c", "numpy", "fresh", "memcpy"])
def test_ways_of_batches(part, monkeypatch, form, way):
    tasks = part("capture_tasks")
    monkeypatch.setattr(tasks.assembly, "_images", tasks.assembly._images)  # a way takes it away
    made = tasks.batches(form, way, "600")()
    assert made == {"images": 512} or (tasks.assembly._images is None and "absent" in made)


def test_compressed_captures_give_the_same(part, tmp_path):
    tasks, cases = part("capture_tasks"), part("capture_cases")
    bench = cases.Bench(tmp_path, None, 0, cases.QUICK)
    for runs in (bench.gz(), bench.zst()):
        if runs[0].absent:
            continue
        packed, plain = runs[0].command[-1], runs[-1].command[-1]
        size = pathlib.Path(plain).stat().st_size
        assert tasks.chunks(packed) == tasks.decompressor(packed) == {"bytes": size}
        assert tasks.read(packed) == tasks.read(plain)


def test_ratios_are_formed_within_rounds(part):
    report = part("capture_report")

    def record(name, number, per_second, **rest):
        seconds = 100 / per_second
        rest = {"unit": "packets", "peak": 1_000_000, **rest}
        return {
            "case": "small",
            "name": name,
            "round": number,
            "seconds": seconds,
            "per_second": per_second,
            **rest,
        }

    records = [
        *(record("ours", number, speed) for number, speed in enumerate([100.0, 50.0, 10.0])),
        *(record("tool", number, speed) for number, speed in enumerate([10.0, 10.0, 2.0])),
        record("slow", 1, 25.0),
        record("limit", 0, 100e9, unit="bytes"),
        {"case": "small", "name": "gone", "round": 0, "unit": "packets", "absent": "not there"},
    ]
    rows = {row["name"]: row for row in report.summary(records, "small")}
    assert rows["tool"]["ratio"] == 5 and rows["tool"]["ratios"] == (5, 10)
    assert rows["slow"]["ratio"] == 2 and rows["slow"]["runs"] == 1
    assert rows["limit"]["ratio"] == pytest.approx(1e-9)  # of other units: how much sooner
    assert rows["gone"]["absent"] == "not there" and rows["tool"]["disk"] is None
    assert "the seed's route" not in rows
    to_disk = record(report.TO_DISK, 1, 20.0)
    records = [{**each, "case": "tiles"} for each in (*records, to_disk)]
    rows = {row["name"]: row for row in report.summary(records, "tiles")}
    assert (rows["tool"]["disk"], rows["slow"]["disk"], rows["limit"]["disk"]) == (2, 0.8, None)
    about = {"case": "about", "date": "today", "cores": 1, "processor": "one", "memory": 2**30}
    about |= {"system": "here", "versions": {"numpy": "2"}, "seed": 0}
    lines = report.tables([about, *records]).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "| tool | 10 | 10 | 5 x | 5 - 10 | 2 x | 1 MB | 3 |  |" in lines
    assert "absent: not there" in next(line for line in lines if "gone" in line)
    amount = {"amount": 100, "note": ""}
    route = [record("PcapSplitter", 0, 50.0, **amount), record("heiFIP", 0, 12.5, **amount)]
    row = report.summary([record("ours", 0, 100.0), *route], "small")[-1]
    assert (row["name"], row["seconds"], row["per_second"]) == ("the seed's route", 10, 10)
