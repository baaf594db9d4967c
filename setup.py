"""Install tinygan: `pip install .`, or `pip install .[test]` to run the tests (extras: cuda12, cuda13, oracle, bench)."""
from pathlib import Path

from setuptools import find_packages, setup

TEST = ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "threadpoolctl>=3.5",
        "nvidia-cuda-nvrtc>=13; sys_platform != 'darwin'"]
ORACLE = ["torch>=2.4"]
LESSONS = "tinygan.teaching.lessons.texts"

setup(
    name="tinygan",
    version="0.1.0",
    description="A small reverse-mode autograd engine that is also a fast way to train GANs",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["tinygan", "tinygan.*"]), LESSONS],
    package_dir={LESSONS: "docs/lessons"},  # an installed tinygan has the lessons' scripts, too
    package_data={"tinygan": ["py.typed", "kernels/cuda/**/*.cu", "kernels/cuda/**/*.cuh", "kernels/cuda/**/*.hpp",
                              "teaching/web/*"]},
    install_requires=[
        "numpy>=2.0",
        "numba>=0.61",
        "matplotlib>=3.10",
        "tqdm>=4.66",
        "safetensors>=0.4.5",
        "scipy>=1.13",
    ],
    extras_require={
        "cuda12": ["cupy-cuda12x[ctk]>=14"],
        "cuda13": ["cupy-cuda13x[ctk]>=14"],
        "test": TEST,
        "oracle": ORACLE,
        "bench": [*ORACLE, "jax>=0.4.35", "autograd>=1.7", "mygrad>=2.2", "psutil>=6", "threadpoolctl>=3.5"],
        "dev": [*TEST, "ruff>=0.9", "mypy>=1.14"],
    },
    entry_points={"console_scripts": ["tinygan = tinygan.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
