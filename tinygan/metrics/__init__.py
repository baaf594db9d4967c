"""What is measured of a trained GAN: which known modes it covers (`modes.py`); how far its images are from real ones
(`images.py`), in the eyes of a classifier of digits (`digits.py`), and all of that at once (`quality.py`); its
discriminator's features (`features.py`), and how well a linear classifier can tell classes by them (`linear.py`)."""
from tinygan.metrics.digits import DigitClassifier, digit_classifier, train_classifier
from tinygan.metrics.features import adaptive_max_pool, discriminator_features
from tinygan.metrics.images import (
    BinDifference,
    Bins,
    PrecisionRecall,
    fit_bins,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from tinygan.metrics.linear import LinearClassifier, balanced_subset, fit_classifier, select_classifier
from tinygan.metrics.modes import LabelCoverage, MixtureCoverage, label_coverage, mixture_coverage
from tinygan.metrics.quality import Judge, Quality

__all__ = ["BinDifference", "Bins", "DigitClassifier", "Judge", "LabelCoverage", "LinearClassifier", "MixtureCoverage",
           "PrecisionRecall", "Quality", "adaptive_max_pool", "balanced_subset", "digit_classifier",
           "discriminator_features", "fit_bins", "fit_classifier", "frechet_distance", "inception_score",
           "kernel_distance", "label_coverage", "mixture_coverage", "precision_recall", "select_classifier",
           "train_classifier"]
