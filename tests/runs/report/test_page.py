"""The page as a whole: what is on it, and that nothing of a run can do anything there."""

import re
import time
from html.parser import HTMLParser

import pytest

from minippo.errors import InputError
from minippo.runs.report.page import MARK, digest, make_page, read_own
from minippo.runs.report.read import read_files
from tests.made_runs import HOSTILE, change, data_in, made_files, row, write_run

EMPTY = {"meta", "img", "input"}


class Reader(HTMLParser):
    """The elements and attributes of a page, as a browser would find them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.texts = [], [], {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Pages of runs whose every text is hostile: one alone, and two side by side."""
    root = tmp_path_factory.mktemp("hostile")
    name = HOSTILE.replace("/", "").replace("\x00", "").encode(errors="ignore").decode()
    files = read_files(write_run(root / name, HOSTILE))
    other = files._replace(name=HOSTILE)
    return make_page([files]), make_page([files, other])


def test_no_text_of_a_run_becomes_a_part_of_the_page(hostile, tmp_path):
    for page, harmless in zip(hostile, pages_of(tmp_path), strict=True):
        elements, wanted = (Reader(text).found for text in (page, harmless))
        assert [tag for tag, _ in elements] == [tag for tag, _ in wanted]
        assert [{*attributes} for _, attributes in elements] == [{*a} for _, a in wanted]
        assert "img" not in {tag for tag, _ in elements}
        assert not [name for _, found in elements for name in found if name.startswith("on")]
        assert page.count("</script>") == 2 and page.encode()


def pages_of(path):
    files = made_files(path / "run")
    return make_page([files]), make_page([files, files])


def test_the_hostile_texts_are_on_the_page_to_be_read(hostile):
    alone, beside = hostile
    for part in ("prompt", "text", "token"):
        assert re.search(f'class="{part}[^>]*>[^<]*&lt;img src=x', alone), part
    assert "&lt;/script&gt;&lt;img" in re.findall("<h2>.*?</h2>", beside)[1]


def test_the_page_allows_its_own_style_and_script_and_nothing_else(tmp_path):
    for page in pages_of(tmp_path):
        reader = Reader(page)
        policy = next(a["content"] for _, a in reader.found if "http-equiv" in a)
        style, script = (re.search(f"{n}-src '([^']+)'", policy) for n in ("style", "script"))
        (found,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
        *_, last = re.findall("<script[^>]*>(.*?)</script>", page, re.DOTALL)
        assert style and style[1] == digest(found) and script and script[1] == digest(last)
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
        assert "base-uri 'none'" in policy and "form-action 'none'" in policy


def test_a_digest_is_that_of_the_standard():
    # echo -n "alert('Hello, world.');" | openssl dgst -sha256 -binary | openssl base64
    assert digest("alert('Hello, world.');") == (
        "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
    )


def test_nothing_leads_out_of_the_page(tmp_path):
    for page in pages_of(tmp_path):
        for tag, attributes in Reader(page).found:
            assert tag not in ("link", "base", "iframe", "object", "embed", "form", "use", "image")
            assert "style" not in attributes and "src" not in attributes
            assert attributes.get("href", "#").startswith("#")
        assert "http:" not in page and "https:" not in page and "url(" not in page
        assert "fetch(" not in page and "innerHTML" not in page


def test_every_link_has_its_part(tmp_path):
    for page in pages_of(tmp_path):
        names = {a["id"] for _, a in Reader(page).found if "id" in a}
        assert {link[1:] for link in re.findall('href="([^"]+)"', page)} <= names


PARTS = (
    "Diagnostics",
    "Curves",
    "Samples over time",
    "Token by token",
    "Samples",
    "Score against KL",
    "Configuration",
    "Seconds",
)


def test_the_parts_of_a_run_that_is_over(tmp_path):
    page = make_page([made_files(tmp_path / "run")])
    titles = re.findall("<section[^>]*><h2>(.*?)</h2>", page)
    assert tuple(titles) == PARTS and page.startswith(MARK)
    assert [len(panel["lines"]) for panel in data_in(page)["panels"]] == [1, 1, 1, 1]
    assert data_in(page)["moments"] == [0, 2, 4, 6]


def test_the_parts_of_one_that_is_not(tmp_path):
    page = make_page([made_files(tmp_path / "run", updates=2, finished=False)])
    titles = re.findall("<section[^>]*><h2>(.*?)</h2>", page)
    assert tuple(titles) == (*PARTS[:4], PARTS[6])
    assert "This run is not over: update 2 of 6." in page


def test_runs_side_by_side_share_their_panels_and_are_told_apart(tmp_path):
    runs = [made_files(tmp_path / name, updates=n) for name, n in (("one", 6), ("two", 3))]
    page = make_page(runs)
    lines = data_in(page)["panels"][0]["lines"]
    assert [(line["name"], line["x"]) for line in lines] == [
        ("A", [*range(1, 7)]),
        ("B", [1, 2, 3]),
    ]
    assert "A <span>one</span>" in page and "B <span>two</span>" in page
    assert page.count('<figure class="plane">') == 2 and "2 runs side by side" in page


def test_twins_have_one_page_wherever_they_lie(tmp_path):
    one, other = (make_page([made_files(tmp_path / name)]) for name in ("here", "there"))
    assert one == other and str(tmp_path) not in one and "here" not in one.split("</style>")[1]


def test_a_page_of_many_updates_is_not_large(tmp_path):
    files = made_files(tmp_path / "run")
    rows = [row(update) for update in range(1, 5001)]
    begin = time.perf_counter()
    page = make_page([files._replace(rows=rows)])
    assert len(page) < 500_000 and time.perf_counter() - begin < 3


@pytest.mark.parametrize(
    "fields",
    [
        {"sft": 3},
        {"win_rate": {}},
        {"optimum": None},
        {"path": [[1, "<b>", 2]]},
        {"path": [[1]]},
        {"frontier": "<b>"},
        {"seconds": {"a": "<b>", "total": 1.0}},
        {"optimality": "<b>"},
        {"diagnostics": []} | {"policy": {"gold": []}},
    ],
)
def test_a_summary_of_another_kind_is_one_line(fields, tmp_path):
    path = write_run(tmp_path / "run")
    change(path, "summary.json", **fields)
    with pytest.raises(InputError, match="run: not the files of this version") as caught:
        make_page([read_files(path)])
    assert len(str(caught.value).splitlines()) == 1


def test_there_are_at_most_so_many_runs(tmp_path):
    files = made_files(tmp_path / "run")
    with pytest.raises(InputError, match="wanted 1 to 26 runs"):
        make_page([files] * 27)
    with pytest.raises(InputError):
        make_page([])


def test_the_page_works_without_what_its_own_policy_forbids():
    assert "style=" not in read_own("page.js").replace("dataset", "")
    assert "eval" not in read_own("page.js") and 'setAttribute("style' not in read_own("page.js")
