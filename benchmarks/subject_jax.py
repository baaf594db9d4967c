"""The vanilla GAN's step in JAX: one jitted function, its state donated, so that weights are updated in place.

Variants are words: `jit`; `joined` gives the real and the generated half to the discriminator as one batch; `rbg` draws
the noise with XLA's own bit generator instead of JAX's default, threefry.
"""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import softplus
from models import Adam, Dense, Gradients, Layer, LeakyReLU, Model, Start, Tanh, Weights

Parameters = dict[str, jax.Array]


def from_numpy(weights: Weights) -> Parameters:
    """Dense weights are kept (in, out), as JAX's libraries keep them."""
    return {name: jnp.array(value.T if value.ndim == 2 else value) for name, value in weights.items()}


def to_numpy(parameters: Parameters) -> Weights:
    return {name: np.array(value.T if value.ndim == 2 else value) for name, value in parameters.items()}


def apply(layers: tuple[Layer, ...], parameters: Parameters, x: jax.Array) -> jax.Array:
    for index, layer in enumerate(layers):
        match layer:
            case Dense():
                x = x @ parameters[f"{index}.weight"] + parameters[f"{index}.bias"]
            case LeakyReLU(slope):
                x = jax.nn.leaky_relu(x, slope)
            case Tanh():
                x = jnp.tanh(x)
            case _:
                raise ValueError(f"subject_jax: no layer for {layer}")
    return x


def adam(parameters: Parameters, gradients: Parameters, state: dict, rule: Adam) -> tuple[Parameters, dict]:
    """One update with PyTorch's formula; state holds both moments and the number of updates so far."""
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


def d_loss(d: Parameters, real: jax.Array, fake: jax.Array, model: Model, joined: bool) -> jax.Array:
    if joined:
        logits = apply(model.discriminator, d, jnp.concatenate([real, fake]))
        real_logits, fake_logits = logits[: len(real)], logits[len(real) :]
    else:
        real_logits, fake_logits = apply(model.discriminator, d, real), apply(model.discriminator, d, fake)
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def g_loss(g: Parameters, d: Parameters, z: jax.Array, model: Model) -> jax.Array:
    return softplus(-apply(model.discriminator, d, apply(model.generator, g, z))).mean()


def step(state: dict, real: jax.Array, shape: tuple[int, int], model: Model, joined: bool) -> tuple[dict, tuple]:
    key, d_key, g_key = jax.random.split(state["key"], 3)
    g, d = state["g"], state["d"]
    fake = apply(model.generator, g, jax.random.normal(d_key, shape, real.dtype))
    d_value, gradients = jax.value_and_grad(d_loss)(d, real, fake, model, joined)
    d, d_adam = adam(d, gradients, state["d_adam"], model.optimiser)
    g_value, gradients = jax.value_and_grad(g_loss)(g, d, jax.random.normal(g_key, shape, real.dtype), model)
    g, g_adam = adam(g, gradients, state["g_adam"], model.optimiser)
    return {"g": g, "d": d, "g_adam": g_adam, "d_adam": d_adam, "key": key}, (d_value, g_value)


class Subject:
    def __init__(self, model: Model, start: Start, variant: str, threads: int) -> None:
        jax.config.update("jax_enable_x64", start.real.dtype == np.float64)
        words = variant.split()
        self.model, self.count, self.joined = model, threads, "joined" in words
        self.real = jnp.array(start.real)
        g, d = from_numpy(start.generator), from_numpy(start.discriminator)
        key = jax.random.key(0, impl="rbg" if "rbg" in words else None)
        self.state = {"g": g, "d": d, "g_adam": adam_state(g), "d_adam": adam_state(d), "key": key}
        whole = partial(step, shape=start.d_noise.shape, model=model, joined=self.joined)
        self.jitted = jax.jit(whole, donate_argnums=0)

    def step(self) -> None:
        self.state, losses = self.jitted(self.state, self.real)
        jax.block_until_ready((self.state, losses))

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        @jax.jit
        def both(g: Parameters, d: Parameters, real: jax.Array, d_z: jax.Array, g_z: jax.Array) -> tuple:
            fake = apply(self.model.generator, g, d_z)
            of_d = jax.value_and_grad(d_loss)(d, real, fake, self.model, self.joined)
            return of_d, jax.value_and_grad(g_loss)(g, d, g_z, self.model)

        of_d, of_g = both(self.state["g"], self.state["d"], self.real, jnp.array(d_noise), jnp.array(g_noise))
        return Gradients(float(of_d[0]), float(of_g[0]), to_numpy(of_d[1]), to_numpy(of_g[1]))

    def weights(self) -> tuple[Weights, Weights]:
        """(generator, discriminator), copies."""
        return to_numpy(self.state["g"]), to_numpy(self.state["d"])

    def threads(self) -> int:
        return self.count  # XLA's pool has as many as the cores that the worker is bound to

    def blas(self) -> list[str]:
        return ["XLA's own kernels (jax)"]
