"""The report in a real browser: python -m pytest -m slow tests/runs/report/test_browser.py"""

import base64

import pytest

from minippo.runs.report.page import make_page
from tests.browser import PROGRAM, Browser
from tests.made_runs import HOSTILE, made_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no chromium on the PATH"),
]
READOUTS = "[...document.querySelectorAll('.readout')].map(x => x.textContent)"
SHOWN = "[...document.querySelectorAll('{}')].filter(x => x.getClientRects().length).length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Of an ordinary run, of one whose texts are hostile, and of both side by side."""
    root = tmp_path_factory.mktemp("pages")
    plain, hostile = made_files(root / "plain", "x y"), made_files(root / "bad", HOSTILE)
    hostile = hostile._replace(name=HOSTILE)
    runs = {"plain": [plain], "hostile": [hostile], "beside": [plain, hostile]}
    for name, files in runs.items():
        (root / f"{name}.html").write_text(make_page(files), encoding="utf-8")
    return {name: root / f"{name}.html" for name in runs}


@pytest.mark.parametrize("name", ["plain", "hostile", "beside"])
def test_nothing_is_complained_of_and_nothing_is_asked_for(name, browser, pages):
    browser.open(pages[name])
    told, asked = browser.complaints()
    assert told == [] and asked == [pages[name].as_uri()]
    assert browser.ask("document.title").startswith("minippo: ")
    assert browser.ask("document.images.length + document.forms.length") == 0


def test_a_script_that_did_get_in_would_not_run(browser, pages, tmp_path):
    page = pages["plain"].read_text()
    (tmp_path / "page.html").write_text(
        page.replace("<main>", "<main><img src=x onerror=\"document.title='a'\"><script>1</script>")
    )
    browser.open(tmp_path / "page.html")
    told, _ = browser.complaints()
    for what in ("Loading the image", "inline event handler", "inline script"):
        assert any(what in line and "Content Security Policy" in line for line in told), what
    assert browser.ask("document.title").startswith("minippo: ")


def test_the_cursor_moves_with_the_pointer_and_with_the_keys(browser, pages):
    browser.open(pages["plain"])
    rest = browser.ask(READOUTS)
    assert rest[0] == "1 to 6"
    browser.ask("document.querySelector('.panel').scrollIntoView()")
    box = "document.querySelector('.panel svg').getBoundingClientRect()"
    x, y, width, height = (browser.ask(f"{box}.{name}") for name in "x y width height".split())
    for share, update in ((0.13, 1), (0.96, 6)):
        browser.mouse(x + share * width, y + height / 2)
        found = browser.ask(READOUTS)
        # tests/made_runs.py: score = update, gold = update + 1/8, KL = update + 1/4
        assert found[:2] == [f"update {update}: {update}", f"update {update}: {update}.13"]
    browser.mouse(1, 1)
    assert browser.ask(READOUTS) == rest
    browser.ask("document.querySelectorAll('.panel')[1].focus()")
    browser.key("ArrowRight")
    browser.key("ArrowRight")
    assert browser.ask(READOUTS)[0] == "update 2: 2"
    browser.key("End")
    assert browser.ask(READOUTS)[0] == "update 6: 6"
    browser.key("Escape")
    assert browser.ask(READOUTS) == rest


def test_the_search_filters_and_the_order_changes(browser, pages):
    browser.open(pages["plain"])
    assert browser.ask(SHOWN.format(".samples tbody tr")) == 5
    browser.ask("document.getElementById('search').focus()")
    browser.write("ask 3 IS")
    assert browser.ask(SHOWN.format(".samples tbody tr")) == 1
    assert browser.ask("document.getElementById('found').textContent") == "1 of 5"
    browser.write(" nowhere")
    assert browser.ask(SHOWN.format(".samples tbody tr")) == 0


def test_the_slider_chooses_a_moment(browser, pages):
    browser.open(pages["plain"])
    assert browser.ask(SHOWN.format("tr[data-update]")) == 1
    browser.ask("document.getElementById('moment').focus()")
    browser.key("Home")
    assert browser.ask("document.querySelector('tr.on').textContent").startswith("0say x y 0")
    assert "mean gold 1.00" in browser.ask("document.getElementById('which').textContent")
    browser.ask("document.getElementById('all').click()")
    assert browser.ask(SHOWN.format("tr[data-update]")) == 4


def test_a_token_tells_its_numbers(browser, pages):
    browser.open(pages["plain"])
    browser.ask("document.querySelector('.token').focus()")
    told = "document.querySelector('.told').textContent"
    assert browser.ask(told).startswith("x y: log-prob before 0.25")
    browser.key("ArrowRight")
    assert browser.ask(told).startswith("two: log-prob before 0.25")
    before = browser.ask("document.querySelector('.token').className")
    browser.ask("document.getElementById('shade').selectedIndex = 2")
    browser.ask("document.getElementById('shade').dispatchEvent(new Event('change'))")
    assert browser.ask("document.querySelector('.token').className") != before


@pytest.mark.parametrize("name", ["plain", "hostile", "beside"])
@pytest.mark.parametrize("scripts", [True, False])
def test_a_telephone_shows_it_without_scrolling_to_the_side(name, scripts, browser, pages):
    browser.open(pages[name], width=360, height=740, scripts=scripts)
    if scripts:  # also what is folded away
        browser.ask("document.querySelectorAll('details').forEach(x => { x.open = true; })")
    assert browser.ask("document.scrollingElement.scrollWidth") <= 360


def test_without_javascript_figures_and_tables_are_there(browser, pages):
    browser.open(pages["plain"], scripts=False)
    assert browser.ask(SHOWN.format("figure svg")) >= 5
    assert browser.ask(SHOWN.format(".samples tbody tr")) == 5
    assert browser.ask(SHOWN.format("tr[data-update]")) == 4
    for control in ("#search", "#moment", "#shade"):
        assert browser.ask(SHOWN.format(control)) == 0
    assert "log-prob before" in browser.ask("document.querySelector('.token').title")


def test_it_can_be_printed(browser, pages):
    browser.open(pages["plain"])
    printed = base64.b64decode(browser.send("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF-") and len(printed) > 10_000
    browser.send("Emulation.setEmulatedMedia", media="print")
    assert browser.ask(SHOWN.format("tr[data-update]")) == 4
    assert browser.ask(SHOWN.format("nav")) == 0


def test_the_dark_is_dark(browser, pages):
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.open(pages["plain"])
    assert browser.ask(colour) == "rgb(255, 255, 255)"
    browser.open(pages["plain"], dark=True)
    assert browser.ask(colour) == "rgb(22, 24, 27)"
    browser.send("Emulation.setEmulatedMedia", media="print")
    assert browser.ask(colour) == "rgb(255, 255, 255)"
