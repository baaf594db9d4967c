"""The parts of a run, apart from the training loop (`tinygan.training`).

`settings.py`: the flags; `config_file.py`: `run.toml`. `variants/`: the GANs that the command line knows. `trainable.py`:
what the loop needs of a GAN. `folder.py`: the run folder and its files; `lock.py`: its lock. `history.py`: the losses of all
steps. `loggers.py`: the interface of all that is told of a training; `writers.py` writes it to files, `report.py` to the
terminal, `notebook.py` to Jupyter. `opening.py`: reading a run's networks. `machine.py`: the versions and the hardware on
which exact results depend. `evaluation.py`: the quality of the images. `advice.py`: the commands that a run suggests.
`errors.py`: what can end it early.
"""

__all__: list[str] = []
