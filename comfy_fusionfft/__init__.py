"""FusionFFT: frame interpolation that keeps the grain. Start reading at ``api.py``, then ``engine/run.py``."""

__version__ = "0.1.0"
