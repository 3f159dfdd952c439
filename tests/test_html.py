"""The report as a page without its script: whole, calling nobody, with nothing raw of a capture."""

import re

import pytest
from explained_run import make_run, write_capture

from xai_traffic.report.explanations import explain_run
from xai_traffic.report.hex_view import heat_levels
from xai_traffic.report.markup import content_hash, percent, text


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    run = make_run(folder / "run", mask="addresses")
    capture = write_capture(folder / "hostile.pcap", sessions=3)
    return explain_run(
        run, [capture], folder / "report", sessions=[0], methods=["gradient_x_input"]
    )["report"]


def test_the_page_links_nowhere(report):
    page = report.read_text("utf-8")
    assert not re.findall(r"""(?:src|href|action)=(?!"#|"data:image/png)""", page)
    assert "@import" not in page and "url(" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert content_hash(style) in policy and content_hash(script) in policy
    assert not re.search(r"<[^>]* (?:style|on\w+)=", page)
    # Besides the script itself there is one block of data a session, and no letter in it is text.
    assert page.count("<script") == 2
    assert re.search(
        r'<script type="application/json" class="data">"[A-Za-z0-9+/=]+"</script>', page
    )


def test_masked_bytes_are_marked_and_shown_as_captured(report):
    page = report.read_text("utf-8")
    dump = re.search(r'<pre class="hex".*?</pre>', page, re.S)[0]
    # Destination 02.., source 04..: the mask would turn them to 02 and 01.
    first = re.search(r'<span class="offset">0000</span>.*', dump)[0]
    assert re.search(r'class="?[p0-9 ]*masked"?>(?:0[24] ?)+<', first)
    shown = re.sub(r"<[^>]*>", "", first)
    assert shown.startswith("0000  02 02 02 02 02 02 04 04 04 04 04 04 08 00 45 00")


def test_hostile_text_is_harmless_in_elements_and_attributes():
    assert text("<a b=\"c\" d='e'>&") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"
    assert text("\x1b[31mred\u202e") == "\\x1b[31mred\\u202e"
    assert text("Grüße") == "Grüße"


def test_numbers_read_well():
    assert percent(0.4312) == "43.1\u00a0%" and percent(0) == "0.0\u00a0%"
    assert percent(0.0002) == "&lt;\u00a00.1\u00a0%"


def test_heat_goes_by_sign_and_root():
    import numpy as np

    levels = heat_levels(np.array([1.0, -1.0, 0.25, -0.001, 0.0]))
    assert levels.tolist() == [8, -8, 4, 0, 0]
    assert not heat_levels(np.zeros(3)).any()
