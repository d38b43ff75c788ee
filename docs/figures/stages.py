"""The figure of each stage's page, from exact sums over an enumerable world.

The worlds are those of python -m minippo.exact (one prompt, three tokens, up to four steps: 31
responses) with seed 0. Each function returns a figure and a line with the numbers that its page
quotes.
"""

import torch

from minippo.exact.estimators import bias_and_variance, gradient_samples
from minippo.exact.ladder import (
    advantage_table,
    best_constant,
    make_world,
    minus_constant,
    minus_values,
    reward_functions,
    to_go,
    weighted,
    whole_returns,
)
from minippo.exact.oracle import exact_gradient, objective, reach_probabilities, sequence_kl
from minippo.exact.qualifications import exact_surrogate
from minippo.exact.world import GPTPolicy, World
from minippo.runs.figures.style import BLUE, DARK, ORANGE, PALE
from minippo.trpo import flat_gradient, trpo_step

DPI = 144
KINDS = {"dense": "reward on every token", "outcome-only": "score at the end only"}
SUBTITLE = "medium"


def panels_of(number, *, height=3.3, **options):
    """A figure 8 inches wide, and its panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, number, squeeze=False, **options).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def ladder_world(kind):
    """(world, policy, exact V, exact gradient) of a kind of reward."""
    world, policy, values, _ = make_world(reward_functions(0)[kind], 0)
    return world, policy, values, exact_gradient(world, policy)


# -- stage 1: what one sample says about the gradient


def stage_1():
    world, policy, _, exact = ladder_world("dense")
    probabilities, samples = gradient_samples(world, policy, weighted(whole_returns))
    length = exact.norm().item()
    along = samples @ exact / length
    spread = ((probabilities * (along - length) ** 2).sum()).sqrt().item()
    total = bias_and_variance(world, policy, weighted(whole_returns), exact)[1]
    figure, (left, right) = panels_of(2, width_ratios=(1.35, 1))
    left.vlines(along, 0, probabilities, color=BLUE, linewidth=2.5)
    left.axhline(0, color=DARK, linewidth=0.8)
    left.axvline(length, color=ORANGE, linestyle="--", linewidth=1.6)
    top = 1.22 * probabilities.max().item()
    left.text(length + 0.15, 0.97 * top, f"mean: {length:.2f}", color=ORANGE, va="top")
    left.set_ylim(0, top)
    left.set_xlabel("estimate, along the true gradient")
    left.set_ylabel("probability of the response")
    left.set_title("What each of the 31 responses says", fontsize=SUBTITLE)
    sizes = [2**k for k in range(15)]
    noise = [(total / n) ** 0.5 for n in sizes]
    right.loglog(sizes, noise, color=BLUE, linewidth=1.8)
    right.axhline(length, color=ORANGE, linestyle="--", linewidth=1.6)
    right.text(1, 0.9 * length, "length of the true gradient", color=ORANGE, va="top")
    right.text(14, 1.25 * (total / 14) ** 0.5, "root of the\ntotal variance", color=BLUE)
    right.set_xlabel("responses in the batch")
    right.set_title("Noise of a batch", fontsize=SUBTITLE)
    wrong = probabilities[along < 0].sum().item()
    return figure, (
        f"|grad J| {length:.3f}, std along it {spread:.3f}, total variance {total:.1f}, "
        f"P(wrong side) {wrong:.2f}, equal at {total / length**2:.0f} responses"
    )


# -- stage 2: where the variance is, before and after


def variance_by_step(world, policy, weights):
    """Total variance of each token's term, w_t grad log pi(a_t|s_t), [T]. In a table two steps
    share no parameter, so these add up to the total variance of the sum."""
    steps = []
    for step in range(world.response_length):

        def only_this(batch, step=step):
            here = torch.zeros_like(batch.rewards)
            here[:, step] = weights(batch)[:, step]
            return here

        probabilities, samples = gradient_samples(world, policy, weighted(only_this))
        mean = probabilities @ samples
        steps.append((probabilities @ ((samples - mean) ** 2).sum(dim=1)).item())
    return steps


def stage_2():
    titles = KINDS | {"cancelling": "the last token pays\nthe first one back"}
    figure, panels = panels_of(3, height=3.5)
    numbers = []
    for axes, (kind, title) in zip(panels, titles.items(), strict=True):
        world, policy, _, exact = ladder_world(kind)
        for shift, weights, name, colour, hatch in (
            (-0.2, whole_returns, "whole return", DARK, None),
            (0.2, to_go, "reward-to-go", PALE, "////"),
        ):
            steps = variance_by_step(world, policy, weights)
            total = bias_and_variance(world, policy, weighted(weights), exact)[1]
            assert abs(sum(steps) - total) < 1e-9
            axes.bar(
                [t + shift for t in range(len(steps))],
                steps,
                width=0.4,
                color=colour,
                hatch=hatch,
                edgecolor=DARK,
                linewidth=0.8,
                label=f"{name}: {0.0 if total < 5e-4 else total:.3g}",
            )
            numbers.append(f"{kind} {name} {[round(x, 3) for x in steps]}")
        axes.set_xticks(range(world.response_length))
        axes.set_xlabel("token t")
        axes.set_title(title if "\n" in title else f"{title}\n", fontsize=SUBTITLE)
        axes.set_ylim(0, 1.45 * max(axes.get_ylim()[1], 1e-3))
        axes.legend(frameon=False, fontsize=8.5, title="sum over t", title_fontsize=8.5, loc=1)
    panels[0].set_ylabel("variance of the term of token t")
    return figure, "; ".join(numbers)


# -- stage 3: the parabola of a constant baseline


def stage_3():
    figure, panels = panels_of(2)
    numbers = []
    for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
        world, policy, values, exact = ladder_world(kind)

        def variance(constant, world=world, policy=policy, exact=exact):
            return bias_and_variance(world, policy, weighted(minus_constant(constant)), exact)[1]

        best = best_constant(world, policy).item()
        mean = objective(world, policy()).item()
        by_state = bias_and_variance(world, policy, weighted(minus_values), exact, values=values)[1]
        reach = 1.25 * max(best, mean)
        constants = [best + reach * (k / 30 - 1) for k in range(61)]
        curve = [variance(constant) for constant in constants]
        axes.plot(constants, curve, color=DARK, linewidth=1.8)
        axes.axhline(by_state, color=BLUE, linestyle="--", linewidth=1.6)
        top = max(curve)
        axes.text(constants[-1], by_state + 0.02 * top, "V(s) instead", color=BLUE, ha="right")
        marks = ((0.0, "no baseline", "o"), (mean, "mean return", "s"), (best, "least", "v"))
        for constant, name, marker in marks:
            height = variance(constant)
            axes.plot(constant, height, marker=marker, color=ORANGE, markersize=8, clip_on=False)
            numbers.append(f"{kind} {name} b={constant:.2f}: {height:.2f}")
        numbers.append(f"{kind} V: {by_state:.2f}")
        axes.annotate("no baseline", (0, variance(0.0)), (10, 4), textcoords="offset points")
        axes.annotate(
            f"least, at {best:.2f}",
            (best, variance(best)),
            (0, 46),
            textcoords="offset points",
            ha="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.8, "shrinkB": 5},
        )
        axes.annotate(
            f"mean return, {mean:.2f}",
            (mean, variance(mean)),
            (0, 26),
            textcoords="offset points",
            ha="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.8, "shrinkB": 5},
        )
        axes.set_ylim(0, top)
        axes.set_xlabel("constant b")
        axes.set_title(title, fontsize=SUBTITLE)
    panels[0].set_ylabel("total variance of one response")
    return figure, "; ".join(numbers)


# -- stage 4: bias and variance over lam


def stage_4():
    figure, (left, right) = panels_of(2)
    by_critic = advantage_table(0)["dense"]
    looks = {"exact V": (BLUE, "--", "^"), "wrong V": (ORANGE, "-", "o")}
    for critic, (colour, style, marker) in looks.items():
        lams = [row["lam"] for row in by_critic[critic]]
        for axes, quantity in ((left, "gradient bias"), (right, "gradient variance")):
            numbers = [row[quantity] for row in by_critic[critic]]
            axes.plot(lams, numbers, color=colour, linestyle=style, marker=marker, clip_on=False)
    for axes, heights in ((left, (0.165, 0.012)), (right, (2.62, 1.4))):
        for critic, height in zip(("wrong V", "exact V"), heights, strict=True):
            axes.text(0.42, height, critic, color=looks[critic][0])
        axes.set_xlabel("lam")
        axes.set_ylim(bottom=0)
    left.set_title("Bias of the gradient (largest entry)", fontsize=SUBTITLE)
    right.set_title("Total variance of one response", fontsize=SUBTITLE)
    return figure, ""


# -- stage 5: along a step


def stage_5(seed=3, delta=1.0):
    world = World(reward_functions(seed)["outcome-only"], response_length=4)
    policy = GPTPolicy(world, generator=torch.Generator().manual_seed(seed), n_embd=4)
    parameters, old_logits = list(policy.parameters()), policy().detach()
    tokens = reach_probabilities(world, old_logits).sum()
    loss = exact_surrogate(world, policy, old_logits)

    def kl():
        return sequence_kl(world, old_logits, policy()) / tokens

    def per_token():
        return objective(world, policy()) / tokens

    before = [parameter.detach().clone() for parameter in parameters]
    start_loss, start_objective = loss().item(), per_token().item()
    slope = flat_gradient(loss(), parameters)
    taken = trpo_step(loss=loss, kl=kl, parameters=parameters, delta=delta, damping=1e-3)
    step = [(p.detach() - old) / taken for p, old in zip(parameters, before, strict=True)]
    linear = -(slope @ torch.cat([piece.reshape(-1) for piece in step])).item()
    shares = [k / 100 for k in range(101)]
    rows = []
    with torch.no_grad():
        for share in shares:
            for parameter, old, piece in zip(parameters, before, step, strict=True):
                parameter.copy_(old + share * piece)
            rows.append(
                (start_loss - loss().item(), per_token().item() - start_objective, kl().item())
            )
    promised, real, kls = zip(*rows, strict=True)
    figure, (left, right) = panels_of(2)
    left.plot(shares, [linear * share for share in shares], color=PALE, linewidth=2)
    left.plot(shares, promised, color=BLUE, linewidth=1.8)
    left.plot(shares, real, color=ORANGE, linewidth=1.8, linestyle="--")
    right.plot(shares, [delta * share**2 for share in shares], color=PALE, linewidth=2)
    right.plot(shares, kls, color=DARK, linewidth=1.8)
    right.axhline(delta, color=DARK, linestyle=":", linewidth=1.2)
    index = round(100 * taken)
    left.plot(taken, promised[index], "v", color=BLUE, markersize=8)
    right.plot(taken, kls[index], "v", color=DARK, markersize=8)
    for axes in (left, right):
        axes.set_xlabel("share of the full step")
    left.set_title("Gain", fontsize=SUBTITLE)
    right.set_title("KL(old, new) per token", fontsize=SUBTITLE)
    return figure, (
        f"taken {taken}; at 1: promised {promised[-1]:.3f}, real {real[-1]:.3f}, "
        f"linear {linear:.3f}, KL {kls[-1]:.3f}; at taken: {promised[index]:.3f}, "
        f"{real[index]:.3f}, KL {kls[index]:.3f}"
    )


# -- stage 6: the four cases


def stage_6(seed=0, steps=20, learning_rate=1e-2, cliprange=0.2):
    figure, panels = panels_of(2, sharey=False)
    return figure, ""


FIGURES = {
    f"stage-{number}": make
    for number, make in enumerate((stage_1, stage_2, stage_3, stage_4, stage_5, stage_6), start=1)
}
