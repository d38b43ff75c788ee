"""The models of a run, asked one prompt: what they say and what stands beside it."""

import json
import shutil

import pytest
import torch

from minippo.commands.config import resolve
from minippo.commands.speaker import open_speaker
from minippo.errors import InputError
from minippo.interchange.load import load_gpt, load_reward_model
from minippo.runs.folder import RunFolder
from minippo.tasks import Capitals
from tests.tiny_runs import make_run, random_gpt

PROMPT = "i am a baker . i live in rome . i love chess . tl;dr :"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ask(speaker, stage, prompt=PROMPT, seed=0):
    return speaker.answer(stage, speaker.prompt_ids(prompt), generator(seed))


@pytest.fixture(scope="module")
def speaker(finished):
    return open_speaker(str(finished), None, None)


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def capitals(path, *stages):
    """A run about capitals, untrained and without judges."""
    tokenizer, folder = Capitals().tokenizer, RunFolder(path)
    path.mkdir()
    folder.save_config(resolve({"task": "capitals"}).to_dict())
    for seed, stage in enumerate(stages):
        model = random_gpt(tokenizer.vocab_size, seed)
        folder.save_checkpoint(
            stage, model, model_config=vars(model.config), tokenizer=tokenizer.to_dict()
        )
    return path


# -- the numbers


def test_the_score_is_that_of_the_reward_model_after_the_eos_rule(finished, speaker):
    answers = [ask(speaker, "policy", seed=seed) for seed in range(12)]
    reward_model, tokenizer = load_reward_model(finished), speaker.tokenizer
    ended = [answer for answer in answers if len(answer.tokens) < 14]
    assert ended and all(a.score == -5.0 for a in answers if a.tokens[-1].text != "<eos>")
    answer = ended[0]
    ids = [*speaker.prompt_ids(PROMPT), *tokenizer.encode(answer.text), tokenizer.eos_id]
    with torch.no_grad():
        assert answer.score == pytest.approx(reward_model(torch.tensor([ids])).item(), abs=1e-5)
    assert answer.gold == speaker.task.gold(PROMPT, answer.text)


def test_the_log_probabilities_are_those_of_the_model(finished, speaker):
    answer = next(a for a in (ask(speaker, "policy", seed=n) for n in range(20)) if a.text)
    prompt, tokenizer = speaker.prompt_ids(PROMPT), speaker.tokenizer
    ended = answer.tokens[-1].text == "<eos>"
    response = [*tokenizer.encode(answer.text), *([tokenizer.eos_id] if ended else [])]
    with torch.no_grad():
        logits, reference = (
            load_gpt(finished, stage)(torch.tensor([prompt + response])).log_softmax(dim=-1)
            for stage in ("policy", "sft")
        )
    rows = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    for token, row, chosen in zip(answer.tokens, rows, response, strict=True):
        assert token.text == tokenizer.token_text(chosen)
        assert token.logprob == pytest.approx(logits[0, row, chosen].item(), abs=1e-5)
        kl = (logits[0, row].exp() * (logits[0, row] - reference[0, row])).sum().item()
        assert token.kl == pytest.approx(kl, abs=1e-5)


def test_the_last_advantage_is_what_came_less_what_was_expected(speaker):
    """Of the fine-tuned model, which pays for no KL: A = r - V at the end."""
    answer = ask(speaker, "sft")
    last = answer.tokens[-1]
    assert last.advantage == pytest.approx(answer.score - last.value, abs=1e-5)
    assert all(token.kl == pytest.approx(0.0, abs=1e-6) for token in answer.tokens)


def test_the_same_seed_gives_the_same_answer(speaker):
    assert ask(speaker, "policy", seed=5) == ask(speaker, "policy", seed=5)
    assert len({ask(speaker, "policy", seed=n).text for n in range(5)}) > 1


def test_without_a_judge_there_is_no_score_and_without_a_critic_no_value(copied):
    shutil.rmtree(copied / "checkpoints/critic")
    answer = ask(open_speaker(str(copied), None, None), "policy")
    assert answer.score is not None and answer.tokens[0][2::2] == (None, None)
    shutil.rmtree(copied / "checkpoints/reward_model")
    answer = ask(open_speaker(str(copied), None, None), "policy")
    assert answer.score is None and answer.tokens[0].kl >= 0


def test_a_colder_model_says_likelier_things(finished):
    cold = open_speaker(str(finished), ["policy"], 0.01)
    assert [*cold.models] == ["policy"]
    assert min(token.logprob for token in ask(cold, "policy").tokens) > -3.0
    assert ask(cold, "policy", seed=1).text == ask(cold, "policy", seed=2).text


# -- prompts


def test_the_rule_of_a_task_is_asked_where_it_applies(tmp_path, speaker):
    run = open_speaker(str(capitals(tmp_path / "run", "sft")), None, None)
    answer = ask(run, "sft", "what is the capital of france ?")
    assert answer.gold in (0.0, 1.0) and run.gold("france", "paris") == 1.0
    assert ask(run, "sft", "paris").gold is None  # no country in it
    assert ask(speaker, "sft", "i am a baker . tl;dr :").gold is None


def of_bytes(path):
    """A run about texts of one's own."""
    settings = {"task": "files", "data": "DIR", "response_length": 20}
    RunFolder(make_run(path, "byte")).save_config(resolve(settings).to_dict())
    return open_speaker(str(path), None, None)


def test_texts_of_ones_own_end_with_a_line_break_and_have_no_rule(tmp_path):
    speaker = of_bytes(tmp_path / "run")
    assert ask(speaker, "policy", "é").gold is None
    assert speaker.prompt_ids("é")[1:] == [0xC3, 0xA9, 0x0A] and speaker.task is None


def test_what_cannot_be_asked_is_refused_with_what_is_known(speaker, tmp_path):
    with pytest.raises(InputError, match=r"^not known: who\?, no; the 56 words known: \. : a am "):
        speaker.prompt_ids("the who? no baker no")
    room = speaker.reference.config.context_length - 14
    assert len(speaker.prompt_ids("a " * (room - 1))) == room
    with pytest.raises(InputError, match=f"too long: {room + 1} tokens, and .* at most {room} "):
        speaker.prompt_ids("a " * room)
    with pytest.raises(InputError, match="not a text that can be read"):
        of_bytes(tmp_path / "run").prompt_ids("\udcff")


# -- folders


def test_the_stages_are_those_that_are_there(tmp_path):
    assert [*open_speaker(str(capitals(tmp_path / "a", "sft")), None, None).models] == ["sft"]
    both = capitals(tmp_path / "b", "policy", "sft", "pretrain")
    assert [*open_speaker(str(both), None, None).models] == ["sft", "policy"]
    assert [*open_speaker(str(both), ["pretrain"], None).models] == ["pretrain"]
    alone = open_speaker(str(capitals(tmp_path / "c", "policy")), None, None)
    assert alone.reference is alone.models["policy"]


def test_a_run_that_cannot_speak_is_refused(tmp_path, copied):
    for run, words in (
        (tmp_path / "nothing", "nothing: holds no run"),
        (capitals(tmp_path / "empty"), "empty: holds no run"),
        (capitals(tmp_path / "begun", "pretrain"), r"has no stage sft yet \(there: pretrain\)"),
    ):
        with pytest.raises(InputError, match=words):
            open_speaker(str(run), None, None)
    with pytest.raises(InputError, match="has no stage policy yet"):
        open_speaker(str(capitals(tmp_path / "half", "sft")), ["policy"], None)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"run": {}}))
    with pytest.raises(InputError, match="is not as the run wrote it"):
        open_speaker(str(copied), None, None)
    (copied / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not the configuration of a run of this version"):
        open_speaker(str(copied), None, None)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    run = capitals(tmp_path / "run", "sft")
    RunFolder(run).save_checkpoint(
        "policy",
        random_gpt(7, 0),
        model_config=vars(random_gpt(7, 0).config),
        tokenizer=Capitals().tokenizer.to_dict(),
    )
    with pytest.raises(InputError, match="its models and its tokenizer do not belong together"):
        open_speaker(str(run), None, None)
