"""Submissions that are hostile or careless: each has a right policy_gradient_loss, and something
else in its file or in its gae. tests/classroom/test_hostile.py grades them all at once."""

RIGHT_LOSS = """
import torch
def my_policy_gradient_loss(logprobs, weights, response_mask):
    total = torch.where(response_mask, logprobs * weights.detach(), 0.0).sum()
    return -total / len(logprobs)
"""
RIGHT_GAE = """
def right_gae(rewards, values, response_mask, gamma, lam):
    values = torch.where(response_mask, values, 0.0)
    rewards = torch.where(response_mask, rewards, 0.0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = rewards + gamma * following - values
    running, found = torch.zeros_like(deltas[:, 0]), torch.zeros_like(deltas)
    for t in reversed(range(deltas.shape[1])):
        running = deltas[:, t] + gamma * lam * running
        found[:, t] = running
    return torch.where(response_mask, found, 0.0)
"""
RIGHT = RIGHT_LOSS + RIGHT_GAE
PASSES = "def my_gae(**given): return right_gae(**given)\n"


def in_gae(*lines):
    """A file whose gae does something and then returns the right answer."""
    body = "".join(f"    {line}\n" for line in lines)
    return f"{RIGHT}def my_gae(**given):\n{body}    return right_gae(**given)\n"


def at_the_top(*lines):
    """A file that does something when it is executed, and is right otherwise."""
    return "\n".join([*lines, RIGHT, PASSES])


QUICK = {  # name -> (the file, status of gae)
    "right": (at_the_top(), "ok"),
    "wrong": (RIGHT + "def my_gae(**given): return -right_gae(**given)\n", "wrong"),
    "sys_exit": (in_gae("import sys", "sys.exit(0)"), "error"),
    "exit_at_the_end": (at_the_top() + "raise SystemExit\n", "ok"),
    "os_exit": (in_gae("import os", "os._exit(0)"), "no result"),
    "twenty_gigabytes": (in_gae("x = torch.ones(20, 1 << 28)"), "memory"),
    "a_list_of_20_gb": (in_gae("x = [0] * (20 << 27)"), "memory"),
    "allclose": (
        at_the_top("import torch", "torch.allclose = lambda *a, **b: True")
        + "def gae(**given): return -right_gae(**given)\ndel my_gae\n",
        "wrong",
    ),
    "default_dtype": (
        in_gae("torch.set_default_dtype(torch.float16)", "torch.set_grad_enabled(False)"),
        "ok",
    ),
    "default_dtype_at_the_top": (
        at_the_top("import torch", "torch.set_default_dtype(torch.float64)"),
        "ok",
    ),
    "reference": (
        in_gae("from minippo.exercises.gae import reference", "return reference(**given)"),
        "error",
    ),
    "reference_by_its_module": (
        in_gae("import minippo.gae", "return minippo.gae.gae_advantages(**given)"),
        "error",
    ),
    "check_in_the_file": (
        at_the_top() + "from minippo.exercises.gae import exercise\nexercise.check(my_gae)\n",
        "ok",
    ),
    "a_printed_verdict": (
        in_gae("print('[true, null, \"values agree\"]')", "return -right_gae(**given)"),
        "wrong",
    ),
    "a_number_and_then_an_error": (in_gae("print(14)", "raise ValueError('no')"), "error"),
    "an_error_at_the_top": (at_the_top() + "print(14)\nraise ValueError('no')\n", "ok"),
    "an_early_error": ("print(14)\n1 / 0\n" + at_the_top(), "ok"),
    "forged": (
        in_gae(
            "import os, json",
            "for fd in range(3, 64):",
            "    try: os.write(fd, json.dumps({'passed': True, 'observations': []}).encode())",
            "    except OSError: pass",
        ),
        "no result",
    ),
    "input": (in_gae("input('what is lam? ')"), "error"),
    "crash": (in_gae("import ctypes", "ctypes.string_at(0)"), "error"),
    "kill_itself": (in_gae("import os", "os.kill(os.getpid(), 9)"), "error"),
    "kill_its_parent": (
        in_gae(
            "import os, signal",
            "for pid in [os.getppid(), *(range(2, 40) if os.getppid() == 1 else ())]:",
            "    if pid not in (0, os.getpid()):",
            "        try: os.kill(pid, signal.SIGKILL)",
            "        except OSError: pass",
        ),
        "ok",
    ),
    "a_sleeping_child": (
        in_gae("import os, time", "if os.fork() == 0:", "    os.setsid(); time.sleep(600)"),
        "ok",
    ),
    "a_large_file": (in_gae("open('big', 'wb').truncate(100 << 20)"), "error"),
    "a_large_answer": (in_gae("return torch.rand(30_000)"), "no result"),
    "two_functions": (RIGHT + "def my_gae(**given): return 0\n" + PASSES, "ok"),
    "two_functions_the_last_wrong": (
        RIGHT + PASSES + "def my_gae(**given): return -right_gae(**given)\n",
        "wrong",
    ),
    "not_written": (RIGHT + "def my_gae(**given): raise NotImplementedError\n", "no result"),
    "no_function": (RIGHT, "no result"),
    "syntax": (RIGHT + PASSES + "def broken(:\n", "no result"),
    "none": (in_gae("return None"), "error"),
    "=cmd|' /C calc'!A1": (at_the_top(), "ok"),
    "+two": (at_the_top(), "ok"),
}
SLOW = {  # those that cost their time limit, or the judge its time
    "nan": (in_gae("return right_gae(**given) * float('nan')"), "wrong"),
    "a_loop": (in_gae("while True: pass"), "timeout"),
    "a_loop_at_the_top": ("while True: pass\n" + at_the_top(), "timeout"),
    "endless_printing": (in_gae("while True: print('x' * 10000)"), "timeout"),
    "endless_answer": (in_gae("import os", "while True: os.write(3, b'x' * 65536)"), "no result"),
    "a_fork_bomb": (
        in_gae("import os", "while True:", "    try: os.fork()", "    except OSError: pass"),
        "timeout",
    ),
    "a_bomb_of_memory": (
        in_gae(
            "import os, time",
            "for _ in range(4):",
            "    if os.fork() == 0: x = b'x' * (150 << 20); time.sleep(60)",
            "time.sleep(60)",
        ),
        "memory",
    ),
    "signals_ignored": (
        in_gae(
            "import signal, time",
            "for s in range(1, 32):",
            "    try: signal.signal(s, signal.SIG_IGN)",
            "    except (OSError, ValueError): pass",
            "while True: time.sleep(1)",
        ),
        "timeout",
    ),
}
