"""What a run prints: aligned, plain when nobody watches, harmless whatever the model wrote."""

import copy
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minippo.runs.screen import Screen
from minippo.runs.text import columns, is_harmless, printable

SUMMARY = {
    "task": "tldr",
    "peak_memory_mib": 512.3,
    "seconds": {"pretrain": 20.12, "ppo": 60.0, "total": 150.0},
    "reward_model": {
        "heldout_accuracy": 0.84,
        "heldout_pairs": 1024,
        "annotator_ceiling": 0.9,
        "skill": 0.85,
    },
    "sft": {"gold": 2.9, "score": 0.1, "eos_rate": 0.99, "length": 9.1},
    "policy": {
        "gold": 7.4,
        "score": 2.3,
        "kl": 5.2,
        "objective": 2.04,
        "eos_rate": 1.0,
        "length": 10.2,
    },
    "gold_max": 8.0,
    "gold_axes": {"sft": {"coverage": 1.2}, "policy": {"coverage": 2.9}},
    "optimum": {
        "objective": 2.1,
        "low": 2.08,
        "high": 2.12,
        "draws_per_prompt": 1024,
        "prompts": 64,
        "effective_sample_size": 131.0,
    },
    "optimality": 0.97,
    "win_rate": {"value": 0.91, "low": 0.88, "high": 0.94, "n": 512, "judge": "gold"},
}
ROW = {
    "update": 1,
    "objective/scores": 0.5,
    "objective/rlhf_reward": 0.4,
    "objective/gold": 3.0,
    "objective/kl": 1.0,
    "policy/entropy_avg": 1.2,
    "policy/clipfrac_avg": 0.1,
    "val/explained_variance": 0.3,
    "val/eos_rate": 1.0,
    "val/response_length": 9.0,
    "seconds": 0.5,
}
SAMPLE = {
    "prompt": "anna lives in rome",
    "before": "a cat",
    "after": "anna , rome",
    "score_before": 0.1,
    "score_after": 2.0,
    "gold_before": None,
    "gold_after": 3.0,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def lines_of(action, stream=None, **options):
    """The lines that a screen prints while `action` is done to it."""
    stream = io.StringIO() if stream is None else stream
    action(Screen(stream=stream, **options))
    return stream.getvalue().splitlines()


class TestLines:
    def test_stages_align(self):
        def stages(screen):
            screen.stage("sft", "loss 1.3", 3.25)
            screen.stage("reward model", "accuracy 0.84", 120.0)
            screen.stage("judge", "no seconds")

        first, second, third = lines_of(stages)
        assert first.index("loss") == second.index("accuracy") == third.index("no")
        assert (
            first.endswith("   3.2 s") and second.endswith(" 120.0 s") and len(first) == len(second)
        )

    def test_updates_align_under_one_header_of_79_columns(self):
        rows = [
            ROW,
            ROW | {"update": 2, "objective/scores": -1234.5, "val/explained_variance": -1e9},
            {"update": 3, "objective/kl": float("nan"), "seconds": float("inf")},
            {},
            ROW | {"objective/scores": -1e200},
        ]
        header, *printed = lines_of(lambda screen: [screen.update_line(row) for row in rows])
        assert header.split() == [
            "update",
            "score",
            "rlhf",
            "gold",
            "kl",
            "entropy",
            "clipfrac",
            "expl.var",
            "eos",
            "length",
            "sec",
        ]
        assert [len(line) for line in [header, *printed]] == [79] * 6
        assert printed[0].split() == [
            "1",
            "0.500",
            "0.400",
            "3.000",
            "1.000",
            "1.200",
            "0.100",
            "0.300",
            "1.000",
            "9.00",
            "0.50",
        ]
        assert printed[3].split() == ["-"] * 11

    def test_what_has_no_number_has_no_column(self):
        row = {**ROW, "policy/clipfrac_avg": None}
        del row["val/explained_variance"]
        header, first, second = lines_of(
            lambda screen: [screen.update_line(x) for x in (row, ROW | {"update": 2})]
        )
        wanted = "update score rlhf gold kl entropy eos length sec"
        assert header.split() == wanted.split() and len(header) == len(first) == len(second)
        assert second.split() == "2 0.500 0.400 3.000 1.000 1.200 1.000 9.00 0.50".split()

    @given(value=st.floats(), width=st.integers(5, 8))
    def test_no_number_breaks_the_columns(self, value, width):
        from minippo.runs.screen import _cell

        assert len(_cell(value, width, 3)) == width

    def test_without_a_stream_it_prints_to_stdout(self, capsys):
        Screen().note("prompts: taken from the preferences")
        assert capsys.readouterr().out == "prompts: taken from the preferences\n"


class TestProgress:
    def test_no_bar_without_a_terminal(self):
        stream = io.StringIO()
        screen = Screen(stream=stream)
        assert list(screen.progress(3, "pretrain")) == [0, 1, 2] and list(
            screen.progress("ab", "x")
        ) == ["a", "b"]
        assert stream.getvalue() == ""

    def test_lines_now_and_then_without_a_terminal(self, monkeypatch):
        monkeypatch.setattr("minippo.runs.progress.EVERY", -1.0)
        lines = lines_of(
            lambda screen: [
                *screen.progress(iter("ab"), "policy", unit="update", total=4, done=2),
                *screen.progress(2, "sft"),
            ]
        )
        assert lines == [
            "policy         update 3 of 4, about 0 s left",
            "sft            step 1 of 2, about 0 s left",
        ]

    def test_a_bar_on_a_terminal_is_gone_at_the_end_and_lines_do_not_tear_it(self):
        stream = Terminal()
        screen = Screen(stream=stream)
        for i in screen.progress(3, "pretrain"):
            screen.note(f"line {i}")
        assert "pretrain" in stream.getvalue() and "\rline 1\n" in stream.getvalue()
        assert stream.getvalue().rsplit("\r", 1)[1] == ""

    def test_no_bar_when_quiet(self):
        stream = Terminal()
        assert list(Screen(quiet=True, stream=stream).progress(3, "pretrain")) == [0, 1, 2]
        assert stream.getvalue() == ""


class TestSamples:
    def test_side_by_side_with_their_scores(self):
        lines = lines_of(lambda screen: screen.samples([SAMPLE]))
        assert lines[1] == "prompt: anna lives in rome"
        assert lines[2].split(" | ") == ["before".ljust(48), "after"]
        before, after = lines[4].split(" | ")
        assert (
            before.rstrip() == "a cat  [score 0.10]"
            and after == "anna , rome  [score 2.00, gold 3.00]"
        )

    def test_an_answer_that_says_nothing_is_said(self):
        lines = lines_of(lambda screen: screen.samples([SAMPLE | {"before": ""}]))
        assert lines[4].split(" | ")[0].rstrip() == "(nothing)  [score 0.10]"

    @pytest.mark.parametrize("columns", ["1", "40", "80", "500"])
    def test_long_texts_stay_within_the_width_and_lose_no_word(self, monkeypatch, columns):
        monkeypatch.setenv("COLUMNS", columns)
        words = [f"w{i}" for i in range(60)]
        lines = lines_of(
            lambda screen: screen.samples(
                [SAMPLE | {"before": " ".join(words), "after": "x" * 300}]
            )
        )
        assert max(map(len, lines)) <= min(160, max(40, int(columns)))
        left = " ".join(line.split(" | ")[0].strip() for line in lines[4:])
        assert left.split()[:60] == words and sum(line.count("x") for line in lines) == 300

    @pytest.mark.parametrize("text", ["漢字" * 40, "e\u0301" * 90, "👨\u200d👩\u200d👧 한국 " * 20])
    def test_the_two_columns_stay_apart_in_any_script(self, text):
        sample = SAMPLE | {"before": text, "after": text}
        lines = lines_of(lambda screen: screen.samples([sample]))[4:]
        assert {columns(line.split(" | ")[0]) for line in lines} == {48}
        assert max(map(columns, lines)) <= 100 and not any("\\u" in line for line in lines)

    @given(text=st.text())
    def test_nothing_a_model_writes_can_move_the_cursor(self, text):
        for line in lines_of(
            lambda screen: screen.samples(
                [SAMPLE | {"prompt": text, "before": text, "after": text}]
            )
        ):
            assert all(map(is_harmless, line)) and columns(line) <= 100

    def test_escapes_are_readable(self):
        assert printable("a\n\x1b[2J\x07\u202e\udc80é漢") == r"a\n\x1b[2J\x07\u202e\udc80" + "é漢"

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
    def test_a_screen_of_any_encoding(self, encoding):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
        screen = Screen(stream=stream)
        screen.samples([SAMPLE | {"before": "漢\udc80é" * 30}])
        screen.stage("漢", "→")
        screen.table(SUMMARY, {"漢": "→"}, "runs/漢")
        assert raw.getvalue().decode(encoding)


class TestTable:
    def test_every_number_is_there(self):
        text = "\n".join(
            lines_of(lambda screen: screen.table(SUMMARY, {"p(right)": "0.41 -> 0.97"}, "runs/x"))
        )
        for part in (
            "gold (of 8.00)            2.900    7.400   mean of 512 answers to 512 prompts",
            "score                     0.100    2.300   mean of 32768 answers to 64 prompts",
            "KL, nats                  0.000    5.200",
            "EOS rate                  0.990    1.000",
            "length                    9.100   10.200",
            "  gold: coverage          1.200    2.900",
            "0.910, 95 % interval 0.880 to 0.940 (512 prompts, judged by gold)",
            "accuracy 0.840 on 1024 held-out pairs, annotator's ceiling 0.900, skill 0.850",
            "2.040 of 2.100 possible (2.080 to 2.120): optimality "
            "0.970 (effective sample size 131)",
            "pretrain 20.1, ppo 60.0, total 150.0",
            "512 MiB",
            "p(right)               0.41 -> 0.97",
            "gold 2.90 -> 7.40 of 8; wins 91 %; 97 % of what the reward model allows",
        ):
            assert part in text
        assert text.endswith("run folder             runs/x")

    def test_prompts_that_are_asked_more_than_once_are_not_counted_as_many(self):
        summary = copy.deepcopy(SUMMARY)
        summary["win_rate"]["different_prompts"] = 12
        text = "\n".join(lines_of(lambda screen: screen.table(summary)))
        assert "(512 responses to 12 prompts, judged by gold)" in text

    def test_one_is_not_many(self):
        summary = copy.deepcopy(SUMMARY)
        summary["win_rate"] |= {"n": 1, "different_prompts": 1}
        summary["reward_model"]["heldout_pairs"] = 1
        text = "\n".join(lines_of(lambda screen: screen.table(summary)))
        assert "(1 prompt, judged" in text and "on 1 held-out pair, annotator's" in text

    @pytest.mark.parametrize("size, doubt", [(49.9, True), (50.0, False), (None, True)])
    def test_an_estimate_that_rests_on_few_draws_says_so(self, size, doubt):
        summary = copy.deepcopy(SUMMARY)
        summary["optimum"]["effective_sample_size"] = size
        text = "\n".join(lines_of(lambda screen: screen.table(summary)))
        assert ("not reliable: more is possible" in text) == doubt
        # few draws make the optimum too low, and so the optimality too high
        (digest,) = lines_of(lambda screen: screen.table(summary), quiet=True)
        for shown in (text, digest):
            assert ("optimality at most 0.970" in shown) == doubt

    def test_what_the_diagnostics_found_stands_in_the_table_and_in_the_digest(self):
        hack = {"code": "P011", "name": "gold-falls", "update": 20, "seen": "hacked: gold fell"}
        summary = SUMMARY | {"diagnostics": [hack]}
        lines = lines_of(lambda screen: screen.table(summary))
        wanted = "diagnostics            P011 gold-falls: update 20, hacked: gold fell; see"
        (place,) = [i for i, line in enumerate(lines) if line.startswith(wanted)]
        (objective,) = [i for i, line in enumerate(lines) if "optimality" in line]
        assert place < objective
        (digest,) = lines_of(lambda screen: screen.table(summary), quiet=True)
        assert digest.startswith("hacked, gold 2.900 -> 7.400, ") and "P011 gold-falls" in digest

    def test_nulls_are_left_out_or_shown_as_dashes(self):
        summary = {
            key: dict.fromkeys(value) if isinstance(value, dict) else None
            for key, value in SUMMARY.items()
        }
        lines = lines_of(lambda screen: screen.table(summary))
        assert not any(
            line.startswith(("gold", "win rate", "reward model", "objective")) for line in lines
        )
        assert "KL, nats                  0.000        -" in lines
        assert lines_of(lambda screen: screen.table(summary), quiet=True) == ["- s"]

    def test_quiet_is_two_lines(self):
        def whole_run(screen):
            screen.stage("sft", "x")
            screen.note("x")
            screen.update_line(ROW)
            screen.samples([SAMPLE])
            screen.table(SUMMARY, {"a": "b"}, "runs/x")

        assert lines_of(whole_run, quiet=True) == [
            "gold 2.900 -> 7.400, score 0.100 -> 2.300, KL 5.200, win rate 0.910, optimality "
            "0.970, 150.0 s",
            "run folder             runs/x",
        ]

    def whole(self, stream):
        """All that a run prints, to this stream."""

        def everything(screen):
            screen.stage("sft", "loss 1.3", 3.25)
            screen.warn("P012 reward-coin: the interval holds 0.5")
            screen.update_line(ROW)
            screen.samples([SAMPLE])
            screen.table(SUMMARY)

        return "\n".join(lines_of(everything, stream))

    def test_colours_are_for_a_terminal_and_say_nothing_by_themselves(self, monkeypatch):
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        plain, coloured = self.whole(io.StringIO()), self.whole(Terminal())
        assert "\x1b" not in plain and coloured.count("\x1b[0m") == 4
        assert "\x1b[33mP012 reward-coin" in coloured and "\x1b[1msft\x1b[0m   " in coloured
        assert re.sub(r"\x1b\[\d+m|\r", "", coloured) == plain

    @pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_nor_where_the_user_wants_none(self, name, value, monkeypatch):
        monkeypatch.setenv(name, value)
        assert "\x1b" not in self.whole(Terminal())
