"""Stores to other toolkits' files and back."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas
import pytest

from pipeline.commands.cli import main
from pipeline.commands.export import export_mmsa, export_utterances, mmsa_id
from pipeline.data.manifest import MODALITIES, Sample, manifest_checksum, write_manifest
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureStore, FeatureWriter, Status
from pipeline.errors import DataError
from pipeline.extraction.dataset import extract
from pipeline.extraction.extractors import base
from pipeline.extraction.importers import plain_pickle
from pipeline.features import open_features
from pipeline.params import Folds
from pipeline.training.folds import make_folds

SAMPLES = [
    Sample("v1_1", text="so good", dialogue="v1", split="train", label="positive", score=2.0),
    Sample("v1_2", text="so so", dialogue="v1", split="train", label="neutral", score=0.0),
    Sample("v2_1", text="我", dialogue="v2", split="valid", label="negative", score=-1.4),
    Sample("odd", text="", dialogue="v3", split="test", label="negative", score=-3.0),
]
DIMS = {"text": 5, "audio": 3, "video": 4}


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, FeatureStore]:
    manifest = tmp_path / "manifest.csv"
    write_manifest(manifest, SAMPLES)
    generator = np.random.default_rng(0)
    made = {}
    for modality in MODALITIES:
        dims, text = DIMS[modality], modality == "text"
        columns = tuple(f"{modality} column {n}" for n in range(dims))
        path = tmp_path / f"{modality}.h5"
        checksum = manifest_checksum(manifest)
        with FeatureWriter(path, FeatureInfo("d", modality, "x", {}, columns, None, checksum)) as writer:
            for index, sample in enumerate(SAMPLES):
                if index == 3 and modality != "audio":
                    status = Status.MISSING if text else Status.FAILED
                    writer.append(sample.id, FeatureSequence.absent(dims, status, f"no {modality}"))
                    continue
                rows = index + 2
                values = generator.normal(size=(rows, dims)).astype(np.float32)
                flags = np.ones(rows, np.uint8)
                values[-1], flags[-1] = 0, 0  # an unobserved frame of zeros at the end is no padding
                times = np.sort(generator.uniform(size=rows)).astype(np.float32)
                tokens = tuple(f"w{n}" for n in range(rows)) if text else ()
                ids = np.arange(rows, dtype=np.int64) + 2000 if text else None
                writer.append(sample.id, FeatureSequence(values, times, flags, Status.OK, "", tokens, ids))
        made[modality] = FeatureStore(path)
    return made


def parts() -> dict[str, Any]:
    (fold,) = make_folds(SAMPLES, Folds())
    return {"train": fold.train, "valid": fold.valid, "test": fold.test}


def imported(tmp_path: Path, modality: str, file: Path, **settings: Any) -> FeatureStore:
    """Run the extract stage's function with the extractor import."""
    owner = base.find(modality, "import")
    target = tmp_path / "again" / f"{modality}.h5"
    extract(
        dataset="d",
        modality=modality,
        manifest=tmp_path / "manifest.csv",
        root=tmp_path,
        extractor="import",
        settings=owner.Settings(file=file, **settings),
        assets=tmp_path / "no assets",
        store=target,
        cache=tmp_path / "cache",
        workers=1,
        max_failed_share=0.5,
        progress=False,
    )
    return FeatureStore(target, [sample.id for sample in SAMPLES])


@pytest.mark.parametrize("modality", MODALITIES)
def test_store_to_pickle_to_store_is_bit_for_bit(
    stores: dict[str, FeatureStore], tmp_path: Path, modality: str
) -> None:
    export_mmsa(SAMPLES, stores, parts(), tmp_path / "x.pkl")
    again, before = imported(tmp_path, modality, tmp_path / "x.pkl"), stores[modality]
    assert again.values_sha256 == before.values_sha256
    assert again.info.columns == before.info.columns
    assert again.reasons == before.reasons
    for one, other in zip(again, before, strict=True):
        assert one.values.tobytes() == other.values.tobytes()
        assert one.times.tobytes() == other.times.tobytes()
        assert one.flags.tobytes() == other.flags.tobytes()
        assert (one.status, one.tokens) == (other.status, other.tokens)
        assert (one.token_ids is None) == (other.token_ids is None)
        if one.token_ids is not None:
            assert one.token_ids.tobytes() == other.token_ids.tobytes()


def test_without_what_lacuna_adds_the_words_are_the_same(
    stores: dict[str, FeatureStore], tmp_path: Path
) -> None:
    """[CLS] and [SEP], which text_bert has and the store has not, are neither added twice nor kept."""
    export_mmsa(SAMPLES, stores, parts(), tmp_path / "x.pkl")
    content = plain_pickle.load(tmp_path / "x.pkl")
    for fields in content.values():
        del fields["lacuna"]
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(content))
    again = imported(tmp_path, "text", tmp_path / "plain.pkl")
    for one, other in zip(again, stores["text"], strict=True):
        assert one.values.tobytes() == other.values.tobytes()
        assert one.status == other.status
        assert one.token_ids is not None and other.token_ids is not None
        assert one.token_ids.tolist() == other.token_ids.tolist()


def test_what_mmsa_sees(stores: dict[str, FeatureStore], tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    export_mmsa(SAMPLES, stores, parts(), path, ("negative", "neutral", "positive"))
    content = plain_pickle.load(path)  # names nothing but numpy's arrays
    assert pickle.loads(path.read_bytes()).keys() == content.keys() == {"train", "valid", "test"}  # noqa: S301
    train = content["train"]
    assert train["id"] == ["v1$_$1", "v1$_$2"]
    assert content["test"]["id"] == ["odd"]
    assert train["raw_text"] == ["so good", "so so"]
    for part, count in (("train", 2), ("valid", 1), ("test", 1)):  # as long as the longest of all three
        assert content[part]["text"].shape == (count, 4, 5)
        assert content[part]["audio"].shape == (count, 5, 3)
        assert content[part]["vision"].shape == (count, 4, 4)
    assert train["audio_lengths"] == [2, 3]
    assert content["test"]["vision_lengths"] == [1]  # missing, but no length of 0
    assert train["regression_labels"].tolist() == [2.0, 0.0]
    assert train["classification_labels"].tolist() == [2.0, 1.0]
    assert train["text_bert"][0].tolist() == [[101, 2000, 2001, 102, 0, 0], [1, 1, 1, 1, 0, 0], [0] * 6]
    assert not train["audio"][0, 2:].any()  # padding
    assert path.read_bytes()[:2] == b"\x80\x04"


def test_equal_stores_give_equal_bytes(stores: dict[str, FeatureStore], tmp_path: Path) -> None:
    for name in ("a.pkl", "b.pkl"):
        export_mmsa(SAMPLES, stores, parts(), tmp_path / name)
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_utterances_and_back(stores: dict[str, FeatureStore], tmp_path: Path) -> None:
    assert export_utterances(stores["audio"], tmp_path / "a.h5") == 4
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["odd", "v1_1", "v1_2", "v2_1"]
        assert file["v2_1"].shape == (4, 3)
    again = imported(tmp_path, "audio", tmp_path / "a.h5", frame_rate_hz=10)
    for one, other in zip(again, stores["audio"], strict=True):
        assert one.values.tobytes() == other.values.tobytes()
    assert np.allclose(again.read(0).times, [0.05, 0.15])
    export_utterances(stores["video"], tmp_path / "v.h5")
    with h5py.File(tmp_path / "v.h5") as file:
        assert file["odd"][:].tolist() == [[0.0] * 4]  # missing: a frame of zeros


def test_what_cannot_be_exported(stores: dict[str, FeatureStore], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one in each of train, valid and test"):
        export_mmsa(SAMPLES, stores, {"train": np.arange(4)}, tmp_path / "x.pkl")
    with pytest.raises(DataError, match="other samples"):
        export_mmsa(SAMPLES[:3], stores, parts(), tmp_path / "x.pkl")
    assert not (tmp_path / "x.pkl").exists()


def test_ids() -> None:
    assert mmsa_id(Sample("-aB_x_3", text="x", dialogue="-aB_x")) == "-aB_x$_$3"
    assert mmsa_id(Sample("x_3", text="x")) == "x_3"


@pytest.mark.filterwarnings("ignore")  # that package's own
@pytest.mark.parametrize("dataset", ["mosi", "sims"])
@pytest.mark.parametrize("missing", [False, True])
def test_mmsas_own_loader_reads_it(
    stores: dict[str, FeatureStore], tmp_path: Path, dataset: str, missing: bool
) -> None:
    """The package MMSA takes what was exported through its own MMDataLoader, as it takes its own files.

    The package comes with the extra "peers" alone; without it this is skipped. To run it::

        pip install -e ".[dev,peers]"
        pytest tests/pipeline/commands/test_export.py -k mmsas_own
    """
    pytest.importorskip("MMSA")
    from easydict import EasyDict
    from MMSA.data_loader import MMDataLoader

    scored = [dataclasses.replace(s, score_text=s.score, score_audio=-1.0, score_video=0.5) for s in SAMPLES]
    export_mmsa(scored if dataset == "sims" else SAMPLES, stores, parts(), tmp_path / "x.pkl")
    arguments = EasyDict(
        dataset_name=dataset,
        custom_feature=str(tmp_path / "x.pkl"),
        use_bert=True,
        feature_dims=[0, 0, 0],
        feature_T="",
        feature_A="",
        feature_V="",
        need_data_aligned=False,
        need_normalized=False,
        train_mode="regression",
        seq_lens=[0, 0, 0],
        batch_size=2,
        data_missing=missing,
        missing_rate=[0.5, 0.5, 0.5],
        missing_seed=[1, 1, 1],
    )
    loaders = MMDataLoader(arguments, num_workers=0)
    assert arguments.feature_dims == [768, 3, 4]
    assert arguments.seq_lens == (6, 5, 4)
    content = plain_pickle.load(tmp_path / "x.pkl")
    for part, count in (("train", 2), ("valid", 1), ("test", 1)):
        (batch,) = loaders[part]
        assert set(batch["id"]) == set(content[part]["id"])
        for row, name in enumerate(batch["id"]):
            index = content[part]["id"].index(name)
            for modality, field in (("audio", "audio"), ("video", "vision")):
                sequence = stores[modality].read(list(stores[modality].ids).index(name.replace("$_$", "_")))
                length = len(sequence.values)
                assert batch[f"{field}_lengths"][row] == max(1, length)
                assert batch[field][row, :length].numpy().tobytes() == sequence.values.tobytes()
                assert not batch[field][row, length:].any()
            assert batch["text"][row].tolist() == content[part]["text_bert"][index].tolist()
            assert batch["labels"]["M"][row].tolist() == [content[part]["regression_labels"][index]]
        assert sorted(batch["labels"]) == (["A", "M", "T", "V"] if dataset == "sims" else ["M"])
        assert ("audio_m" in batch) is missing
        assert len(batch["raw_text"]) == count


def test_the_command(
    stores: dict[str, FeatureStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for modality, store in stores.items():
        store.close()
        place = tmp_path / f"data/features/d/{modality}.h5"
        place.parent.mkdir(parents=True, exist_ok=True)
        store.path.rename(place)
    (tmp_path / "data/manifests").mkdir()
    (tmp_path / "manifest.csv").rename(tmp_path / "data/manifests/d.csv")
    (tmp_path / "params.yaml").write_text(
        "datasets:\n  d:\n    loader: folder\n    root: .\n    options: {}\n"
        "    text: {extractor: bert}\n    audio: {extractor: opensmile}\n    video: {extractor: fer}\n"
        "extractors:\n  text: {bert: {}}\n  audio: {opensmile: {}}\n  video: {fer: {}}\n"
    )
    monkeypatch.chdir(tmp_path)
    for arguments in (["x.pkl"], ["folder", "--form", "utterances"]):
        _run(["features", "export", "d", *arguments])
    assert plain_pickle.load(tmp_path / "x.pkl")["valid"]["id"] == ["v2$_$1"]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "audio.h5",
        "text.h5",
        "video.h5",
    ]
    assert "x.pkl: " in capsys.readouterr().out
    for form in ("csv", "parquet"):
        _run(["features", "export", "d", f"as {form}", "--form", form])
    for modality in MODALITIES:
        with open_features("d", modality) as features:
            ours = features.frame()
            assert len(ours) > 8
        parquet = pandas.read_parquet(tmp_path / f"as parquet/{modality}.parquet")
        csv = pandas.read_csv(
            tmp_path / f"as csv/{modality}.csv", dtype=dict(ours.dtypes), keep_default_na=False
        )
        for other in (parquet, csv):
            assert list(other.columns) == list(ours.columns)
            for name in ours.columns:
                assert other[name].tolist() == ours[name].tolist()
    with pytest.raises(SystemExit):
        main(["features", "export", "d", "y.pkl", "--fold", "2"])
    assert "has the folds 1 to 1" in capsys.readouterr().err


def _run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
