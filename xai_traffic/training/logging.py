"""What a run tells while it trains: TensorBoard event files, metrics.csv, and their mirrors.

Event files are written as records of TensorBoard's own protocol buffers, so that TensorFlow is
never imported, be it installed or not.
"""

from __future__ import annotations

import csv
import html
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams import plugin_data_pb2 as hparams_pb2
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from xai_traffic.terminal import printable
from xai_traffic.training.mirrors import Mirrors
from xai_traffic.whole import whole_file

COLUMNS = (
    "step",
    "epoch",
    "train/loss",
    "train/accuracy",
    "train/learning_rate",
    "train/gradient_norm",
    "train/images_per_second",
    "train/skipped",
    "validation/loss",
    "validation/accuracy",
    "validation/macro_f1",
)
"""Of metrics.csv; a row has the train columns or the validation columns."""


class EventWriter:
    """Write one TensorBoard event file.

    Args:
        folder: made where it is missing; TensorBoard shows each folder as one run.
    """

    def __init__(self, folder: pathlib.Path):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # A number in the name, not only the time: two writers may start in one second.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        number = sum(1 for _ in folder.glob("events.out.tfevents.*"))
        self._file = open(folder / f"{name}.{number}", "ab")  # noqa: SIM115
        self._writer = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalar(self, tag: str, value: float, *, step: int) -> None:
        """Write one number."""
        self._value(Summary.Value(tag=tag, simple_value=value), step)

    def png(self, tag: str, data: bytes, *, step: int) -> None:
        """Write one picture, PNG."""
        width, height = struct.unpack(">II", data[16:24])
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        self._value(Summary.Value(tag=tag, image=image), step)

    def text(self, tag: str, text: str, *, step: int = 0) -> None:
        """Write text, shown as it is: neither markdown nor HTML in it takes effect."""
        lines = (html.escape(printable(line)) for line in text.split("\n"))
        shown = "<pre>" + "\n".join(lines) + "</pre>"
        value = Summary.Value(
            tag=f"{tag}/text_summary",
            metadata=text_metadata.create_summary_metadata(tag, ""),
            tensor=tensor_util.make_tensor_proto(shown),
        )
        self._value(value, step)

    def hparams(self, values: Mapping[str, Any], *, step: int = 0) -> None:
        """Write the settings of a run for TensorBoard's table of runs."""
        start = hparams_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in values.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = printable("" if value is None else value)
        self._session(
            hparams_metadata.SESSION_START_INFO_TAG,
            hparams_pb2.HParamsPluginData(session_start_info=start),
            step,
        )

    def finished(self, *, step: int) -> None:
        """Mark the run as done in TensorBoard's table of runs."""
        end = hparams_pb2.SessionEndInfo(status=1, end_time_secs=time.time())  # STATUS_SUCCESS
        self._session(
            hparams_metadata.SESSION_END_INFO_TAG,
            hparams_pb2.HParamsPluginData(session_end_info=end),
            step,
        )

    def flush(self) -> None:
        """Bring what was written to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _session(self, tag: str, data: hparams_pb2.HParamsPluginData, step: int) -> None:
        made = hparams_metadata.create_summary_metadata(data)
        kind = SummaryMetadata.FromString(made.SerializeToString())
        tensor = tensor_util.make_tensor_proto(0.0)
        self._value(Summary.Value(tag=tag, metadata=kind, tensor=tensor), step)

    def _value(self, value: Summary.Value, step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())


def read_events(path: pathlib.Path) -> Iterator[tuple[bytes, Event]]:
    """Yield (record as written, event) up to the end of the file or a record that is cut short."""
    data = pathlib.Path(path).read_bytes()
    place = 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        end = place + 12 + length + 4  # length, its checksum, the event, its checksum
        if end > len(data):
            return
        yield data[place:end], Event.FromString(data[place + 12 : end - 4])
        place = end


def cut_events(folder: pathlib.Path, step: int, *, due: bool = False) -> None:
    """Remove everything behind a step from the event files of a folder.

    Args:
        due: the step is still to be validated: what its validation logged is removed too.
    """

    def stays(event: Event) -> bool:
        tags = (value.tag for value in event.summary.value)
        again = due and any(tag.startswith("validation/") for tag in tags)
        return event.step < step + (not again)

    for path in sorted(pathlib.Path(folder).glob("events.out.tfevents.*")):
        kept = b"".join(record for record, event in read_events(path) if stays(event))
        if kept:
            with whole_file(path) as new:
                new.write_bytes(kept)
        else:
            path.unlink()


def cut_metrics(path: pathlib.Path, step: int, *, due: bool = False) -> None:
    """Remove every row behind a step, and a last row that is cut short, from metrics.csv.

    Args:
        due: the step is still to be validated: its row of validation is removed too.
    """
    if not path.exists():
        return
    trained = COLUMNS.index("train/loss")

    def stays(line: str) -> bool:
        cells = line.split(",")
        again = due and not cells[trained]
        return int(cells[0]) < step + (not again)

    lines = path.read_text("utf-8").splitlines(keepends=True)
    kept = [
        line
        for number, line in enumerate(lines)
        if line.endswith("\n") and (not number or stays(line))
    ]
    with whole_file(path) as new:
        new.write_text("".join(kept), "utf-8")


class RunLog:
    """Write a run's events and metrics.csv, and tell its mirrors, from process 0 only.

    Args:
        run: the run's folder.
        step: step the run goes on from; what was logged behind it is removed; -1 removes all.
        writes: False in every process but the first, where all methods do nothing.
        due: that step is still to be validated; what a validation logged of it is removed too.
    """

    def __init__(self, run: pathlib.Path, step: int, writes: bool, *, due: bool = False):
        self._writes = writes
        if not writes:
            return
        table = pathlib.Path(run) / "metrics.csv"
        cut_events(run / "events" / "train", step, due=due)
        cut_metrics(table, step, due=due)
        self._mirrors = Mirrors(run)
        self.events = EventWriter(run / "events" / "train")
        fresh = not table.exists() or not table.stat().st_size
        self._file = open(table, "a", newline="", encoding="utf-8")  # noqa: SIM115
        self._table = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        if fresh:
            self._table.writeheader()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writes:
            self._file.close()
            self.events.close()
            self._mirrors.close()

    def settings(self, config: Mapping[str, Any], text: str) -> None:
        """Log the config, as text and as hparams.

        Args:
            config: values by dotted key.
            text: the config as JSON.
        """
        if self._writes:
            self.events.text("config", text)
            self.events.hparams(config)

    def scores(self, step: int, epoch: int, group: str, values: Mapping[str, float]) -> None:
        """Log numbers of a group, "train" or "validation", as scalars and as a row."""
        if not self._writes:
            return
        named = {f"{group}/{name}": value for name, value in values.items()}
        for tag, value in named.items():
            self.events.scalar(tag, value, step=step)
        self._table.writerow({"step": step, "epoch": epoch, **named})
        self._file.flush()
        self.events.flush()
        self._mirrors.scores(step, epoch, named)

    def picture(self, tag: str, data: bytes, step: int, *, captured: bool = False) -> None:
        """Log a PNG; one that shows bytes of captures stays out of the mirrors."""
        if not self._writes:
            return
        self.events.png(tag, data, step=step)
        self.events.flush()
        if not captured:
            self._mirrors.picture(tag, data, step)

    def finished(self, step: int) -> None:
        """Mark the run as done."""
        if self._writes:
            self.events.finished(step=step)
            self._mirrors.finished(step)
