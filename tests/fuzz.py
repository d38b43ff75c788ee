"""Coverage-guided fuzzing of the readers with atheris: whatever a file holds, it is read or refused
by an InputError.

    pip install atheris
    python tests/fuzz.py jsonl            100000 inputs: a user's preferences.jsonl
    python tests/fuzz.py array            the same as a JSON array
    python tests/fuzz.py table            as CSV and TSV
    python tests/fuzz.py gzip             packed, each of them
    python tests/fuzz.py parquet          as Parquet (pip install pyarrow)
    python tests/fuzz.py messages         lists of messages, transcripts, rows with labels
    python tests/fuzz.py config           config.json of a run
    python tests/fuzz.py checkpoint 5000 a checkpoint and a state, in parts: JSON files, rows of
    metrics, safetensors

Begins with valid files, which it makes itself, and writes only into temporary folders. The seed is
fixed. Anything but InputError is a crash; atheris then says where it has put the input.
"""

import contextlib
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
try:
    import atheris
except ImportError:
    sys.exit("atheris is missing: pip install atheris")

with atheris.instrument_imports(
    include=[
        "minippo.runs.read",
        "minippo.runs.checkpoints",
        "minippo.runs.seals",
        "minippo.interchange.load",
        "minippo.commands.config",
        "minippo.tasks.files",
        "minippo.stages.training_state",
        "minippo.tokenizer",
        "minippo.commands.flags",
    ]
):
    from minippo.commands.config import resolve
    from minippo.commands.flags import config_of_run
    from minippo.errors import InputError
    from minippo.interchange import load
    from minippo.runs import read, seals
    from minippo.stages import training_state
    from minippo.tasks.files import container
    from minippo.tasks.files.lengths import check_lengths
    from minippo.tasks.files.read import read_folder
    from minippo.tasks.files.rows import Reading
    from minippo.tokenizer import ByteTokenizer, WordTokenizer

from minippo.gpt import GPT, GPTConfig  # noqa: E402
from minippo.reward_head import RewardModel  # noqa: E402
from minippo.runs.folder import RunFolder  # noqa: E402
from tests.hostile import numbers_of_a_state  # noqa: E402

SEED = 1
PARTS = 8  # of a checkpoint and a state
ORIGIN = seals.Origin("a digest")


PAIRS = [
    {"prompt": "Is it hot?", "chosen": "Yes, very.", "rejected": "no"},
    {"prompt": "é\u2028", "chosen": "a " * 40, "rejected": "b", "n": [1.5, None, True]},
]


def reads(folder, name="preferences.jsonl"):
    """A function that reads bytes as a user's file, and then cuts its texts to a short context."""

    def read_it(data):
        (folder / name).write_bytes(data)
        reading = Reading(limit=1, skip_bad_rows=len(data) % 2 == 0)
        with contextlib.suppress(InputError):
            found = read_folder(folder, reading)
            check_lengths(found, prompt_length=12, completion_length=12, truncate=True)

    return read_it


def reader_of_jsonl(folder):
    """preferences.jsonl of a user's folder."""
    seeds = [
        "\n".join(map(json.dumps, PAIRS)),
        json.dumps(PAIRS[0]) + "\r\n\r\n",
        "\ufeff{}",
        "[1]\n",
    ]
    return reads(folder), [seed.encode() for seed in seeds]


def reader_of_arrays(folder):
    """A JSON array, parsed in windows of few characters."""
    container.WINDOW, container.LARGEST_RECORD = 16, 256
    seeds = [json.dumps(PAIRS), json.dumps(PAIRS, indent=1), "[]", "[1, [2], {}]"]
    return reads(folder), [seed.encode() for seed in seeds]


def reader_of_tables(folder):
    """CSV and TSV."""
    rows = ["prompt,chosen,rejected", 'q,"a, ""b""\n",c', "r,d,e"]
    seeds = ["\n".join(rows), "\r\n".join(rows).replace(",", "\t"), ";".join(rows), "prompt"]
    return reads(folder, "preferences.csv"), [seed.encode() for seed in seeds]


def reader_of_gzip(folder):
    """The input in gzip, and the input as gzip, each of what can be packed."""
    seeds = ["\n".join(map(json.dumps, PAIRS)).encode(), json.dumps(PAIRS).encode()]
    read_it = reads(folder)

    def read_both(data):
        read_it(data)
        read_it(gzip.compress(data, 1))

    return read_both, [*seeds, *map(gzip.compress, seeds), 2 * gzip.compress(seeds[1])]


def reader_of_parquet(folder):
    """Parquet, of texts and of lists of messages."""
    import pyarrow
    import pyarrow.parquet

    def packed(rows, **options):
        file = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
        return file.getvalue().to_pybytes()

    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    other = [talk[0], {"role": "assistant", "content": "b"}]
    rows = [{"chosen": talk, "rejected": other, "score": 1.0}]
    return reads(folder), [packed(PAIRS), packed(rows), packed(PAIRS, compression="zstd")]


def reader_of_messages(folder):
    """preferences.jsonl and demonstrations.jsonl of conversations."""
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    other = [talk[0], {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]
    said = "\n\nHuman: q\n\nAssistant: "
    rows = [
        {"chosen": talk, "rejected": other},
        {"prompt": "q", "system": "s", "chosen": talk, "rejected": other, "score_chosen": 1},
        {"chosen": f"{said}a", "rejected": f"{said}b"},
        {"instruction": "i", "input": "x", "chosen": "a", "rejected": "b", "history": [["a"]]},
        {"messages": [{"role": "system", "content": "s"}, *talk]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"prompt": talk[:1], "completion": talk[1:], "label": True},
    ]
    as_pairs, as_demonstrations = reads(folder), reads(folder, "demonstrations.jsonl")
    good = json.dumps(PAIRS[0]).encode()

    def read_both(data):
        (folder / "demonstrations.jsonl").unlink(missing_ok=True)
        as_pairs(data)
        (folder / "preferences.jsonl").write_bytes(good)
        as_demonstrations(data)

    return read_both, [json.dumps(row).encode() for row in rows]


def reader_of_config(folder):
    """config.json, as --resume reads it."""
    config = resolve({"task": "capitals", "seed": 3}).to_dict()

    def read_it(data):
        (folder / "config.json").write_bytes(data)
        with contextlib.suppress(InputError):
            config_of_run(folder, {"seed": 3})
        with contextlib.suppress(InputError):
            RunFolder(folder).read_config()

    whole = json.dumps(config | {"versions": {"format": 1, "device": "cpu"}}).encode()
    return read_it, [whole, b"{}", b'{"run": {"seed": 1e3}}']


def reader_of_checkpoints(folder):
    """A folder in which one file is not as it was: the input's first byte says which."""
    stage = folder / "checkpoints" / "reward_model"
    gpt = GPT(GPTConfig(vocab_size=3, context_length=2, n_layer=1, n_head=1, n_embd=1))
    tokenizer = WordTokenizer(["a", "b"]).to_dict()
    run = RunFolder(folder)
    run.save_checkpoint(
        "reward_model",
        RewardModel(gpt),
        model_config=vars(gpt.config),
        tokenizer=tokenizer,
        info={"seconds": {"sft": 1.5}, "report": dict.fromkeys(load.REPORT, 0.5)},
        origin=ORIGIN,
    )
    names = ("model.safetensors", "config.json", "tokenizer.json", "info.json", "sha256.json")
    names += ("seal.json",)
    whole = {name: (stage / name).read_bytes() for name in names}
    numbers = json.dumps(numbers_of_a_state(4)).encode()
    rows = b'{"update": 1, "objective/kl": 0.5, "text": "a", "null": null}\n{"update": 2}\n'
    readers = (
        lambda: load.load_reward_model(folder),
        lambda: load.load_reward_model(folder),
        lambda: load.load_tokenizer(folder, "reward_model"),
        lambda: load.load_report(folder),
        lambda: run.whole_checkpoint("reward_model"),
        lambda: seals.check_origin(stage, ORIGIN),
    )

    def read_it(data):
        which, data = (data[0] % PARTS, data[1:]) if data else (0, data)
        with contextlib.suppress(InputError):
            if which == 6:
                training_state.check_numbers(
                    read.parse_object(data, "numbers.json"), 4, also=("kl_old_coef",)
                )
            elif which == 7:
                read.parse_rows(data, "metrics.jsonl")
            else:
                read_changed(names[which], data, readers[which])

    def read_changed(name, data, reader):
        (stage / name).write_bytes(data)
        try:
            reader()
        finally:
            (stage / name).write_bytes(whole[name])

    byte_tokenizer = json.dumps(ByteTokenizer().to_dict()).encode()
    contents = [*whole.values(), numbers, rows]
    return read_it, [bytes([i]) + content for i, content in enumerate(contents)] + [
        b"\2" + byte_tokenizer
    ]


ODD = (
    None,
    True,
    -1,
    0,
    1,
    2.5,
    10**19,
    2**63,
    1e308,
    "",
    "a",
    "\ud800",
    "../x",
    "<pad>",
    "F64",
    [],
    {},
    [[]],
    [0] * 3,
    {"a": {}},
)

ODD_NAMES = (
    "",
    ".",
    "..",
    "../x",
    "/etc/hostname",
    "a\0b",
    "\ud800",
    "x" * 5000,
    "update",
    "dropout",
    "kind",
)


def odd_value(data, rng):
    """The data in which one value of an object is odd, is left out or has an odd name; None where
    there is no object."""
    starts = [i for i in range(len(data)) if data[i : i + 1] == b"{"]
    text, start = data.decode("latin-1"), rng.choice(starts or [0])
    try:
        found, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    holders = [found]
    for holder in holders:
        inside = holder.values() if isinstance(holder, dict) else holder
        holders += [x for x in inside if isinstance(x, (dict, list)) and x]
    holder = rng.choice(holders) if found else {"": 0}
    place = rng.choice([*holder]) if isinstance(holder, dict) else rng.randrange(len(holder))
    if rng.random() < 0.2:
        del holder[place]
    elif isinstance(holder, dict) and rng.random() < 0.2:
        holder[rng.choice(ODD_NAMES)] = holder[place]
    else:
        holder[place] = rng.choice(ODD)
    return data[:start] + json.dumps(found).encode() + data[len(text[:end]) :]


def mutator(has_head):
    """Half of the inputs are mutated as bytes, half as JSON; the length before a safetensors head
    is kept right mostly."""

    def mutate(data, max_size, seed):
        rng = random.Random(seed)
        mutated = odd_value(data, rng) if rng.random() < 0.5 else None
        if mutated is None or len(mutated) > max_size:
            return atheris.Mutate(data, max_size)
        if has_head and data[0] % PARTS == 0 and data[9:10] == b"{":
            (old,) = struct.unpack_from("<Q", data, 1)
            mutated = (
                mutated[:1]
                + struct.pack("<Q", max(0, old + len(mutated) - len(data)))
                + mutated[9:]
            )
        return mutated

    return mutate


READERS = {
    "jsonl": reader_of_jsonl,
    "array": reader_of_arrays,
    "table": reader_of_tables,
    "gzip": reader_of_gzip,
    "parquet": reader_of_parquet,
    "messages": reader_of_messages,
    "config": reader_of_config,
    "checkpoint": reader_of_checkpoints,
}


def fuzz(name, runs, folder):
    """Does not come back: the library ends the process."""
    (folder / "files").mkdir(), (folder / "corpus").mkdir()
    read_it, seeds = READERS[name](folder / "files")
    for number, seed in enumerate(seeds):
        read_it(seed)
        (folder / "corpus" / f"{number}").write_bytes(seed)
    atheris.Setup(
        [
            sys.argv[0],
            f"-runs={runs}",
            f"-seed={SEED}",
            "-max_len=20000",
            "-print_final_stats=1",
            f"-artifact_prefix={tempfile.gettempdir()}/",
            str(folder / "corpus"),
        ],
        read_it,
        custom_mutator=mutator(has_head=name == "checkpoint"),
    )
    atheris.Fuzz()


def main(name, runs="100000"):
    """Fuzz in a process of its own, and clear its folder away; returns the exit status."""
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as folder:
        return subprocess.run([sys.executable, __file__, name, runs, folder]).returncode


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4) or sys.argv[1] not in READERS:
        sys.exit(f"usage: python tests/fuzz.py {'|'.join(READERS)} [inputs]")
    if len(sys.argv) == 4:
        fuzz(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    sys.exit(main(*sys.argv[1:]))
