# %% [markdown]
# # 10 TRPO
#
# **Goal:** one step that gets the most out of a batch without leaving the neighbourhood in which
# the batch says anything.
#
# Before you run anything, write down three predictions:
#
# 1. The largest policy below has 952 parameters. How many numbers has its Fisher matrix (the
#    second derivatives of a KL), and how many does the product of that matrix with a vector need?
# 2. All advantages are multiplied by 1000. How does the step of TRPO change?
# 3. After each step of TRPO the KL is at most a bound, $\delta$, and the loss on the batch is
#    lower than before. One step on a batch of 16 responses with $\delta = 0.1$, in 20 small
#    problems: in how many does $J$, the true objective, fall?

# %%
import os

import torch
from plots import BLUE, DARK, ORANGE, name_line, panels, show
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from minippo.exact.ladder import reward_functions
from minippo.exact.oracle import fisher_matrix, objective, reach_probabilities, sequence_kl
from minippo.exact.qualifications import trpo_can_lower_the_objective
from minippo.exact.surrogates import exact_surrogate
from minippo.exact.world import GPTPolicy, World
from minippo.kl import exact_kl
from minippo.trpo import (
    conjugate_gradient,
    fisher_vector_product,
    flat_gradient,
    mean_kl,
    natural_gradient_step,
    trpo_step,
)

FAST = bool(os.environ.get("MINIPPO_FAST"))

# %% [markdown]
# ## The problem
#
# The policy gradient is right at the policy that sampled the batch, $\pi_{\text{old}}$. It says
# in which direction to go, not how far. TRPO (trust region policy optimisation) asks for the step
# that lowers the **surrogate** the most,
#
# $$
# L = -\text{mean}_t \enspace \rho_t \hat A_t, \qquad \rho_t = \frac{\pi_\theta(a_t \mid
# s_t)}{\pi_{\text{old}}(a_t \mid s_t)}, \qquad (5.1)
# $$
#
# among all steps after which the mean KL per token is at most $\delta$,
#
# $$
# \text{mean}_t \sum_v \pi_{\text{old}}(v \mid s_t) \left( \log \pi_{\text{old}}(v \mid s_t) -
# \log \pi_\theta(v \mid s_t) \right) \le \delta . \qquad (5.2)
# $$
#
# $\hat A_t$ is the estimated advantage of a token, $\rho_t$ its probability now over its
# probability when it was sampled. (This $\delta$ is a bound and has nothing to do with the TD
# residual $\delta_t$ of notebook 07.)
#
# Why a KL and not the length of the step? Take one state, three tokens, and a policy of two
# numbers: the logits are $(a, b, 0)$.

# %%
theta = torch.tensor([2.0, 0.7], dtype=torch.float64, requires_grad=True)
paid = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)  # only the last token is paid
one = torch.ones(1, 1, dtype=torch.bool)


def three_logits(numbers):
    return torch.cat((numbers, numbers.new_zeros(1))).view(1, 1, 3)


old = three_logits(theta).detach()
print("old policy", [round(x, 3) for x in old.softmax(dim=-1).flatten().tolist()])
for step in ([0.5, 0.5], [0.5, -0.5]):
    new = three_logits(theta.detach() + torch.tensor(step))
    found = mean_kl(logits=new, old_logits=old, response_mask=one).item()
    print("step", step, " KL(old || new)", round(found, 4))

# %% [markdown]
# Two steps of the same length, and one changes the policy many times as much. Parameters are not
# what we care about; the distributions are.
#
# ## The step
#
# With $\theta$ the parameters, $s$ the step and $g = \nabla L$, $L$ changes by about $g^\top s$,
# the dot product of the two. The KL is 0 at $s = 0$ and has its minimum there, so it has no
# first-order part: it is about $\frac{1}{2} s^\top F s$. $F$ is the **Fisher matrix**, the second
# derivative of the KL. The problem for a small step is therefore
#
# $$
# \text{minimise } g^\top s \quad \text{under} \quad \tfrac{1}{2} s^\top F s = \delta ,
# $$
#
# and its solution is the **natural gradient**, at the length that the KL allows:
#
# $$
# s = -\sqrt{\frac{2 \delta}{x^\top F x}} \enspace x, \qquad F x = g . \qquad (5.6)
# $$
#
# **Where that comes from (optional).** A multiplier $\mu$ turns the problem with a constraint
# into one without, the Lagrange function
#
# $$
# \mathcal{L}(s, \mu) = g^\top s + \mu \left( \tfrac{1}{2} s^\top F s - \delta \right) .
# $$
#
# At the solution its derivative by $s$ is 0: $g + \mu F s = 0$. With $x$ the solution of
# $F x = g$ this says $s = -\frac{1}{\mu} x$. So the direction is that of $-x$, and the constraint
# gives the length:
#
# $$
# \tfrac{1}{2} s^\top F s = \frac{1}{2 \mu^2} x^\top F x = \delta \quad \Longrightarrow \quad
# \frac{1}{\mu} = \sqrt{\frac{2 \delta}{x^\top F x}} .
# $$
#
# The positive root lowers $L$: $g^\top s = -\frac{1}{\mu} x^\top F x$ is below 0, because $F$ has
# no negative curvature.
#
# The next cell compares this step with one along $-g$ that is scaled to the same edge, and with
# 3600 other directions on it.

# %%
delta = 0.02
loss = -(three_logits(theta).softmax(dim=-1).flatten() * paid).sum()  # one state: L is -J
g = flat_gradient(loss, [theta], retain_graph=True)
here = mean_kl(logits=three_logits(theta), old_logits=old, response_mask=one)  # 0, with a graph
slope = flat_gradient(here, [theta], create_graph=True)


def F_times(v):
    return fisher_vector_product(kl_gradient=slope, parameters=[theta], vector=v, damping=0.0)


steps = {
    "natural": natural_gradient_step(
        gradient=g, matvec=F_times, delta=delta, iterations=2, tolerance=0.0
    ),
    "plain": -g * torch.sqrt(2 * delta / (g @ F_times(g))),
}
for name, s in steps.items():
    print(f"{name:<8} step {[round(x, 2) for x in s.tolist()]}  length {s.norm():.2f}", end=" ")
    print(f" g.s {g @ s:.4f}  1/2 s.F s {s @ F_times(s) / 2:.4f}")
F2 = torch.stack([F_times(v) for v in torch.eye(2, dtype=torch.float64)])  # all of F
angles = torch.arange(3600, dtype=torch.float64) * torch.pi / 1800
around = torch.stack((angles.cos(), angles.sin()), dim=1)  # [3600,2]
around = around * torch.sqrt(2 * delta / ((around @ F2) * around).sum(dim=1, keepdim=True))
print(f"least g.s of {len(around)} directions: {(around @ g).min():.4f}")

# %% [markdown]
# Both steps in the plane of $a$ and $b$, with the two borders: of the true KL and of its
# approximation. First the two on a grid, then the figure.

# %%
axis = torch.linspace(-1.3, 1.1, 161, dtype=torch.float64)
da, db = torch.meshgrid(axis, axis, indexing="ij")
news = torch.stack((2.0 + da, 0.7 + db, torch.zeros_like(da)), dim=-1)  # [161,161,3]
true_kl = exact_kl(logits=old.expand_as(news), ref_logits=news)
quadratic = (F2[0, 0] * da**2 + 2 * F2[0, 1] * da * db + F2[1, 1] * db**2) / 2

# %%
figure, axes = panels(height=4)
axes.contour(da, db, true_kl, [delta], colors=DARK)
axes.contour(da, db, quadratic, [delta], colors=ORANGE, linestyles="dashed")
for (name, s), marker in zip(steps.items(), ("o", "^")):
    axes.plot([0, s[0]], [0, s[1]], marker + "-", color=BLUE, markevery=[1])
    new = old + torch.nn.functional.pad(s, (0, 1))
    print(name, "true KL", round(exact_kl(logits=old, ref_logits=new).item(), 4))
name_line(axes, -1.38, steps["natural"][1], "natural step", BLUE)
name_line(axes, -1.15, steps["plain"][1] + 0.05, "plain step", BLUE)
name_line(axes, 0.8, 0.75, "KL = 0.02 (solid)")
name_line(axes, 0.8, 0.5, "its approximation (dashed)", ORANGE)
axes.set(xlabel="change of a", ylabel="change of b", aspect="equal", xlim=(-1.5, 2.3))
show(
    figure,
    "Two narrow ellipses that nearly coincide, longest along the diagonal, where a and b change"
    " together. Both steps end on the dashed one: the plain step on its near side, the natural step"
    " at its far end.",
)

# %% [markdown]
# Both steps have the same $\frac{1}{2} s^\top F s$. The plain one lowers $L$ by 0.0389 to first
# order, the natural one by 0.0590, and no direction does better. The first is short in the
# direction in which the KL is cheap. And the true KLs, 0.024 and 0.0213, are not 0.02: the
# quadratic is an approximation, which is why there will be a line search.
#
# ## F without F
#
# Now a small GPT, in a world of three tokens and at most four steps, where all 15 states can be
# listed. $F$ can still be built here, so the trick can be checked.

# %%
world = World(reward_functions(1)["outcome-only"], response_length=4)
policy = GPTPolicy(world, generator=torch.Generator().manual_seed(1), n_embd=8)
parameters = list(policy.parameters())
theta_old = parameters_to_vector(parameters).detach().clone()  # [D]
old_logits = policy().detach()  # [K,V]
tokens_per_response = reach_probabilities(world, old_logits).sum()
surrogate = exact_surrogate(world, policy, old_logits)  # of the present parameters


def kl():
    return sequence_kl(world, old_logits, policy()) / tokens_per_response  # per token


print("states", len(world.states), "  parameters", len(theta_old), end=" ")
print("  numbers in F", len(theta_old) ** 2)

# %% [markdown]
# The product $F v$ needs two derivatives and no matrix: the gradient of the KL, kept as a graph;
# its dot product with $v$, one number; the gradient of that number,
#
# $$
# F v = \nabla \left( (\nabla \mathrm{KL})^\top v \right) . \qquad (5.4)
# $$

# %%
gradient = flat_gradient(surrogate(), parameters)


def F_damped(v, damping=0.01):
    kl_gradient = flat_gradient(kl(), parameters, create_graph=True)  # [D]
    return fisher_vector_product(
        kl_gradient=kl_gradient, parameters=parameters, vector=v, damping=damping
    )


v = torch.randn(len(theta_old), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
F = fisher_matrix(world, policy) / tokens_per_response  # [D,D], from the definition
difference = (F @ v - F_damped(v, 0.0)).abs().max()
print(f"largest entry of F v {(F @ v).abs().max():.3f}", end="   ")
print(f"largest difference to two derivatives {difference:.0e}")
print(f"largest entry of the KL's gradient {flat_gradient(kl(), parameters).abs().max():.0e}")
print("eigenvalues of F above 1e-10:", int((torch.linalg.eigvalsh(F) > 1e-10).sum()), "of", len(F))

# %% [markdown]
# Prediction 1: 906304 numbers for the matrix, and vectors of 952 for the product. The dense $F$
# came from its definition, the mean of the outer product of $\nabla \log \pi_\theta$ with itself;
# the two agree to rounding. The gradient of the KL is 0 here, as it must be at its minimum.
#
# $F$ has only 30 eigenvalues that are not 0: 15 states with 2 free probabilities each. So
# $F x = g$ has no unique solution, and $F + \text{damping} \cdot I$ takes the place of $F$.
#
# ## Conjugate gradient (optional)
#
# How does one solve $F x = g$ when $F$ can only be multiplied with? The solution is the minimum
# of $\frac{1}{2} x^\top F x - g^\top x$, whose derivative is $F x - g$. The **residual**
# $r = g - F x$ is the direction of steepest descent. Going along residuals alone zigzags: each
# step spoils a part of those before it. Conjugate gradient takes directions $p$ that do not
# disturb each other, $p_i^\top F p_j = 0$. It begins with $x = 0$ and $r = p = g$, and each
# iteration is
#
# $$
# \alpha = \frac{r^\top r}{p^\top F p}, \qquad x \leftarrow x + \alpha p, \qquad r' = r - \alpha F
# p, \qquad p \leftarrow r' + \frac{r'^\top r'}{r^\top r} p . \qquad (5.5)
# $$
#
# $\alpha$ is the length at which the minimum along $p$ is reached, and the last term makes the
# new direction conjugate to the old ones. One product with $F$ per iteration, and it may be
# stopped after a few. Written out:

# %%
x, r, p = torch.zeros_like(gradient), gradient, gradient
directions, products = [], []
for count in range(1, 11):
    Fp = F_damped(p)
    directions.append(p)
    products.append(Fp)
    alpha = (r @ r) / (p @ Fp)
    x = x + alpha * p
    new = r - alpha * Fp
    p = new + (new @ new) / (r @ r) * p
    r = new
    if count in (1, 2, 5, 10):
        print(f"{count:2d} products: |F x - g| / |g| {r.norm() / gradient.norm():.3f}")
table = torch.stack(directions) @ torch.stack(products).T  # p_i.F p_j
scale = table.diag().sqrt()
table = (table / scale / scale[:, None]).abs().fill_diagonal_(0)
print(f"largest |p_i.F p_j|, with p_i.F p_i = 1: {table.max():.0e}")
same = conjugate_gradient(F_damped, gradient, iterations=10, tolerance=0.0)
print(f"largest difference to minippo's: {(same - x).abs().max():.0e}")

# %% [markdown]
# Now the package's own, stopped after different numbers of products, against a dense solver.

# %%
dense = torch.linalg.solve(F + 0.01 * torch.eye(len(F), dtype=torch.float64), gradient)
counts = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30)
solutions = [
    conjugate_gradient(F_damped, gradient, iterations=count, tolerance=0.0) for count in counts
]
residuals = [((F_damped(x) - gradient).norm() / gradient.norm()).item() for x in solutions]
errors = [((x - dense).norm() / dense.norm()).item() for x in solutions]
for count, residual, error in zip(counts, residuals, errors):
    print(f"{count:2d} products: residual {residual:.1e}, error {error:.1e}")
missing = solutions[5] - dense
share = missing @ F @ missing / (dense @ F @ dense)
print(f"the error e at 10 products: e.F e / x.F x = {share:.3f}")

# %%
figure, axes = panels()
axes.semilogy(counts, residuals, "o-", color=DARK)
axes.semilogy(counts, errors, "s--", color=ORANGE, fillstyle="none")
name_line(axes, 2, 0.008, "residual |F x - g| / |g|")
name_line(axes, 16, 0.5, "error |x - dense| / |dense|", ORANGE)
axes.set(xlabel="products with F", ylabel="relative size")
show(
    figure,
    "Two lines that fall on a logarithmic axis, slowly at first and then fast; the residual is"
    " always below the error.",
)

# %% [markdown]
# With 30 eigenvalues that are not 0 about 30 products give the solution to many digits. With 10,
# as TRPO takes here, the residual is 3.4e-02 of $g$, and $x$ still differs from the solution by
# 4.0e-01 of its length. What is missing is in directions in which $F$ is small: measured by $F$,
# that is in KL, it is 0.010 of the solution.
#
# ## Is the direction better?
#
# The change of $J$, the true objective, along the natural gradient and along the plain one, and
# the true KL that it costs. Both steps are scaled with the quadratic approximation, for
# $\delta = 0.01$.


# %%
@torch.no_grad()
def after(step):
    """(KL, change of J, surrogate) at theta_old + step; the policy stays where it was."""
    vector_to_parameters(theta_old + step, parameters)
    gain = (objective(world, policy()) - objective(world, old_logits)).item()
    found = kl().item(), gain, surrogate().item()
    vector_to_parameters(theta_old.clone(), parameters)
    return found


settings = {"gradient": gradient, "matvec": F_damped, "iterations": 10, "tolerance": 1e-10}
natural = natural_gradient_step(delta=0.01, **settings)
plain = -gradient * torch.sqrt(2 * 0.01 / (gradient @ F_damped(gradient)))
lines = {"natural": natural, "plain": plain}
for name, s in lines.items():
    print(f"{name:<8} 1/2 s.F s {s @ F_damped(s, 0.0) / 2:.4f}", end="   ")
    print("true KL {:.4f}   change of J {:.3f}".format(*after(s)))

# %% [markdown]
# The natural step has 0.0094 and not 0.01, since the damping takes the rest. That is one length.
# Now all lengths up to three and a half times these steps.

# %%
figure, axes = panels()
for (name, s), colour, line in zip(lines.items(), (DARK, ORANGE), ("-", "--")):
    rows = [after(scale * s) for scale in torch.linspace(0, 3.5, 36)]
    axes.plot([row[0] for row in rows], [row[1] for row in rows], line, color=colour)
    print(f"{name:<8} KL and change of J at 1, 2, 3 times the step:", end=" ")
    print("   ".join(f"{rows[i][0]:.3f} {rows[i][1]:.3f}" for i in (10, 20, 30)))
name_line(axes, 0.11, 0.14, "natural")
name_line(axes, 0.034, 0.2, "plain", ORANGE)
axes.set(xlabel="true KL(old || new) per token, nats", ylabel="change of J", xlim=(0, 0.13))
show(
    figure,
    "Two rising lines from the origin, the change of J over the KL that it costs. The natural one"
    " starts steeper and then flattens; the plain one overtakes it at about a fifth of the axis.",
)

# %% [markdown]
# Near $\theta_{\text{old}}$ the natural step buys more $J$ for less KL: 0.114 for 0.0078 against
# 0.092 for 0.0107. Further out the lines cross. Being best is a statement about the first order,
# not about long steps.
#
# ## The line search
#
# $g^\top s$ and $\frac{1}{2} s^\top F s$ are approximations, so TRPO tries the step and halves it
# until the true numbers fit: it takes
#
# $$
# \theta + 2^{-k} s \quad \text{for the first } k \text{ with} \quad L < L(\theta_{\text{old}})
# \quad \text{and} \quad \mathrm{KL} \le \delta . \qquad (5.7)
# $$
#
# With exact advantages the surrogate is 0 before the step. If no length will do, nothing is
# changed.

# %%
print("delta   1/2 s.F s   full step: KL  surrogate   share taken   after: KL  surrogate")
for delta in (0.001, 0.01, 0.1, 1.0):
    s = natural_gradient_step(delta=delta, **settings)
    full_kl, _, full_loss = after(s)
    share = trpo_step(loss=surrogate, kl=kl, parameters=parameters, delta=delta, damping=0.01)
    kl_now, loss_now = kl().item(), surrogate().item()
    vector_to_parameters(theta_old.clone(), parameters)
    predicted = s @ F_damped(s, 0.0) / 2
    print(f"{delta:<6} {predicted:9.4f} {full_kl:16.4f} {full_loss:10.4f}", end=" ")
    print(f"{share:12} {kl_now:14.4f} {loss_now:10.4f}")

# %% [markdown]
# For $\delta = 0.01$ the approximation is good and the whole step is taken. For 0.1 the full step
# has a KL of 0.1405, above the bound, and half of it is taken; so it is for 1.0.
#
# Prediction 2 is about the scale of the advantages, hence of $g$. The step's length comes from
# $\delta$ alone.

# %%
ends = []
for factor in (1.0, 1000.0):
    trpo_step(
        loss=lambda: factor * surrogate(),  # noqa: B023, called before the next factor
        kl=kl,
        parameters=parameters,
        delta=0.01,
        damping=0.01,
    )
    ends.append(parameters_to_vector(parameters).detach().clone() - theta_old)
    vector_to_parameters(theta_old.clone(), parameters)
print(f"length of the step {ends[0].norm():.4f} and {ends[1].norm():.4f}")
print(f"relative difference {(ends[0] - ends[1]).norm() / ends[0].norm():.0e}")

# %% [markdown]
# Prediction 2: not at all, but for rounding. Plain gradient descent would go 1000 times as far.
#
# ## What is not promised
#
# Prediction 3. The KL bound holds, and the surrogate is better, by construction. $J$ is another
# matter: the surrogate leaves out that other tokens lead to other states, and the advantages of a
# batch are noise in part. The cell takes one step in each of 20 problems, once with exact
# advantages and expectations and once on a batch of 16 sampled responses.

# %%
counts = trpo_can_lower_the_objective(deltas=(0.01, 0.1, 1.0), seeds=range(4 if FAST else 20))
for name, row in counts.items():
    print(f"{name:<10} J falls with exact quantities in {row['exact']:2d},", end=" ")
    print(f"on a batch of 16 in {row['sampled']:2d} of {row['of']}", end="   ")
    print(f"largest KL / delta {row['largest KL / delta']:.2f}")

# %% [markdown]
# On batches of 16 with $\delta = 0.1$, $J$ falls in 5 of 20, and the KL was within its bound in
# all of them. With exact quantities and $\delta = 1$ it falls in 3: no noise, and still the
# surrogate is not $J$. The paper proves that $J$ cannot fall, but of another method: one with
# exact advantages and, in the place of the bound, a penalty on the largest KL of any state, with
# a constant that nobody uses.
#
# For these counts $F x = g$ is solved to the last digits. With the usual ten products they would
# depend on rounding: conjugate gradient enlarges differences in the last digits, and the line
# search answers yes or no, so on another machine a problem may fall on the other side.
#
# ## What would break this
#
# - No damping, and the solver run to its end: where $F$ is nearly 0 the KL looks free, so the
#   step goes far there. To second order all is well; the true KL and $J$ say otherwise.

# %%
for damping, iterations in ((0.01, 10), (0.0, 10), (0.0, 100), (100.0, 10)):
    s = natural_gradient_step(
        gradient=gradient,
        matvec=lambda v: F_damped(v, damping),  # noqa: B023, called before the next damping
        delta=0.01,
        iterations=iterations,
        tolerance=0.0,
    )
    kl_now, gain, _ = after(s)
    print(f"damping {damping:<5} {iterations:3d} products: length {s.norm():5.2f}", end="  ")
    print(f"1/2 s.F s {s @ F_damped(s, 0.0) / 2:.4f}  KL {kl_now:.4f}", end="  ")
    cosine = torch.cosine_similarity(s, -gradient, dim=0)
    print(f"change of J {gain:6.3f}  cosine with -g {cosine:.2f}")

# %% [markdown]
# - Too much damping: $F$ no longer counts, and the step is a short one along $-g$ (the last
#   line).
# - One derivative instead of two: the gradient of the KL is 0 at $\theta_{\text{old}}$ (but for
#   rounding, see above), so its product with anything is 0.
# - Taking $F$ at parameters that have moved. There the KL is not at its minimum, and its second
#   derivative is not the Fisher matrix; conjugate gradient needs a matrix with $v^\top F v > 0$
#   for every $v$ other than 0, and says so:

# %%
vector_to_parameters(theta_old + 5 * ends[0], parameters)
try:
    conjugate_gradient(F_damped, gradient, iterations=30, tolerance=0.0)
except ValueError as error:
    print(error)
vector_to_parameters(theta_old.clone(), parameters)

# %% [markdown]
# ## Questions
#
# <details><summary>1. The constraint is on KL(old || new). Would KL(new || old) give another
# F?</summary>
#
# No. Both are 0 and at their minimum at $\theta_{\text{old}}$, and both have the Fisher matrix as
# second derivative there. They differ further out, so the line search could decide differently.
# </details>
#
# <details><summary>2. Where does the factor 1000 of prediction 2 go?</summary>
#
# $x = F^{-1} g$ is 1000 times as long, and $x^\top F x$ is $1000^2$ times as large. In
# $s = -\sqrt{2 \delta / x^\top F x} \enspace x$ the two cancel.
# </details>
#
# <details><summary>3. Why does TRPO take one step per batch and then throw the batch
# away?</summary>
#
# $F$ and $g$ are those of the policy that sampled the batch. After the step the KL to it is no
# longer at its minimum, $g$ is another one, and much of the allowed KL is spent. PPO (notebook
# 11) takes several cheap steps instead, and bounds the reward for going further.
# </details>
#
# ## Exercise
#
# Write the product $F v + \text{damping} \cdot v$ for `vector` [N], as [N], without building $F$,
# by $F v = \nabla \left( (\nabla \mathrm{KL})^\top v \right)$. `kl` is a function of the
# parameters: `kl(theta)` is the scalar $\mathrm{KL}(\pi_{\text{old}} \Vert \pi_\theta)$, twice
# differentiable, and 0 at the `theta` [N] that you are given. `theta` comes without a gradient:
# make a copy that asks for one. Two calls of `torch.autograd.grad` are enough; the first needs an
# option.


# %%
def my_fisher_vector_product(kl, theta, vector, damping):
    raise NotImplementedError  # your code here


# %%
from minippo.exercises.fisher_vector_product import exercise

exercise.check(my_fisher_vector_product)

# %% [markdown]
# ## References
#
# - Schulman et al. 2015, *Trust Region Policy Optimization*, arXiv:1502.05477: the surrogate, the
#   bound, and in appendix C the solver and the line search.
# - Kakade 2001, *A Natural Policy Gradient*: the direction $F^{-1} g$.
# - Hestenes and Stiefel 1952, *Methods of Conjugate Gradients for Solving Linear Systems*.
# - `minippo/trpo.py`, docs/stage-5-trpo.md, and docs/qualifications.md, "TRPO improves
#   monotonically", with 50 problems for each $\delta$.
#
# Next: [11 The clipped objective](11_clipped_objective.ipynb).
