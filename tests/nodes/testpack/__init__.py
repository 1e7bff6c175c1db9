"""Nodes for tests only, loaded beside the pack: tensors get in and out of graphs as safetensors files, bit for bit.

FusionFFTTestLoad:     input/<file> with the tensor "image" (B,H,W,C) → IMAGE
FusionFFTTestSave:     IMAGE, MASK (optional) → output/<name>.safetensors with "image" and "mask"
FusionFFTTestSaveFlow: FLOW → output/<name>.safetensors with "flow.0", "mask.0", "timesteps.0", ..., "pairs", "instants"
FusionFFTTestSaveFloat: FLOAT → output/<name>.safetensors with "value", float64
FusionFFTTestSleep:    IMAGE through unchanged, after a while that shows progress and can be interrupted
FusionFFTTestForeignFlow: a FLOW as another pack might mean it: one tensor
FusionFFTTestVideoInfo: VHS_VIDEOINFO as VideoHelperSuite's loaders put it out
FusionFFTTestFileNames: VHS_FILENAMES as its Video Combine puts it out, of a file in the input folder
FusionFFTTestTone:     AUDIO, two channels of a tone
FusionFFTTestFilm:     INTERP_MODEL with the host's own FILM network, without numbers (hosts that have it)

connections.log in the base folder notes who in the host's process asks for a connection: "pack" or "others".
"""

import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import load_file, save_file

CATEGORY = "FusionFFT/tests"
CONNECTIONS = Path("connections.log").absolute()


def _note_connection(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        files = {frame.filename for frame in traceback.extract_stack()} - {__file__}
        who = "pack" if any("comfyui-fusionfft" in file or "comfy_fusionfft" in file for file in files) else "others"
        with CONNECTIONS.open("a") as log:
            log.write(f"{who} {event} {arguments[1:]}\n")


sys.addaudithook(_note_connection)
with suppress(OSError):  # so that a log without this line is one that nobody wrote
    socket.create_connection(("127.0.0.1", 9), timeout=0.1)
Flow = io.Custom("FLOW")


def _save(name: str, tensors: dict[str, torch.Tensor]) -> io.NodeOutput:
    path = Path(folder_paths.get_output_directory(), f"{name}.safetensors")
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path)
    return io.NodeOutput(ui={"tensors": [{"filename": path.name, "subfolder": "", "type": "output"}]})


class Load(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestLoad",
            category=CATEGORY,
            inputs=[io.String.Input("file", default="clip.safetensors")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> tuple[int, int]:
        status = Path(folder_paths.get_input_directory(), file).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        image = load_file(Path(folder_paths.get_input_directory(), file))["image"]
        # What the host's own loading nodes do, so that --fp16-intermediates is met as in real graphs.
        return io.NodeOutput(
            image.to(comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype())
        )


class Save(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestSave",
            category=CATEGORY,
            inputs=[
                io.Image.Input("image"),
                io.Mask.Input("mask", optional=True),
                io.String.Input("name", default="saved"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image: torch.Tensor, name: str, mask: torch.Tensor | None = None) -> io.NodeOutput:
        return _save(name, {"image": image} | ({} if mask is None else {"mask": mask}))


class SaveFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestSaveFlow",
            category=CATEGORY,
            inputs=[Flow.Input("flow"), io.String.Input("name", default="flow")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, flow: tuple, name: str) -> io.NodeOutput:
        parts = {"pairs": flow.pairs, "instants": flow.instants}
        for field in ("flow", "mask", "timesteps"):
            parts |= {f"{field}.{pair}": tensor for pair, tensor in enumerate(getattr(flow, field))}
        return _save(name, parts)


class SaveFloat(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestSaveFloat",
            category=CATEGORY,
            inputs=[io.Float.Input("value", force_input=True), io.String.Input("name", default="value")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value: float, name: str) -> io.NodeOutput:
        return _save(name, {"value": torch.tensor(value, dtype=torch.float64)})


class Sleep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestSleep",
            category=CATEGORY,
            inputs=[
                io.Image.Input("image"),
                io.Float.Input("seconds", default=1.0, min=0.0, max=600.0),
                io.Int.Input("steps", default=10, min=1, max=10000),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, seconds: float, steps: int) -> io.NodeOutput:
        bar = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(seconds / steps)
            bar.update_absolute(step + 1, steps)
        return io.NodeOutput(image)


class ForeignFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="FusionFFTTestForeignFlow", category=CATEGORY, inputs=[], outputs=[Flow.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(torch.zeros(1, 37, 50, 2))


class VideoInfo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestVideoInfo",
            category=CATEGORY,
            inputs=[io.Float.Input("loaded_fps", default=24.0)],
            outputs=[io.Custom("VHS_VIDEOINFO").Output()],
        )

    @classmethod
    def execute(cls, loaded_fps: float) -> io.NodeOutput:
        return io.NodeOutput({"source_fps": 2 * loaded_fps, "loaded_fps": loaded_fps, "loaded_frame_count": 2})


class FileNames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestFileNames",
            category=CATEGORY,
            inputs=[io.String.Input("file")],
            outputs=[io.Custom("VHS_FILENAMES").Output()],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        folder = Path(folder_paths.get_input_directory())
        return io.NodeOutput((True, [str(folder / "first_frame.png"), str(folder / file)]))


class Tone(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestTone",
            category=CATEGORY,
            inputs=[io.Float.Input("seconds", default=1.0)],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, seconds: float) -> io.NodeOutput:
        time = torch.arange(int(44100 * seconds)) / 44100
        return io.NodeOutput(
            {"waveform": (time * 880 * torch.pi).sin().mul(0.3).expand(1, 2, -1), "sample_rate": 44100}
        )


class Film(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTTestFilm",
            category=CATEGORY,
            inputs=[],
            outputs=[io.Custom("INTERP_MODEL").Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from comfy_extras.frame_interpolation_models.film_net import FILMNet

        with torch.device("meta"):
            network = FILMNet()
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(comfy.model_patcher.CoreModelPatcher(network, load_device=device, offload_device=device))


class TestExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [Load, Save, SaveFlow, SaveFloat, Sleep, ForeignFlow, VideoInfo, FileNames, Tone, Film]


async def comfy_entrypoint() -> TestExtension:
    return TestExtension()
