# %% [markdown]
# # Lesson 3: Algorithm 1 from scratch in 60 lines
#
# *About 30 minutes. You need: lesson 1, and densities of random numbers.*
#
# A generative adversarial network (GAN) is a game of two networks. The **generator** G turns random numbers z
# into data. The **discriminator** D looks at data, and estimates the probability that they are real and not
# made by the generator. Here is the whole training, with nothing hidden. The data are single numbers, so we
# can draw everything that happens. (Goodfellow et al. 2014, "Generative adversarial nets"; the training is
# their Algorithm 1.)

# %%
import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.random import Key
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## The losses
# D ends with one number f, the *logit*. The probability is D(x) = sigmoid(f) = 1 / (1 + exp(-f)). The
# discriminator should say 1 for real data and 0 for generated data, so it minimises
#
#     L_D = -mean(log D(x)) - mean(log(1 - D(G(z))))
#
# The generator wants D to be wrong. It minimises L_G = -mean(log D(G(z))). (The paper has a second loss for
# the generator; that is the subject of lesson 5.)
#
# We compute both from logits: -log D = softplus(-f), and -log(1 - D) = softplus(f), with softplus(a) = log(1
# + exp(a)). As lesson 2 shows, a stable softplus has no problem with large logits. The plain formula
# log(sigmoid(f)) fails: for f = -1000 the sigmoid is 0 on a computer, and its logarithm is minus infinity.

# %%
with np.errstate(divide="ignore", over="ignore"):
    assert np.isinf(-np.log(1 / (1 + np.exp(1000.0))))
assert tg.softplus(1000.0).item() == 1000.0

# %% [markdown]
# ## Algorithm 1
# One round has two updates (generated data are often called "fake"):
#
# 1. **The discriminator.** Draw real data and noise. Make fake data *without a graph*, because G does not
#    change now. Compute L_D, and its gradients with respect to D's weights. Update D.
# 2. **The generator.** Draw new noise. Make fake data *with a graph*, and let D judge them. Compute L_G, and
#    its gradients with respect to G's weights. They go through D, but D does not change. Update G.
#
# A `Key` is a source of random numbers. The same key always gives the same numbers, and `key.fold(name)`
# makes a new key from it.

# %%
BATCH = 128


def real_data(n, key):
    return 2 + 0.5 * key.normal((n, 1))


def noise(n, key):
    return key.normal((n, 1))


def discriminator_loss(real_logits, fake_logits):
    return tg.mean(tg.softplus(-real_logits)) + tg.mean(tg.softplus(fake_logits))


def generator_loss(fake_logits):
    return tg.mean(tg.softplus(-fake_logits))


def networks(key):
    G = nn.Sequential(nn.Dense(1, 32), nn.Tanh(), nn.Dense(32, 1))
    D = nn.Sequential(nn.Dense(1, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh(), nn.Dense(32, 1))
    return G.initialize(key.fold("G")), D.initialize(key.fold("D"))


def train(G, D, steps, key, after_step, d_steps=1):
    g_optimizer = tg.optim.Adam(5e-4, betas=(0.5, 0.999))
    d_optimizer = tg.optim.Adam(2e-3, betas=(0.5, 0.999))
    g_optimizer.bind(G)
    d_optimizer.bind(D)
    for step in range(1, steps + 1):
        for i in range(d_steps):
            now = key.fold(step).fold(i)
            real = real_data(BATCH, now.fold("real"))
            with tg.no_grad():
                fake = G(noise(BATCH, now.fold("noise")))
            d_loss = discriminator_loss(D(real), D(fake))
            d_optimizer.step(tg.grad(d_loss, D.parameters()))
        fake = G(noise(BATCH, key.fold(step).fold("generator")))
        g_loss = generator_loss(D(fake))
        g_optimizer.step(tg.grad(g_loss, G.parameters()))
        after_step(step, d_loss.item(), g_loss.item())


# %% [markdown]
# This is all. The rest of the lesson runs it and looks at it.
#
# ## The run
# The real data are normal, with mean 2 and standard deviation 0.5. The generator does not know this. It never
# sees real data; it only gets gradients through D. We draw the densities and D(x) at four moments, as in
# figure 1 of the paper.

# %%
key = Key(0)
G, D = networks(key)
line = np.linspace(-1, 5, 301, dtype=np.float32)[:, None]
shown_noise = noise(20_000, key.fold("shown"))
moments, losses = {}, []


def generated():
    with tg.no_grad():
        return G(shown_noise).numpy().ravel()


def probabilities():
    with tg.no_grad():
        return tg.sigmoid(D(line)).numpy().ravel()


def after_step(step, d_loss, g_loss):
    losses.append((d_loss, g_loss))
    if step in (100, 400, 2000):
        moments[step] = generated(), probabilities()


moments[0] = generated(), probabilities()
train(G, D, 2000, key, after_step)

density = np.exp(-(((line.ravel() - 2) / 0.5) ** 2) / 2) / (0.5 * np.sqrt(2 * np.pi))
drawing, panels = figure(4, width=3.2, sharey=True)
for axes, (step, (points, d)) in zip(panels, moments.items(), strict=True):
    axes.hist(points, bins=100, range=(-1, 5), density=True, alpha=0.5, label="generated")
    axes.plot(line, density, label="real")
    axes.plot(line, d, "k--", label="D(x)")
    axes.set(title=f"step {step}", xlabel="x", ylim=(0, 2))
panels[0].legend()
save(drawing, "lesson-3-densities")

points, d = moments[2000]
print(f"generated: mean {points.mean():.2f}, standard deviation {points.std():.2f} (real: 2.00 and 0.50)")
print(f"D(x) is between {d[density > 0.2].min():.2f} and {d[density > 0.2].max():.2f} where most data are")
assert np.abs(d[density > 0.2] - 0.5).max() < 0.2
assert abs(points.mean() - 2) < 0.15 and abs(points.std() - 0.5) < 0.15

# %% [markdown]
# ## What the losses tell
# At the start D learns fast, because the generated numbers are far from the real ones: L_D falls. Then G
# follows, and L_D rises again. If nobody can tell real from generated data, the best that D can do is to say
# 1/2 everywhere. Then L_D = -log(1/2) - log(1/2) = 2 log 2 = 1.386, and L_G = log 2 = 0.693. The losses of
# the run end near these two numbers.
#
# So **a GAN's loss does not fall as it learns.** In the training of a single network, a falling loss means
# progress. Here each player's loss depends on how good the other one is.

# %%
losses = np.array(losses)
smooth = [np.convolve(losses[:, i], np.ones(25) / 25, mode="valid") for i in (0, 1)]
drawing, axes = figure(width=6)
axes.plot(smooth[0], label="L_D")
axes.plot(smooth[1], label="L_G")
axes.axhline(2 * np.log(2), color="black", linestyle=":", label="2 log 2 and log 2")
axes.axhline(np.log(2), color="black", linestyle=":")
axes.set(title="Losses (means of 25 steps)", xlabel="step")
axes.legend()
save(drawing, "lesson-3-losses")

last = losses[-200:].mean(0)
print(f"the lowest L_D: {smooth[0].min():.2f}; the last 200 steps: L_D {last[0]:.3f}, L_G {last[1]:.3f}")
assert smooth[0].min() < 1.0 and abs(last[0] - 2 * np.log(2)) < 0.05 and abs(last[1] - np.log(2)) < 0.1

# %% [markdown]
# ## The best discriminator
# Let p(x) be the density of the real data, and q(x) that of the generated data. For a fixed generator, the
# paper proves (proposition 1) that the best discriminator is
#
#     D*(x) = p(x) / (p(x) + q(x))
#
# We test this. The generator stays fixed and makes normal numbers with mean 3 and standard deviation 0.5.
# Only D learns. Its curve comes close to the formula wherever there are data.

# %%
_, D = networks(key.fold("best"))
d_optimizer = tg.optim.Adam(5e-3, betas=(0.9, 0.999))
d_optimizer.bind(D)
for step in range(1500):
    now = key.fold("best").fold(step)
    real, fake = real_data(512, now.fold("real")), 1 + real_data(512, now.fold("fake"))
    d_optimizer.step(tg.grad(discriminator_loss(D(real), D(fake)), D.parameters()))

q = np.exp(-(((line.ravel() - 3) / 0.5) ** 2) / 2) / (0.5 * np.sqrt(2 * np.pi))
with np.errstate(under="ignore"):
    best = density / (density + q)
learned = probabilities()
drawing, axes = figure(width=6)
axes.plot(line, density, label="p, real")
axes.plot(line, q, label="q, generated")
axes.plot(line, best, "k", alpha=0.4, linewidth=4, label="D* = p / (p + q)")
axes.plot(line, learned, "k--", label="D, learned")
axes.set(title="The best discriminator", xlabel="x")
axes.legend()
save(drawing, "lesson-3-best-discriminator")

somewhere = density + q > 0.05
print(f"where there are data, D and D* differ by at most {np.abs(learned - best)[somewhere].max():.3f}")
assert np.abs(learned - best)[somewhere].max() < 0.1

# %% [markdown]
# ## What you know now
# - Algorithm 1 is two updates in turn. In the first one the generated data are constants. In the second one D
#   is fixed, but the gradient goes through it.
# - At the end D says about 1/2 where the data are, and the losses are near 2 log 2 and log 2. A loss alone
#   does not tell whether a GAN is good.
#
# Next: lesson 4 looks closely at the gradients of both updates.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions. Use tinygan.
#
# 1. `smoothed_loss(real_logits, fake_logits, target)`: the discriminator's loss, if real data have the target
#    t instead of 1: L_D = -mean(t log D(x) + (1 - t) log(1 - D(x))) - mean(log(1 - D(G(z)))). You get logits
#    as Tensors; return a Tensor. The loss should be right for logits such as 1000 and -1000 as well.
#    (Salimans et al. 2016 use t = 0.9.)
# 2. `one_round(G, D, g_optimizer, d_optimizer, reals, d_noises, g_noise)`: one round of Algorithm 1 with
#    `len(reals)` updates of D, then one of G, with the losses of this lesson. `reals[i]` and `d_noises[i]`
#    belong to update i of D. The optimisers are bound already. Return nothing.
# 3. `best_discriminator(p, q, n_real, n_fake)`: suppose that L_D has *sums* over n_real real and n_fake
#    generated examples, and not means. What is the best D(x) then? p and q are arrays of the densities at
#    some points. Return an array. (Which D minimises -n_real p log D - n_fake q log(1 - D)?)
#
# Then run `tinygan lesson check 3 my_answer.py`.
