"""What is measured of a trained GAN: which known modes it covers (`modes.py`), its discriminator's features (`features.py`),
and how well a linear classifier can tell classes by them (`linear.py`)."""
from tinygan.metrics.features import adaptive_max_pool, discriminator_features
from tinygan.metrics.linear import LinearClassifier, balanced_subset, fit_classifier, select_classifier
from tinygan.metrics.modes import LabelCoverage, MixtureCoverage, label_coverage, mixture_coverage

__all__ = ["LabelCoverage", "LinearClassifier", "MixtureCoverage", "adaptive_max_pool", "balanced_subset",
           "discriminator_features", "fit_classifier", "label_coverage", "mixture_coverage", "select_classifier"]
