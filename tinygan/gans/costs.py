"""What the two players minimise: one table of games, used by the GANs, the settings of runs and the command line.

In the formulas r is the discriminator's output for a real image x, and f its output for a generated image G(z). With a cost
of `log_odds`, D(x) = sigmoid(r) and D(G(z)) = sigmoid(f) are the probabilities that the images are real. t is the target of
real images: 1, or less with label smoothing.
"""
from __future__ import annotations

__all__ = ["COSTS", "Cost", "check_cost", "check_loss", "check_pairs"]

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan.errors import SettingsError
from tinygan.gans.batches import Logits
from tinygan.ops import add, binary_cross_entropy_with_logits, exp, mean, mean_squared_error, mul, neg, relu, softplus, sub
from tinygan.tensor import Tensor


class Cost(NamedTuple):
    """A game: its name, two losses, their formulas, and the source.

    d_loss: a function of `Logits` and of t, what the discriminator minimises. g_loss: a function of f (N, 1) and r, what the
    generator minimises. r is None unless the cost `pairs`. log_odds: whether the outputs are logits of probabilities; if
    not, they are a critic's scores. targets: whether d_loss depends on t, so that labels can be smoothed. pairs: whether
    both losses compare each real image with one generated image (relativistic costs); then r is (N, 1) in g_loss too.
    """

    name: str
    d_loss: Callable[[Logits, float], Any]
    g_loss: Callable[[Any, Any], Any]
    d_formula: str
    g_formula: str
    source: str
    log_odds: bool = False
    targets: bool = False
    pairs: bool = False


def _cross_entropy(logits: Logits, target: float) -> Any:
    return logits.cross_entropy(real_target=target, fake_target=0.0)


def _classifier(name: str, g_loss: Callable[[Any, Any], Any], g_formula: str, source: str) -> Cost:
    """A game in which the discriminator classifies images as real or generated, as Goodfellow's."""
    d_formula = "-mean(t * log(D(x)) + (1 - t) * log(1 - D(x))) - mean(log(1 - D(G(z))))"
    return Cost(name, _cross_entropy, g_loss, f"{d_formula} = mean(softplus(r) - t * r) + mean(softplus(f))", g_formula,
                source, log_odds=True, targets=True)


def _minimax(fake: Any, real: Any) -> Any:
    return neg(binary_cross_entropy_with_logits(fake, 0.0))


def _non_saturating(fake: Any, real: Any) -> Any:
    return binary_cross_entropy_with_logits(fake, 1.0)


def _maximum_likelihood(fake: Any, real: Any) -> Any:
    return neg(mean(exp(fake)))


def _least_squares_d(logits: Logits, target: float) -> Any:
    return mul(add(mean_squared_error(logits.real, target), mean_squared_error(logits.fake, 0.0)), 0.5)


def _least_squares_g(fake: Any, real: Any) -> Any:
    return mul(mean_squared_error(fake, 1.0), 0.5)


def _wasserstein_d(logits: Logits, target: float) -> Any:
    return sub(mean(logits.fake), mean(logits.real))


def _towards_real(fake: Any, real: Any) -> Any:
    return neg(mean(fake))


def _hinge_d(logits: Logits, target: float) -> Any:
    return add(mean(relu(sub(1.0, logits.real))), mean(relu(add(logits.fake, 1.0))))


def _relativistic_d(logits: Logits, target: float) -> Any:
    return mean(softplus(sub(logits.fake, logits.real)))


def _relativistic_g(fake: Any, real: Any) -> Any:
    return mean(softplus(sub(real, fake)))


COSTS = {cost.name: cost for cost in (
    _classifier("minimax", _minimax, "mean(log(1 - D(G(z)))) = -mean(softplus(f))", "Goodfellow et al. 2014, equation 1"),
    _classifier("non-saturating", _non_saturating, "-mean(log(D(G(z)))) = mean(softplus(-f))",
                "Goodfellow et al. 2014, section 3"),
    _classifier("maximum-likelihood", _maximum_likelihood, "-mean(exp(f)) = -mean(D(G(z)) / (1 - D(G(z))))",
                'Goodfellow 2016, "NIPS 2016 tutorial", section 3.2.4'),
    Cost("least-squares", _least_squares_d, _least_squares_g, "(mean((r - t) ** 2) + mean(f ** 2)) / 2",
         "mean((f - 1) ** 2) / 2", 'Mao et al. 2017, "Least squares generative adversarial networks", equation 9',
         targets=True),
    Cost("wasserstein", _wasserstein_d, _towards_real, "mean(f) - mean(r)", "-mean(f)",
         'Arjovsky et al. 2017, "Wasserstein GAN", section 3'),
    Cost("hinge", _hinge_d, _towards_real, "mean(max(0, 1 - r)) + mean(max(0, 1 + f))", "-mean(f)",
         'Lim and Ye 2017, "Geometric GAN"; Miyato et al. 2018, "Spectral normalization", equations 16 and 17'),
    Cost("relativistic", _relativistic_d, _relativistic_g, "mean(softplus(f - r))", "mean(softplus(r - f))",
         'Jolicoeur-Martineau 2019, "The relativistic discriminator" (there RGAN, later RpGAN); Huang et al. 2024, '
         '"The GAN is dead", section 2.2', pairs=True),
)}
"""The games by name."""


def check_cost(caller: str, cost: Cost, label_smoothing: float) -> None:
    """Raise TypeError for a loss that does not take two arguments, ValueError for label smoothing that is not in [0, 1), and
    SettingsError if the cost has no targets to smooth."""
    for name, two in (("d_loss", "logits, target"), ("g_loss", "fake, real")):
        try:
            signature = inspect.signature(getattr(cost, name))
        except ValueError:  # a function without a signature
            continue
        try:
            signature.bind(None, None)
        except TypeError:
            raise TypeError(f"{caller}: {name} of the cost {cost.name!r} should take two arguments ({two}), but it takes "
                            f"{signature}") from None
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"{caller}: label_smoothing should be in [0, 1), got {label_smoothing}")
    if label_smoothing and not cost.targets:
        raise SettingsError(f"{caller}: label_smoothing changes the target of real images, and the cost {cost.name!r} has "
                            f"no targets: label_smoothing should be 0, got {label_smoothing}")


def check_loss(caller: str, cost: Cost, name: str, loss: Any) -> None:
    """Raise TypeError unless a loss, `d_loss` or `g_loss`, is a Tensor of one number."""
    if not isinstance(loss, Tensor) or loss.size != 1:
        got = f"a Tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"{caller}: {name} of the cost {cost.name!r} should return a Tensor of one number, such as the mean "
                        f"over the images, got {got}")


def check_pairs(caller: str, what: str, real: Any, fake: Any) -> None:
    """Raise ValueError unless there are as many real images as generated ones. what: which cost or penalty pairs them."""
    if real.shape[0] != fake.shape[0]:
        raise ValueError(f"{caller}: {what} pairs each real image with a generated one, so it needs as many of both, got "
                         f"{real.shape[0]} real and {fake.shape[0]} generated images")
