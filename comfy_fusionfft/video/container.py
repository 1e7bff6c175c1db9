"""Opening media files that may come from anybody: nothing but the file itself is read.

FFmpeg guesses what a file is from its content, and some of what it may find are lists of other files and addresses:
playlists (HLS, DASH), lists to be joined (concat), session descriptions, numbered images. Opened as they are, they
make a program that was given one file read others, or the network. So only formats that hold their pictures and
sounds themselves are opened, only from files, and the name is never taken for an address.
"""

from __future__ import annotations

import errno
from pathlib import Path

import av

from ..errors import MediaError
from .size import MOST_PIXELS

# FFmpeg's names. Each reads one file and asks for no other.
_VIDEO = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,nut,mxf,gxf,rm,dv,wtv,swf,ivf,obu,av1,gif,apng,webp,"
    "yuv4mpegpipe,h261,h263,h264,hevc,vvc,m4v,mpegvideo,mjpeg,vc1,dirac,dnxhd,cavsvideo"
)
_IMAGE = (
    "bmp_pipe,dpx_pipe,exr_pipe,gif_pipe,hdr_pipe,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,pam_pipe,"
    "pbm_pipe,pfm_pipe,pgm_pipe,png_pipe,ppm_pipe,qoi_pipe,sgi_pipe,tiff_pipe,webp_pipe"
)
_SOUND = "wav,w64,aiff,au,caf,mp3,aac,ac3,eac3,dts,truehd,flac,ape,tak,tta,wv,amr,mpc,mpc8,dsf,voc,oma"
_OPTIONS = {
    "format_whitelist": f"{_VIDEO},{_IMAGE},{_SOUND}",
    "protocol_whitelist": "file",
    "max_pixels": str(MOST_PIXELS),
}
_TAGS = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Tags may hold any bytes; newer versions of PyAV take them as they are, without being told."""


def open_container(path: Path) -> av.container.InputContainer:
    """Raises MediaError for a file of another format, and FFmpeg's own errors and OSError for the rest."""
    if not Path(path).is_file():  # a pipe would be waited for without end
        raise MediaError(f"{path} is not a file: give a video file or a folder of images")
    try:
        # Without "file:" a name such as "concat:a|b" would be an address.
        return av.open(f"file:{Path(path).absolute()}", options=_OPTIONS, **_TAGS)
    except av.error.FFmpegError as error:
        if error.errno != errno.EINVAL:
            raise
        raise MediaError(
            f"{path} is not a video that can be opened (it is damaged, or a playlist, a list of files or another "
            "format that is not read): convert it, to MP4 for example"
        ) from error
