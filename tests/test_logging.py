"""Event files that TensorBoard reads, metrics.csv, and hostile text in both."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xai_traffic.training.logging import EventWriter, RunLog, cut_metrics, read_events
from xai_traffic.training.pictures import confusion_matrix_png, heat_map_png

HOSTILE = '<script>alert(1)</script>\x1b[31m $x_{$ "\u202e'


def write(folder, *, upto):
    with RunLog(folder, 0, writes=True) as run_log:
        run_log.settings({"task": HOSTILE, "seed": 1, "deterministic": True}, f"text {HOSTILE}")
        for step in range(1, upto + 1):
            run_log.scores(step, 1, "train", {"loss": 1.0 / step, "learning_rate": 0.5})
        run_log.scores(upto, 1, "validation", {"loss": 0.5, "accuracy": 1.0, "macro_f1": 1.0})
        run_log.finished(upto)


def test_tensorboard_reads_what_was_written(tmp_path):
    write(tmp_path, upto=3)
    with EventWriter(tmp_path / "events" / "train") as events:
        events.png("matrix", confusion_matrix_png([[3, 0], [1, 2]], ["a", HOSTILE]), step=3)
    events = EventAccumulator(str(tmp_path / "events" / "train"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")][:2] == [(1, 1.0), (2, 0.5)]
    assert events.Scalars("validation/accuracy")[0].value == 1.0
    image = events.Images("matrix")[0]
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > 100 < image.height
    tags = events.Tags()["tensors"]
    assert {"config/text_summary", "_hparams_/session_start_info"} <= set(tags)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "&lt;script&gt;" in text
    assert not {"<script>", "\x1b", "\u202e"} & {
        text[i : i + n] for n in (1, 8) for i in range(9999)
    }


def test_going_on_cuts_both_back(tmp_path):
    write(tmp_path, upto=5)
    table = tmp_path / "metrics.csv"
    with table.open("a") as file:
        file.write("6,1,0.1")  # the machine went down in the middle of a row
    (event_file,) = (tmp_path / "events" / "train").iterdir()
    with event_file.open("ab") as file:
        file.write(b"\x10\0\0\0\0\0\0\0half")
    with RunLog(tmp_path, 3, writes=True) as run_log:
        run_log.scores(4, 1, "train", {"loss": 9.0})
    lines = table.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "3", "4"]
    assert lines[-1].startswith("4,1,9.0")
    assert max(event.step for _, event in read_events(event_file)) == 3
    events = EventAccumulator(str(tmp_path / "events" / "train"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_cutting_to_the_start_leaves_the_header(tmp_path):
    write(tmp_path, upto=2)
    cut_metrics(tmp_path / "metrics.csv", 0)
    assert (tmp_path / "metrics.csv").read_text().startswith("step,epoch,train/loss")
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1


def test_other_processes_write_nothing(tmp_path):
    with RunLog(tmp_path, 0, writes=False) as run_log:
        run_log.scores(1, 1, "train", {"loss": 1.0})
        run_log.picture("x", b"", 1)
        run_log.finished(1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("top", [0.0, 5.0])
def test_heat_map_draws_hostile_names_and_empty_maps(top):
    import numpy as np

    image = np.zeros((128, 128), np.uint8)
    data = heat_map_png(image, np.full((128, 128), top, np.float32), HOSTILE * 9)
    assert data.startswith(b"\x89PNG")
