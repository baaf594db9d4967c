"""What is measured of a trained GAN: its discriminator's features (`features.py`), and how well a linear classifier can
tell classes by them (`linear.py`)."""
from tinygan.metrics.features import adaptive_max_pool, discriminator_features
from tinygan.metrics.linear import LinearClassifier, balanced_subset, fit_classifier, select_classifier

__all__ = ["adaptive_max_pool", "discriminator_features", "LinearClassifier", "balanced_subset", "fit_classifier",
           "select_classifier"]
