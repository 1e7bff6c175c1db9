"""Sound: copied, stretched and on tape, in its place, at its pitch, for its time."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video.clips import info, noise

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import Sound, open_clip, write_clip
from comfy_fusionfft.video.stretch import stretched
from comfy_fusionfft.video.tape import taped

RATE = 48000


def save(path: Path, *tracks: np.ndarray, rate=RATE, layout="mono", codec="flac", at=0.0, tags=({},)) -> Path:
    """Tracks ``(C, n)`` of floats that begin at ``at`` seconds."""
    with av.open(str(path), "w") as output:
        streams = []
        for number, _ in enumerate(tracks):
            stream = output.add_stream(codec, rate=rate)
            stream.layout = layout
            stream.metadata.update(tags[number % len(tags)])
            streams.append(stream)
        for stream, samples in zip(streams, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples, dtype=np.float32), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, round(at * rate), Fraction(1, rate)
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


def heard(path: Path, track: int = 0) -> tuple[np.ndarray, int]:
    """All samples ``(C, n)`` on the file's clock from the first picture on, and their rate."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        frames = list(container.decode(stream))
        rate = frames[0].sample_rate
        to_float = av.AudioResampler("fltp", frames[0].layout.name, rate)
        samples = np.concatenate([out.to_ndarray() for f in frames for out in to_float.resample(f)], axis=1)
        lead = round((frames[0].time - first) * rate)
    if lead >= 0:
        return np.pad(samples, ((0, 0), (lead, 0))), rate
    return samples[:, -lead:], rate


def sine(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)[None]


def pitch(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 20))
    return float(np.argmax(spectrum) * rate / (1 << 20))


def clicks(*places: float, seconds: float) -> np.ndarray:
    samples = np.zeros((1, round(seconds * RATE)))
    for place in places:
        samples[0, round(place * RATE)] = 0.9
    return samples


def loudest(samples: np.ndarray, rate: int, after: float = 0) -> float:
    return (np.argmax(np.abs(samples[0, round(after * rate) :])) + round(after * rate)) / rate


def written(tmp_path, sound, seconds=2.0, name="out.mkv", start=Fraction(0)):
    frames = [Frame(f.pixels, f.seconds + start) for f in noise(round(seconds * 25))]
    return write_clip(tmp_path / name, frames, like=info(tmp_path), sound=sound)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.webm", "out.avi"])
@pytest.mark.parametrize(("how", "expected"), [("stretch", 440), ("tape", 220)])
def test_half_speed(tmp_path, name, how, expected):
    source = save(tmp_path / "a.mka", sine(440, 1))
    result = written(tmp_path, Sound(source, how, Fraction(1, 2)), name=name)
    assert result.notes == (() if "avi" not in name else result.notes)
    samples, rate = heard(result.path)
    assert pitch(samples[0, rate // 2 : -rate // 2], rate) == pytest.approx(expected, abs=1)
    assert samples.shape[1] / rate == pytest.approx(2, abs=0.03)
    assert np.abs(samples[0, rate // 4 : -rate // 4]).max() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("tempo", [Fraction(1, 8), Fraction(24, 25), Fraction(1), Fraction(3)])
@pytest.mark.parametrize(("way", "follows"), [(stretched, False), (taped, True)])
def test_pitch_and_length_at_many_speeds(tempo, way, follows):
    source = Held(sine(440, 3 * float(tempo) + 1))
    samples = played(way, source, Sound("-", "stretch", tempo), 3)
    assert samples.shape == (1, 3 * RATE)
    assert pitch(samples[0, RATE // 2 : -RATE // 2], RATE) == pytest.approx(440 * float(tempo) ** follows, abs=1)
    # No clicks: a sine bends nowhere more than a sine does.
    top = 440 * (float(tempo) if follows else 1)
    assert np.abs(np.diff(samples[0], 2)[3000:-3000]).max() < 0.5 * (2 * np.pi * top / RATE) ** 2 * 1.2 + 5e-4


@pytest.mark.parametrize("way", [stretched, taped])
def test_at_its_own_speed_it_is_as_it_was(way):
    rng = np.random.default_rng(0)
    source = Held(rng.standard_normal((2, RATE)) * 0.1)
    samples = played(way, source, Sound("-", "stretch"), 0.9)
    if way is stretched:
        np.testing.assert_allclose(samples, source.samples[:, : samples.shape[1]], atol=1e-6)
    else:  # which cuts off a little below half the rate
        smooth = np.apply_along_axis(lambda x: np.convolve(x, np.hanning(9) / 4, "same"), 1, source.samples)
        again = played(way, Held(smooth), Sound("-", "tape"), 0.9)
        np.testing.assert_allclose(again[:, 99:], smooth[:, 99 : again.shape[1]], atol=2e-3)


def test_stretching_does_not_drift():
    """Over ten minutes, at a low rate to be quick: beeps stay within a window of where they belong, early and late."""
    rate, tempo, seconds = 8000, Fraction(24, 25), 600
    at = np.arange(1, int(seconds * tempo) - 1)
    samples = np.zeros((1, round(seconds * float(tempo) * rate)))
    ping = np.random.default_rng(1).standard_normal(400) * np.exp(-np.arange(400) / 60)
    for place in at:
        samples[0, place * rate : place * rate + 400] = ping
    played_back = played(stretched, Held(samples, rate), Sound("-", "stretch", tempo), seconds)[0]
    off = []
    for place in at:
        due = round(place / tempo * rate)
        around = np.abs(np.correlate(played_back[due - 400 : due + 500], ping[:100], "valid"))
        off.append((np.argmax(around) - 400) / rate)
    assert np.abs(off).max() < 0.02
    assert abs(np.mean(off[-100:]) - np.mean(off[:100])) < 0.003


@pytest.mark.parametrize("way", [stretched, taped])
def test_ramps_follow_their_function(way):
    """Half speed to double within four seconds: a ping of the source is heard where the ramp has come to it."""

    def source_seconds(t: Fraction) -> Fraction:
        return t / 2 + t * t * 3 / 16

    source = Held(clicks(*np.arange(0.25, 5, 0.25), seconds=6))
    samples = played(way, source, Sound("-", "tape", source_seconds=source_seconds), 4)
    for place in (0.5, 1.5, 3.0, 4.5):
        due = (-0.5 + np.sqrt(0.25 + 0.75 * place)) / 0.375
        near = round(due * RATE)
        window = samples[:, near - 2000 : near + 2000]
        assert abs(loudest(window, RATE) - 2000 / RATE) < (0.022 if way is stretched else 0.0001)


def test_tape_does_not_fold_high_tones_back():
    loud = {
        hertz: played(taped, Held(sine(hertz, 3)), Sound("-", "tape", Fraction(2)), 1)[0] for hertz in (9000, 15000)
    }
    level = {hertz: np.sqrt(np.mean(samples[500:-500] ** 2)) for hertz, samples in loud.items()}
    assert level[9000] == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert level[15000] < level[9000] / 1000


@pytest.mark.parametrize("how", ["keep", "stretch", "tape"])
@pytest.mark.parametrize("at", [0.0, 0.6])
def test_sound_keeps_its_place(tmp_path, how, at):
    """A picture that starts at 0.2 s; sound that starts before it and one that starts after it."""
    source = save(tmp_path / "a.mka", clicks(1.0 - at, seconds=2), at=at, codec="pcm_s16le")
    tempo = Fraction(1) if how == "keep" else Fraction(1, 2)
    result = written(tmp_path, Sound(source, how, tempo), name="out.mov", start=Fraction(1, 5))
    samples, rate = heard(result.path)
    assert loudest(samples, rate) == pytest.approx(0.8 / float(tempo), abs=0.022 if how == "stretch" else 0.002)
    given = written(tmp_path, Sound(source, how, tempo, start=Fraction(1, 2)), name="given.mov")
    samples, rate = heard(given.path)
    assert loudest(samples, rate) == pytest.approx(0.5 / float(tempo), abs=0.022 if how == "stretch" else 0.002)


@pytest.mark.parametrize("how", ["keep", "stretch", "tape"])
def test_sound_ends_with_the_picture(tmp_path, how):
    source = save(tmp_path / "a.mka", sine(440, 5), codec="aac")
    result = written(tmp_path, Sound(source, how), seconds=1, name="out.mp4")
    samples, rate = heard(result.path)
    assert 0.95 <= samples.shape[1] / rate <= 1.04


def test_short_sound_is_followed_by_silence(tmp_path):
    source = save(tmp_path / "a.mka", sine(440, 0.5))
    samples, rate = heard(written(tmp_path, Sound(source, "tape")).path)
    assert np.abs(samples[0, round(0.6 * rate) :]).max() < 0.01


@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6)])
@pytest.mark.parametrize("rate", [11025, 22254, 44100, 96000])
@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_rates_and_channels(tmp_path, name, rate, layout, channels):
    tones = np.concatenate([sine(300 + 100 * k, 1, rate) for k in range(channels)])
    source = save(tmp_path / "a.mka", tones, rate=rate, layout=layout, codec="pcm_s16le")
    result = written(tmp_path, Sound(source, "stretch", Fraction(4, 5)), seconds=1.2, name=name)
    assert result.notes == ()
    samples, out_rate = heard(result.path)
    assert samples.shape[0] == channels
    for k in set(range(channels)) - {3}:  # the fourth of 5.1 is for low tones alone
        assert pitch(samples[k, out_rate // 5 : out_rate], out_rate) == pytest.approx(300 + 100 * k, abs=3)


@pytest.mark.parametrize("how", ["keep", "stretch"])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_streams_keep_their_names_and_languages(tmp_path, name, how):
    tags = ({"language": "deu", "title": "Kommentar"}, {"language": "fra", "title": "Musique"})
    source = save(tmp_path / "a.mka", sine(440, 1), sine(880, 1), tags=tags, codec="aac")
    result = written(tmp_path, Sound(source, how), seconds=1, name=name)
    with av.open(str(result.path)) as container:
        named = "name" if name == "out.mp4" else "title"
        found = [(stream.metadata["language"], stream.metadata[named]) for stream in container.streams.audio]
    assert found == [("deu", "Kommentar"), ("fra", "Musique")]
    assert pitch(heard(result.path, 1)[0][0, 9000:30000], RATE) == pytest.approx(880, abs=3)


@pytest.mark.parametrize("how", ["keep", "stretch", "tape"])
def test_a_source_without_sound(tmp_path, how):
    write_clip(tmp_path / "silent.mp4", noise(5), like=info(tmp_path))
    result = written(tmp_path, Sound(tmp_path / "silent.mp4", how), seconds=0.4, name="out.mp4")
    assert result.notes == ()
    assert not open_clip(result.path).info.has_audio


def test_a_gap_in_the_source_stays_silent(tmp_path):
    path = tmp_path / "gap.mka"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=RATE)
        stream.layout = "mono"
        for begin in (0.0, 1.0):
            frame = av.AudioFrame.from_ndarray(sine(440, 0.5).astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, round(begin * RATE), Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    samples, rate = heard(written(tmp_path, Sound(path, "tape"), seconds=1.6).path)
    level = [
        np.sqrt(np.mean(samples[0, round(a * rate) : round(b * rate)] ** 2))
        for a, b in ((0.1, 0.4), (0.6, 0.9), (1.1, 1.4))
    ]
    assert level[1] < 0.01 < 0.3 < min(level[0], level[2])


def test_impossible_sounds(tmp_path):
    with pytest.raises(MediaError, match="sound cannot be treated as 'loud': use keep, stretch or tape"):
        Sound(tmp_path / "a", "loud")
    with pytest.raises(MediaError, match="tempo of 0 was given: give one above 0"):
        Sound(tmp_path / "a", "tape", Fraction(0))


class Held:
    """A listener to samples in memory."""

    def __init__(self, samples: np.ndarray, rate: int = RATE) -> None:
        self.samples, self.rate, self.channels = samples.astype(np.float32), rate, samples.shape[0]

    def read(self, start: int, stop: int) -> np.ndarray:
        out = np.zeros((self.channels, stop - start), np.float32)
        left, right = max(start, 0), min(stop, self.samples.shape[1])
        if left < right:
            out[:, left - start : right - start] = self.samples[:, left:right]
        return out


def played(way, source: Held, sound: Sound, seconds: float) -> np.ndarray:
    return np.concatenate(list(way(source, sound, round(seconds * source.rate))), axis=1)
