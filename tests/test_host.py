import pytest
import torch

from comfy_fusionfft.errors import Cancelled, DeviceError
from comfy_fusionfft.host import PlainHost


def test_auto_finds_a_device_and_places_in_its_precision():
    host = PlainHost()
    net = host.place(torch.nn.Conv2d(3, 4, 3))
    assert net.weight.device.type == host.device.type and net.weight.dtype == host.dtype
    assert not net.training and not net.weight.requires_grad


@pytest.mark.parametrize(
    ("device", "dtype", "text"),
    [
        ("tpu9", "auto", "device 'tpu9' is not known: use auto"),
        ("cuda:99", "auto", "'cuda:99' is not available on this machine: use auto or one of"),
        ("cpu", "float8", "precision 'float8' is not known: use auto, float32"),
    ],
)
def test_unknown_devices_say_what_exists(device, dtype, text):
    with pytest.raises(DeviceError, match=text):
        PlainHost(device, dtype)


def test_bfloat16_on_a_cpu_without_it_is_refused(monkeypatch):
    monkeypatch.setattr("comfy_fusionfft.host._cpu_has_bfloat16", lambda: False)
    assert PlainHost("cpu").dtype == torch.float32
    with pytest.raises(DeviceError, match="no bfloat16 arithmetic"):
        PlainHost("cpu", "bfloat16")


def test_oom_is_recognised():
    host = PlainHost("cpu")
    assert host.is_oom(MemoryError())
    assert host.is_oom(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert host.is_oom(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"))
    assert not host.is_oom(RuntimeError("shape mismatch")) and not host.is_oom(ValueError("out of memory"))


def test_cancel_is_seen_at_the_next_step():
    host = PlainHost("cpu")
    host.raise_if_cancelled()
    host.cancel()
    with pytest.raises(Cancelled, match="stopped by the user"):
        host.raise_if_cancelled()
