# %% [markdown]
# # Lesson 6: collapse
#
# *About 20 minutes. You need: lessons 3 to 5.*
#
# A generator is asked for data that its discriminator takes for real. Nobody asks it for *all* the data. In
# this lesson a generator makes only one kind of point, then another kind, and so on. This is called **mode
# collapse**. You see it happen, and you find the reason in the gradients.

# %%
import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.random import Key
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## The data
# Eight small clouds of points on a circle. Each cloud is one *mode* of the data, and all have the same number
# of points. With images, a mode is a kind of image, such as the digit 7.
#
# A usual way to count: a mode is covered if a generated point lies within three standard deviations of its
# centre. But then a single lucky point counts as much as a thousand. So we also compute the **effective
# number of modes**. Each generated point is counted for the nearest centre. Let p_i be the share of points at
# centre i. The effective number is exp(-sum p_i log p_i): 8 for equal shares, 1 if all points are at one
# centre.

# %%
key = Key(0)
ring = tg.data.gaussian_ring(modes=8, radius=2.0, sigma=0.1)


def shares(points):
    distances = np.linalg.norm(points[:, None] - ring.centres, axis=2)
    return np.bincount(distances.argmin(1), minlength=8) / len(points)


def effective_modes(points):
    p = shares(points)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


real = ring.sample(1000, key.fold("real"))
covered = tg.metrics.mixture_coverage(real, ring.centres, ring.sigma)
print(f"1000 real points: {covered.modes} modes covered, effective number {effective_modes(real):.2f}")
assert covered.modes == 8 and effective_modes(real) > 7.8

# %% [markdown]
# ## The game
# We use the vanilla GAN with the non-saturating cost. The generator learns thirty times as fast as the
# discriminator. This makes it easy to see the collapse: the generator can run to the best place of the
# moment, before the discriminator has changed.

# %%
generator = nn.Sequential(nn.Dense(16, 64), nn.ReLU(), nn.Dense(64, 64), nn.ReLU(), nn.Dense(64, 2))
discriminator = nn.Sequential(nn.Dense(2, 64), nn.ReLU(), nn.Dense(64, 64), nn.ReLU(), nn.Dense(64, 1))
gan = tg.gans.VanillaGAN(
    generator, discriminator, latent_dim=16, cost="non-saturating", key=key,
    g_optimizer=tg.optim.Adam(3e-3, betas=(0.5, 0.999)), d_optimizer=tg.optim.Adam(1e-4, betas=(0.5, 0.999)))

STEPS, EVERY = 1000, 20
side = np.linspace(-3.5, 3.5, 57, dtype=np.float32)
plane = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def arrows_at(points):
    """-dL_G/dG(z) for the present discriminator, if G(z) were these points."""
    x = tg.Tensor(points, requires_grad=True)
    return -tg.grad(tg.mean(tg.softplus(-discriminator(x))), x).numpy()


looks, modes, losses, arrows, surfaces = {}, [], [], [], []
for step in range(1, STEPS + 1):
    stats = gan.step(ring.sample(128, key.fold("data").fold(step)))
    losses.append((stats.d_loss, stats.g_loss))
    if step % EVERY == 0:
        looks[step] = gan.sample(500)
        modes.append(effective_modes(looks[step]))
        arrows.append(arrows_at(looks[step]))  # for later
        with tg.no_grad():
            surfaces.append(tg.sigmoid(discriminator(plane)).numpy().reshape(len(side), len(side)))

drawing, panels = figure(6, width=2.4, height=2.9, sharex=True, sharey=True)
for axes, step in zip(panels, (500, 600, 700, 800, 900, 1000), strict=True):
    axes.plot(*real.T, ".", color="lightgrey", markersize=2)
    axes.plot(*looks[step].T, ".", markersize=3)
    axes.set(title=f"step {step}", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
save(drawing, "lesson-6-points")

print(f"effective number of modes in the second half: mean {np.mean(modes[len(modes) // 2:]):.1f} of 8")
assert np.mean(modes[len(modes) // 2:]) < 3

# %% [markdown]
# ## It does not stay where it is
# Most of the time the points are in one heap, and the heap moves on. As soon as the generator makes only one
# kind of point, the discriminator learns to refuse this kind. Then another place becomes the best one, and
# the generator goes there. The game runs in circles and does not end.
#
# The upper picture shows the shares of the eight modes over time: one column is one moment. Below are the
# losses. With a perfect generator the losses would be L_D = 2 log 2 = 1.386 and L_G = log 2 = 0.693, as in
# lesson 3. This generator makes few of the eight kinds of points at a time, and its losses are near the same
# two numbers. **The losses do not show the collapse.** You have to look at the samples.

# %%
drawing, (upper, lower) = figure(1, 2, width=7, height=2.8)
table = np.stack([shares(points) for points in looks.values()], axis=1)
upper.imshow(table, aspect="auto", cmap="Purples", vmin=0, vmax=1, extent=(0, STEPS, 7.5, -0.5))
upper.set(title="Share of each mode", xlabel="step", ylabel="mode")
lower.plot(np.array(losses), label=["L_D", "L_G"])
lower.set(title="Losses", xlabel="step")
lower.legend()
save(drawing, "lesson-6-moving-on")

favourites = table.argmax(0)
changes = int((np.diff(favourites) != 0).sum())
print(f"the favourite mode changed {changes} times; {len(set(favourites))} of the 8 modes were it at some time")
assert changes >= 5 and len(set(favourites)) >= 3
late = np.mean(losses[STEPS // 2:], axis=0)
print(f"mean losses of the second half: L_D {late[0]:.2f}, L_G {late[1]:.2f}")
assert abs(late[0] - 2 * np.log(2)) < 0.15 and abs(late[1] - np.log(2)) < 0.15

# %% [markdown]
# ## The reason, seen in the gradients
# During the run we kept the arrows -dL_G/dG(z) of lesson 4. The discriminator looks at each point alone. So
# the arrow of a point is the same, whether the generator makes this point once or makes all its points there.
# No arrow says "you are too many". We test it: the arrow of one point alone is the arrow that it has in the
# whole heap. (L_G is a mean over N points, so arrows in the heap are N times shorter. We multiply them by N.)
#
# While a heap moves to a new place, the slope of D is nearly the same everywhere in the heap. Then all points
# get nearly the same arrow, and the heap moves as a whole. We measure it. The *own part* of the arrows is
# what is left when the mean arrow is taken away. Its share is the norm of the own part divided by the norm of
# all arrows: 0 if all arrows are equal, 1 if they cancel. The figure shows the moment with the smallest
# share. At other moments the arrows differ more.

# %%
heap = gan.sample(500)
together, alone = len(heap) * arrows_at(heap), np.concatenate([arrows_at(heap[i:i + 1]) for i in range(20)])
np.testing.assert_allclose(together[:20], alone, rtol=1e-3, atol=1e-5)
print("the arrows of 20 points are the same in the heap of 500 and alone")


def own_share(arrows):
    return np.linalg.norm(arrows - arrows.mean(0)) / np.linalg.norm(arrows)


half = len(arrows) // 2
own = np.array([own_share(found) for found in arrows[half:]])
print(f"share of the own part in the second half: smallest {own.min():.2f}, median {np.median(own):.2f}")
assert own.min() < 0.6

look = half + int(own.argmin())
step, pushes = list(looks)[look], arrows[look]
drawing, axes = figure(width=6, height=5)
levels = axes.contourf(side, side, surfaces[look], levels=20, cmap="PuOr")
drawing.colorbar(levels, ax=axes, label="D(x)")
axes.plot(*real.T, ".", color="grey", markersize=2)
some = slice(0, 500, 10)
axes.quiver(*looks[step][some].T, *pushes[some].T)
axes.set(title=f"Step {step}: the heap moves as a whole", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
save(drawing, "lesson-6-heap")

# %% [markdown]
# ## The best answer is one point
# Suppose that D is fixed. Which points should the generator make, to get the smallest L_G = mean(-log
# D(G(z)))? A mean is smallest if every term is smallest. So it should make the single point where D(x) is
# largest, again and again. **A collapsed generator is the right answer to the question that a fixed
# discriminator asks.** It moves on only because D changes, and the generator does not count on that. Lesson 7
# changes the question.
#
# ## What you know now
# - Mode collapse: few kinds of data at a time, and often it moves from one to the next.
# - The losses do not show it. Count modes.
# - A discriminator that judges each point alone cannot tell a heap that it is too large.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions. Use NumPy only.
#
# 1. `modes_covered(points, centres, sigma)`: points (N, 2), centres (M, 2). How many centres have at least
#    one point within the distance 3 sigma? Return a whole number.
# 2. `effective_modes(counts)`: how many points were counted for each mode, an array of whole numbers (some
#    may be 0). Return exp(-sum p_i log p_i).
# 3. `best_response(f, c)`: a generator may put its points on N places with the logits f (N,). It chooses the
#    probabilities q (N,) of the places, so that L_G - c H(q) is smallest, where L_G = sum q_i softplus(-f_i),
#    and H(q) = -sum q_i log q_i is larger if the points are spread more. Return q for a bonus c > 0, and for
#    c = 0 as well. (At the minimum, the derivative with respect to each q_i is the same number, because the
#    q_i add up to 1.)
#
# Then run `tinygan lesson check 6 my_answer.py`.
