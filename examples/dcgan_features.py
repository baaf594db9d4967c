"""What has the discriminator learnt? A linear classifier on its features (Radford, Metz, Chintala 2015, section 5.1).

    python examples/dcgan_features.py --run runs/dcgan

trains classifiers of digits with 100, 1,000 and 10,000 labels: on raw pixels, on the features of the untrained
discriminator, and on those of the run's trained discriminator. It prints their accuracy on all test images as a table in
Markdown, and writes the results to `features.json` in the run's folder. It takes minutes.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

import tinygan as tg
from tinygan.runs.settings import count, natural

SIZES = (100, 1_000, 10_000)


def main(run: Path, data_dir: str | None, draws: int, seed: int, sizes: tuple[int, ...] = SIZES) -> None:
    trained, config, history = tg.training.open_run(run)
    data_dir = data_dir or config["data"]["data_dir"]
    train, test = (tg.data.load(data_dir, split=split) for split in ("train", "test"))
    shape = tuple(config["data"]["image_shape"])
    if train.image_shape != shape:
        raise tg.training.RunError(f"{run} was trained on images of {shape}, but {train.name} has {train.image_shape}")

    # The three representations of images (N, C, H, W), each a function to (N, F).
    first, last = tg.training.untrained(run).discriminator, trained.discriminator
    representations = {
        "raw pixels": lambda images: images.reshape(len(images), -1),
        "random discriminator": lambda images: tg.metrics.discriminator_features(first, images),
        "trained discriminator": lambda images: tg.metrics.discriminator_features(last, images),
    }

    # The labels: equally many of every class, drawn `draws` times. The small sets are parts of the large ones. The strength
    # of the L2 penalty is chosen on a fifth of the given labels. The test images are used once, at the end.
    key = tg.random.Key(seed).fold("labels")
    rows = []
    for name, represent in representations.items():
        seen_last = represent(test.batch(np.arange(len(test))))
        accuracies: dict[int, list[float]] = {size: [] for size in sizes}
        for draw in range(draws):
            chosen = tg.metrics.balanced_subset(train.labels, max(sizes), key.fold(draw))
            features, labels = represent(train.batch(chosen)), train.labels[chosen]
            for size in sizes:
                classifier = tg.metrics.select_classifier(features[:size], labels[:size], key.fold(draw).fold("held out"))
                accuracies[size].append(classifier.accuracy(seen_last, test.labels))
                print(f"{name}, {size:,} labels, draw {draw + 1}: {accuracies[size][-1]:.2%} "
                      f"(L2 strength {classifier.strength:g})", file=sys.stderr, flush=True)
        rows.append({"features": name, "dimensions": seen_last.shape[1],
                     "accuracy": {str(size): values for size, values in accuracies.items()}})

    print(f"Accuracy on the {len(test):,} test images of {test.name}, mean and range of {draws} draws of the labels; the "
          f"discriminator after {len(history['d_loss']):,} steps:\n")
    print("| features | dimensions |" + "".join(f" {size:,} labels |" for size in sizes))
    print("| --- | --- |" + " --- |" * len(sizes))
    for row in rows:
        cells = [f" {np.mean(v):.2%} ({min(v):.2%} to {max(v):.2%}) |" for v in row["accuracy"].values()]
        print(f"| {row['features']} | {row['dimensions']:,} |" + "".join(cells))
    report = {"data": train.name, "test_images": len(test), "steps": len(history["d_loss"]), "draws": draws, "seed": seed,
              "rows": rows}
    tg.saving.write_atomically(run / "features.json", (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="the folder of a DCGAN's run")
    parser.add_argument("--data-dir", metavar="DIR", help="MNIST's files (default: as in training)")
    parser.add_argument("--labels", type=count, nargs="+", default=SIZES, metavar="N",
                        help="numbers of labels (default: 100 1000 10000)")
    parser.add_argument("--draws", type=count, default=3, metavar="N", help="draws of the labels (default: 3)")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of the draws (default: 0)")
    options = parser.parse_args()
    sys.exit(tg.training.guarded(lambda: main(options.run, options.data_dir, options.draws, options.seed,
                                              tuple(options.labels))))
