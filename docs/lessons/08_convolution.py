# %% [markdown]
# # Lesson 8: convolution's three faces
#
# *About 30 minutes. You need: lesson 1, and matrices.*
#
# Networks for images are made of convolutions. A convolution has an input x, a weight w and a result y. In
# this lesson you see that it needs only three operations: the forward pass, the gradient of the input, and
# the gradient of the weight. And the gradients of these three are again these three. So convolutions have
# gradients of every order.

# %%
import numpy as np

import tinygan as tg
from tinygan.random import Key
from tinygan.teaching.lessons import figure, save

# %% [markdown]
# ## Face 1: forward
# To compute one number of y, lay the small weight w on a part of x, multiply number by number, and add up.
# Then move w by the *stride* s and do it again:
#
#     y[i, j] = sum over a, b of  x[s i + a, s j + b] w[a, b]
#
# (Strictly, this is a *cross-correlation*. A convolution would first turn w by 180 degrees. In neural
# networks the name convolution is used all the same.)
#
# Our x is a drawn picture of 28x28 pixels, and w finds vertical edges. `tg.conv2d` takes images of shape (N,
# C, H, W), and weights of shape (C_out, C_in, kH, kW). Here all of N, C, C_out, C_in are 1.

# %%
rows, columns = np.mgrid[0:28, 0:28]
ring = np.abs(np.hypot(rows - 10, columns - 14) - 5) < 2
stroke = (np.abs(columns - 18 + (rows - 12) / 4) < 1.6) & (rows >= 10) & (rows < 25)
x = np.where(ring | stroke, 1.0, 0.0)
w = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])


def convolve(x, w, stride=1):
    height, width = ((n - k) // stride + 1 for n, k in zip(x.shape, w.shape, strict=True))
    y = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            part = x[stride * i:stride * i + w.shape[0], stride * j:stride * j + w.shape[1]]
            y[i, j] = (part * w).sum()
    return y


def four_axes(a):
    return tg.Tensor(a[None, None], requires_grad=True)


X, W = four_axes(x), four_axes(w)
Y = tg.conv2d(X, W)
np.testing.assert_allclose(Y.numpy()[0, 0], convolve(x, w), atol=1e-12)
print(f"x {X.shape}, w {W.shape} -> y {Y.shape}")

# %% [markdown]
# ## Faces 2 and 3: the two gradients
# Let g be the gradient of y, an image of y's shape. The vjp has to turn it into the gradients of x and of w.
# We look at the formula above: x[s i + a, s j + b] goes into y[i, j] with the factor w[a, b]. So
#
# - **x**: each g[i, j] paints the whole pattern w, times g[i, j], onto the place in x where y[i, j] came
#   from. All these prints are added;
# - **w**: w[a, b] gets the sum over i, j of g[i, j] x[s i + a, s j + b]. This is x, shifted by (a, b), times
#   g.
#
# We take as g an image with the values 1, 1 and -1 at three places, and 0 elsewhere. In the gradient of x you
# see the pattern w three times, once with the other sign.

# %%
g = np.zeros(Y.shape[2:])
g[4, 4], g[4, 18], g[18, 10] = 1, 1, -1

by_x, by_w = (t.numpy()[0, 0] for t in tg.grad(Y, [X, W], g[None, None]))

painted = np.zeros_like(x)
for i, j in np.argwhere(g):
    painted[i:i + 3, j:j + 3] += g[i, j] * w
shifted = np.array([[(x[a:a + 26, b:b + 26] * g).sum() for b in range(3)] for a in range(3)])
np.testing.assert_allclose(by_x, painted, atol=1e-12)
np.testing.assert_allclose(by_w, shifted, atol=1e-12)

drawing, panels = figure(5, width=2.6, height=3.2)
for axes, title, image in zip(panels, ("x", "y = conv(x, w)", "g, gradient of y", "gradient of x", "gradient of w"),
                              (x, Y.numpy()[0, 0], g, by_x, by_w), strict=True):
    limit = np.abs(image).max()
    axes.imshow(image, cmap="PuOr", vmin=-limit, vmax=limit)
    axes.set_title(title)
    axes.set_axis_off()
save(drawing, "lesson-8-faces")

# %% [markdown]
# ## One number behind all three
# Multiply y by g and add up: `<g, conv(x, w)>` is the sum over all g[i, j] x[s i + a, s j + b] w[a, b]. This
# sum treats g, x and w alike. It can be collected in three ways:
#
#     <g, conv(x, w)>  =  <x, gradient of x>  =  <w, gradient of w>
#
# Here "gradient of x" is computed from g and w, and "gradient of w" from x and g. The sum is *linear* in each
# of the three. So the derivative of each face with respect to one of its inputs is another face. In tinygan
# the three are ops, and each one's vjp consists of the other two (`tinygan/ops/conv.py`). We test the three
# sums, and the gradients of the gradients by central differences.

# %%
three = [(g * Y.numpy()[0, 0]).sum(), (x * by_x).sum(), (w * by_w).sum()]
print("three sums:", [round(float(value), 6) for value in three])
np.testing.assert_allclose(three, three[0], rtol=1e-10)

key = Key(0)
small_x, small_w = key.fold("x").normal((1, 2, 5, 5)), key.fold("w").normal((3, 2, 3, 3))
worst = tg.check_gradients(lambda x, w: tg.conv2d(x, w, stride=2, padding=1), small_x, small_w, order=2)
print(f"first and second order: the largest difference from central differences is {worst:.0e}")
assert worst < 1e-6

# %% [markdown]
# ## A convolution is a matrix
# For a fixed w, y is a linear function of x. So there is a matrix M with y = M x, if we write x and y as long
# columns of numbers. Every row of M holds the numbers of w, at the places that one y looks at. All rows have
# the same numbers: the weight is *shared*. The gradient of x is M^T g, with the transposed matrix. This is
# why it is also called the **transposed convolution**. The generator of a DCGAN uses it in the forward pass
# to make images larger: `tg.conv_transpose2d`.

# %%
size = 6
M = np.stack([convolve(unit.reshape(size, size), w).ravel() for unit in np.eye(size * size)], axis=1)
y_gradient = key.fold("g").normal((4, 4), dtype=np.float64)
by_matrix = (M.T @ y_gradient.ravel()).reshape(size, size)
by_op = tg.conv_transpose2d(y_gradient[None, None], w[None, None])[0, 0]
np.testing.assert_allclose(by_op, by_matrix, atol=1e-12)

drawing, (left, right) = figure(2)
for axes, title, matrix in ((left, "M: y = M x", M), (right, "M^T: gradient of x = M^T g", M.T)):
    axes.imshow(matrix, cmap="PuOr", vmin=-2, vmax=2)
    axes.set_title(f"{title}, {matrix.shape[0]} x {matrix.shape[1]}")
save(drawing, "lesson-8-matrix")
print(f"M has {M.size} entries; {np.count_nonzero(M)} are not 0, and these are the 6 nonzero numbers of w, again and again")
assert np.count_nonzero(M) == 16 * np.count_nonzero(w)

# %% [markdown]
# ## A chessboard that nobody wanted
# A transposed convolution with stride 2 paints prints at a distance of 2 pixels. A print of 3x3 overlaps with
# its neighbours, but not everywhere equally: some pixels are painted once, some twice, some four times. If
# all numbers are 1, we can count. The result looks like a chessboard, and generators with such layers make
# images with such patterns (Odena, Dumoulin and Olah 2016, "Deconvolution and checkerboard artifacts"). If
# the size of the print is a multiple of the stride, all pixels inside are painted equally often. So 4x4 with
# stride 2 is better here than 3x3 with stride 2. The DCGAN of tinygan has 4x4 with stride 2.

# %%
drawing, panels = figure(2)
counts = {}
for axes, kernel in zip(panels, (3, 4), strict=True):
    ones = np.ones((1, 1, 8, 8))
    painted = tg.conv_transpose2d(ones, np.ones((1, 1, kernel, kernel)), stride=2)[0, 0]
    counts[kernel] = sorted(set(painted[3:-3, 3:-3].ravel().tolist()))
    shown = axes.imshow(painted, cmap="Purples", vmin=0)
    axes.set_title(f"{kernel}x{kernel} with stride 2")
    drawing.colorbar(shown, ax=axes, label="how often painted")
save(drawing, "lesson-8-chessboard")
print("how often inner pixels are painted:", counts)
assert counts == {3: [1, 2, 4], 4: [4]}

# %% [markdown]
# ## What you know now
# - A convolution has three faces, and each is linear in both of its inputs. Their gradients are again these
#   three.
# - The gradient of x paints prints of w. It is the transposed convolution, which generators use to enlarge
#   images.
#
# Next: lesson 9, where gradients of gradients train a GAN.

# %% [markdown]
# ## Exercises
# Write a file `my_answer.py` with three functions for one image and one weight, two-dimensional float64
# arrays. Use NumPy only; plain loops are fine. The stride s is a whole number.
#
# 1. `forward(x, w, s)`: y[i, j] = sum over a, b of x[s i + a, s j + b] w[a, b], wherever w lies inside x
#    completely.
# 2. `input_gradient(g, w, shape, s)`: g is the gradient of y, and `shape` is the shape of x. Return the
#    gradient of x. (If s does not fit, the last rows or columns of x have no influence on y.)
# 3. `weight_gradient(x, g, shape, s)`: `shape` is the shape of w. Return the gradient of w.
#
# Then run `tinygan lesson check 8 my_answer.py`.
