"""The GAN's step in JAX: one jitted function with donated state, so that weights are updated in place.

A variant is made of words. `jit`: always there. `nhwc` or `nchw`: the layout of images. `joined`: the discriminator gets
real and generated examples as one batch. `rbg`: the noise is drawn with XLA's bit generator instead of JAX's default,
threefry.

The gradients that are penalised are taken by `jax.grad` inside the discriminator's loss, which `jax.value_and_grad`
differentiates again; their pass forward is also the one that gives the scores. With R1 and R2, a `joined` batch has both
penalties in one pass. All of it is compiled as one program. Convolutions in groups are products of patches: see
`convolve_groups`.
"""
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import softplus
from models import (
    Adam,
    Basis,
    BatchNorm,
    Bilinear,
    Conv,
    ConvTranspose,
    Dense,
    Flatten,
    Gradients,
    Layer,
    Layers,
    LeakyReLU,
    Model,
    Projection,
    ReLU,
    Reshape,
    Residual,
    Start,
    Tanh,
    Weights,
    running_statistics,
    with_parameters,
)

Parameters = dict[str, jax.Array]
TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def axes_of(layer: Layer, images: str) -> tuple[int, ...] | None:
    """The order of axes in which JAX keeps a layer's weight: (in, out), as in its libraries, and HWIO with NHWC."""
    match layer:
        case Dense():
            return (1, 0)
        case ConvTranspose():
            return (2, 3, 0, 1) if images == "NHWC" else (1, 0, 2, 3)
        case Conv():
            return (2, 3, 1, 0) if images == "NHWC" else (0, 1, 2, 3)
    return None


def from_numpy(layers: Layers, weights: Weights, images: str) -> Parameters:
    """The weights as JAX's arrays. A transposed convolution is computed as a convolution of an image with gaps by the
    flipped kernel, so the flipped kernel is kept."""

    def convert(layer: Layer, value: np.ndarray) -> jax.Array:
        axes = axes_of(layer, images)
        if axes is None or value.ndim == 1:
            return jnp.array(value)
        value = value[:, :, ::-1, ::-1] if isinstance(layer, ConvTranspose) else value
        return jnp.array(value.transpose(axes))

    return {name: convert(layer, weights[name]) for name, layer in layers_of(layers)}


def layers_of(layers: Layers) -> Iterator[tuple[str, Layer]]:
    """The name of every parameter, with its layer."""
    return ((prefix + name, layer) for prefix, layer in with_parameters(layers) for name in layer.parameter_shapes())


def to_numpy(layers: Layers, parameters: Parameters, images: str) -> Weights:
    def convert(layer: Layer, value: np.ndarray) -> np.ndarray:
        axes = axes_of(layer, images)
        if axes is None or value.ndim == 1:
            return value
        value = value.transpose(np.argsort(axes))
        return value[:, :, ::-1, ::-1] if isinstance(layer, ConvTranspose) else value

    return {name: convert(layer, np.array(parameters[name])) for name, layer in layers_of(layers)}


def initial_statistics(layers: Layers, dtype: np.dtype) -> Parameters:
    statistics = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, BatchNorm):
            statistics[f"{index}.running_mean"] = jnp.zeros(layer.channels, dtype)
            statistics[f"{index}.running_var"] = jnp.ones(layer.channels, dtype)
    return statistics


def convolve(layer: Conv, weight: jax.Array, x: jax.Array, images: str) -> jax.Array:
    if layer.groups > 1:
        if images == "NHWC":
            return convolve_groups(layer, weight, x)
        return convolve_groups(layer, weight.transpose(2, 3, 1, 0), x.transpose(TO_NHWC)).transpose(TO_NCHW)
    kernel = "HWIO" if images == "NHWC" else "OIHW"
    strides, gaps, padding = layer.stride, 1, layer.padding
    if isinstance(layer, ConvTranspose):
        strides, gaps, padding = 1, layer.stride, layer.kernel - 1 - layer.padding
    return jax.lax.conv_general_dilated(
        x, weight, (strides, strides), [(padding, padding)] * 2, lhs_dilation=(gaps, gaps),
        dimension_numbers=(images, kernel, images),
    )  # fmt: skip


def convolve_groups(layer: Conv, weight: jax.Array, x: jax.Array) -> jax.Array:
    """A convolution in groups, images NHWC and weight HWIO: for each group one product of its weights and the patches around
    all pixels. XLA has such convolutions of its own (`feature_group_count`), but on a CPU their gradients take 7 to 35 times
    as long as these."""
    n, side, p, groups = len(x), layer.kernel, layer.padding, layer.groups
    height, width = ((size + 2 * p - side) // layer.stride + 1 for size in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    x = x.reshape(*x.shape[:3], groups, layer.inputs // groups)

    def every(first: int, count: int) -> slice:
        return slice(first, first + layer.stride * (count - 1) + 1, layer.stride)

    patches = [x[:, every(i, height), every(j, width)] for i in range(side) for j in range(side)]
    kernels = weight.reshape(-1, groups, layer.outputs // groups)  # rows: place in the kernel, then channel
    return jnp.einsum("nhwgi,igo->nhwgo", jnp.concatenate(patches, -1), kernels).reshape(n, height, width, -1)


def resized(x: jax.Array, scale: float, images: str) -> jax.Array:
    """Images at twice or half the size. (Half of it is the mean of 2 x 2 pixels.)"""
    height, width = (x.shape[axis] for axis in (images.index("H"), images.index("W")))
    if scale > 1:
        shape = list(x.shape)
        shape[images.index("H")], shape[images.index("W")] = 2 * height, 2 * width
        return jax.image.resize(x, shape, "bilinear")
    if images == "NHWC":
        return x.reshape(len(x), height // 2, 2, width // 2, 2, -1).mean((2, 4))
    return x.reshape(len(x), -1, height // 2, 2, width // 2, 2).mean((3, 5))


def apply(layers: Layers, parameters: Parameters, statistics: Parameters, x: jax.Array, images: str,
          prefix: str = "") -> tuple[jax.Array, Parameters]:
    """The output in training mode, and the running statistics with this batch in them. prefix: what the names of the
    parameters begin with."""
    statistics = dict(statistics)
    per_channel = (1, 1, 1, -1) if images == "NHWC" else (1, -1, 1, 1)
    for index, layer in enumerate(layers):
        i = f"{prefix}{index}"
        match layer:
            case Residual(block):
                x = x + apply(block, parameters, statistics, x, images, f"{i}.block.")[0]
            case Bilinear(scale):
                x = resized(x, scale, images)
            case Basis():
                image, axes = parameters[f"{i}.image"], (1, 2, 0)
                scales = (x @ parameters[f"{i}.scales.weight"].T).reshape(len(x), *per_channel[1:])
                x = scales * (image.transpose(axes) if images == "NHWC" else image)
            case Projection():
                image = parameters[f"{i}.image"]
                x = jnp.einsum("nhwc,chw->nc" if images == "NHWC" else "nchw,chw->nc", x, image)
                x = x @ parameters[f"{i}.scores.weight"].T
            case Dense():
                x = x @ parameters[f"{i}.weight"]
            case Conv():
                x = convolve(layer, parameters[f"{i}.weight"], x, images)
            case BatchNorm(_, eps, momentum):
                axes = tuple(axis for axis in range(4) if per_channel[axis] == 1)
                mean, variance = x.mean(axes), x.var(axes)
                unbiased = variance * (x.size / (x.size - mean.size))
                for name, value in (("mean", mean), ("var", unbiased)):
                    running = statistics[f"{i}.running_{name}"]
                    statistics[f"{i}.running_{name}"] = running + momentum * (value - running)
                scale = parameters[f"{i}.weight"] * jax.lax.rsqrt(variance + eps)
                x = x * scale.reshape(per_channel) + (parameters[f"{i}.bias"] - mean * scale).reshape(per_channel)
            case ReLU():
                x = jax.nn.relu(x)
            case LeakyReLU(slope):
                x = jax.nn.leaky_relu(x, slope)
            case Tanh():
                x = jnp.tanh(x)
            case Reshape(shape):
                x = x.reshape(len(x), *shape)
                x = x.transpose(TO_NHWC) if images == "NHWC" else x
            case Flatten():
                x = x.transpose(TO_NCHW) if images == "NHWC" else x
                x = x.reshape(len(x), -1)
            case _:
                raise ValueError(f"subject_jax: no layer for {layer}")
        if isinstance(layer, Dense | Conv) and layer.bias:
            bias = parameters[f"{i}.bias"]
            x = x + (bias if x.ndim == 2 else bias.reshape(per_channel))
    return x, statistics


def adam(parameters: Parameters, gradients: Parameters, state: dict, rule: Adam) -> tuple[Parameters, dict]:
    """One update with PyTorch's formula. state: both moments, and the number of updates so far."""
    b1, b2 = rule.betas
    t = state["t"] + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state["m"], gradients)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state["v"], gradients)
    rate, root = rule.lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
    updated = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + rule.eps), parameters, m, v)
    return updated, {"m": m, "v": v, "t": t}


def adam_state(parameters: Parameters) -> dict:
    def zeros() -> Parameters:
        return jax.tree.map(jnp.zeros_like, parameters)

    return {"m": zeros(), "v": zeros(), "t": jnp.zeros(())}


D_COSTS = {  # of the scores of real and of generated examples
    "non-saturating": lambda r, f: softplus(-r).mean() + softplus(f).mean(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic": lambda r, f: softplus(f - r).mean(),
}
G_COSTS = {
    "non-saturating": lambda r, f: softplus(-f).mean(),
    "wasserstein": lambda r, f: -f.mean(),
    "relativistic": lambda r, f: softplus(r - f).mean(),
}


class Subject:
    def __init__(self, model: Model, start: Start, variant: str, threads: int) -> None:
        jax.config.update("jax_enable_x64", start.real.dtype == np.float64)
        words = variant.split()
        self.model, self.count, self.joined = model, threads, "joined" in words
        self.images = "NHWC" if "nhwc" in words else "NCHW"
        self.shape, self.shares = start.d_noise.shape, jnp.array(start.shares)
        self.real = jnp.array(start.real.transpose(TO_NHWC) if model.convolutional and self.images == "NHWC" else start.real)
        g = from_numpy(model.generator, start.generator, self.images)
        d = from_numpy(model.discriminator, start.discriminator, self.images)
        self.state = {
            "g": g, "d": d, "g_adam": adam_state(g), "d_adam": adam_state(d),
            "g_statistics": initial_statistics(model.generator, start.real.dtype),
            "d_statistics": initial_statistics(model.discriminator, start.real.dtype),
            "key": jax.random.key(0, impl="rbg" if "rbg" in words else None),
        }  # fmt: skip
        self.jitted = jax.jit(self._step, donate_argnums=0)

    def _d_loss(self, d: Parameters, state: dict, real: jax.Array, z: jax.Array,
                shares: jax.Array) -> tuple[jax.Array, Parameters]:
        """The loss, and the discriminator's statistics afterwards. Those of the generator do not change here."""
        discriminate = partial(apply, self.model.discriminator, d, images=self.images)
        fake, _ = apply(self.model.generator, state["g"], state["g_statistics"], z, self.images)
        statistics, penalties = state["d_statistics"], dict(self.model.penalties)

        def with_slopes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            """The scores of images, and the squared norm of the gradient of each score by its image."""
            def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
                scores, _ = discriminate(statistics, x)
                return scores.sum(), scores

            slopes, scores = jax.grad(total, has_aux=True)(x)
            return scores, jnp.square(slopes).sum((1, 2, 3))

        both = jnp.concatenate([real, fake]) if self.joined else None
        squares = None
        if "r1" in penalties and both is not None:
            scores, squares = with_slopes(both)
            r, f = scores[: len(real)], scores[len(real) :]
            squares = squares[: len(real)], squares[len(real) :]
        elif "r1" in penalties:
            (r, of_real), (f, of_fake) = with_slopes(real), with_slopes(fake)
            squares = of_real, of_fake
        elif both is not None:
            scores, statistics = discriminate(statistics, both)
            r, f = scores[: len(real)], scores[len(real) :]
        else:
            r, statistics = discriminate(statistics, real)
            f, statistics = discriminate(statistics, fake)
        loss = D_COSTS[self.model.cost](r, f)
        if squares is not None:
            loss = loss + sum(penalties[name] / 2 * one.mean() for name, one in zip(("r1", "r2"), squares, strict=True))
        elif penalties:
            _, between = with_slopes(shares * real + (1 - shares) * fake)
            loss = loss + penalties["gradient-penalty"] * jnp.square(jnp.sqrt(between) - 1).mean()
        return loss, statistics

    def _g_loss(self, g: Parameters, state: dict, z: jax.Array, real: jax.Array) -> tuple[jax.Array, Parameters]:
        """The loss, and the generator's statistics afterwards. Those of the discriminator do not change here."""
        discriminate = partial(apply, self.model.discriminator, state["d"], state["d_statistics"], images=self.images)
        fake, statistics = apply(self.model.generator, g, state["g_statistics"], z, self.images)
        r = discriminate(real)[0] if self.model.cost == "relativistic" else None
        return G_COSTS[self.model.cost](r, discriminate(fake)[0]), statistics

    def _step(self, state: dict, real: jax.Array) -> tuple[dict, tuple[jax.Array, jax.Array]]:
        key, d_key, g_key, share_key = jax.random.split(state["key"], 4)
        state = {**state, "key": key}
        losses = []
        for player, loss, inputs in (
            ("d", self._d_loss, (real, jax.random.normal(d_key, self.shape, real.dtype),
                                 jax.random.uniform(share_key, self.shares.shape, real.dtype))),
            ("g", self._g_loss, (jax.random.normal(g_key, self.shape, real.dtype), real)),
        ):
            (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(state[player], state, *inputs)
            parameters, moments = adam(state[player], gradients, state[f"{player}_adam"], self.model.optimiser)
            state = {**state, player: parameters, f"{player}_adam": moments, f"{player}_statistics": statistics}
            losses.append(value)
        return state, tuple(losses)

    def step(self) -> None:
        self.state, losses = self.jitted(self.state, self.real)
        jax.block_until_ready((self.state, losses))

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        @jax.jit
        def both(state: dict, real: jax.Array, d_z: jax.Array, g_z: jax.Array) -> tuple:
            of_d = jax.value_and_grad(self._d_loss, has_aux=True)(state["d"], state, real, d_z, self.shares)
            return of_d, jax.value_and_grad(self._g_loss, has_aux=True)(state["g"], state, g_z, real)

        of_d, of_g = both(self.state, self.real, jnp.array(d_noise), jnp.array(g_noise))
        ((d_value, d_statistics), d_gradients), ((g_value, g_statistics), g_gradients) = of_d, of_g
        return Gradients(
            float(d_value),
            float(g_value),
            to_numpy(self.model.discriminator, d_gradients, self.images),
            to_numpy(self.model.generator, g_gradients, self.images),
            running_statistics(*(
                {name: np.array(value) for name, value in arrays.items()} for arrays in (g_statistics, d_statistics)
            )),
        )  # fmt: skip

    def weights(self) -> tuple[Weights, Weights]:
        """Copies of the weights: (generator, discriminator)."""
        generator = to_numpy(self.model.generator, self.state["g"], self.images)
        return generator, to_numpy(self.model.discriminator, self.state["d"], self.images)

    def second_moments(self) -> tuple[Weights, Weights]:
        """Copies of Adam's second moments: (generator, discriminator)."""
        generator = to_numpy(self.model.generator, self.state["g_adam"]["v"], self.images)
        return generator, to_numpy(self.model.discriminator, self.state["d_adam"]["v"], self.images)

    def threads(self) -> int:
        return self.count  # XLA's pool has one thread for each core that the worker may use

    def blas(self) -> list[str]:
        return ["XLA's own kernels (jax)"]
