"""What one person extracted, nobody in the team extracts again: push, clone, pull, `dvc repro` does nothing.

Three kinds of remote: a folder, a real SSH server on loopback, and the S3 protocol against moto's server.
"""

from __future__ import annotations

import getpass
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.io import wavfile

from tests.project import GIT, ROOT, change, copy_project, digests, repro, run, try_run

STAGES = ("extract-text@demo", "extract-audio@demo", "extract-video@demo")
OTHER = "assets@fer"  # of an extractor that is not selected
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose features are extracted and committed."""
    folder = tmp_path_factory.mktemp("team") / "origin"
    copy_project(folder, size=20, epochs=1)
    for extractor in ("facelandmarker", "fer"):
        change(folder, f"extractors.video.{extractor}.frame_rate_hz", 1)
    change(folder, "datasets.demo.text.extractor", "glove")
    assert {*STAGES, OTHER} <= set(repro(folder, *STAGES, OTHER))
    run(folder, *GIT, "add", "-A")
    run(folder, *GIT, "commit", "-qm", "Features")
    return folder


@pytest.fixture(scope="module")
def own_media(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project whose one dataset is two clips in a folder outside of it; features extracted and committed."""
    base = tmp_path_factory.mktemp("own")
    media, folder = base / "media of ours", base / "origin"
    media.mkdir()
    rows = ["id,audio_path,text,label,split", "one,one.wav,Good.,good,train", "two,two.wav,Bad.,bad,test"]
    (media / "samples.csv").write_text("\n".join(rows) + "\n")
    for seed, name in enumerate(("one", "two")):
        wavfile.write(media / f"{name}.wav", 16_000, noise(seed))
    copy_project(folder, size=20, epochs=1)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    mine = {**params["datasets"]["demo"], "loader": "folder", "root": "data/media/ours"}
    mine["audio"] = {"extractor": "covarep"}
    del mine["labels"], mine["folds"]  # what may be left out, may be left out for DVC, too
    params |= {"media": {"ours": str(media)}, "datasets": {"mine": mine}, "report": {}}
    params["experiments"] = {"floor": {"dataset": "mine", "model": "linear"}}
    del params["train_denseface"]
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert {*repro(folder, AUDIO)} == {"check", "media@ours", "prepare@mine", "assets@covarep", AUDIO}
    assert "train@floor" in run(folder, "dvc", "status", "train@floor")
    run(folder, *GIT, "add", "-A")
    run(folder, *GIT, "commit", "-qm", "Features")
    return folder, media


AUDIO = "extract-audio@mine"


def noise(seed: int) -> np.ndarray:
    """Return 0.4 s of noise, int16."""
    return np.random.default_rng(seed).integers(-9000, 9000, 6400).astype(np.int16)


def test_media_that_lie_elsewhere_or_nowhere(own_media: tuple[Path, Path], tmp_path: Path) -> None:
    """No place of media is in dvc.lock: whoever has none, or has them elsewhere, extracts nothing."""
    origin, media = own_media
    assert str(media) not in (origin / "dvc.lock").read_text()
    made = digests(origin, "data/manifests/*", "data/features/mine/*", "data/media/*")
    run(origin, "dvc", "remote", "add", "-f", "-d", "--local", "team", str(tmp_path / "store"))
    run(origin, "dvc", "push", "--with-deps", AUDIO)

    clone = tmp_path / "colleague"
    run(tmp_path, "git", "clone", "-q", str(origin), str(clone))
    run(clone, "dvc", "remote", "add", "-d", "--local", "team", str(tmp_path / "store"))
    run(clone, "dvc", "pull", "--with-deps", AUDIO)
    nowhere = {"LACUNA_MEDIA_OURS": str(tmp_path / "no such folder")}
    printed = run(clone, "dvc", "repro", AUDIO, env=nowhere)
    assert re.findall(r"Running stage '([^']+)'", printed) == ["media@ours"]
    assert digests(clone, "data/manifests/*", "data/features/mine/*", "data/media/*") == made
    # Even where the stages run by force, the manifest stays.
    run(clone, "dvc", "repro", "-f", "-s", "prepare@mine", env=nowhere)
    assert digests(clone, "data/manifests/*", "data/features/mine/*", "data/media/*") == made

    elsewhere = tmp_path / "my disk"
    shutil.copytree(media, elsewhere)
    (clone / "params.local.yaml").write_text(yaml.safe_dump({"media": {"ours": str(elsewhere)}}))
    assert repro(clone, AUDIO) == ["media@ours"]

    (elsewhere / "notes.txt").write_text("which no loader reads")
    assert repro(clone, AUDIO) == [
        "media@ours",
        "prepare@mine",
    ]  # reads the table again, and extracts nothing
    wavfile.write(elsewhere / "two.wav", 16_000, noise(7))
    assert repro(clone, AUDIO) == ["media@ours", "prepare@mine", AUDIO]
    assert digests(clone, "data/features/mine/*") != digests(origin, "data/features/mine/*")


def test_the_readmes_lines_solve_a_conflict_of_two_branches(
    own_media: tuple[Path, Path], tmp_path: Path
) -> None:
    """Each branch adds a dataset; after the merge nobody extracts the other's again."""
    origin, _ = own_media
    store, branches = str(tmp_path / "store"), ("one", "two")
    run(origin, "dvc", "remote", "add", "-f", "-d", "--local", "team", store)
    run(origin, "dvc", "push", "--run-cache", "--with-deps", AUDIO)
    params = yaml.safe_load((origin / "params.yaml").read_text())
    mine = params["datasets"]["mine"]
    made: dict[str, str] = {}
    for branch, polarity in zip(branches, (1, -1), strict=True):
        clone, stage = tmp_path / branch, f"extract-audio@{branch}"
        run(tmp_path, "git", "clone", "-q", str(origin), str(clone))
        run(clone, "git", "checkout", "-q", "-b", branch)
        run(clone, "dvc", "remote", "add", "-d", "--local", "team", store)
        run(clone, "dvc", "pull", "--run-cache", "--with-deps", AUDIO)
        audio = {"extractor": "covarep", "settings": {"polarity": polarity}}
        change(clone, f"datasets.{branch}", {**mine, "audio": audio})
        params["datasets"][branch] = {**mine, "audio": audio}
        assert stage in repro(clone, stage)
        run(clone, "dvc", "push", "--run-cache", "--with-deps", stage)
        run(clone, *GIT, "commit", "-qam", f"Add {branch}")
        made |= digests(clone, f"data/features/{branch}/*")

    run(clone, "git", "fetch", "-q", str(tmp_path / branches[0]), branches[0])
    merged = try_run(clone, *GIT, "merge", "FETCH_HEAD")
    assert "CONFLICT (content): Merge conflict in dvc.lock" in merged.stdout
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run(clone, "git", "add", "params.yaml")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"\*\*When dvc.lock conflicts\*\*.*?```sh\n(.*?)```", readme, re.DOTALL)
    assert lines
    stages = " ".join(f"extract-audio@{branch}" for branch in branches)  # not the whole of it: seconds
    command = lines[1].replace("dvc repro --pull", f"dvc repro --pull {stages}")
    assert stages in command
    printed = run(clone, "bash", "-e", "-c", command)
    # DVC's run cache keeps no outputs that persist: the other's manifest is made again.
    assert re.findall(r"Running stage '([^']+)'", printed) == ["check", "media@ours", "prepare@one"]
    run(clone, *GIT, "commit", "-qm", "Merge one")
    assert digests(clone, *(f"data/features/{branch}/*" for branch in branches)) == made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "the server ended before it answered"
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the server did not answer in 20 seconds")


Remote = Callable[[Path], None]


@pytest.fixture
def folder_remote(tmp_path: Path) -> Remote:
    def add(project: Path) -> None:
        run(project, "dvc", "remote", "add", "-d", "--local", "team", str(tmp_path / "a shared folder"))

    return add


@pytest.fixture
def ssh_remote(tmp_path: Path) -> Iterator[Remote]:
    server = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
    if server is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd on this machine (Debian: openssh-server)")
    keys, port = tmp_path / "keys", free_port()
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True, timeout=60
        )
    shutil.copy(keys / "user.pub", keys / "authorized")
    (keys / "authorized").chmod(0o600)
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)
    (keys / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys / 'host'}\nPidFile {keys / 'pid'}\n"
        f"AuthorizedKeysFile {keys / 'authorized'}\nPasswordAuthentication no\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    process = subprocess.Popen([server, "-D", "-e", "-f", str(keys / "config")], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)

        def add(project: Path) -> None:
            url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/over ssh"
            run(project, "dvc", "remote", "add", "-d", "--local", "team", url)
            run(project, "dvc", "remote", "modify", "--local", "team", "keyfile", str(keys / "user"))

        yield add
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def s3_remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    boto3 = pytest.importorskip("boto3")
    port = free_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    moto = shutil.which("moto_server", path=str(Path(shutil.which("dvc") or "").parent)) or "moto_server"
    process = subprocess.Popen(
        [moto, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        endpoint = f"http://127.0.0.1:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="team")

        def add(project: Path) -> None:
            run(project, "dvc", "remote", "add", "-d", "--local", "team", "s3://team/features")
            run(project, "dvc", "remote", "modify", "--local", "team", "endpointurl", endpoint)

        yield add
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("kind", ["folder_remote", "ssh_remote", "s3_remote"])
def test_a_colleague_extracts_nothing(
    kind: str, origin: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    add_remote: Remote = request.getfixturevalue(kind)
    (origin / ".dvc" / "config.local").unlink(missing_ok=True)
    add_remote(origin)
    run(origin, "dvc", "push", "--run-cache", "--with-deps", *STAGES, OTHER)

    clone = tmp_path / "colleague"
    run(tmp_path, "git", "clone", "-q", str(origin), str(clone))
    add_remote(clone)
    run(clone, "dvc", "pull", "--run-cache", "--with-deps", *STAGES)
    assert repro(clone, *STAGES) == []

    change(clone, "datasets.demo.video.extractor", "fer")
    assert not (clone / "data/assets/fer").exists()
    run(clone, "dvc", "pull", OTHER)  # its weights come from the team, too
    assert repro(clone, *STAGES) == ["check", "extract-video@demo"]
    change(clone, "datasets.demo.video.extractor", "facelandmarker")
    assert repro(clone, *STAGES) == []  # and back again
