# %% [markdown]
# # Lesson 5: saturation, and the three costs of the generator
#
# *About 20 minutes. You need: lessons 3 and 4.*
#
# In lesson 4 you saw that the generator learns from arrows, the gradients dL_G/dG(z). Now we ask how long
# these arrows are. If the discriminator is too good, they can become so short that the generator stops
# learning. The choice of L_G decides this.

# %%
import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.random import Key
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## Three costs
# Let f be the logit of a generated example, and D = sigmoid(f) the probability that it is real, as the
# discriminator sees it. The generator wants a large f. Three costs that it can minimise, all from
# Goodfellow's papers of 2014 and 2016:
#
# | cost | by D | by the logit f | slope: derivative with respect to f |
# | --- | --- | --- | --- |
# | minimax | log(1 - D) | -softplus(f) | -D |
# | non-saturating | -log D | softplus(-f) | -(1 - D) |
# | maximum likelihood | -D / (1 - D) | -exp(f) | -exp(f) |
#
# All three slopes are negative: a larger f is better for every one of them. Only the *sizes* of the slopes
# differ. We let `tg.grad` confirm the table.

# %%
COSTS = {
    "minimax": lambda f: -tg.softplus(f),
    "non-saturating": lambda f: tg.softplus(-f),
    "maximum likelihood": lambda f: -tg.exp(f),
}

f = np.linspace(-6, 3, 181)
D = 1 / (1 + np.exp(-f))
book = {"minimax": -D, "non-saturating": -(1 - D), "maximum likelihood": -np.exp(f)}
leaf = tg.Tensor(f, requires_grad=True)
slopes = {name: tg.grad(tg.sum(cost(leaf)), leaf).numpy() for name, cost in COSTS.items()}
for name in COSTS:
    np.testing.assert_allclose(slopes[name], book[name], rtol=1e-10)

drawing, (left, right) = figure(2)
for name, cost in COSTS.items():
    left.plot(f, cost(f), label=name)
    right.semilogy(f, -slopes[name], label=name)
left.set(title="Cost", xlabel="logit f", ylim=(-6, 6.5))
right.set(title="Size of the slope", xlabel="logit f")
left.legend()
right.legend()
save(drawing, "lesson-5-costs")
assert round(slopes["non-saturating"][0] / slopes["minimax"][0]) == 403

# %% [markdown]
# The left end of the right picture is what happens early in a training: G is bad, and D knows it. There f is
# far below 0. The minimax slope is almost 0: this cost is *saturated*. The maximum-likelihood slope is almost
# 0, too. The non-saturating slope is nearly -1, its full size.
#
# How much shorter is the minimax arrow? D / (1 - D) = exp(f). So at f = -6 the minimax arrow is exp(6), about
# 403, times shorter than the non-saturating one.
#
# ## Same direction, other length
# By the chain rule, the arrow of one example x is (slope at f) times (df/dx). The second factor does not
# depend on the cost. So **for a single example all three arrows have the same direction**, and only their
# lengths differ. We test it with a discriminator of random weights.

# %%
key = Key(0)


def discriminator(key):
    return nn.Sequential(nn.Dense(2, 32), nn.Tanh(), nn.Dense(32, 1)).initialize(key)


def generator(key):
    return nn.Sequential(nn.Dense(2, 32), nn.Tanh(), nn.Dense(32, 2)).initialize(key)


def real_points(key, n=256):
    return 0.3 * key.normal((n, 2)) + np.array([3, 2], np.float32)


some = discriminator(key.fold("some"))
x = tg.Tensor(key.fold("x").normal((5, 2)), requires_grad=True)
arrows = {name: tg.grad(tg.sum(cost(some(x))), x).numpy() for name, cost in COSTS.items()}
logits = some(x).numpy()
np.testing.assert_allclose(arrows["minimax"], arrows["non-saturating"] * np.exp(logits), rtol=1e-3, atol=1e-6)
np.testing.assert_allclose(arrows["maximum likelihood"], arrows["minimax"] * (1 + np.exp(logits)), rtol=1e-3, atol=1e-6)

# %% [markdown]
# The last line of this test uses exp(f) = D (1 + exp(f)). It says: where D is sure that an example is
# generated, exp(f) is tiny, and the maximum-likelihood arrow is almost the minimax arrow. Where D is fooled,
# the maximum-likelihood arrow is far longer.
#
# ## Watch the generator's gradient vanish
# Now a real discriminator. G has random weights and does not move. D learns to tell its points from the data.
# After each of D's updates we compute the gradient of G's weights for all three costs, and draw its norm. L_G
# is the mean over 256 points.
#
# At first all three grow: D(x) changes more and more from place to place, so df/dx grows. Then the logits of
# the generated points fall, and two of the three gradients vanish.

# %%
G, D = generator(key.fold("G")), discriminator(key.fold("D"))
z = key.fold("z").normal((256, 2))
with tg.no_grad():
    fake = G(z).numpy()


def d_loss(D, real, fake):
    return tg.mean(tg.softplus(-D(real))) + tg.mean(tg.softplus(D(fake)))


def norm(gradients):
    return float(np.sqrt(sum((g.numpy() ** 2).sum() for g in gradients)))


optimizer = tg.optim.Adam(1e-2, betas=(0.5, 0.999))
optimizer.bind(D)
norms, typical = {name: [] for name in COSTS}, []
for step in range(300):
    for name, cost in COSTS.items():
        norms[name].append(norm(tg.grad(tg.mean(cost(D(G(z)))), G.parameters())))
    with tg.no_grad():
        typical.append(tg.mean(D(fake)).item())
    optimizer.step(tg.grad(d_loss(D, real_points(key.fold("real").fold(step)), fake), D.parameters()))

drawing, (left, right) = figure(2)
left.plot(typical)
left.set(title="Mean logit of the generated points", xlabel="D's updates")
for name, values in norms.items():
    right.semilogy(values, label=name)
right.set(title="Norm of G's gradient", xlabel="D's updates")
right.legend()
save(drawing, "lesson-5-vanishing")

for name in COSTS:
    first, largest, last = norms[name][0], max(norms[name]), norms[name][-1]
    print(f"{name:<18} gradient at first {first:.2e}, largest {largest:.2e}, after 300 updates of D {last:.2e}")
for name in ("minimax", "maximum likelihood"):
    assert norms[name][-1] < 0.1 * max(norms[name])
assert norms["non-saturating"][-1] > 5 * norms["non-saturating"][0]
assert norms["non-saturating"][-1] > 100 * norms["minimax"][-1]

# %% [markdown]
# ## What it means for learning
# We start from this moment: D had 300 updates more than G. Then both learn, with the minimax cost or with the
# non-saturating one. G uses plain gradient descent (SGD), so a short arrow means a small step. The figure
# shows the distance between the means of the generated and the real points. With the minimax cost G hardly
# moves at first. Its gradient is small but not 0, so it gets away later.
#
# Adam divides each gradient by a mean of its recent sizes. So it hides a part of this problem. But it cannot
# change how much each example of the batch counts. This is the next point.

# %%
head_start = D.state_dict()
drawing, axes = figure(width=6)
distance = {}
for name in ("minimax", "non-saturating"):
    G, D = generator(key.fold("G")), discriminator(key.fold("D"))
    D.load_state_dict(head_start)
    g_optimizer, d_optimizer = tg.optim.SGD(0.05), tg.optim.SGD(0.05)
    g_optimizer.bind(G)
    d_optimizer.bind(D)
    distance[name] = []
    for step in range(300):
        now = key.fold("play").fold(step)
        with tg.no_grad():
            made = G(now.fold("z").normal((256, 2)))
        distance[name].append(float(np.linalg.norm(made.numpy().mean(0) - [3, 2])))
        d_optimizer.step(tg.grad(d_loss(D, real_points(now), made), D.parameters()))
        loss = tg.mean(COSTS[name](D(G(now.fold("other z").normal((256, 2))))))
        g_optimizer.step(tg.grad(loss, G.parameters()))
    axes.plot(distance[name], label=name)
    print(f"{name:<18} distance at first {distance[name][0]:.2f}, after 50 steps {distance[name][50]:.2f}")
axes.set(title="After a head start of D", xlabel="step", ylabel="|mean of G(z) - mean of the data|")
axes.legend()
save(drawing, "lesson-5-head-start")

moved = {name: values[0] - values[50] for name, values in distance.items()}
assert moved["non-saturating"] > 3 * abs(moved["minimax"])

# %% [markdown]
# ## Who is heard?
# A batch has 256 points, and L_G is a mean. The slope at each point's logit is the weight of its vote. We
# compute the *effective number* of points, (sum of weights)^2 / (sum of squared weights): it is 256 if all
# weights are equal, and 1 if one point decides alone. The logits below are normal, with mean -2 and standard
# deviation 2.

# %%
f = tg.Tensor(-2 + 2 * key.fold("f").normal((256,), dtype=np.float64), requires_grad=True)
effective = {}
for name, cost in COSTS.items():
    votes = tg.grad(tg.mean(cost(f)), f).numpy()
    effective[name] = votes.sum() ** 2 / (votes**2).sum()
    print(f"{name:<18} {effective[name]:5.0f} of 256 points decide")
assert effective["maximum likelihood"] < effective["minimax"] < effective["non-saturating"]
assert effective["maximum likelihood"] < 40 and effective["non-saturating"] > 200

# %% [markdown]
# With maximum likelihood, a few points that already fool D get nearly all the weight. The non-saturating cost
# gives most weight to the worst points. It is the usual choice, because its arrows are long at the start
# (Goodfellow et al. 2014, section 3).
#
# ## What you know now
# - The costs give the same directions and different lengths. The ratio of non-saturating to minimax is
#   exp(-f).
# - If D is far ahead, the minimax gradient vanishes, and so does that of maximum likelihood.
#
# Next: lesson 6, where the arrows are long enough and yet all point to the same place.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions.
#
# 1. `slopes(f)`: the three derivatives at the logits f, a float64 array. Return a tuple of three arrays
#    (minimax, non-saturating, maximum likelihood). Use NumPy only. The first two should be right for f = 800
#    and f = -800 as well, without a NaN.
# 2. `logit_for_ratio(r)`: at which logit is the size of the non-saturating slope r times that of the minimax
#    slope?
# 3. `saturation(cost)`: `cost` takes a Tensor of logits and returns a Tensor of the same shape, as in this
#    lesson. Return (size of the slope at f = -10) / (size of the slope at f = 0). Use `tg.grad`. It is nearly
#    0 for a cost that saturates.
#
# Then run `tinygan lesson check 5 my_answer.py`.
