"""Runs that are stopped or fail half-way: the host's own exception comes out soon, and what was held is let go."""

import gc
import threading
import weakref
from fractions import Fraction as F
from pathlib import Path

import pytest
import torch
from faults.starving import Watch, spread
from faults.test_run_memory import clip, random_network
from small_nets import FMANET
from video.clips import encode, yuv

from comfy_fusionfft import api
from comfy_fusionfft.contract import Reach
from comfy_fusionfft.engine import run
from comfy_fusionfft.engine.promises import kept
from comfy_fusionfft.engine.run import _promised
from comfy_fusionfft.engine.transfer import Direct
from comfy_fusionfft.errors import Cancelled
from comfy_fusionfft.families import fmanet, waveletvfi
from comfy_fusionfft.files import interpolate_file, restore_file
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.timeline import Multiply
from comfy_fusionfft.video import open_clip

FILES = Path("/proc/self/fd")


class Stop(Exception):
    """What a host of its own raises; nothing here knows it."""


class Host(PlainHost):
    """``stop`` asks for the end."""

    def __init__(self, **options):
        super().__init__("cpu", "float32", **options)
        self.checks = 0
        self.asked = False
        self.at = None

    def stop(self):
        self.asked = True

    def raise_if_cancelled(self):
        self.checks += 1
        if self.asked or self.checks == self.at:
            raise Stop("the page says so")


def fused(host):
    return api.interpolate(clip(3), flow="rife", num_anchors=1, host=host)


def blended(host):
    return api.interpolate(clip(4), flow="rife", method="rife", multi=3, cuts="auto", host=host)


def chosen(host):
    return api.interpolate(clip(4), method="rife", host=host)


def wavelet(host):
    net = random_network(waveletvfi, waveletvfi.WaveletVFIConfig())
    return api.interpolate(clip(3), method="waveletvfi", weights=net, host=host)


def restored(host):
    return api.restore(clip(3), random_network(fmanet, FMANET), host=host)


def swapped(host):
    return api.spectral_swap(clip(4), clip(4), prior_kind="paired", host=host)


def flowing(host):
    return api.extract_flow(clip(3), flow="rife", multi=2, host=host)


@pytest.mark.parametrize(("work", "place"), [
    (blended, "families/rife"),
    (fused, "families/fusionfft"),
    (fused, "ops/spectral"),
    (blended, "engine/picture:to_picture"),
    (blended, "engine/picture:to_pixels"),
    (chosen, "families/multiflow"),
    (wavelet, "families/waveletvfi"),
    (restored, "families/fmanet"),
    (swapped, "ops/spectral"),
    (flowing, "engine/flow:_found"),
])  # fmt: skip
def test_a_stop_anywhere_is_seen_before_the_next_step_ends(work, place):
    """The work that is still done is at most that of one step: a third of the run."""
    with Watch(place) as watch:
        whole = list(work(Host()))
    after = spread(watch.seen, 4)[1]
    host, made = Host(), []
    with Watch(place, after, host.stop) as left, pytest.raises(Stop, match="^the page says so$"):
        for frame in work(host):
            made.append(frame)
            if host.asked:
                left.late = getattr(left, "late", 0) + 1
    assert host.asked and len(made) < len(whole)
    assert getattr(left, "late", 0) <= 4, "frames of the step that was at work, no more"
    assert len(list(work(Host()))) == len(whole)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    return encode(folder / "film.mkv", [yuv((60 + 20 * k, 128, 128), 32) for k in range(6)], "yuv420p", "ffv1")


WHOLE_FILES = {
    "interpolate": lambda film, out, host: interpolate_file(
        film, out, method="rife", flow="dis", codec="ffv1", timeline=out.with_suffix(".png"), host=host
    ),
    "restore": lambda film, out, host: restore_file(
        film, out, weights=random_network(fmanet, FMANET), codec="ffv1", host=host
    ),
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_stop_at_every_check_of_a_whole_file(film, tmp_path, name):
    """Looking through, reading, making, writing: whichever check it is, no file comes of it and none is held open."""
    work = WHOLE_FILES[name]
    counting = Host()
    work(film, tmp_path / "whole.mkv", counting)
    whole = (tmp_path / "whole.mkv").read_bytes()
    opened, threads = files_open(), threading.active_count()
    for at in spread(counting.checks, 5 if name == "interpolate" else 3):
        host = Host()
        host.at = at + 1
        with pytest.raises(Stop, match="^the page says so$"):
            work(film, tmp_path / "out.mkv", host)
        assert sorted(file.name for file in tmp_path.iterdir() if file.suffix == ".mkv") == ["whole.mkv"]
        assert not list(tmp_path.glob(".*")), "no segment was complete: nothing is kept"
        assert (files_open(), threading.active_count()) == (opened, threads)
    work(film, tmp_path / "out.mkv", Host())
    assert (tmp_path / "out.mkv").read_bytes() == whole


def files_open():
    """Linux tells."""
    return len(list(FILES.iterdir())) if FILES.is_dir() else 0


# -------------------------------------------------------------------------------------------- other failures


class Mixer:
    """The mean of two frames; fails at the call of this number."""

    reach = Reach()

    def __init__(self, fails=None):
        self.calls, self.fails = 0, fails

    def __call__(self, window):
        self.calls += 1
        if self.calls == self.fails:
            raise ZeroDivisionError("a network of somebody else's")
        return torch.cat([(window.images[0] + window.images[1]) / 2 for _ in window.times])


def test_a_network_that_fails_in_the_middle(film):
    opened, out = files_open(), []
    with pytest.raises(ZeroDivisionError, match="somebody else's"):
        for frame in run(open_clip(film), Mixer(fails=3), Multiply(2), Host()):
            out.append(frame)
    assert len(out) == 5
    gc.collect()  # pytest holds the error, and the error its frames
    assert files_open() <= opened + 1


def test_a_reader_that_fails_in_the_middle():
    def broken():
        yield from clip(3)
        raise OSError(5, "Input/output error")

    out = []
    with pytest.raises(OSError, match="Input/output error"):
        for frame in run(broken(), Mixer(), Multiply(2), Host()):
            out.append(frame)
    assert [frame.seconds for frame in out] == [F(k, 20) for k in range(4)]


@pytest.mark.parametrize("how", ["close", "drop", "raise"])
def test_a_consumer_that_leaves_early_leaves_no_file_open(film, how):
    opened, threads = files_open(), threading.active_count()
    made = api.interpolate(open_clip(film), method="rife", flow="dis", host=Host())
    next(made)
    next(made)
    assert files_open() > opened
    if how == "close":
        made.close()
    elif how == "raise":
        with pytest.raises(ZeroDivisionError):
            made.throw(ZeroDivisionError("the consumer's"))
    del made
    assert (files_open(), threading.active_count()) == (opened, threads)


@pytest.mark.parametrize("error", [Cancelled("stop"), KeyboardInterrupt()])
def test_a_stop_beside_the_copies_lets_go_of_the_pictures(error):
    """Where results come a step late, the stop waits for them; it must not keep all that was at work when it came."""

    class Ahead(Direct):
        ahead = True

    pictures = []

    class Noting(Mixer):
        def __call__(self, window):
            made = super().__call__(window)
            pictures.append(weakref.ref(made))
            return made

    def frames():
        yield from clip(4)
        raise error

    gc.collect()
    gc.disable()
    try:
        transfer = Ahead(torch.device("cpu"))
        promised = _promised(frames(), Noting(), Multiply(2), Host(), *defaults(), transfer)
        with pytest.raises(type(error)) as stopped:
            list(kept(promised, ahead=True))
        assert len(pictures) == 3
        error.__traceback__ = None
        del stopped, promised
        assert all(picture() is None for picture in pictures)
    finally:
        gc.enable()


def defaults():
    from comfy_fusionfft.engine import Manner
    from comfy_fusionfft.timeline import Part

    return Manner(), Part()
