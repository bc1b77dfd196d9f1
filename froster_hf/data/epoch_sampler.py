"""The order of training clips, as a pure function of (seed, epoch)."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) pairs: a permutation of the data set that depends on nothing but seed and epoch.

    The epoch goes to the workers inside the index, so persistent workers, read-ahead and restarts cannot mix epochs
    up, and the sampler has no state besides `epoch`. All ranks draw the same order; Accelerate's `BatchSamplerShard`
    deals its batches out.

    Before an epoch call `set_epoch` on *this* object. Accelerate forwards `DataLoader.set_epoch` only through two
    wrappers, and a resumed multi-process loader has three, which would replay epoch 0.

    Args:
        num_samples: size of the data set.
        seed: seed of the run.
        shuffle: whether to permute; without, every epoch goes through the data set in its order.
    """

    def __init__(self, num_samples: int, *, seed: int, shuffle: bool = True):
        if num_samples < 1 or seed < 0:
            raise ValueError(f"num_samples={num_samples} must be at least 1 and seed={seed} at least 0.")
        self.num_samples, self.seed, self.shuffle, self.epoch = num_samples, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, counted from 0, that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
        for index in order if self.shuffle else range(self.num_samples):
            yield epoch, int(index)
