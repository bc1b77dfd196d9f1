from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from froster_hf.data import EpochSampler


def drawn(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_is_a_permutation_of_the_data_set_with_its_number():
    keys = drawn(EpochSampler(50, seed=1), 3)
    assert {epoch for epoch, _ in keys} == {3}
    assert sorted(index for _, index in keys) == list(range(50))


def test_the_order_depends_on_seed_and_epoch_only():
    sampler = EpochSampler(50, seed=1)
    second = drawn(sampler, 2)
    assert drawn(sampler, 3) != second
    assert drawn(EpochSampler(50, seed=1), 2) == second
    assert [index for _, index in drawn(EpochSampler(50, seed=2), 2)] != [index for _, index in second]


def test_accelerate_deals_the_batches_out_to_two_processes():
    sampler = EpochSampler(16, seed=0)
    shards = [
        list(BatchSamplerShard(BatchSampler(sampler, 4, drop_last=False), num_processes=2, process_index=rank))
        for rank in (0, 1)
    ]
    together = [key for pair in zip(*shards) for batch in pair for key in batch]
    assert together == list(sampler)
