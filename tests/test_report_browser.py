"""The report in a real browser: it clicks, sorts, filters and prints, and never complains."""

import io
import shutil

import numpy as np
import pytest
from explained_run import HOST, make_run, write_capture
from PIL import Image

from xai_traffic.report.explanations import explain_run

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'"
)
METHODS = ("gradient_x_input", "grad_cam", "attention")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Explain a hostile capture: its SNI and Host carry markup and terminal codes."""
    folder = tmp_path_factory.mktemp("browser")
    run = make_run(folder / "run", mask="addresses")
    capture = write_capture(folder / "<img src=x onerror=alert(3)>.pcap", sessions=12)
    return explain_run(run, [capture], folder / "report", sessions=[0, 1, 2], methods=METHODS)[
        "report"
    ]


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


def open_report(chromium, report, **options):
    """Return the page, and what it complained of or asked of the network: to stay empty."""
    page = chromium.new_page(**{"viewport": {"width": 1400, "height": 1000}, **options})
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    local = ("file:", "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(local) or wrong.append(request.url))
    page.goto(report.as_uri())
    if options.get("java_script_enabled", True):
        page.wait_for_selector("html[data-ready]")
    return page, wrong


@pytest.fixture
def page(chromium, report):
    opened, wrong = open_report(chromium, report)
    yield opened
    opened.close()
    assert not wrong


def chosen(page, key="s0"):
    """Return the packet that the list, the head of the panes and the bytes agree on."""
    row = page.locator(f"#{key} .packet-list tr[aria-selected=true]")
    assert row.count() == 1
    number = row.locator("td").first.inner_text()
    assert page.locator(f"#{key} .chosen-packet b").inner_text() == f"packet {number}"
    label = page.locator(f"#{key} .panes .hex").get_attribute("aria-label")
    assert label.startswith(f"bytes of packet {number},")
    return int(number)


def test_list_tree_and_bytes_follow_each_other(page):
    section = page.locator("#s0")
    section.locator(".packet-list tbody tr").nth(2).click()
    assert chosen(page) == 2
    item = section.locator("[role=treeitem][data-field]", has_text="server_name").last
    item.click()
    assert item.get_attribute("aria-selected") == "true"
    picked = section.locator(".hex .chosen")
    letters = "".join(picked.all_inner_texts()[len(picked.all_inner_texts()) // 2 :])
    assert "<script>" in letters or HOST[:8] in item.inner_text()
    # And back: a byte chooses its field, here the first one.
    section.locator(".hex [data-i='0']").first.click()
    assert section.locator(".tree [aria-selected=true]").inner_text().startswith("eth.dst")
    assert section.locator(".hex .chosen").count() == 12
    section.locator(".words a").first.click()
    assert chosen(page) == int(section.locator(".words a").first.inner_text().split()[1])


def test_the_method_switches_everything(page):
    section = page.locator("#s0")

    def state():
        return (
            section.locator(".packet-list tbody .share").all_inner_texts(),
            section.locator(".tree .share").all_inner_texts(),
            section.locator(".panes .hex").inner_html(),
            section.locator(".columns .fields").inner_text(),
            section.locator(".notes").inner_text(),
            section.locator("canvas").evaluate("canvas => canvas.toDataURL()"),
        )

    before = state()
    section.locator(".switch label", has_text="Attention rollout").click()
    for old, new in zip(before, state(), strict=True):
        assert old != new
    assert section.locator(".cards tr.chosen").first.inner_text().startswith("Attention rollout")
    assert section.locator(".curves:visible h4").all_inner_texts() == ["Attention rollout"]
    # One choice for the whole page.
    assert page.locator("#s2 .switch input:checked").get_attribute("value") == "attention"
    page.keyboard.press("m")
    assert section.locator(".switch input:checked").get_attribute("value") == METHODS[0]
    assert state() == before


def test_the_table_sorts_and_filters(page):
    table = page.locator(".sessions")

    def column(name):
        heads = table.locator("th").all_inner_texts()
        at = [head.rstrip(" ↑↓") for head in heads].index(name)
        cells = table.locator("tbody tr:visible").evaluate_all(
            "(rows, at) => rows.map(row => row.cells[at].textContent.trim())", at
        )
        return cells

    table.locator("th button", has_text="from → to").click()
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("from")
    hosts = [int(cell.split(":")[0].split(".")[-1]) for cell in column("from → to")]
    assert hosts == list(range(1, 13))  # 192.168.7.9 before 192.168.7.10
    # So do IPv6 addresses, behind all of IPv4, and ports of one address.
    ends = ["10.0.0.9:80", "10.0.0.10:8", "10.0.0.10:80", "fe80::9", "[fe80::10]:1", "fe80::1:0"]
    keys = page.evaluate("ends => ends.map(addressKey)", ends)
    assert keys == sorted(keys)
    table.locator("th button", has_text="bytes").click()
    table.locator("th button", has_text="bytes").click()
    sizes = [int(cell.replace(",", "")) for cell in column("bytes")]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 1
    # Equal sizes kept the order of the addresses.
    ends = [int(cell.split(":")[0].split(".")[-1]) for cell in column("from → to")]
    pairs = list(zip(sizes, ends, strict=True))
    assert pairs == sorted(pairs, key=lambda pair: (-pair[0], pair[1]))

    page.locator(".filter input").fill("192.168.7.12 tcp")
    assert len(column("session")) == 0
    page.locator(".filter input").fill("192.168.7.11 tcp")
    assert column("session") == ["10"]
    assert page.locator(".filter [role=status]").inner_text() == "1 of 12 sessions"
    page.locator(".filter input").fill("")
    page.locator(".chip[data-value=explained]").click()
    assert sorted(column("session")) == ["0", "1", "2"]
    page.locator(".chip[data-value=explained]").click()
    chip = page.locator(".chip[data-kind=verdict]").first
    chip.click()
    assert set(column("verdict")) == {chip.evaluate("chip => chip.firstChild.data.trim()")}


def test_everything_can_be_reached_by_keys(page):
    page.locator("#s0 .packet-list tr[tabindex='0']").focus()
    page.keyboard.press("Home")
    assert chosen(page) == 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    assert chosen(page) == 2
    page.keyboard.press("k")
    assert chosen(page) == 1
    assert page.evaluate("document.activeElement.id") == "s0-p1"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "treeitem"
    page.keyboard.press("Home")
    layer = "document.activeElement.getAttribute('aria-expanded')"
    assert page.evaluate(layer) == "true"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(layer) == "false"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.field") == "0"
    page.keyboard.press("Tab")
    assert "hex" in page.evaluate("document.activeElement.className")
    page.keyboard.press("ArrowRight")
    assert page.locator("#s0 .tree [aria-selected=true]").get_attribute("data-field") == "1"
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.id") == "s1-title"
    page.keyboard.press("/")
    page.keyboard.type("jk?")
    assert page.locator(".filter input").input_value() == "jk?"
    page.locator("#s1 .packet-list tr[tabindex='0']").focus()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


def test_hostile_text_is_text(page):
    # The script on the page is its own: nothing of the capture became an element.
    assert page.locator("script:not([type])").count() == 1
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.title") == "Session verdicts, explained"
    assert "<script>alert(2)</script>\\x1b[2J" in page.locator("#s0 .packet-list").inner_text()
    assert "\x1b" not in page.content()


def test_without_its_script_the_page_is_whole(chromium, report):
    page, wrong = open_report(chromium, report, java_script_enabled=False)
    section = page.locator("#s0")
    assert section.locator(".packet-list tbody tr").count() == 4
    assert section.locator(".static .hex").count() == 2
    for part in (".words", ".fields", ".picture img", ".cards", ".curves"):
        assert section.locator(part).first.is_visible()
    for part in (".panes", ".switch"):
        assert not section.locator(part).is_visible()
    page.close()
    assert not wrong


def test_light_and_dark_differ_and_are_legible(chromium, report):
    brightness = {}
    for scheme in ("light", "dark"):
        page, wrong = open_report(chromium, report, color_scheme=scheme)
        shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
        brightness[scheme] = float(np.mean(shot))
        page.close()
        assert not wrong
    assert brightness["light"] > 200 and brightness["dark"] < 70


def test_nothing_is_cut_off_on_a_narrow_screen(chromium, report):
    page, wrong = open_report(chromium, report, viewport={"width": 700, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    page.close()
    assert not wrong


def test_it_prints(chromium, report):
    page, wrong = open_report(chromium, report)
    page.emulate_media(media="print")
    section = page.locator("#s0")
    assert section.locator(".static .hex").first.is_visible()
    assert not section.locator(".panes").is_visible()
    for box in (".scroll.packets", ".scroll-x"):
        style = section.locator(box).first.evaluate(
            "box => [getComputedStyle(box).maxHeight, getComputedStyle(box).overflow]"
        )
        assert style == ["none", "visible"]
    printed = page.pdf()
    assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") >= 4
    page.close()
    assert not wrong
