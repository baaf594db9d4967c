# %% [markdown]
# # Lesson 1: one neuron, by hand and by `tg.grad`
#
# *About 20 minutes. You need: derivatives, the chain rule, a little Python and NumPy.*
#
# A network learns by small changes of its weights. To know which changes make the loss smaller, we need the
# derivative of the loss with respect to every weight. Backpropagation computes all of them. In this lesson
# you do it by hand for one neuron, and then compare with tinygan.
#
# Run this file as a script (`python 01_one_neuron.py my-folder`), or cell by cell in an editor or notebook.
# The figures go into the folder that you name, or into `lesson-output`. What the text claims is tested by the
# `assert`s below it.

# %%
import numpy as np

import tinygan as tg
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## The neuron
# It has one input x, one weight w and one bias b. Its output is y = tanh(w x + b). We want the output t (the
# "target"), so the loss is L = (y - t)^2 / 2. We compute L in five small steps:
#
# | step | formula |
# | --- | --- |
# | 1 | p = w x |
# | 2 | a = p + b |
# | 3 | y = tanh(a) |
# | 4 | e = y - t |
# | 5 | L = e^2 / 2 |

# %%
w, x, b, t = 0.8, 1.5, -0.3, -0.5

p = w * x
a = p + b
y = np.tanh(a)
e = y - t
L = e**2 / 2
print(f"p = {p:.4f}, a = {a:.4f}, y = {y:.4f}, e = {e:.4f}, L = {L:.4f}")

# %% [markdown]
# ## Backwards
# We go through the steps again, from the last to the first. At each step we know one number: the derivative
# of L with respect to the *result* of the step. From it we compute the derivative of L with respect to the
# *inputs* of the step. The function that does this is called the **vjp** of the step ("vector-Jacobian
# product"). It is the chain rule for one step. The derivative of L with respect to a value is also called the
# *gradient* of this value.
#
# We write g for the gradient of the result. The five vjps are:
#
# | step | result | vjp: from g to the derivatives of the inputs |
# | --- | --- | --- |
# | 5 | L = e^2 / 2 | e gets g e |
# | 4 | e = y - t | y gets g |
# | 3 | y = tanh(a) | a gets g (1 - y^2) |
# | 2 | a = p + b | p gets g, and b gets g |
# | 1 | p = w x | w gets g x, and x gets g w |
#
# Step 3 uses that the derivative of tanh(a) is 1 - tanh(a)^2. We already know tanh(a): it is y. So the
# forward pass should keep y for the backward pass. Step 1 needs w and x. A step keeps what its vjp will need.

# %%
g_L = 1.0  # the derivative of L with respect to L itself
g_e = g_L * e
g_y = g_e
g_a = g_y * (1 - y**2)
g_p, g_b = g_a, g_a
g_w, g_x = g_p * x, g_p * w
print(f"by hand:    dL/dw = {g_w:.6f}, dL/dx = {g_x:.6f}, dL/db = {g_b:.6f}")

# %% [markdown]
# ## The same by `tg.grad`
# tinygan does the same two passes. Each operation on Tensors notes where its inputs came from. `tg.grad` then
# goes back and calls the vjps. It returns the gradients, and it changes nothing.

# %%
W, X, B = (tg.Tensor(value, requires_grad=True, dtype=np.float64) for value in (w, x, b))
error = tg.tanh(W * X + B) - t
found = [g.item() for g in tg.grad(error * error / 2, [W, X, B])]
print("by tg.grad: dL/dw = {:.6f}, dL/dx = {:.6f}, dL/db = {:.6f}".format(*found))

np.testing.assert_allclose(found, [g_w, g_x, g_b], rtol=1e-12)

# %% [markdown]
# ## Who tells us that both are right?
# Two computations can contain the same mistake. A third way uses no vjp at all. We change w by a small number
# h in both directions, and see how L changes. This is the *central difference*:
#
#     (L(w + h) - L(w - h)) / (2 h)
#
# How small should h be? The figure shows the error for many values of h. If h is large, the loss is not a
# straight line over the distance h. Then the error falls with h^2. If h is tiny, both losses agree in almost
# all their digits, and their difference is mostly rounding. So the best h lies between the two, near 1e-5 in
# float64.


# %%
def loss(w: float) -> float:
    return (np.tanh(w * x + b) - t) ** 2 / 2


widths = 10.0 ** np.arange(-12, 0.1, 0.5)
errors = np.array([abs((loss(w + h) - loss(w - h)) / (2 * h) - g_w) for h in widths])

drawing, axes = figure()
axes.loglog(widths, errors, "o-")
axes.set(title="Error of the central difference", xlabel="h", ylabel="|difference - dL/dw|")
save(drawing, "lesson-1-central-difference")

best = widths[errors.argmin()]
print(f"the best h here is {best:.0e}, with an error of {errors.min():.0e}")
assert 1e-7 < best < 1e-3 and errors.min() < 1e-9
assert errors[0] > 100 * errors.min() and errors[-1] > 100 * errors.min()

# %% [markdown]
# ## The slope of tanh decides how much the neuron learns
# In step 3 the gradient is multiplied by 1 - y^2. This number is at most 1. Where tanh is flat, it is almost
# 0, and then w and b get almost no gradient, however wrong the output is. We say that the neuron is
# *saturated*. The right half of the figure shows |dL/dw| for many values of a, with the target -0.5. It is 0
# where the output is right (near a = -0.55). But at a = 6 the output is wrong by 1.5, and yet the gradient is
# tiny.

# %%
inputs = np.linspace(-6, 6, 241)
outputs = np.tanh(inputs)
gradients = (outputs - t) * (1 - outputs**2) * x

drawing, (left, right) = figure(2)
left.plot(inputs, outputs, label="y = tanh(a)")
left.plot(inputs, 1 - outputs**2, "--", label="its slope, 1 - y^2")
left.plot(a, y, "ko", label="our neuron")
left.set(title="tanh and its slope", xlabel="a")
left.legend()
right.plot(inputs, np.abs(gradients))
right.plot(a, abs(g_w), "ko")
right.set(title="|dL/dw| for the target -0.5", xlabel="a")
save(drawing, "lesson-1-saturation")

assert abs(np.arctanh(t) + 0.55) < 0.01 and abs(outputs[-1] - t) > 1.49 and abs(gradients[-1]) < 1e-4 < 0.1 < abs(g_w)

# %% [markdown]
# ## Learning
# Now we repeat: compute the gradient, and move w and b a little against it. This is *gradient descent*. We do
# it twice: with our own five vjps, and with `tg.grad`. The two curves are the same.


# %%
def by_hand(w: float, b: float) -> tuple[float, float, float]:
    y = np.tanh(w * x + b)
    g_a = (y - t) * (1 - y**2)
    return (y - t) ** 2 / 2, g_a * x, g_a


def by_grad(w: float, b: float) -> tuple[float, float, float]:
    W, B = (tg.Tensor(value, requires_grad=True, dtype=np.float64) for value in (w, b))
    error = tg.tanh(W * x + B) - t
    loss = error * error / 2
    g_w, g_b = tg.grad(loss, [W, B])
    return loss.item(), g_w.item(), g_b.item()


curves = {}
for name, gradients_of in (("by hand", by_hand), ("by tg.grad", by_grad)):
    now_w, now_b, losses = w, b, []
    for _ in range(40):
        now, d_w, d_b = gradients_of(now_w, now_b)
        losses.append(now)
        now_w, now_b = now_w - 0.3 * d_w, now_b - 0.3 * d_b
    curves[name] = losses
    print(f"{name}: after 40 steps w = {now_w:.4f}, b = {now_b:.4f}, output {np.tanh(now_w * x + now_b):.4f}")

drawing, axes = figure()
axes.semilogy(curves["by hand"], linewidth=4, alpha=0.4, label="by hand")
axes.semilogy(curves["by tg.grad"], "--", label="by tg.grad")
axes.set(title="Gradient descent", xlabel="step", ylabel="loss L")
axes.legend()
save(drawing, "lesson-1-descent")

np.testing.assert_allclose(curves["by hand"], curves["by tg.grad"], rtol=1e-9)
assert curves["by hand"][-1] < 1e-6 * curves["by hand"][0]

# %% [markdown]
# ## A value that is used twice
# Let z = v tanh(v). Here v goes into two steps: into tanh, and into the product. A small change of v changes
# z in both ways, and the two effects add up. So in the backward pass v gets two numbers, and **they are
# added**. This rule, together with the vjps, is all of backpropagation.

# %%
v = 0.7
from_product = 1.0 * np.tanh(v)  # the product's vjp for its first input
from_tanh = (1.0 * v) * (1 - np.tanh(v) ** 2)  # its second input, and then the vjp of tanh
V = tg.Tensor(v, requires_grad=True, dtype=np.float64)
total = tg.grad(V * tg.tanh(V), V).item()
print(f"{from_product:.4f} + {from_tanh:.4f} = {from_product + from_tanh:.4f}; tg.grad says {total:.4f}")
assert abs(from_product + from_tanh - total) < 1e-12

# %% [markdown]
# ## What you know now
# - A vjp turns the gradient of a step's result into the gradients of its inputs.
# - Backpropagation calls the vjps from the last step to the first, and adds what comes together at one value.
# - A step keeps what its vjp needs. A flat activation stops the gradient.
#
# Next: lesson 2, where you give tinygan a new operation with a vjp of your own.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions. Use NumPy only: the point is to do it by hand.
#
# 1. `sigmoid_vjp(g, y)`: the vjp of y = sigmoid(a) = 1 / (1 + exp(-a)). You get g, the gradient of the
#    result, and y, the result itself. Return the gradient of a. (Express the derivative of the sigmoid by y
#    alone, as we did for tanh.)
# 2. `neuron_gradients(w, x, b, t)`: a neuron with two inputs. w and x are arrays of two numbers, y =
#    sigmoid(w[0] x[0] + w[1] x[1] + b), and L = (y - t)^2 / 2. Return the tuple (dL/dw, dL/dx, dL/db); the
#    first two are arrays.
# 3. `twice(w, x)`: let z = tanh(w tanh(w x)). The weight w is used in two places. Return dz/dw, a number.
#
# Then run `tinygan lesson check 1 my_answer.py`.
