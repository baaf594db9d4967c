"""XLA's flags that a variant of JAX is measured with. A version of JAX that does not know a flag ends its whole process, so
each flag is tried in a process of its own."""
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache

FLAGS = {"no-ynn-reduce": "--xla_cpu_experimental_ynn_fusion_type=-reduce"}
"""By word of a variant ("jit nchw no-ynn-reduce"): the flag. This one leaves sums to XLA's own code instead of the library
YNNPACK."""
TRIAL = "import jax; jax.jit(lambda x: x.sum())(jax.numpy.ones(4)).block_until_ready()"


def both_ways(variants: list[str]) -> list[str]:
    """The variants, and each of them with every flag."""
    return [*variants, *(f"{variant} {word}" for word in FLAGS for variant in variants)]


def environment(variant: str, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the flags of a variant add to the environment `given`: {} if it has none. Raises ValueError if this JAX does not
    know one of them."""
    flags = [FLAGS[word] for word in variant.split() if word in FLAGS]
    for flag in flags:
        if not is_known(flag):
            raise ValueError(f"this version of JAX does not run with the flag {flag}")
    return {"XLA_FLAGS": " ".join([*given.get("XLA_FLAGS", "").split(), *flags])} if flags else {}


@cache
def is_known(flag: str) -> bool:
    """Whether JAX is installed, and computes with the flag."""
    surroundings = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, "-c", TRIAL], env=surroundings, capture_output=True).returncode == 0
