"""Downloads a dataset and prepares it for `jaxnas.data.sources.load`, once:

python -m jaxnas.data.prepare cifar10 --path=DIR [--archive=cifar-10-binary.tar.gz]
"""

import argparse
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from jaxnas.core.errors import UserError


def prepare(name: str, path: str | None = None, archive: str | None = None) -> Path:
    """Prepares CIFAR-10 or CIFAR-100 under `path` and returns the folder that now holds it; a prepared set is kept.

    path: the folder of all sets (default: that of tensorflow-datasets). archive: the set's binary archive where it was
    fetched by hand; without it the archive is downloaded and its checksum compared.

    Raises UserError for another name, an unreachable server, a damaged archive and a folder that cannot be written.
    """
    from jaxnas.data import tfds_cifar, tfds_source

    folder = Path(path).expanduser() if path else Path(tfds_source.DEFAULT_FOLDER)
    if name not in tfds_cifar.BUILDERS:
        tfds_source.check_known(name, folder)
        raise UserError(
            f"jaxnas prepares {' and '.join(tfds_cifar.BUILDERS)}; for {name!r} "
            f"{tfds_source.how_to_prepare(name, folder)}."
        )
    if archive is not None and not Path(archive).is_file():
        raise UserError(f"the archive {archive} does not exist.")
    builder_class = tfds_cifar.BUILDERS[name]
    try:
        builder = builder_class(archive=archive, data_dir=str(folder), file_format=tfds_source.FORMAT)
        if not builder.is_prepared():
            if archive is None:
                _check_reachable(builder_class.LAYOUT.url)
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise UserError(f"the folder {folder} cannot be written.")
            builder.download_and_prepare()
        return Path(builder.data_dir)
    except UserError:
        raise
    # Beside OSError, tensorflow-datasets has unrelated exceptions of its own for downloads and checksums.
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise UserError(f"{name} could not be prepared under {folder}: {reason}.") from error


def _check_reachable(url: str) -> None:
    """Asks for the header first: the downloader would retry an unreachable server for minutes."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20):
            pass
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{url} cannot be reached ({reason}); fetch it elsewhere and pass the file by --archive=FILE."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; prints the folder of the prepared set, or one sentence on standard error with status 1."""
    parser = argparse.ArgumentParser(prog="python -m jaxnas.data.prepare", description="Prepares a dataset once.")
    parser.add_argument("name", help="cifar10 or cifar100")
    parser.add_argument("--path", help="folder of all datasets, as in data.path (default: that of tensorflow-datasets)")
    parser.add_argument("--archive", help="the binary archive, where it was fetched by hand")
    flags = parser.parse_args(arguments)
    try:
        print(prepare(flags.name, flags.path, flags.archive))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
