import pytest
import torch

from comfy_fusionfft.ops.memory import Memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16, torch.bfloat16])
def test_empty_is_as_asked_for(dtype):
    tensor = Memory().empty(3, 5, 7, dtype=dtype)
    assert tensor.shape == (3, 5, 7) and tensor.dtype == dtype and tensor.is_contiguous()
    assert tensor.data_ptr() % 64 == 0
    assert (tensor.fill_(3) == 3).all()


@pytest.mark.parametrize("hold", [lambda t: t, lambda t: t[1:, 2], lambda t: t.numpy()[0], lambda t: [t.view(-1)]])
def test_memory_comes_back_when_the_last_holder_is_gone(hold):
    memory = Memory()
    tensor = memory.empty(4, 5)
    place = tensor.data_ptr()
    holder = hold(tensor)
    del tensor
    assert memory.empty(4, 5).data_ptr() != place
    del holder
    assert place in {memory.empty(4, 5).data_ptr(), memory.empty(4, 5).data_ptr()}


def test_other_sizes_get_other_memory():
    memory = Memory()
    place = memory.empty(4, 5).data_ptr()
    kept = [memory.empty(4, 6), memory.empty(4, 5)]
    assert kept[0].data_ptr() != place and kept[1].data_ptr() == place


def test_a_caller_who_keeps_everything_gets_new_memory_each_time():
    memory = Memory(blocks=3)
    kept = [memory.empty(10).fill_(number) for number in range(20)]
    assert all((tensor == number).all() for number, tensor in enumerate(kept))
    assert len(memory._blocks) == 3
