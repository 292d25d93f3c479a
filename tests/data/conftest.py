"""Every builder of tensorflow-datasets leaves an empty temporary folder behind; keep those within the test's own."""

import tempfile

import pytest


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
