# %% [markdown]
# # Lesson 9: gradients of gradients
#
# *About 30 minutes. You need: lessons 2, 4 and 7.*
#
# Sometimes a loss contains a gradient. To minimise it, we need the gradient of a gradient. GANs have two such
# cases: **gradient penalties**, which keep the discriminator from becoming too steep, and **unrolling**,
# which you saw in lesson 7. In this lesson you see what they do in a very small GAN, and which mistake makes
# a penalty do nothing at all.

# %%
import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.random import Key
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## A GAN of two numbers
# The data are a single point, x = 0. The generator makes a single point, theta. The discriminator's logit is
# f(x) = psi x, with one weight psi (the "Dirac-GAN" of Mescheder, Geiger and Nowozin 2018). We take the
# minimax game of lesson 5:
#
#     L_D = softplus(-psi * 0) + softplus(psi * theta)          L_G = -softplus(psi * theta)
#
# The best that can happen is theta = 0: the generated point is the real one. Then psi = 0 is best, too. Does
# the training get there? We start at theta = 1, psi = 0, and update the players in turn.

# %%
RATE, STEPS = 0.2, 300


def d_loss(psi, theta):
    return tg.softplus(-psi * 0.0) + tg.softplus(psi * theta)


def g_loss(psi, theta):
    return -tg.softplus(psi * theta)


def number(value):
    return tg.Tensor(value, requires_grad=True, dtype=np.float64)


def play(penalty=0.0, g_gradient=None):
    """The path of (theta, psi)."""
    theta, psi, path = 1.0, 0.0, [(1.0, 0.0)]
    for _ in range(STEPS):
        weight = number(psi)
        loss = d_loss(weight, theta)
        if penalty:
            x = number(0.0)  # the real point
            slope = tg.grad(weight * x, x, create_graph=True)  # df/dx at the real point, with a graph
            loss = loss + penalty / 2 * slope * slope
        psi -= RATE * tg.grad(loss, weight).item()
        if g_gradient is None:
            point = number(theta)
            theta -= RATE * tg.grad(g_loss(psi, point), point).item()
        else:
            theta -= RATE * g_gradient(psi, theta)
        path.append((theta, psi))
    return np.array(path)


plain = play()
distance = np.linalg.norm(plain, axis=1)
print(f"distance from (0, 0): at first {distance[0]:.2f}, after {STEPS} steps {distance[-1]:.2f}, "
      f"never below {distance.min():.2f}")
assert distance.min() > 0.9

# %% [markdown]
# It does not: the two numbers run in a circle (left picture below). If theta is on the right, the
# discriminator learns that small x is better. So theta goes to the left, passes 0, and the discriminator has
# to turn around. This takes time, and in this time theta runs away on the other side.
#
# ## R1: a penalty on the slope
# At theta = 0 the discriminator should be flat, so that the generator stays. The penalty **R1** of the same
# paper asks for this. It adds to L_D
#
#     gamma / 2 * mean over real x of |df/dx|^2
#
# Here df/dx = psi. The loss now contains a gradient. Its derivative with respect to psi is a gradient of a
# gradient. In the code above it needs `create_graph=True`: it tells `tg.grad` to record the backward pass, so
# that the slope is a Tensor with a graph.

# %%
with_r1 = play(penalty=1.0)
print(f"with R1: distance after {STEPS} steps {np.linalg.norm(with_r1[-1]):.1e}")
assert np.linalg.norm(with_r1[-1]) < 1e-6

# %% [markdown]
# ## Unrolling
# Lesson 7's cure helps here, too. The generator looks at psi_K, the discriminator's weight after K more
# updates, and these depend on theta. Each update psi <- psi - rate dL_D/dpsi contains a gradient. With
# `create_graph=True` it can be differentiated with respect to theta.
#
# In lesson 7 the gradient had two parts. We run the game with both parts, and once more with psi_K as a
# constant. In this small game, looking ahead already helps with psi_K as a constant, but both parts together
# bring theta to 0 in fewer steps.

# %%
K = 5


def unrolled(both_parts):
    def gradient(psi, theta):
        point, weight = number(theta), number(psi)
        for _ in range(K):
            weight = weight - RATE * tg.grad(d_loss(weight, point), weight, create_graph=True)
        if not both_parts:
            weight = weight.detach()
        return tg.grad(g_loss(weight, point), point).item()

    return gradient


first_part, both_parts = play(g_gradient=unrolled(False)), play(g_gradient=unrolled(True))
paths = {"plain": plain, "R1, gamma = 1": with_r1,
         f"K = {K}, psi_K constant": first_part, f"K = {K}, both parts": both_parts}
drawing, panels = figure(4, width=3, height=3.2)
for axes, (name, path) in zip(panels, paths.items(), strict=True):
    axes.plot(*path.T, ".-", markersize=3, linewidth=0.7)
    axes.plot(0, 0, "k*")
    axes.set(title=name, xlabel="theta", ylabel="psi", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
save(drawing, "lesson-9-paths")

needed = {}
for name, path in paths.items():
    near = np.abs(path) < 0.05
    inside = near.all(1)
    needed[name] = int(np.argmax(inside)) if inside.any() else None
    print(f"{name:<22} steps until both numbers are below 0.05: {needed[name] or 'never'}")
assert needed["plain"] is None and needed["R1, gamma = 1"] is not None
assert needed[f"K = {K}, both parts"] < needed[f"K = {K}, psi_K constant"]

# %% [markdown]
# ## The mistake that makes a penalty do nothing
# Without `create_graph=True` the slope is a constant. The penalty still has the right *value*, and the loss
# looks right. But the gradient of a constant is 0. So the penalty changes nothing, and there is no error. We
# test it on a small network, whose weights' gradients we compare with central differences.

# %%
key = Key(0)
x = key.fold("x").normal((8, 2), dtype=np.float64)
W, v = key.fold("W").normal((2, 5), dtype=np.float64), key.fold("v").normal((5, 1), dtype=np.float64)


def penalty(W, create_graph):
    points = tg.Tensor(x, requires_grad=True)
    logits = tg.matmul(tg.tanh(tg.matmul(points, W)), v)
    slopes = tg.grad(tg.sum(logits), points, create_graph=create_graph)  # row i: the gradient of logit i at point i
    return tg.mean(tg.sum(slopes * slopes, axis=1)) / 2


def gradient_of_penalty(create_graph):
    weight = tg.Tensor(W, requires_grad=True)
    value = penalty(weight, create_graph)
    gradient = tg.grad(value, weight).numpy() if value.requires_grad else np.zeros_like(W)
    return value.item(), gradient


difference = np.zeros_like(W)
for index in np.ndindex(W.shape):
    ahead, behind = W.copy(), W.copy()
    ahead[index] += 1e-5
    behind[index] -= 1e-5
    difference[index] = (penalty(tg.Tensor(ahead), False) - penalty(tg.Tensor(behind), False)).item() / 2e-5

for create_graph in (True, False):
    value, gradient = gradient_of_penalty(create_graph)
    print(f"create_graph={create_graph}: penalty {value:.4f}, norm of its gradient {np.linalg.norm(gradient):.4f}, "
          f"by central differences {np.linalg.norm(difference):.4f}")
np.testing.assert_allclose(gradient_of_penalty(True)[1], difference, atol=1e-8)
assert gradient_of_penalty(False)[0] == gradient_of_penalty(True)[0] and not gradient_of_penalty(False)[1].any()

# %% [markdown]
# Why does the code take the *sum* of the logits? Its gradient with respect to the points has the gradient of
# logit i in row i, because logit i depends on point i only. With batch normalisation or minibatch
# discrimination this is not true, so tinygan refuses penalties on such networks.
#
# ## The same on a network
# Real and generated points are two clouds. A discriminator learns to tell them apart, without R1 and with it.
# Without it, D becomes steeper and steeper: it can always make its loss a little smaller by larger logits.
# With R1 the slope at the real points stays small.

# %%
real = 0.3 * key.fold("real").normal((128, 2)) + np.array([1, 0], np.float32)
fake = 0.3 * key.fold("fake").normal((128, 2)) - np.array([1, 0], np.float32)


def slopes_at(D, points, create_graph=False):
    leaf = tg.Tensor(points, requires_grad=True)
    return tg.grad(tg.sum(D(leaf)), leaf, create_graph=create_graph)


def learn(gamma):
    D = nn.Sequential(nn.Dense(2, 64), nn.Tanh(), nn.Dense(64, 1)).initialize(key.fold("D"))
    optimizer = tg.optim.Adam(5e-3, betas=(0.5, 0.999))
    optimizer.bind(D)
    norms = []
    for _ in range(400):
        loss = tg.mean(tg.softplus(-D(real))) + tg.mean(tg.softplus(D(fake)))
        if gamma:
            slopes = slopes_at(D, real, create_graph=True)
            loss = loss + gamma / 2 * tg.mean(tg.sum(slopes * slopes, axis=1))
        optimizer.step(tg.grad(loss, D.parameters()))
        norms.append(np.linalg.norm(slopes_at(D, real).numpy(), axis=1).mean())
    return D, norms


side = np.linspace(-2.5, 2.5, 51, dtype=np.float32)
plane = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
drawing, panels = figure(3, width=4, height=3.4)
norms = {}
for axes, gamma in zip(panels, (0.0, 1.0), strict=False):
    D, norms[gamma] = learn(gamma)
    with tg.no_grad():
        surface = D(plane).numpy().reshape(51, 51)
    levels = axes.contourf(side, side, surface, levels=np.linspace(-10, 10, 21), cmap="PuOr", extend="both")
    axes.plot(*real.T, "k.", markersize=2)
    axes.plot(*fake.T, "w.", markersize=2)
    axes.set(title=f"D's logit, gamma = {gamma:g}")
    panels[2].plot(norms[gamma], label=f"gamma = {gamma:g}")
drawing.colorbar(levels, ax=panels[1])
panels[2].set(title="mean |df/dx| at real points", xlabel="D's updates")
panels[2].legend()
save(drawing, "lesson-9-r1")
print(f"mean slope at real points after 400 updates: {norms[0.0][-1]:.2f} without R1, {norms[1.0][-1]:.2f} with it")
assert norms[1.0][-1] < 0.5 * norms[0.0][-1] and norms[0.0][-1] > norms[0.0][100]

# %% [markdown]
# ## What you know now
# - A loss may contain gradients. `create_graph=True` makes them differentiable; without it they are
#   constants.
# - R1 makes the discriminator flat at the data, and our very small GAN then converges. Unrolling helps as
#   well.
# - This works because every vjp in tinygan is written in ops (lesson 2).
#
# This was the last lesson. `docs/house.md` shows where everything is in the code; `tinygan/gans/penalties.py`
# and `tinygan/gans/unrolled.py` have what you saw here.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions. D is a module with logits (N, 1) that looks at each point
# alone.
#
# 1. `r1(D, real)`: the penalty mean over i of |df_i/dx_i|^2 / 2 at the real points (N, 2), a NumPy array.
#    Return a Tensor that `tg.grad` can differentiate with respect to D's weights.
# 2. `gradient_penalty(D, real, fake, e)`: the penalty of WGAN-GP (Gulrajani et al. 2017): mean over i of
#    (|df_i/dx_i| - 1)^2 at the points x_i = e_i real_i + (1 - e_i) fake_i. real and fake are (N, 2), e is (N,
#    1). Return a Tensor as before. (`tg.norm(g, axis=1)` or `tg.sqrt`.)
# 3. `unrolled_gradients(psi, theta, rate, K)`: the small game with the Wasserstein losses L_D = psi theta and
#    L_G = -psi theta. Let psi_K be psi after K updates psi <- psi - rate dL_D/dpsi. Return the tuple (with
#    psi_K as a constant, both parts): dL_G/dtheta at psi_K. By hand or with `tg.grad`.
#
# Then run `tinygan lesson check 9 my_answer.py`.
