"""Write a run's model card: `RUN/model_card.md`.

The sections are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. All of it
follows from files, and no parameter is read. What was not measured is said so, with the command
that would measure it; what was measured of an earlier state of the run is marked.
"""

from __future__ import annotations

import pathlib
from typing import Any

from xai_traffic import __version__
from xai_traffic.errors import ConfigError, RunError
from xai_traffic.evaluation.run_record import AUDIT, NOTES, RunRecord, read_run_record
from xai_traffic.evaluation.run_summary import read_json
from xai_traffic.models.build import build
from xai_traffic.report.markdown import bullets, code, codes, table
from xai_traffic.report.model_card_data import evaluation_data, hides, training_data
from xai_traffic.report.model_card_limits import known_shortcuts, must_not
from xai_traffic.report.model_card_scores import quantitative_analyses
from xai_traffic.terminal import log, printable
from xai_traffic.whole import whole_file, write_json

CARD = "model_card.md"

BEGINS = {
    "all": "the link's header on",
    "network": "the IP header on, so no MAC address",
    "transport": "the TCP or UDP header on, so no MAC or IP address",
    "payload": "the payload on, so no header at all",
}
"""Where a tile begins, by the layers of the reading rules."""

_RECIPE = (
    *("seed", "epochs", "batch_size", "optimizer.name", "optimizer.learning_rate"),
    *("optimizer.weight_decay", "optimizer.ema", "augment.byte_swap", "augment.header_dropout"),
    *("augment.payload_dropout", "data.limit", "init_from"),
)


def write_model_card(
    folder: pathlib.Path, audit: pathlib.Path | None = None
) -> tuple[str, pathlib.Path]:
    """Write `model_card.md` into a run's folder.

    Args:
        folder: of the run.
        audit: folder or `audit.json` of `xai-traffic audit`, of the run's dataset; it is kept in
            the run's folder, for this card and later ones.

    Returns:
        (the card, its path).

    Raises:
        RunError: the folder is no run, a file of it is damaged, or the audit is of something else.
    """
    if audit is not None:
        _keep_audit(folder, audit)
    record = read_run_record(folder)
    try:
        text = model_card(record)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{folder}: a file of what was measured is damaged or of another version "
            f"({type(error).__name__}: {error}): measure it again, or remove it"
        ) from error
    path = folder / CARD
    with whole_file(path) as new:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
    return text, path


def model_card(record: RunRecord) -> str:
    """Return the card of a run in Markdown."""
    sections: dict[str, list[str]] = {
        "Model details": _details(record),
        "Intended use": _intended_use(record),
        "Must not be used for": must_not(record),
        "Factors": _factors(record),
        "Metrics": _metrics(),
        "Training data": training_data(record),
        "Evaluation data": evaluation_data(record),
        "Quantitative analyses": quantitative_analyses(record),
        "Known shortcuts": known_shortcuts(record),
        "Ethical considerations": _ethics(record),
        "Caveats and recommendations": _caveats(record),
    }
    lines = [f"# Model card: {code(record.summary.path.resolve().name)}", ""]
    if record.leaky:
        lines += ["**LEAKY: its scores are not what its split says, see evaluation data.**", ""]
    lines += [
        f"Written by `xai-traffic card RUN` (xai_traffic {__version__}) from the files of the run. "
        "Numbers in parentheses are 95 % intervals. `RUN` stands for its folder, `DATASET` for a "
        "dataset's.",
        "",
    ]
    for title, section in sections.items():
        lines += [f"## {title}", "", *section]
    return "\n".join(lines).rstrip() + "\n"


def _keep_audit(folder: pathlib.Path, audit: pathlib.Path) -> None:
    source = audit / AUDIT if audit.is_dir() else audit
    found = read_json(source)
    if found is None or not {"fields", "chance", "task", "manifest_sha256"} <= found.keys():
        raise RunError(
            f"{source} is no audit of this version: make one with `xai-traffic audit DATASET "
            f"{folder} --out DIR`"
        )
    record = read_run_record(folder)
    for what, theirs, ours in (
        ("dataset", found["manifest_sha256"], record.summary.data),
        ("task", found["task"], record.summary.reading["task"]),
    ):
        if theirs != ours:
            raise RunError(
                f"{source} is of another {what} ({str(theirs)[:12]}) than {folder} ({ours[:12]}): "
                "audit the dataset that the run was trained on, with the run"
            )
    about, result = found.get("run"), record.summary.result
    if about and result and about.get("params_sha256") != result["best_params_sha256"]:
        log.warning(
            "%s tells what %s rests on, whose parameters are not those of %s: left out, audit the "
            "dataset with the latter",
            *map(printable, (str(source), about["run"], str(folder))),
        )
        found = {**found, "run": None}
    write_json(folder / AUDIT, found)


def _details(record: RunRecord) -> list[str]:
    summary, config = record.summary, record.summary.config
    result = summary.result or {}
    options = {key.rpartition(".")[2]: value for key, value in config.items() if "options." in key}
    told = ", ".join(f"{name} {code(value)}" for name, value in options.items())
    items = [
        f"network {code(config['model.name'])}, size {code(config['model.variant'])}"
        + f" ({told})" * bool(told)
        + (f", {result['parameters']:,} parameters" if result else ""),
        f"task {summary.reading['task']}; classes: {codes(record.classes)}",
        f"training {summary.state}: step {summary.step}, epoch {summary.epoch}; "
        + (
            f"it judges by the parameters of step {summary.best_step}, epoch {summary.best_epoch}"
            if summary.best_step
            else "no epoch has ended"
        ),
        "recipe: "
        + ", ".join(f"{key} {code(config[key])}" for key in _RECIPE if config.get(key))
        + f", seed {config['seed']}" * (not config["seed"])
        + "; all of it in `config.json`",
    ]
    if result:
        items.append(
            f"trained in {result['seconds']:,.0f} s on {code(result['device'])}, jax "
            f"{code(result['jax'])}; SHA-256 of its parameters {code(result['best_params_sha256'])}"
        )
    else:
        items.append("SHA-256 of its parameters: *not at hand* before the training is finished")
    rows = [(code(name), f"{size:,}", code(digest)) for name, size, digest in record.files]
    return [*bullets(items), *table(("file", "bytes", "SHA-256"), rows)]


def _intended_use(record: RunRecord) -> list[str]:
    rules = record.summary.reading["rules"]
    return [
        f"To say of each session of a capture which of {len(record.classes)} classes it is most "
        "like, and of which packets, fields and bytes that verdict comes: to sort what people "
        "then look at, and to study how such models err. Sessions are those of rule "
        f"{code(rules['rule'])} that the filter {code(rules['filter'])} lets through.",
        "",
    ]


def _factors(record: RunRecord) -> list[str]:
    summary = record.summary
    rules = summary.reading["rules"]
    packets = _packets(summary.config, len(record.classes))
    seen = "" if packets is None else f" the first {packets} packets of a session and of each"
    return bullets(
        [
            f"It sees, in layout {code(rules['layout'])},{seen} the first 256 bytes from "
            f"{BEGINS[rules['layers']]}.",
            f"The mask {code(record.mask)} hides: {hides(record)}.",
            "What differs between networks, and may turn verdicts: addresses and ports, hops, "
            "clocks, operating systems, versions of programs, how and where a capture is made, "
            "and which classes there are at all.",
        ]
    )


def _packets(config: dict[str, Any], classes: int) -> int | None:
    start = "model.options."
    options = {key[len(start) :]: value for key, value in config.items() if key.startswith(start)}
    try:
        return build(
            config["model.name"], classes, variant=config["model.variant"], **options
        ).packets
    except ConfigError:  # a run of another version
        return None


def _metrics() -> list[str]:
    return [
        "Accuracy, precision, recall and F1 by class and their mean (macro-F1) of the verdicts; "
        "likelihood, Brier score and calibration error of the probabilities; coverage and size of "
        "sets of classes; the risk among the surest sessions; how far unknown classes are told "
        "apart; what forged packets cost. Intervals are bootstraps that draw whole units of "
        "sessions, those that the split keeps together; where a part is all or none, Wilson's. Of "
        "fewer than four units most numbers have none: nobody can tell how far others would move "
        "them.",
        "",
    ]


def _ethics(record: RunRecord) -> list[str]:
    config = record.summary.config
    items = [
        "Captures hold what people said and whom they spoke to; verdicts are about hosts, and "
        "hosts are of people. Read captures that you may read.",
        "A wrong alarm costs somebody; what is called benign is not proven so.",
    ]
    if (record.summary.path / "events").is_dir() and (
        config.get("log.images") or config.get("log.heat_maps_every")
    ):
        items.append("`events/` has pictures of captured bytes: do not share it unseen.")
    if any(name.endswith(".npz") and "calibration" in name for name, *_ in record.files):
        items.append("`calibration.npz` holds activations of training sessions, or means of them.")
    return bullets(items)


def _caveats(record: RunRecord) -> list[str]:
    stale = [
        f"`{kind}-{split}.json` is {why}: measure it again"
        for kind, found in record.measured.items()
        for split, own in found.items()
        if (why := record.stale(own))
    ]
    lines = bullets(stale) if stale else []
    if record.notes:
        return [*lines, f"What its makers say (`{NOTES}`):", "", record.notes, ""]
    return [
        *lines,
        f"Its makers say nothing more; what they write into `RUN/{NOTES}` stands here.",
        "",
    ]
