"""The constructed demo corpus: what is planned, what is drawn, and what lies in the files."""

from __future__ import annotations

import csv
import hashlib
import itertools
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.data.datasets.demo import COLUMNS
from pipeline.demo_corpus.construct import _readme, _write_labels, build
from pipeline.demo_corpus.pictures import Shot
from pipeline.demo_corpus.plan import LABELS, RATINGS, SPEAKERS, plan
from pipeline.demo_corpus.sentences import read_sentences
from pipeline.demo_corpus.speech import Spoken
from pipeline.errors import AssetError
from pipeline.params import Contradict, Corpus, CorpusDialogues

SMALL = Corpus(size=20)
TALKS = Corpus(size=400, dialogues=CorpusDialogues())


@pytest.fixture(scope="module")
def built(assets: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a corpus of twenty, made by two processes."""
    target = tmp_path_factory.mktemp("corpus") / "demo"
    build(SMALL, assets("cremad"), assets("sentences"), target, workers=2)
    return target


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# --- the plan -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20, 40, 57, 240])
def test_speakers_and_labels_are_balanced(size: int) -> None:
    utterances = plan(Corpus(size=size))
    assert len({u.id for u in utterances}) == size
    for values in ([u.label for u in utterances], [u.speaker.name for u in utterances]):
        counts = Counter(values)
        assert max(counts.values()) - min(counts.values()) <= 1
    if size % 40 == 0:
        pairs = Counter((u.speaker.name, u.label) for u in utterances)
        assert set(pairs.values()) == {size // 40}
        assert len(pairs) == 40


def test_five_sessions_of_a_woman_and_a_man() -> None:
    assert Counter(s.session for s in SPEAKERS) == dict.fromkeys(["s1", "s2", "s3", "s4", "s5"], 2)
    assert all({s.gender for s in SPEAKERS if s.session == n} == {"female", "male"} for n in ("s1", "s5"))
    assert len({s.voice for s in SPEAKERS}) == 10


def test_without_dialogues_the_plan_is_the_one_it_always_was() -> None:
    """The sha256 of what was planned before there were dialogues, with the contradictions of that time."""
    then = Contradict(text=0.15, audio=0.2, video=0.2)
    for settings, checksum in (
        (
            Corpus(size=240, contradict=then),
            "917253b602e3f32f681f504f48a19d149914049ea6f2084669354828a924f504",
        ),
        (
            Corpus(size=57, seed=3, contradict=then),
            "806e63fd4789606ae7b7ed30f640496e31a18f60afe79115e0f7550c0b6e5c2e",
        ),
    ):
        utterances = plan(settings)
        told = [
            ",".join([u.id, u.speaker.name, u.label, u.contradicted, *u.shown.values()]) for u in utterances
        ]
        assert hashlib.sha256("\n".join(told).encode()).hexdigest() == checksum
        assert {(u.dialogue, u.turn) for u in utterances} == {("", None)}


def test_labels_csv_has_dialogues_only_where_the_corpus_has(tmp_path: Path) -> None:
    said = [Spoken("Words.", 1.0)] * 20
    for name, settings in (("off", SMALL), ("on", TALKS)):
        _write_labels(tmp_path / name, plan(settings)[:20], said, settings.dialogues is not None)
    lines = {name: (tmp_path / name).read_text(encoding="utf-8").splitlines() for name in ("off", "on")}
    assert lines["off"][:2] == [
        "id,file,text,speaker,gender,session,label,score,contradicted",
        "s1f-0000,clips/s1f-0000.mp4,Words.,s1f,female,s1,happy,1.0000," + plan(SMALL)[0].contradicted,
    ]
    assert lines["on"][0] == lines["off"][0] + ",dialogue,turn"
    assert lines["on"][10].endswith(",s2-0001,1")  # the second turn of the second dialogue of eight
    assert "Dialogues" not in _readme(SMALL) and "take turns, 8 to a" in _readme(TALKS)


def test_in_dialogues_the_two_of_a_session_take_turns() -> None:
    utterances = plan(TALKS)
    assert [u.number for u in utterances] == list(range(400))
    for number in range(50):
        talk = utterances[8 * number : 8 * number + 8]
        assert [u.turn for u in talk] == list(range(8))
        assert len({u.dialogue for u in talk}) == len({u.speaker.session for u in talk}) == 1
        names = [u.speaker.name for u in talk]
        assert names == names[:2] * 4 and len(set(names)) == 2
    assert len({u.dialogue for u in utterances}) == 50
    assert set(Counter(u.speaker.name for u in utterances).values()) == {40}
    first = [utterances[8 * number].speaker.name for number in range(10)]
    assert first == ["s1f", "s2f", "s3f", "s4f", "s5f", "s1m", "s2m", "s3m", "s4m", "s5m"]
    assert Counter(utterances[8 * n].label for n in range(20)) == dict.fromkeys(LABELS, 5)
    cut = plan(Corpus(size=27, dialogues=CorpusDialogues(turns=10)))
    assert [u.dialogue for u in cut[19:21]] == ["s2-0001", "s3-0002"] and cut[-1].turn == 6


@pytest.mark.parametrize("persistence", [0.0, 0.3, 0.6, 1.0])
def test_emotions_last_as_often_as_the_parameter_says(persistence: float) -> None:
    utterances = plan(Corpus(size=4000, dialogues=CorpusDialogues(turns=8, persistence=persistence)))
    pairs = [(a, b) for a, b in itertools.pairwise(utterances) if a.dialogue == b.dialogue]
    same = sum(a.label == b.label for a, b in pairs) / len(pairs)
    expected = persistence + (1 - persistence) / 4  # a draw of four hits the same by chance
    assert len(pairs) == 3500
    assert abs(same - expected) <= 4 * (expected * (1 - expected) / 3500) ** 0.5
    counts = Counter(u.label for u in utterances)
    assert min(counts.values()) > 800 and len(counts) == 4


def test_at_most_one_modality_contradicts_and_always_by_something_that_can_be_seen() -> None:
    utterances = plan(Corpus(size=2000))
    for u in utterances:
        others = [modality for modality, emotion in u.shown.items() if emotion != u.label]
        assert others == ([u.contradicted] if u.contradicted else [])
        if u.contradicted == "text":
            assert RATINGS[u.shown["text"]] != RATINGS[u.label]
    counts = Counter(u.contradicted for u in utterances)
    for modality, share in (("text", 0.05), ("audio", 0.1), ("video", 0.15), ("", 0.7)):
        deviation = (share * (1 - share) / 2000) ** 0.5
        assert abs(counts[modality] / 2000 - share) < 4 * deviation


def test_contradiction_can_be_turned_off_and_all_the_way_up() -> None:
    assert not any(u.contradicted for u in plan(Corpus(contradict=Contradict(text=0, audio=0, video=0))))
    always = plan(Corpus(contradict=Contradict(text=0, audio=1, video=0)))
    assert all(u.contradicted == "audio" for u in always)
    with pytest.raises(ValidationError, match=r"add up to 1.1"):
        Contradict(text=0.5, audio=0.5, video=0.1)


def test_another_seed_is_another_plan_and_a_longer_one_begins_alike() -> None:
    assert plan(Corpus(size=40))[:20] == plan(SMALL)
    assert plan(Corpus(size=20, seed=1)) != plan(SMALL)


# --- sentences ------------------------------------------------------------------------


def test_sentences_are_short_plain_and_rated_as_their_emotion(assets: Callable[[str], Path]) -> None:
    pools = read_sentences(assets("sentences"))
    assert pools["sad"] == pools["angry"]
    assert not {s for s, _ in pools["happy"]} & {s for s, _ in pools["sad"]}
    for emotion, pool in pools.items():
        assert len(pool) > 120
        assert len({sentence for sentence, _ in pool}) == len(pool)
        for sentence, rating in pool:
            assert sentence.isascii()
            assert 5 <= len(sentence.split()) <= 12
            assert RATINGS[emotion][0] <= rating <= RATINGS[emotion][1]


def test_another_archive_refuses_to_load(assets: Callable[[str], Path], tmp_path: Path) -> None:
    for file in assets("sentences").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes() + (b"x" if file.suffix == ".gz" else b""))
    with pytest.raises(AssetError, match="refused"):
        read_sentences(tmp_path)


# --- shots ----------------------------------------------------------------------------


def test_a_share_of_the_faces_fits_two_emotions() -> None:
    lengths = dict.fromkeys(["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"], 56)
    for emotion, own, common in (("happy", "HAP", "FEA"), ("neutral", "NEU", "FEA"), ("sad", "SAD", "DIS")):
        for share in (0.0, 0.8, 1.0):
            clips = Counter(
                Shot.draw(emotion, share, lengths, np.random.default_rng(n)).clip for n in range(1000)
            )
            assert set(clips) <= {own, common}
            assert abs(clips[common] / 1000 - share) <= 4 * (share * (1 - share) / 1000) ** 0.5


def test_shots_stay_inside_their_clip() -> None:
    lengths = dict.fromkeys(["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"], 56)
    numbered = [np.full((360, 480, 3), n, np.uint8) for n in range(56)]
    for n in range(30):
        shot = Shot.draw("happy", 0.5, lengths, np.random.default_rng(n))
        assert shot.clip in ("HAP", "FEA")
        assert shot.start >= 0
        assert shot.start + shot.span <= 55
        pictures = list(shot.pictures(numbered, 100))
        assert {p.shape for p in pictures} == {(240, 320, 3)}
        assert {p.dtype for p in pictures} == {np.dtype(np.uint8)}


def test_a_mirrored_shot_is_the_mirror_image() -> None:
    frame = np.zeros((360, 480, 3), np.uint8)
    frame[100:200, 50:150] = 200  # a bright field on the left
    plain = Shot("HAP", 0, 1, 0, 1, False, 1.0, 0, (0, 0), (0, 0, 0.1), 1.0, (1, 1, 1))
    mirrored = Shot("HAP", 0, 1, 0, 1, True, 1.0, 0, (0, 0), (0, 0, 0.1), 1.0, (1, 1, 1))
    (one,), (other,) = plain.pictures([frame] * 2, 1), mirrored.pictures([frame] * 2, 1)
    bright = np.argwhere(one[..., 0] > 100)
    # A third of the frame's 480 x 360 is gone: rows 100-200 become 67-133, columns 50-150 become 33-100.
    assert bright.min(axis=0).tolist() == pytest.approx([67, 33], abs=1)
    assert bright.max(axis=0).tolist() == pytest.approx([133, 100], abs=1)
    difference = np.abs(one.astype(int) - other[:, ::-1].astype(int))
    assert (difference > 100).mean() < 0.02  # but for a pixel along the edges


# --- the files ------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(
    built: Path, assets: Callable[[str], Path], tmp_path: Path
) -> None:
    build(SMALL, assets("cremad"), assets("sentences"), tmp_path / "again", workers=1)
    assert checksums(tmp_path / "again") == checksums(built)


def test_labels_say_what_was_planned(built: Path) -> None:
    found = rows(built)
    assert tuple(found[0]) == COLUMNS
    for row, planned in zip(found, plan(SMALL), strict=True):
        assert (row["id"], row["label"], row["contradicted"]) == (
            planned.id,
            planned.label,
            planned.contradicted,
        )
        assert (row["speaker"], row["session"]) == (planned.speaker.name, planned.speaker.session)
        low, high = RATINGS[planned.label]
        assert low <= float(row["score"]) <= high
        assert (built / row["file"]).is_file()
    assert len({row["text"] for row in found}) == 20
    assert Counter(row["label"] for row in found) == dict.fromkeys(LABELS, 5)


def test_clips_have_picture_and_sound_of_two_to_four_seconds(built: Path) -> None:
    for row in rows(built):
        with av.open(str(built / row["file"])) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert video.codec_context.name == "h264"
            assert audio.codec_context.name == "aac"
            assert (video.width, video.height, video.average_rate) == (320, 240, 25)
            assert (audio.rate, audio.channels) == (22_050, 1)
            assert 2.0 <= video.frames / 25 <= 4.0
            sound = np.concatenate([f.to_ndarray().ravel() for f in container.decode(audio=0)])
            assert abs(len(sound) / 22_050 - video.frames / 25) < 0.15
            assert np.abs(sound).max() > 0.05  # of full scale: somebody speaks


def test_no_two_clips_share_a_frame(built: Path) -> None:
    owner: dict[str, str] = {}
    for row in rows(built):
        with av.open(str(built / row["file"])) as container:
            for frame in container.decode(video=0):
                digest = hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()
                assert owner.setdefault(digest, row["id"]) == row["id"]
    assert len(owner) > 20 * 40  # and few are shown twice within one


def test_files_carry_no_clock_and_say_constructed(built: Path) -> None:
    for row in rows(built):
        with av.open(str(built / row["file"])) as container:
            assert "creation_time" not in container.metadata
            assert "encoder" not in container.metadata
    text = (built / "README.md").read_text(encoding="utf-8")
    for words in ("CONSTRUCTED", "CREMA-D", "Open Database License 1.0", "Hutto", "espeak-ng", "GPL-3"):
        assert words in text


@pytest.mark.slow
def test_a_second_corpus_replaces_the_first_and_leaves_nothing_beside(
    built: Path, assets: Callable[[str], Path], tmp_path: Path
) -> None:
    target = tmp_path / "raw" / "demo"
    (target / "clips").mkdir(parents=True)
    (target / "clips" / "old.mp4").write_bytes(b"old")
    build(Corpus(size=20, seed=1), assets("cremad"), assets("sentences"), target, workers=2)
    assert [path.name for path in target.parent.iterdir()] == ["demo"]
    assert not (target / "clips" / "old.mp4").exists()
    assert not set(checksums(target).values()) & set(checksums(built).values())


def test_without_assets_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="not fetched"):
        build(SMALL, tmp_path / "cremad", tmp_path / "sentences", tmp_path / "demo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("voice", [speaker.voice for speaker in SPEAKERS])
def test_no_voice_breathes(voice: str) -> None:
    """espeak-ng's breath noise is another in every run, and would break the promise of equal bytes."""
    import espeakng_loader

    variant = Path(espeakng_loader.get_data_path()) / "voices" / "!v" / voice.partition("+")[2]
    assert "breath" not in variant.read_text(encoding="utf-8")


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads Linux's list of processes")
def test_a_killed_run_leaves_no_process_and_the_next_one_is_whole(
    built: Path, assets: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "data" / "assets").mkdir(parents=True)
    for name in ("cremad", "sentences"):
        (tmp_path / "data" / "assets" / name).symlink_to(assets(name))
    settings = "corpus: {size: 20}\ncompute: {workers: 2}\ndatasets: {}\n"
    (tmp_path / "params.yaml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "pipeline.corpus"]
    started = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    raw = tmp_path / "data" / "raw"
    while started.poll() is None and len(list(raw.glob(".demo.*.part/clips/*.mp4"))) < 3:
        time.sleep(0.02)
    workers = children(started.pid)
    assert len(workers) >= 2
    started.kill()
    assert started.wait() == -9
    assert not (raw / "demo").exists()
    deadline = time.monotonic() + 60
    while any(running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(worker) for worker in workers)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert checksums(raw / "demo") == checksums(built)
    assert [path.name for path in raw.iterdir()] == ["demo"]


def running(pid: int) -> bool:
    """Say whether a process works; one that ended and is not yet collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
