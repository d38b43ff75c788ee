"""One line of JSON: the seconds of a PPO update of TRL 1.12 at a given size.

Run by benchmarks/against_trl.py with the interpreter of an environment that has TRL; it imports
nothing of minippo. GPT-2 models with random weights: a policy, its reference, a reward model and a
critic with a trunk of its own, as TRL's trainer wants them. No response ends early.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from itertools import pairwise

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


def main() -> None:
    size = json.loads(sys.argv[1])
    torch.set_num_threads(size["threads"])
    torch.manual_seed(0)
    vocab = size["vocab"]
    # two ids above the vocabulary, so that padding is none of its words and no response ends
    words = {f"w{i}": i for i in range(vocab)} | {"<pad>": vocab, "<eos>": vocab + 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    processing = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )
    config = GPT2Config(
        vocab_size=vocab + 2,
        n_positions=size["prompt"] + size["response"],
        n_embd=size["width"],
        n_layer=size["layers"],
        n_head=size["heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        pad_token_id=vocab,
        eos_token_id=vocab + 1,
        bos_token_id=vocab + 1,
        num_labels=1,
    )
    policy, reference = GPT2LMHeadModel(config), GPT2LMHeadModel(config)
    reward_model, critic = (GPT2ForSequenceClassification(config) for _ in range(2))
    prompts = torch.randint(0, vocab, (4 * size["batch"], size["prompt"])).tolist()
    with tempfile.TemporaryDirectory() as folder:
        settings = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=size["batch"],
            gradient_accumulation_steps=1,
            num_mini_batches=size["minibatches"],
            num_ppo_epochs=size["epochs"],
            total_episodes=size["batch"] * (size["updates"] + 1),
            response_length=size["response"],
            local_rollout_forward_batch_size=size["batch"],
            num_sample_generations=0,
            temperature=1.0,
            learning_rate=6e-4,
            stop_token=None,
            missing_eos_penalty=None,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            disable_tqdm=True,
        )
        trainer = PPOTrainer(
            args=settings,
            processing_class=processing,
            model=policy,
            ref_model=reference,
            reward_model=reward_model,
            value_model=critic,
            train_dataset=Dataset.from_dict({"input_ids": prompts}),
            eval_dataset=Dataset.from_dict({"input_ids": prompts[: size["batch"]]}),
        )
        times = []
        trainer.log = lambda *_, **__: times.append(time.perf_counter())
        out, sys.stdout = sys.stdout, sys.stderr
        trainer.train()
        sys.stdout = out
    seconds = [after - before for before, after in pairwise(times)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "seconds_per_update": statistics.median(seconds),
                "peak_memory_mib": peak,
                "updates": len(seconds),
            }
        )
    )


if __name__ == "__main__":
    main()
