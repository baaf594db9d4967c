# %% [markdown]
# # Lesson 2: an op of your own, checked to second order
#
# *About 25 minutes. You need: lesson 1, and second derivatives.*
#
# tinygan has no arctangent. In this lesson you add one. An operation, or **op**, consists of two functions:
# its forward, which computes the result, and its vjp. Then we test the op, and look at two mistakes that are
# easy to make in a vjp.

# %%
import numpy as np

import tinygan as tg
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## Two functions
# The forward gets `B`, the backend (`B.xp` is NumPy here, and CuPy on a GPU), and an array. It returns an
# array.
#
# The vjp gets
# - `needs`: for each input, whether its gradient is wanted. With one input we may ignore it;
# - `g`: the gradient of the result;
# - what the op saved in the forward pass. `saves=(0,)` says: keep input 0.
#
# It returns a tuple with one gradient for each input. The derivative of arctan(x) is 1 / (1 + x^2), so x gets
# g / (1 + x^2).


# %%
@tg.op(saves=(0,))
def arctan(B, x):
    return B.xp.arctan(x)


@arctan.vjp
def _(needs, g, x):
    return (tg.div(g, tg.add(1.0, tg.mul(x, x))),)


x = tg.Tensor([-1.0, 0.0, 2.0], requires_grad=True)
print("arctan:   ", arctan(x).tolist())
print("gradient: ", tg.grad(tg.sum(arctan(x)), x).tolist())
np.testing.assert_allclose(tg.grad(tg.sum(arctan(x)), x).numpy(), [0.5, 1.0, 0.2], rtol=1e-6)

# %% [markdown]
# ## Why the vjp is written in ops
# The vjp uses `tg.div`, `tg.add` and `tg.mul`, and not NumPy's functions. Thus the backward pass consists of
# ops, too. With `create_graph=True`, `tg.grad` records it. Then the gradient is a Tensor with a graph of its
# own, and we can differentiate it again. GANs need this: gradient penalties and unrolled GANs contain
# gradients of gradients (lesson 9).
#
# We wrote only the first derivative. tinygan finds the second and the third from it, because it knows the
# derivatives of div, add and mul. The figure compares with the formulas that one finds in a book:
#
# | derivative | formula |
# | --- | --- |
# | first | 1 / (1 + x^2) |
# | second | -2 x / (1 + x^2)^2 |
# | third | (6 x^2 - 2) / (1 + x^2)^3 |

# %%
points = np.linspace(-4, 4, 161)
x = tg.Tensor(points, requires_grad=True)
first = tg.grad(tg.sum(arctan(x)), x, create_graph=True)
second = tg.grad(tg.sum(first), x, create_graph=True)
third = tg.grad(tg.sum(second), x)

square = points**2
books = [np.arctan(points), 1 / (1 + square), -2 * points / (1 + square) ** 2, (6 * square - 2) / (1 + square) ** 3]
drawing, axes = figure(width=6)
for name, ours, book in zip(("arctan", "first derivative", "second", "third"), (arctan(x), first, second, third), books,
                            strict=True):
    (line,) = axes.plot(points, book, alpha=0.4, linewidth=4)
    axes.plot(points, ours.numpy(), "--", color=line.get_color(), label=name)
    np.testing.assert_allclose(ours.numpy(), book, atol=1e-12)
axes.set(title="By tg.grad (dashed) and by formula", xlabel="x")
axes.legend()
save(drawing, "lesson-2-derivatives")

# %% [markdown]
# ## The check
# `tg.check_gradients(f, x, order=2)` compares with central differences, as you did in lesson 1. It checks the
# gradient, and then the gradient of the gradient. It raises an error if they disagree, and otherwise returns
# the largest difference. Use it for every op that you write.

# %%
worst = tg.check_gradients(arctan, np.array([-1.5, 0.3, 2.0]), order=2)
print(f"arctan: the largest difference from central differences is {worst:.1e}")
assert worst < 1e-6

# %% [markdown]
# ## Mistake 1: a wrong formula
# Here the square is forgotten. The check says where the gradient differs, and by how much.


# %%
@tg.op(saves=(0,))
def careless(B, x):
    return B.xp.arctan(x)


@careless.vjp
def _(needs, g, x):
    return (tg.div(g, tg.add(1.0, tg.abs(x))),)


try:
    tg.check_gradients(careless, np.array([-1.5, 0.3, 2.0]))
except tg.GradientError as error:
    message = str(error)
print("check_gradients says:", message)
assert "the gradient with respect to input 0" in message

# %% [markdown]
# ## Mistake 2: a value that is wrongly a constant
# This one is harder to find. The first derivative is right. But `tg.detach` makes the slope a constant:
# `tg.grad` does not go back through it. So for the second derivative, tinygan believes that the slope does
# not depend on x. It finds 0 everywhere.
#
# A check of the first order does not notice. A training with a gradient penalty would run without an error,
# and learn from wrong gradients. So check the second order, too.


# %%
@tg.op(saves=(0,))
def forgetful(B, x):
    return B.xp.arctan(x)


@forgetful.vjp
def _(needs, g, x):
    slope = tg.div(1.0, tg.add(1.0, tg.mul(x, x)))
    return (tg.mul(g, tg.detach(slope)),)


tg.check_gradients(forgetful, np.array([-1.5, 0.3, 2.0]), order=1)
print("forgetful passes the check of first order")
try:
    tg.check_gradients(forgetful, np.array([-1.5, 0.3, 2.0]), order=2)
except tg.GradientError as error:
    message = str(error)
print("of second order:", message)
assert "the gradient of the gradient" in message

x = tg.Tensor(points, requires_grad=True)
wrong_first = tg.grad(tg.sum(forgetful(x)), x, create_graph=True)
# The second derivative is 0: the slope is a constant now, and nothing leads back to x.
wrong_second = tg.grad(tg.sum(wrong_first), x).numpy() if wrong_first.requires_grad else np.zeros_like(points)
np.testing.assert_array_equal(wrong_second, 0)
np.testing.assert_allclose(wrong_first.numpy(), first.numpy(), rtol=1e-12)

drawing, (left, right) = figure(2)
left.plot(points, first.numpy(), linewidth=4, alpha=0.4, label="arctan")
left.plot(points, wrong_first.numpy(), "--", label="forgetful")
left.set(title="First derivative: both are right", xlabel="x")
right.plot(points, second.numpy(), linewidth=4, alpha=0.4, label="arctan")
right.plot(points, wrong_second, "--", label="forgetful")
right.set(title="Second derivative: one is wrong", xlabel="x")
for axes in (left, right):
    axes.legend()
save(drawing, "lesson-2-second-order")

# %% [markdown]
# ## Large numbers
# A formula can be right and still fail on a computer. softplus(x) = log(1 + exp(x)) is nearly x for large x.
# But exp(1000) is infinity in floating-point numbers. The same function, written max(x, 0) + log(1 +
# exp(-|x|)), never takes the exponential of a positive number. It has no problem. Logits of a discriminator
# can be large, so the losses of a GAN need such formulas.

# %%
with np.errstate(over="ignore"):
    plain = np.log(1 + np.exp(1000.0))
stable = max(1000.0, 0) + np.log1p(np.exp(-abs(1000.0)))
print(f"softplus(1000): {plain} by the plain formula, {stable} by the stable one, {tg.softplus(1000.0).item()} by tinygan")
assert np.isinf(plain) and stable == 1000.0 == tg.softplus(1000.0).item()

# %% [markdown]
# ## What you know now
# - An op is a forward on arrays and a vjp in ops. Gradients of every order follow from it.
# - `tg.check_gradients(..., order=2)` finds wrong formulas, and values that are wrongly constants.
#
# Next: lesson 3, where two networks play against each other.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` that defines three ops with `@tg.op` and their vjps.
#
# 1. `log_cosh(x)`: log(cosh(x)), for a smooth loss that grows like |x|. It should be right for x = 800 as
#    well, where cosh(x) is too large for a float64. (log(cosh(x)) = |x| + log(1 + exp(-2 |x|)) - log(2). Its
#    derivative is tanh(x).)
# 2. `distance(a, b)`: sqrt(a^2 + b^2), element by element, for two arrays of the same shape. It has two
#    inputs, so its vjp returns two gradients. (`saves=(0, 1)` keeps both inputs. The vjp then gets `needs, g,
#    a, b`.)
# 3. `reverse(x)`: the forward returns x. The vjp returns -g. This is not the true derivative, and this is on
#    purpose: the layers after the op minimise a loss, and the layers before it maximise the same loss (Ganin
#    and Lempitsky 2015). The idea comes back in lesson 4.
#
# Then run `tinygan lesson check 2 my_answer.py`.
