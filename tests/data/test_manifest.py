"""Prepared data are compared with their manifest."""

import hashlib

import pytest

from tspo_trl.data.manifest import file_checksum, is_prepared_data, verify_data, write_manifest


@pytest.fixture
def prepared(tmp_path):
    folder = tmp_path / "prepared"
    (folder / "test").mkdir(parents=True)
    for name in ("train.jsonl", "test/nq.jsonl"):
        (folder / name).write_text(name, encoding="utf-8")
    files = {name: {"sha256": file_checksum(folder / name)} for name in ("train.jsonl", "test/nq.jsonl")}
    write_manifest(folder, {"format": "jsonl", "files": files})
    return folder


def test_checksum_is_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"questions")
    assert file_checksum(tmp_path / "file") == hashlib.sha256(b"questions").hexdigest()


def test_untouched_data_have_no_problem(prepared):
    assert verify_data(prepared) == []


def test_every_changed_missing_and_further_file_is_told(prepared):
    expected = file_checksum(prepared / "train.jsonl")
    (prepared / "train.jsonl").write_text("other", encoding="utf-8")
    (prepared / "test" / "nq.jsonl").unlink()
    (prepared / "test" / "mine.jsonl").touch()
    assert verify_data(prepared) == [
        f"train.jsonl has changed: sha256 {hashlib.sha256(b'other').hexdigest()}, not {expected}",
        "test/nq.jsonl is missing",
        "test/mine.jsonl is not in the manifest",
    ]


def test_folder_without_manifest_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No manifest\.json in .*tspo-trl data prepare"):
        verify_data(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": []}', '{"files": {"a": 1}}', '{"files": {"a": {}}}'])
def test_what_is_no_manifest_is_refused(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json is not a manifest of prepared data"):
        verify_data(tmp_path)


def test_prepared_data_are_known_by_their_manifest_also_when_they_changed(prepared):
    (prepared / "train.jsonl").unlink()
    assert is_prepared_data(prepared)


def test_folder_that_holds_something_else_as_well_is_no_prepared_data(prepared, tmp_path):
    (prepared / "notes.txt").touch()
    assert not is_prepared_data(prepared)
    assert not is_prepared_data(tmp_path)
