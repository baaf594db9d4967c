# %% [markdown]
# # Lesson 4: whose gradients are these? Through D, not into D
#
# *About 25 minutes. You need: lessons 1 to 3.*
#
# The generator's loss is computed by the discriminator. So the gradient for the generator has to go through
# the discriminator. But the discriminator must not learn from this loss: it would learn to be fooled. In this
# lesson you see where gradients go in both updates of Algorithm 1, and what happens if they go where they
# should not.

# %%
import numpy as np

import tinygan as tg
from tinygan.random import Key
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## A probe
# We want to know which parts of the graph `tg.grad` visits. So we make an op that does nothing (see lesson
# 2), but its vjp writes down its name. We put one at every weight, and one at the generated points.

# %%
visited = set()


@tg.op
def probe(B, x, name):
    return x


@probe.vjp
def _(needs, g, name):
    visited.add(name)
    return (g,)


# %% [markdown]
# ## Two small networks
# The data are points in the plane. G has the weights G1 and G2, and D has the weights D1 and D2. We write the
# networks as functions of their weights, so that every step is visible. (All neurons have the fixed bias
# 0.5.)
#
# Our function `discriminator` returns logits f, and sigmoid(f) is the probability that a point is real. L_D
# (`d_loss`) and L_G (`g_loss`) are the losses of lesson 3: softplus(-f) = -log sigmoid(f) is small if D takes
# a point for real, and softplus(f) = -log(1 - sigmoid(f)) is small if D takes it for generated.

# %%
key = Key(0)


def weights(key):
    """G1, G2 and D1, D2."""
    draw = {name: key.fold(name).normal(shape) for name, shape in
            (("G1", (2, 32)), ("G2", (32, 2)), ("D1", (2, 32)), ("D2", (32, 1)))}
    size = {"G1": 0.5, "G2": 0.1, "D1": 0.5, "D2": 0.1}
    return {name: tg.Parameter(np.float32(size[name]) * values) for name, values in draw.items()}


def generator(w, z):
    hidden = tg.tanh(tg.matmul(z, probe(w["G1"], name="G1")) + 0.5)
    return probe(tg.matmul(hidden, probe(w["G2"], name="G2")), name="G(z)")


def discriminator(w, x):
    hidden = tg.tanh(tg.matmul(x, probe(w["D1"], name="D1")) + 0.5)
    return tg.matmul(hidden, probe(w["D2"], name="D2"))


def d_loss(w, real, fake):
    return tg.mean(tg.softplus(-discriminator(w, real))) + tg.mean(tg.softplus(discriminator(w, fake)))


def g_loss(w, fake):
    return tg.mean(tg.softplus(-discriminator(w, fake)))


w = weights(key)
G, D = [w["G1"], w["G2"]], [w["D1"], w["D2"]]
z = key.fold("z").normal((64, 2))
real = 0.3 * key.fold("real").normal((64, 2)) + np.array([2, 1], np.float32)

# %% [markdown]
# ## Where gradients go
# We look at five backward passes, and note which probes each one visits:
#
# 1. D's update: the points G(z) are constants, because they are made under `tg.no_grad()`. We ask for the
#    gradients of D1 and D2.
# 2. The same, but G(z) has a graph. We ask for D1 and D2 only.
# 3. G's update: `tg.grad(L_G, [G1, G2])`.
# 4. The same loss with `L_G.backward()`. It asks for the gradients of *all* weights in the graph.
# 5. G's update with a mistake: G(z) is detached, that is, made a constant, before D judges it.

# %%
with tg.no_grad():
    constant = generator(w, z)
seen = {}


def look(name, backward):
    visited.clear()
    result = backward()
    seen[name] = set(visited)
    print(f"{name:<30} visits {', '.join(sorted(visited)) or 'nothing'}")
    return result


first = look("1. D's update", lambda: tg.grad(d_loss(w, real, constant), D))
second = look("2. the same, G(z) has a graph", lambda: tg.grad(d_loss(w, real, generator(w, z)), D))
look("3. G's update", lambda: tg.grad(g_loss(w, generator(w, z)), G))
look("4. L_G.backward()", lambda: g_loss(w, generator(w, z)).backward())
filled = [name for name in w if w[name].grad is not None]
detached = look("5. G(z) detached", lambda: tg.grad(g_loss(w, tg.detach(generator(w, z))), G))

names = ["G1", "G2", "G(z)", "D1", "D2"]
drawing, axes = figure(width=7)
axes.imshow([[name in found for name in names] for found in seen.values()], cmap="Blues", vmin=0, vmax=1.5)
axes.set_xticks(range(len(names)), names)
axes.set_yticks(range(len(seen)), list(seen))
for i, found in enumerate(seen.values()):
    for j, name in enumerate(names):
        axes.text(j, i, "visited" if name in found else "-", ha="center", va="center")
axes.set_title("Which vjps are called")
save(drawing, "lesson-4-visits")

assert seen["1. D's update"] == seen["2. the same, G(z) has a graph"] == {"D1", "D2"}
assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True))
assert seen["3. G's update"] == {"G1", "G2", "G(z)"}
assert seen["4. L_G.backward()"] == set(names) and filled == ["G1", "G2", "D1", "D2"]
assert not seen["5. G(z) detached"] and all(not g.numpy().any() for g in detached)

# %% [markdown]
# Read the table:
#
# - **Pass 3** is the point of this lesson. The gradient goes *through* D: without the vjps of D's operations,
#   nothing would come to G(z). But it does not go *into* D1 and D2: nobody asked for their gradients, so they
#   are not computed. This also saves time.
# - **Passes 1 and 2** give the same gradients. In pass 2 the graph of G is recorded and never used, which
#   costs time and memory. So Algorithm 1 makes the points as constants.
# - **Pass 4** fills `.grad` of D's weights, too. Libraries that work in this way need a second step: set D's
#   gradients to zero before D's next update. If you forget it, D learns from both losses. We try this below.
# - **Pass 5** gives G gradients that are exactly 0. There is no error message: L_G still has a graph, because
#   it depends on D1 and D2, and a constant is a legal input. The generator just never learns.
#
# ## The generator sees only arrows
# The gradient comes to G in two parts. First, dL_G/dG(z): for each generated point, an arrow in the plane
# that says where the loss grows. It is computed by D alone. Second, G's own vjps turn these arrows into the
# gradients of G1 and G2. So we can cut the computation at G(z), and get the same result. (The figure draws
# the negative of each arrow: there the loss falls. All arrows are made longer, so that you can see them. The
# points do not go as far as the tips.) The generator never sees a real point. All that it learns about the
# data is in these arrows.

# %%
d_optimizer = tg.optim.Adam(5e-3, betas=(0.5, 0.999))
d_optimizer.bind({"D1": w["D1"], "D2": w["D2"]})
for _ in range(200):
    d_optimizer.step(tg.grad(d_loss(w, real, constant), D))

points = tg.Tensor(constant, requires_grad=True)
arrows = tg.grad(g_loss(w, points), points)  # part 1: only D is needed
in_two_parts = tg.grad(generator(w, z), G, arrows.numpy())  # part 2: only G is needed
at_once = tg.grad(g_loss(w, generator(w, z)), G)
for a, b in zip(in_two_parts, at_once, strict=True):
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-6)

side = np.linspace(-2, 4, 61, dtype=np.float32)
plane = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
with tg.no_grad():
    surface = tg.sigmoid(discriminator(w, plane)).numpy().reshape(61, 61)
drawing, axes = figure(width=6, height=5)
levels = axes.contourf(side, side, surface, levels=np.linspace(0, 1, 11), cmap="Greys", vmax=3)
drawing.colorbar(levels, ax=axes, label="D(x): the darker, the more real")
axes.plot(*real.T, "+", color="darkblue", markersize=7, label="real")
axes.quiver(*constant.numpy().T, *(-arrows.numpy().T), color="firebrick", width=0.004)
axes.plot(*constant.numpy().T, ".", color="black", markersize=4, label="G(z), with an arrow: -dL_G/dG(z)")
axes.set(title="What D tells G: go there", xlabel="x1", ylabel="x2")
axes.legend(loc="upper left", framealpha=1)
save(drawing, "lesson-4-arrows")

towards = real.mean(0) - constant.numpy().mean(0)
agree = -arrows.numpy() @ towards > 0
print(f"{agree.mean():.0%} of the arrows point towards the data")
assert agree.mean() > 0.9

# %% [markdown]
# ## What happens if D learns from the generator's loss
# The generated points stay where they are. Three discriminators start from the same weights and learn about
# these points:
#
# 1. from L_D, as it should be;
# 2. from L_D + L_G: this happens after `L_G.backward()`, if nobody sets D's gradients to zero. At a generated
#    point, softplus(f) in L_D has the slope sigmoid(f), so it pushes the logit f down. softplus(-f) in L_G
#    has the slope sigmoid(f) - 1, so it pushes f up. At f = 0 both have the strength 1/2, and they cancel;
# 3. from L_G alone, as if one optimiser had the weights of both players.
#
# The figure shows the mean of D(G(z)), the probability that the generated points are real. The first
# discriminator learns to say zero. The second one goes to 1/2: it can never be sure that a point is
# generated. The third one says one: it has learned to be fooled. Then L_G is almost zero, which looks like a
# perfect generator, and yet no point has moved.

# %%
with tg.no_grad():
    constant = generator(weights(key), z)
said, final = {}, {}
for name, loss in (("L_D", lambda w: d_loss(w, real, constant)),
                   ("L_D + L_G", lambda w: d_loss(w, real, constant) + g_loss(w, constant)),
                   ("L_G", lambda w: g_loss(w, constant))):
    w = weights(key)
    learner = tg.optim.Adam(1e-2, betas=(0.5, 0.999))
    learner.bind({"D1": w["D1"], "D2": w["D2"]})
    said[name] = []
    for _ in range(300):
        learner.step(tg.grad(loss(w), [w["D1"], w["D2"]]))
        with tg.no_grad():
            said[name].append(tg.mean(tg.sigmoid(discriminator(w, constant))).item())
            final[name] = g_loss(w, constant).item()
    print(f"D learns from {name}: D(G(z)) = {said[name][-1]:.2f}, L_G = {final[name]:.3f}")

drawing, axes = figure(width=6)
for name, probabilities in said.items():
    axes.plot(probabilities, label=f"D learns from {name}")
axes.set(title="What D says of the same generated points", xlabel="step", ylabel="mean of D(G(z))", ylim=(0, 1))
axes.legend()
save(drawing, "lesson-4-mixed")
assert said["L_D"][-1] < 0.1 and abs(said["L_D + L_G"][-1] - 0.5) < 0.05 and said["L_G"][-1] > 0.95 and final["L_G"] < 0.05

# %% [markdown]
# ## What you know now
# - A loss has gradients with respect to everything that it depends on. Which of them are *computed* depends
#   on what you ask for.
# - G's update goes through D and asks for G's weights only. D's update takes generated points as constants.
# - The generator learns from arrows, dL_G/dG(z), and from nothing else.
#
# Next: lesson 5 asks how long these arrows are, and why they can vanish.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions. G and D are modules: `G(z)` makes points, `D(x)` returns
# logits (not probabilities), and `G.parameters()` are G's weights. Return gradients as lists in the order of
# `parameters()`. Take L_D and L_G as in this lesson.
#
# 1. `generator_gradients(G, D, z)`: return the tuple (arrows, gradients): dL_G/dG(z), and the gradients of
#    G's weights. Run G once, and leave `.grad` of all weights as it is.
# 2. `discriminator_gradients(G, D, real, z)`: return the gradients of D's weights for L_D. G should run
#    without a graph.
# 3. `both_players(G, D, real, z)`: a game in which G minimises -L_D (the "minimax" game). Return the tuple
#    (g_gradients, d_gradients). Run G only once, and let only one backward pass go through G. (Both players
#    have the same loss, except for its sign. Can one call of `tg.grad` give all gradients?)
#
# Then run `tinygan lesson check 4 my_answer.py`.
