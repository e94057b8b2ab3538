"""OpenFace 2's 709 numbers for each picture (Baltrusaitis et al., FG 2018), from the program or its csv files.

OpenFace is a separate program that pip cannot install. Where it is installed (``lacuna doctor`` tells; put its
FeatureExtraction on the PATH, or name it in ``extractors.video.openface.executable``), it is run on the pictures
that pipeline/extraction/media.py decodes, so that parts of files, half pictures and rotated ones are treated as by
every other extractor. Where it is not, the csv files that it wrote elsewhere can be read (``csv_folder``).

Of several faces FeatureExtraction follows the one that it finds first; in csv files of FeatureExtractionMulti
the most certain face of a picture is taken.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import AssetError, MediaError, MomentaryError, StreamMissing
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings, FrameRate
from pipeline.extraction.importers.base import check_covered
from pipeline.extraction.importers.openface import COLUMNS, Table, read_csv
from pipeline.extraction.media import read_frames

PROGRAM = "FeatureExtraction"
MODELS = ("AU_predictors", "classifiers", "model")  # OpenFace's folders beside its program


class OpenfaceSettings(ExtractorSettings):
    """Where the numbers come from, and at which frame rate.

    Attributes:
        executable: OpenFace's FeatureExtraction; null: the one on the PATH.
        csv_folder: a folder with its csv files instead: ``<sample id>.csv`` of the sample alone, or ``<video
            file's name>.csv`` of the whole file, of which the sample's part is taken.
        frame_rate_hz: pictures a second; native or null: every picture of the file, as published features have it.
        non_finite: NaN and infinity in a csv of yours, where OpenFace claims success: "refuse" fails the sample
            and names the place; "zero" makes the picture unobserved, as it is always when the program is run.
        timeout_s: for one clip; the program is stopped after it, and the clip has failed. A clip that the
            program failed at is tried again by the next run.
    """

    executable: Path | None = None
    csv_folder: Path | None = None
    frame_rate_hz: FrameRate = 8.0
    non_finite: Literal["refuse", "zero"] = "refuse"
    timeout_s: float = Field(1800.0, gt=0)

    @model_validator(mode="after")
    def _one_source(self) -> OpenfaceSettings:
        if self.executable is not None and self.csv_folder is not None:
            raise ValueError("executable and csv_folder are two sources; give one of them")
        return self


class Extractor(BaseExtractor[OpenfaceSettings]):
    """The D = 709 columns, named as OpenFace names them.

    A picture in which OpenFace has no success or no confidence is zeros with flag 0; a clip without any
    other is *missing*.
    """

    modality = "video"
    Settings = OpenfaceSettings
    libraries: ClassVar[tuple[str, ...]] = ("opencv-contrib-python", "pandas", "numpy")
    parts: ClassVar[tuple[str, ...]] = (
        "pipeline.extraction.importers.base",
        "pipeline.extraction.importers.openface",
    )

    def __init__(self, settings: OpenfaceSettings, assets: Path) -> None:
        """Keep the settings; nothing is read yet."""
        super().__init__(settings, assets)
        self.by_id = settings.csv_folder is not None  # which file is a clip's goes by its id
        self._latest: tuple[Path, Table] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """gaze_0_x .. AU45_c."""
        return COLUMNS

    @property
    def frame_period_s(self) -> float | None:
        """One over the frame rate."""
        return None if self.settings.frame_rate_hz is None else 1 / self.settings.frame_rate_hz

    @property
    def files(self) -> tuple[Path, ...]:
        """The program and its models, or all csv files: a changed one makes all results anew.

        Raises:
            AssetError: neither is there.
        """
        folder = self.settings.csv_folder
        if folder is None:
            program = find_program(self.settings.executable)
            models = [path for name in MODELS for path in sorted(program.parent.joinpath(name).rglob("*"))]
            return (program, *(path for path in models if path.is_file()))
        if not folder.is_dir():
            raise AssetError(f"extractors.video.openface.csv_folder: there is no folder {folder}")
        return tuple(sorted(folder.glob("*.csv")))

    def prepare(self) -> None:
        """Find the program, or the folder."""
        self.files  # noqa: B018 - it raises where there is neither

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a picture."""
        if clip.video is None:
            raise StreamMissing("no video file")
        values, times, flags = self._read(clip) if self.settings.csv_folder else self._run(clip)
        if not flags.any():
            return FeatureSequence.absent(
                len(COLUMNS), Status.MISSING, f"no face in any of {len(flags)} pictures", len(flags)
            )
        return FeatureSequence(values, times, flags)

    def _run(self, clip: Clip) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        """Run the program on the clip's pictures, which are written to a temporary folder."""
        program = find_program(self.settings.executable)
        with tempfile.TemporaryDirectory(prefix="lacuna-openface-") as temporary:
            pictures, results = Path(temporary, "pictures"), Path(temporary, "results")
            pictures.mkdir()
            results.mkdir()
            times = list(_write_pictures(clip, self.settings.frame_rate_hz, pictures))
            command = [str(program), "-fdir", str(pictures), "-out_dir", str(results), "-of", "clip"]
            command += ["-2Dfp", "-3Dfp", "-pdmparams", "-pose", "-aus", "-gaze"]
            _call(command, results, self.settings.timeout_s, clip.id)
            table = read_csv(results / "clip.csv", clip.id, "zero")
        values = np.zeros((len(times), len(COLUMNS)), np.float32)
        flags = np.zeros(len(times), np.uint8)
        frame = table.frames - 1  # OpenFace counts from 1
        fits = (frame >= 0) & (frame < len(times))
        values[frame[fits]], flags[frame[fits]] = table.values[fits], table.flags[fits]
        return values, np.array(times, np.float32), flags

    def _read(self, clip: Clip) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        """Read the clip's rows from its own csv file, or from that of the whole video file."""
        path, start_s, end_s = self._csv_of(clip)
        if self._latest is None or self._latest[0] != path:  # the clips of one video come one after another
            self._latest = path, read_csv(path, clip.id, self.settings.non_finite)
        table = self._latest[1]
        within = (table.times >= start_s - 1e-6) & (table.times < end_s)
        if not within.any():
            raise MediaError(f'{path}, id "{clip.id}": has no row from {start_s} s to {end_s} s')
        if end_s < np.inf:
            check_covered(table.times, clip, f'{path}, id "{clip.id}"')
        rate = self.settings.frame_rate_hz
        if rate is None:
            chosen = np.flatnonzero(within)
            times = np.maximum(table.times[chosen] - start_s, 0.0)
        else:
            # The picture that is shown at the middle of each period, as in media.read_frames.
            shown = table.times[within] - start_s
            step = float(np.median(np.diff(shown))) if len(shown) > 1 else 0.0
            length_s = min(end_s - start_s, float(shown[-1]) + step)
            middles = (np.arange(max(1, int(np.floor(length_s * rate + 0.5)))) + 0.5) / rate
            middles = np.minimum(middles, length_s / 2) if len(middles) == 1 else middles
            on_screen = np.clip(np.searchsorted(shown, middles + 1e-6, side="right") - 1, 0, None)
            chosen, times = np.flatnonzero(within)[on_screen], middles
            before = (
                np.arange(1, len(middles) + 1) / rate <= shown[0]
            )  # periods that end before the first picture
            values, flags = table.values[chosen], table.flags[chosen]
            values[before], flags[before] = 0.0, 0
            return values, times.astype(np.float32), flags
        return table.values[chosen], times.astype(np.float32), table.flags[chosen]

    def _csv_of(self, clip: Clip) -> tuple[Path, float, float]:
        """Return the file, and the clip's part of it in seconds.

        Raises:
            MediaError: there is no file for this clip.
        """
        folder, video = self.settings.csv_folder or Path(), clip.video or Path()
        own = folder / f"{clip.id}.csv"
        if own.resolve().parent == folder.resolve() and own.is_file():
            return own, 0.0, float("inf")
        whole = folder / f"{video.stem}.csv"
        if whole.is_file() and clip.picture:
            raise MediaError(
                f"{whole}: is of the whole picture, the sample of its {clip.picture} half; give {own}"
            )
        if whole.is_file():
            end_s = float("inf") if clip.end_s is None else clip.end_s
            return whole, clip.start_s or 0.0, end_s
        raise MediaError(f"{folder}: holds neither {own.name} nor {whole.name}")


def find_program(executable: Path | None = None) -> Path:
    """Return OpenFace's FeatureExtraction.

    Raises:
        AssetError: it is not on this machine, or not executable.
    """
    found = shutil.which(str(executable)) if executable is not None else shutil.which(PROGRAM)
    if found is None:
        where = f"{executable} is no program" if executable is not None else f"{PROGRAM} is not on the PATH"
        raise AssetError(
            f"openface: {where}. Install OpenFace 2 (github.com/TadasBaltrusaitis/OpenFace) and write "
            "extractors.video.openface.executable: /its/bin/FeatureExtraction, or csv_folder: /a/folder "
            "with csv files that it wrote elsewhere; or select facelandmarker, which needs no installation"
        )
    return Path(found).resolve()


def _write_pictures(clip: Clip, frame_rate_hz: float | None, folder: Path) -> Iterator[float]:
    """Write the clip's pictures, lossless and in the order of their names; yield their times.

    Raises:
        MomentaryError: they cannot be written.
    """
    import cv2

    for number, (time_s, picture) in enumerate(read_frames(clip, frame_rate_hz)):
        if not cv2.imwrite(
            str(folder / f"{number:07d}.png"), picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1]
        ):
            raise MomentaryError(
                f"{clip.id}: picture {number} cannot be written to {folder}. Is the disk full?"
            )
        yield time_s


def _call(command: list[str], results: Path, timeout_s: float, clip_id: str) -> None:
    """Run the program in the folder of its results; processes that it started are ended with it.

    Raises:
        MomentaryError: it took too long, failed, or wrote nothing. The cause may be the clip, the program's
            installation, or too little memory or time: it cannot be told.
        AssetError: it cannot be started.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=results,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise AssetError(f"openface: {command[0]} cannot be started: {error}") from error
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except BaseException as error:  # after ctrl-C, too, no process is left behind
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise MomentaryError(
                f"{clip_id}: {PROGRAM} took more than {timeout_s:g} s and was stopped"
            ) from None
        raise
    last = " / ".join(said.decode("utf-8", "replace").strip().splitlines()[-3:])[:300] or "nothing"
    if process.returncode:
        raise MomentaryError(f"{clip_id}: {PROGRAM} ended with {process.returncode}; it said: {last}")
    if not (results / "clip.csv").is_file():
        raise MomentaryError(f"{clip_id}: {PROGRAM} wrote no csv; it said: {last}")
