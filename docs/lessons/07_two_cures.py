# %% [markdown]
# # Lesson 7: two cures of collapse
#
# *About 30 minutes. You need: lesson 6.*
#
# In lesson 6 a generator collapsed, and you saw why: the discriminator judges each point alone, and the
# generator does not count on the discriminator's reaction. There is a cure for each of the two reasons:
#
# 1. **Minibatch discrimination** (Salimans et al. 2016): the discriminator sees the other points of the
#    batch, too.
# 2. **Unrolling** (Metz et al. 2017): the generator looks a few of the discriminator's updates ahead.
#
# This lesson trains three GANs, which takes less than a minute.

# %%
import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.random import Key
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## The same game three times
# Data and networks are those of lesson 6. The generator learns ten times as fast as the discriminator (in
# lesson 6 it was thirty times). `UnrolledGAN` with `unroll_steps=0` is the plain GAN.
#
# The layer `MinibatchDiscrimination` takes the features h_i of every point, and projects them to a few
# numbers m_i. It appends to h_i the mean over the other points j of exp(-|m_i - m_j|), where |.| is the sum
# of absolute values. This number is near 1 if the others are near, and near 0 if they are far away. It is
# done for several projections. So the discriminator can learn "many equal points: generated".
#
# In the figure, both cures spread the points over the modes, and the plain GAN does not. (After 900 steps
# many points still lie between the modes. The game is not finished.)

# %%
key = Key(0)
ring = tg.data.gaussian_ring(modes=8, radius=2.0, sigma=0.1)


def discriminator_of(pairs):
    if pairs:
        return nn.Sequential(
            nn.Dense(2, 64), nn.ReLU(),
            nn.MinibatchDiscrimination(64, kernels=10, dimensions=4, average=True),
            nn.Dense(74, 1))
    return nn.Sequential(nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 64), nn.ReLU(), nn.Dense(64, 1))


def game(unroll_steps, pairs):
    generator = nn.Sequential(nn.Dense(16, 64), nn.ReLU(), nn.Dense(64, 64), nn.ReLU(), nn.Dense(64, 2))
    return tg.gans.UnrolledGAN(
        generator, discriminator_of(pairs), latent_dim=16, unroll_steps=unroll_steps, rematerialize=False, key=key,
        cost="non-saturating", g_optimizer=tg.optim.Adam(3e-3, betas=(0.5, 0.999)),
        d_optimizer=tg.optim.Adam(3e-4, betas=(0.5, 0.999)))


def effective_modes(points):
    """exp(entropy) of the shares of the eight modes, as in lesson 6."""
    nearest = np.linalg.norm(points[:, None] - ring.centres, axis=2).argmin(1)
    p = np.bincount(nearest, minlength=8) / len(points)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


games = {"plain": game(0, False), "minibatch discrimination": game(0, True), "5 updates ahead": game(5, False)}
STEPS, EVERY = 900, 30
points, modes = {}, {}
for name, gan in games.items():
    modes[name] = []
    for step in range(1, STEPS + 1):
        gan.step(ring.sample(128, key.fold("data").fold(step)))
        if step % EVERY == 0:
            points[name] = gan.sample(500)
            modes[name].append(effective_modes(points[name]))
    print(f"{name:<25} effective modes, mean of the last ten looks: {np.mean(modes[name][-10:]):.1f} of 8")

drawing, panels = figure(4, width=3.2, height=3.2)
for axes, (name, found) in zip(panels, points.items(), strict=False):
    axes.plot(*found.T, ".", markersize=3)
    axes.set(title=f"{name}, step {STEPS}", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
for name, found in modes.items():
    panels[3].plot(range(EVERY, STEPS + 1, EVERY), found, label=name)
panels[3].set(title="Effective number of modes", xlabel="step", ylim=(0, 8.2))
panels[3].legend()
save(drawing, "lesson-7-three-games")

late = {name: np.mean(found[-10:]) for name, found in modes.items()}
assert late["plain"] < 5 and late["minibatch discrimination"] > 6 and late["5 updates ahead"] > 6

# %% [markdown]
# ## Cure 1: points hear about each other
# How does a point's gradient depend on the others? For a discriminator that judges each point alone, the
# logit f_i depends on x_i only. With minibatch discrimination it depends on all points. The figure shows the
# matrix |df_i / dx_j| for the first 24 generated points. Without the layer it is diagonal.
#
# With the layer, L_G = mean of softplus(-f_i) has gradients across the batch: moving x_j changes f_i. This is
# what was missing in lesson 6. "You are too many" can now be said.


# %%
def cross_talk(discriminator, x):
    leaf = tg.Tensor(x, requires_grad=True)
    logits = discriminator(leaf)
    rows = [tg.grad(logits[i], leaf, retain_graph=True).numpy() for i in range(len(x))]
    return np.linalg.norm(np.stack(rows), axis=2)


batch = points["minibatch discrimination"][:24]
matrices = {name: cross_talk(games[name].discriminator, batch) for name in ("plain", "minibatch discrimination")}
drawing, panels = figure(2, width=4.5, height=4.4)
for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
    shown = axes.imshow(matrix / matrix.max(), cmap="Purples", vmin=0, vmax=0.5)
    axes.set(title=name, xlabel="j: the point that moves", ylabel="i: the logit that changes")
drawing.colorbar(shown, ax=panels, label="|df_i / dx_j| / largest")
save(drawing, "lesson-7-cross-talk")

off = {name: (matrix - np.diag(np.diag(matrix))).sum() / matrix.sum() for name, matrix in matrices.items()}
print("share of the matrix off the diagonal:", {name: round(float(share), 2) for name, share in off.items()})
assert off["plain"] == 0 and off["minibatch discrimination"] > 0.1

# %% [markdown]
# ## Cure 2: count on the answer
# Let theta_0 be the discriminator's weights now, and theta_1, ..., theta_K those after its next K updates.
# These updates depend on the generated points: if the points move, the discriminator will answer. The
# unrolled generator minimises L_G(theta_K, G(z)). Its gradient with respect to the points has two parts:
#
#     d L_G / dG(z)   with theta_K as a constant          +   (d L_G / d theta_K) (d theta_K / dG(z))
#     "where is the later discriminator fooled?"              "how will my move change the discriminator?"
#
# The second part needs the derivative of the discriminator's updates. They contain gradients, so it is a
# gradient of gradients (`create_graph=True`).
#
# We take a heap at one centre, and a discriminator that has learned about this heap. We draw the negative of
# three gradients: of the plain L_G, of L_G at theta_K with theta_K as a constant, and with both parts. (Each
# picture has a scale of its own for the arrows.)

# %%
K = 5
heap = ring.centres[0] + np.float32(0.1) * key.fold("heap").normal((128, 2))


def judge(steps_ahead, truncate):
    """A discriminator that has learned about the heap; then the gradient of L_G by the points."""
    gan = tg.gans.UnrolledGAN(
        nn.Dense(2, 2), discriminator_of(False), latent_dim=2, unroll_steps=steps_ahead, truncate=truncate, key=key,
        cost="non-saturating", d_optimizer=tg.optim.Adam(3e-3, betas=(0.5, 0.999)))
    for step in range(100):
        batch = gan.discriminator_batch(ring.sample(128, key.fold("judge").fold(step)), heap)
        loss, *_ = gan.d_loss(gan.discriminator, batch)
        gan.d_optimizer.step(tg.grad(loss, gan.d_parameters))
    _, by_points = gan.look_ahead(ring.sample(128, key.fold("ahead"))).rematerialized(heap)
    return -by_points


arrows = {"plain (K = 0)": judge(0, 0), f"K = {K}, theta_K constant": judge(K, 0), f"K = {K}, both parts": judge(K, K)}
drawing, panels = figure(3, width=3.6, height=3.6)
for axes, (name, found) in zip(panels, arrows.items(), strict=True):
    axes.quiver(*heap.T, *found.T)
    axes.set(title=name, aspect="equal", xlim=(1.5, 2.5), ylim=(-0.5, 0.5))
save(drawing, "lesson-7-arrows")

constant, both = arrows[f"K = {K}, theta_K constant"], arrows[f"K = {K}, both parts"]
change = np.linalg.norm(both - constant) / np.linalg.norm(constant)
print(f"the second part is {change:.2f} times as large as the first")
assert change > 0.05

# %% [markdown]
# ## What they cost
# - Minibatch discrimination compares all pairs of a batch. It needs one layer more. It couples the examples
#   of a batch, so penalties that look at each example alone (lesson 9) do not go together with it.
# - Unrolling makes K updates of a copy of the discriminator for one of the generator, and goes back through
#   them. Time grows with K.
#
# `docs/mode-collapse.md` has the same comparison on images of digits.
#
# ## What you know now
# - A discriminator that sees pairs can say "too many equal ones". Its matrix df_i / dx_j is not diagonal.
# - An unrolled generator counts on the answer to its move. This needs gradients through updates.
#
# Next: lesson 8 on convolutions, then lesson 9 on gradients of gradients.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions.
#
# 1. `similarity(m)`: m (N, C), the projections of N points, a NumPy array. Return an array (N,): for each i
#    the sum over all j except i of exp(-sum over c of |m[i, c] - m[j, c]|). Use NumPy only.
# 2. `cross_talk_share(D, x)`: D is a module with logits (N, 1), x an array (N, 2). Return which share of the
#    matrix |df_i / dx_j| lies off the diagonal: the sum of the entries with i different from j, divided by
#    the sum of all entries.
# 3. `look_ahead(d_loss, g_loss, theta, fake, rate, K)`: theta and fake are arrays. `d_loss(theta, fake)` and
#    `g_loss(theta, fake)` take Tensors and return a Tensor with one number. Make K updates theta <- theta -
#    rate * d(d_loss)/d(theta), starting from theta. Return the gradient of g_loss at the last theta with
#    respect to fake: both parts.
#
# Then run `tinygan lesson check 7 my_answer.py`.
