"""What a run consists of, apart from the loop (`tinygan.training`).

`settings.py`: the flags; `variants.py`: which GANs the command line knows; `trainable.py`: what the loop needs of a GAN;
`folder.py`: the run folder, its lock and its files; `history.py`: the losses of all steps; `opening.py`: a run's networks,
read back; `machine.py`: what bit-for-bit results depend on; `evaluation.py`: how good the images are; `report.py`: what a
run says; `advice.py`: what it tells its user to type next.
"""

__all__: list[str] = []
