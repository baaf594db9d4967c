"""The unrolled step on the ring in JAX: the whole round in one `jit`."""
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import relu, softplus
from subject_jax import adam, adam_state
from unrolled_ring import ADAM, LATENT, RingStart

Parameters = list[jax.Array]


def apply(parameters: Parameters, x: jax.Array) -> jax.Array:
    """Dense layers with ReLU between; parameters: weight, bias, weight, ..."""
    for i in range(0, len(parameters) - 2, 2):
        x = relu(x @ parameters[i].T + parameters[i + 1])
    return x @ parameters[-2].T + parameters[-1]


class Subject:
    def __init__(self, start: RingStart, steps: int, variant: str, threads: int) -> None:
        jax.config.update("jax_enable_x64", start.real.dtype == np.float64)
        self.steps, self.count = steps, threads
        self.real = jnp.array(start.real)
        g, d = ([jnp.array(value) for value in weights.values()] for weights in (start.generator, start.discriminator))
        self.state = {"g": g, "d": d, "g_adam": adam_state(g), "d_adam": adam_state(d), "key": jax.random.key(0)}
        self.jitted = jax.jit(self._step, donate_argnums=0)

    @staticmethod
    def _d_loss(d: Parameters, real: jax.Array, fake: jax.Array) -> jax.Array:
        logits = apply(d, jnp.concatenate([real, fake]))
        return softplus(-logits[: len(real)]).mean() + softplus(logits[len(real) :]).mean()

    def _update_d(self, d: Parameters, moments: dict, real: jax.Array, fake: jax.Array) -> tuple[Parameters, dict]:
        return adam(d, jax.grad(self._d_loss)(d, real, fake), moments, ADAM)

    def _g_loss(self, g: Parameters, d: Parameters, moments: dict, real: jax.Array, z: jax.Array) -> jax.Array:
        fake = apply(g, z)
        for _ in range(self.steps):
            d, moments = self._update_d(d, moments, real, fake)
        return -softplus(apply(d, fake)).mean()

    def _step(self, state: dict, real: jax.Array) -> tuple[dict, jax.Array]:
        key, d_key, g_key = jax.random.split(state["key"], 3)
        shape = (len(real), LATENT)
        fake = apply(state["g"], jax.random.normal(d_key, shape, real.dtype))
        d, d_adam = self._update_d(state["d"], state["d_adam"], real, fake)
        z = jax.random.normal(g_key, shape, real.dtype)
        loss, gradients = jax.value_and_grad(self._g_loss)(state["g"], d, d_adam, real, z)
        g, g_adam = adam(state["g"], gradients, state["g_adam"], ADAM)
        return {"g": g, "d": d, "g_adam": g_adam, "d_adam": d_adam, "key": key}, loss

    def step(self) -> None:
        self.state, loss = self.jitted(self.state, self.real)
        jax.block_until_ready((self.state, loss))

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """Make one update of the discriminator. Returns the generator's loss and gradients after it."""
        state = self.state
        d, moments = self._update_d(state["d"], state["d_adam"], self.real, apply(state["g"], jnp.array(d_noise)))
        loss, found = jax.value_and_grad(self._g_loss)(state["g"], d, moments, self.real, jnp.array(g_noise))
        return float(loss), [np.array(g) for g in found]

    def threads(self) -> int:
        return self.count  # XLA's pool has one thread for each core that the worker may use

    def blas(self) -> list[str]:
        return ["XLA's own kernels (jax)"]
