"""Measures of a trained GAN. `modes.py`: which known modes it covers. `images.py`: how far its images are from real ones.
`digits.py`: the classifier of digits that this needs. `quality.py`: all of these at once. `features.py`: the features of its
discriminator. `linear.py`: how well a linear classifier can separate classes with them. `translation.py`: whether
translated digits keep their class. `matching.py`: how well categories found without labels agree with classes."""
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
from tinygan.metrics.matching import Matching, match_categories
from tinygan.metrics.modes import LabelCoverage, MixtureCoverage, label_coverage, mixture_coverage
from tinygan.metrics.neighbours import nearest_neighbour_error
from tinygan.metrics.quality import Judge, Quality
from tinygan.metrics.translation import Kept, kept_classes

__all__ = ["BinDifference", "Bins", "DigitClassifier", "Judge", "Kept", "LabelCoverage", "LinearClassifier", "Matching",
           "MixtureCoverage", "PrecisionRecall", "Quality", "adaptive_max_pool", "balanced_subset", "digit_classifier",
           "discriminator_features", "fit_bins", "fit_classifier", "frechet_distance", "inception_score", "kept_classes",
           "kernel_distance", "label_coverage", "match_categories", "mixture_coverage", "nearest_neighbour_error",
           "precision_recall", "select_classifier", "train_classifier"]
