"""The parts of a run, apart from the training loop (`tinygan.training`).

`settings.py`: the flags. `variants/`: the GANs that the command line knows. `trainable.py`: what the loop needs of a GAN.
`folder.py`: the run folder and its files; `lock.py`: its lock. `history.py`: the losses of all steps. `opening.py`: reading
a run's networks. `machine.py`: the versions and the hardware on which exact results depend. `evaluation.py`: the quality of
the images. `report.py`: what a run prints. `advice.py`: the commands that it suggests. `errors.py`: what can end it early.
"""

__all__: list[str] = []
