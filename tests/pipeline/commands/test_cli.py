"""The ``lacuna`` command: what it prints, how it ends, and what it never shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from pipeline.commands import cli, doctor
from pipeline.data.manifest import MODALITIES
from pipeline.extraction.extractors import base
from pipeline.params import Experiment, load_params
from pipeline.train import build
from tests import report_tree

REPOSITORY = Path(__file__).parents[3]
Command = Callable[..., tuple[int, str, str]]  # the words -> exit status, stdout, stderr
CLASSES = ("happy", "neutral", "sad", "angry")
SOUND = "data/assets/cremad/1002_DFA_SAD_XX.mp3"


@pytest.fixture
def lacuna(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command in this process: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with params.yaml, and it is the working directory."""
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.commands.cli", *arguments],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        timeout=120,
        check=False,
    )


class TestHelp:
    @pytest.mark.parametrize(
        "words",
        [(), ("doctor",), ("predict",), ("features",), ("features", "show"), ("features", "check"),
         ("features", "diff"), ("features", "export"), ("masks",), ("masks", "show"),
         ("params",), ("params", "check"), ("preset",)],
        ids=" ".join,
    )  # fmt: skip
    def test_every_help_has_an_example(self, lacuna: Command, words: tuple[str, ...]) -> None:
        status, out, err = lacuna(*words, "--help")
        assert (status, err) == (0, "")
        assert "example" in out
        assert " ".join(("lacuna", *words)) in out

    def test_it_loads_nothing_heavy(self) -> None:
        script = (
            "import sys, contextlib\n"
            "from pipeline import cli\n"
            "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
            "heavy = {'torch', 'numpy', 'pydantic', 'yaml', 'h5py', 'av', 'matplotlib'} & set(sys.modules)\n"
            "sys.exit(str(heavy) if heavy else 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def test_version(self, lacuna: Command) -> None:
        status, out, _ = lacuna("--version")
        assert status == 0
        assert out.split()[0] == "lacuna"
        assert out.split()[1][0].isdigit()

    @pytest.mark.parametrize(
        "words",
        [(), ("frobnicate",), ("features",), ("predict", "--without", "smell"), ("masks", "show")],
        ids=" ".join,
    )
    def test_a_wrong_command_line_ends_with_2(self, lacuna: Command, words: tuple[str, ...]) -> None:
        status, out, err = lacuna(*words)
        assert (status, out) == (2, "")
        assert "usage: lacuna" in err


class TestErrors:
    def test_one_the_user_can_put_right_has_no_traceback(self, lacuna: Command, tmp_path: Path) -> None:
        status, out, err = lacuna("features", "show", str(tmp_path / "no.h5"))
        assert (status, out) == (1, "")
        assert err.startswith("error: ")
        assert "there is no such file" in err
        assert "Traceback" not in err

    def test_a_fault_has_none_either(self, lacuna: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli, "run_masks", lambda _: 1 / 0)
        status, _, err = lacuna("masks", "show", "x")
        assert status == 1
        assert "ZeroDivisionError" in err
        assert "--debug" in err
        assert "Traceback" not in err

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_debug_shows_the_traceback(self, tmp_path: Path, place: str) -> None:
        show = ["features", "show", str(tmp_path / "no.h5")]
        done = command(*(["--debug", *show] if place == "before" else [*show, "--debug"]))
        assert done.returncode == 1
        assert b"Traceback" in done.stderr
        assert b"StoreError" in done.stderr

    def test_a_broken_pipe_is_quiet(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        store = tmp_path / "features/demo/audio.h5"
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.commands.cli", "features", "show", str(store)],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            check=False,
        )
        os.close(writing)
        assert done.stderr == b""

    def test_control_characters_do_not_reach_the_terminal(self, lacuna: Command) -> None:
        _, _, err = lacuna("features", "show", "\x1b[31mred.h5")
        assert "\x1b" not in err
        assert "\\x1b[31mred.h5" in err


class TestParams:
    def test_right(self, lacuna: Command, project: Path) -> None:
        status, out, _ = lacuna("params", "check")
        assert status == 0
        assert "params.yaml: right" in out

    def test_every_mistake_is_listed(self, lacuna: Command, project: Path) -> None:
        raw = yaml.safe_load((project / "params.yaml").read_text())
        raw["datasets"]["demo"]["audio"]["extractor"] = "opensmiel"
        raw["experiments"]["mmin"]["dataset"] = "dmeo"
        other = project / "other.yaml"
        other.write_text(yaml.safe_dump(raw))
        status, _, err = lacuna("params", "check", str(other))
        assert status == 1
        assert "2 mistake(s)" in err
        assert 'Did you mean "opensmile"?' in err
        assert 'Did you mean "demo"?' in err

    def test_outside_a_project(
        self, lacuna: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        status, _, err = lacuna("params", "check")
        assert status == 1
        assert "Run Lacuna in the project's folder" in err


class TestShow:
    @pytest.fixture(scope="class")
    def data(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("tree")
        report_tree.write_data(folder)
        return folder

    def test_features(self, lacuna: Command, data: Path) -> None:
        status, out, _ = lacuna("features", "show", str(data / "features/demo/video.h5"))
        assert status == 0
        for words in (
            "video of demo", 'facelandmarker {"level": "lld"}', "facelandmarker 1.2.3",
            "186 frames x 5 columns",
            "v0, v1, v2, v3, v4", "8 a second", "149 of 186", "4 to 6 frames", "37 ok, 2 missing, 1 failed",
            "2 missing: no face in any frame (demo_003, demo_004)",
            "1 failed: cannot decode: moov atom not found (demo_009)",
        ):  # fmt: skip
            assert words in out

    def test_features_as_json(self, lacuna: Command, data: Path) -> None:
        found = json.loads(lacuna("features", "show", str(data / "features/demo/text.h5"), "--json")[1])
        assert found["status"] == {"ok": 39, "missing": 1, "failed": 0}
        assert found["reasons"] == {"missing: empty transcript": ["demo_005"]}
        assert len(found["columns"]) == 8
        assert found["frame_period_s"] is None
        assert len(found["values_sha256"]) == 64

    def test_columns_are_cut_unless_asked_for(self, lacuna: Command, data: Path) -> None:
        path = str(data / "features/demo/text.h5")
        assert "t0, t1, t2, ..., t6, t7" in lacuna("features", "show", path)[1]
        assert "t3, t4" in lacuna("features", "show", path, "--columns")[1]

    def test_masks(self, lacuna: Command, data: Path) -> None:
        status, out, _ = lacuna("masks", "show", str(data / "masks/demo.h5"))
        assert status == 0
        for words in ("40 samples, seed 0", "one-missing, rate 0.3", "block, range 0.4-0.6", "drawn anew"):
            assert words in out
        found = json.loads(lacuna("masks", "show", str(data / "masks/demo.h5"), "--json")[1])
        assert found["masks"]["conditions"]["modalities_gone"] is None
        assert found["masks"]["one-missing"]["rate"] == 0.3
        assert found["masks"]["one-missing"]["checksum"] in out

    @pytest.mark.parametrize("what", ["features", "masks"])
    def test_another_file_is_refused(self, lacuna: Command, data: Path, tmp_path: Path, what: str) -> None:
        other = data / ("masks/demo.h5" if what == "features" else "features/demo/text.h5")
        status, _, err = lacuna(what, "show", str(other))
        assert status == 1
        assert f'expected kind "lacuna {what}"' in err
        short = tmp_path / "short.h5"
        short.write_bytes(other.read_bytes()[:1000])
        status, _, err = lacuna(what, "show", str(short))
        assert status == 1
        assert "not a whole HDF5 file" in err

    def test_output_that_knows_no_unicode(self, data: Path) -> None:
        path = str(data / "features/demo/audio.h5")
        done = command("features", "show", path, "--json", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()


class TestDoctor:
    def test_it_names_what_is_here(self, lacuna: Command, project: Path) -> None:
        status, out, err = lacuna("doctor")
        assert err == ""
        for words in (
            "Python",
            "torch",
            "ffmpeg",
            "libavcodec",
            "opensmile",
            "mediapipe",
            "libGL",
            "OpenFace",
        ):
            assert words in out
        for name in load_params().assets:
            assert f"{name}: not fetched yet" in out
        lacking = [line for line in out.splitlines() if line.startswith("  !!")]
        assert status == (1 if lacking else 0)

    def test_a_library_that_the_selection_needs_is_lacking(
        self, lacuna: Command, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, "_load", lambda library: None if library == "libEGL.so" else library)
        status, out, _ = lacuna("doctor")
        assert status == 1
        assert "!!  libEGL.so: not found; needed by facelandmarker" in out
        assert "apt-get install libegl1" in out

    def test_the_same_library_is_a_note_when_nothing_needs_it(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, "_load", lambda _: None)
        raw = yaml.safe_load((project / "params.yaml").read_text())
        raw["datasets"] = {}
        raw["experiments"] = {}
        (project / "params.yaml").write_text(yaml.safe_dump(raw))
        found = [one for one in doctor.examine(load_params()) if one.part == "system libraries"]
        assert found
        assert {one.state for one in found} == {"note"}

    def test_a_changed_asset_is_lacking(self, lacuna: Command, project: Path) -> None:
        weights = project / "weights"
        weights.mkdir()
        (weights / "face_landmarker.task").write_bytes(b"mine")
        raw = yaml.safe_load((project / "params.yaml").read_text())
        raw["assets"]["facelandmarker"] = {"path": str(weights), "licence": "mine"}
        (project / "params.yaml").write_text(yaml.safe_dump(raw))
        from pipeline.assets import fetch

        folder = fetch(
            "facelandmarker", load_params().asset("facelandmarker"), Path("data/assets/facelandmarker")
        )
        assert "checksums right; mine" in lacuna("doctor")[1]
        (folder / "face_landmarker.task").write_bytes(b"other")
        status, out, _ = lacuna("doctor")
        assert status == 1
        assert "!!  facelandmarker" in out
        assert "dvc repro -f -s assets@facelandmarker" in out

    def test_another_version_than_the_locks_is_a_note(self, lacuna: Command, project: Path) -> None:
        Path("requirements.lock").write_text("# pins\nnumpy==0.0.1\nno-such-thing==1\n")
        _, out, _ = lacuna("doctor")
        assert "--  versions: 0 of 2 packages" in out
        assert f"numpy {np.__version__} (locked 0.0.1)" in out
        assert "absent: no-such-thing" in out

    def test_a_mistake_in_params_is_shown_and_the_rest_as_well(self, lacuna: Command, project: Path) -> None:
        Path("params.yaml").write_text("seed: x\ndatasets: {}\n")
        status, out, _ = lacuna("doctor")
        assert status == 1
        assert "torch" in out
        assert "seed: found 'x'" in out


def write_run(
    folder: Path, columns: dict[str, tuple[str, ...]], fold: int = 1, model: str = "mmin", **features: Any
) -> None:
    """Write a network that was drawn, not trained, as the training stage keeps one."""
    params = load_params()
    experiment = Experiment(dataset="demo", model=model)
    with torch.random.fork_rng():
        torch.manual_seed(fold)
        network = build(experiment, {m: len(columns[m]) for m in MODALITIES}, len(CLASSES))
    folder.mkdir(parents=True)
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()},
        folder / "weights.safetensors",
    )
    statistics = {f"{m}.mean": torch.zeros(len(columns[m])) for m in MODALITIES}
    statistics |= {f"{m}.scale": torch.full((len(columns[m]),), 0.1) for m in MODALITIES}
    safetensors.torch.save_file(statistics, folder / "normaliser.safetensors")
    facts = {
        "format": 1, "experiment": folder.parent.name, "dataset": "demo", "fold": fold, "run": 1,
        "model": model, "settings": {}, "classes": CLASSES,
        "features": {
            m: {
                "extractor": params.dataset("demo").extraction(m).extractor,
                "settings": params.extractor_settings("demo", m).model_dump(mode="json"),
                "columns": columns[m], "frame_period_s": None, "pool": 1, "values_sha256": "",
            } | features.get(m, {})
            for m in MODALITIES
        },
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))


class TestPredict:
    """With the real extractors on real media, through networks that were drawn by chance."""

    @pytest.fixture
    def trained(self, project: Path, assets: Callable[[str], Path]) -> Path:
        (project / "data/assets").mkdir(parents=True)
        for name in ("bert", "opensmile", "facelandmarker", "cremad"):
            (project / "data/assets" / name).symlink_to(assets(name))
        params = load_params()
        columns = {}
        for modality in MODALITIES:
            name = params.dataset("demo").extraction(modality).extractor
            made = base.find(modality, name)(
                params.extractor_settings("demo", modality), Path("data/assets") / name
            )
            columns[modality] = made.columns
            made.close()
        for fold in (1, 2):
            write_run(project / f"data/runs/mmin/{fold}-1", columns, fold)
        return project

    def states(self, out: str) -> dict[str, str]:
        return {m: one["state"] for m, one in json.loads(out)["modalities"].items()}

    def test_all_three_modalities(self, lacuna: Command, trained: Path) -> None:
        clip = "data/assets/cremad/1001_DFA_HAP_XX.flv"
        status, out, _ = lacuna("predict", clip, "--text", "Don't forget a jacket.", "--json")
        assert status == 0
        found = json.loads(out)
        assert set(self.states(out).values()) == {"available"}
        assert list(found["probabilities"]) == list(CLASSES)
        assert sum(found["probabilities"].values()) == pytest.approx(1)
        assert found["prediction"] == max(found["probabilities"], key=found["probabilities"].get)
        assert found["networks"] == ["1-1", "2-1"]
        assert found["constructed"] is True
        one, two = (
            json.loads(
                lacuna("predict", clip, "--text", "Don't forget a jacket.", "--json", "--fold", fold)[1]
            )
            for fold in ("1", "2")
        )
        for label in CLASSES:
            both = (one["probabilities"][label] + two["probabilities"][label]) / 2
            assert found["probabilities"][label] == pytest.approx(both)

    def test_sound_only(self, lacuna: Command, trained: Path) -> None:
        clip = "data/assets/cremad/1002_DFA_SAD_XX.mp3"
        status, out, _ = lacuna("predict", clip, "--json")
        assert status == 0
        assert self.states(out) == {"text": "missing", "audio": "available", "video": "missing"}
        _, out, _ = lacuna("predict", clip)
        assert "CONSTRUCTED" in out
        assert "Missing: text, video; imagined" in out
        assert "the mean over 2 networks" in out

    def test_text_only(self, lacuna: Command, trained: Path) -> None:
        status, out, _ = lacuna("predict", "--text", "An instant classic.", "--json")
        assert status == 0
        assert self.states(out) == {"text": "available", "audio": "missing", "video": "missing"}

    def test_without_a_modality_is_like_not_having_it(self, lacuna: Command, trained: Path) -> None:
        text = ["--text", "Don't forget a jacket.", "--json"]
        clip = "data/assets/cremad/1001_DFA_SAD_XX.flv"
        _, out, _ = lacuna("predict", clip, *text, "--without", "audio", "--without", "video")
        assert self.states(out) == {"text": "available", "audio": "missing", "video": "missing"}
        assert json.loads(out)["probabilities"] == json.loads(lacuna("predict", *text)[1])["probabilities"]

    def test_a_name_in_any_script_with_spaces(self, lacuna: Command, trained: Path) -> None:
        clip = trained / "клип 感情 é.mp3"
        shutil.copy("data/assets/cremad/1002_DFA_SAD_XX.mp3", clip)
        status, out, _ = lacuna("predict", str(clip), "--json")
        assert status == 0
        assert json.loads(out)["clip"] == str(clip)

    def test_a_file_that_is_no_media(self, lacuna: Command, trained: Path) -> None:
        clip = trained / "no.mp4"
        clip.write_bytes(b"this is no film")
        status, _, err = lacuna("predict", str(clip))
        assert status == 1
        assert "no modality is left" in err
        status, out, _ = lacuna("predict", str(clip), "--text", "Fine.")
        assert status == 0
        assert "audio  failed" in out

    def test_experiment_by_name(self, lacuna: Command, trained: Path) -> None:
        shutil.copytree("data/runs/mmin", "data/runs/augmented")
        status, _, err = lacuna("predict", "--text", "x", "--experiment", "augmentedd")
        assert status == 1
        assert "augmented" in err
        status, _, err = lacuna("predict", "--text", "x", "--experiment", "full-modality")
        assert status == 1
        assert "dvc repro train@full-modality" in err
        status, _, err = lacuna("predict", "--text", "x", "--fold", "7")
        assert status == 1
        assert "there is no fold 7; expected one of: 1, 2" in err

    def test_an_extractor_that_the_networks_do_not_know_is_refused(
        self, lacuna: Command, trained: Path
    ) -> None:
        path = Path("params.yaml")
        path.write_text(path.read_text().replace("extractor: bert", "extractor: glove"))
        status, _, err = lacuna("predict", "--text", "An instant classic.")
        assert status == 1
        assert "makes text features with glove" in err
        assert "trained with bert" in err

    def test_other_settings_are_refused(self, lacuna: Command, trained: Path) -> None:
        path = Path("params.yaml")
        path.write_text(path.read_text().replace("bert: {}", "bert: {max_length: 16}"))
        status, _, err = lacuna("predict", "--text", "An instant classic.")
        assert status == 1
        assert '"max_length": 16' in err

    def aligned(self, trained: Path, align: str | int) -> None:
        """Let the networks be those of a dataset whose sound is aligned."""
        path = Path("params.yaml")
        given = f"extractor: opensmile\n      align: {align}\n"
        path.write_text(path.read_text().replace("extractor: opensmile\n", given))
        for file in Path("data/runs/mmin").glob("*/run.json"):
            facts = json.loads(file.read_text())
            facts["features"]["audio"]["settings"]["align"] = align
            file.write_text(json.dumps(facts))

    def test_resampled_as_the_dataset_is(self, lacuna: Command, trained: Path) -> None:
        self.aligned(trained, 3)
        status, out, err = lacuna("predict", SOUND, "--json")
        assert (status, err) == (0, "")
        assert json.loads(out)["modalities"]["audio"]["detail"].startswith("3 rows by opensmile")

    def test_another_alignment_than_the_networks_is_refused(self, lacuna: Command, trained: Path) -> None:
        self.aligned(trained, 3)
        path = Path("params.yaml")
        path.write_text(path.read_text().replace("align: 3", "align: 4"))
        status, _, err = lacuna("predict", SOUND)
        assert status == 1
        assert '"align": 4' in err
        assert '"align": 3' in err

    def test_aligned_with_words(self, lacuna: Command, trained: Path) -> None:
        self.aligned(trained, "words")
        status, out, _ = lacuna("predict", SOUND, "--text", "Don't forget", "--json")
        without = json.loads(out)
        assert status == 0
        assert without["modalities"]["audio"] == {
            "state": "missing",
            "detail": "no times of words to align with",
        }
        Path("words.json").write_text('[["don\'t", 0.3, 0.5], ["forget", 0.5, 0.9]]')
        status, out, _ = lacuna("predict", SOUND, "--text", "Don't forget", "--words", "words.json", "--json")
        assert status == 0
        assert json.loads(out)["modalities"]["audio"]["detail"] == "2 words by opensmile"
        assert json.loads(out)["probabilities"] != without["probabilities"]

    @pytest.mark.parametrize(
        "content", ["", "{}x", "[1]", '[["a", 2, 1]]', '[["a", 0, Infinity]]', '[["a", 0]]']
    )
    def test_words_that_are_none(self, lacuna: Command, trained: Path, content: str) -> None:
        Path("words.json").write_text(content)
        status, _, err = lacuna("predict", "--text", "a", "--words", "words.json")
        assert status == 1
        assert "words.json" in err
        assert "start" in err


class TestPredictWithoutWork:
    def test_neither_clip_nor_text(self, lacuna: Command, project: Path) -> None:
        for text in ([], ["--text", "  "]):
            status, _, err = lacuna("predict", *text)
            assert status == 1
            assert "neither a CLIP nor --text" in err

    def test_a_clip_that_is_not_there(self, lacuna: Command, project: Path) -> None:
        status, _, err = lacuna("predict", "no.mp4")
        assert status == 1
        assert "no.mp4: there is no such file" in err

    def test_nothing_trained_yet(self, lacuna: Command, project: Path) -> None:
        status, _, err = lacuna("predict", "--text", "x")
        assert status == 1
        assert "Train it: dvc repro train@mmin" in err
