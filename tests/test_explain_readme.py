"""The page of the explanation library: its code runs, and it names what there is."""

import pathlib
import re

from xai_traffic import explain

PAGE = (pathlib.Path(explain.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_the_first_attribution_takes_ten_lines(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - it is ours
    shape, error = capsys.readouterr().out.rsplit(" ", 1)
    assert shape == "(8, 20)"
    assert float(error) < 1e-3


def test_every_name_on_the_page_is_there():
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    names = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert names and not names - set(explain.__all__)
