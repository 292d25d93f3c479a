"""Small sets written as tensorflow-datasets does, for the tests of what reads them."""

from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

tfds.disable_progress_bar()


def write(
    folder: Path, features: dict[str, Any], splits: dict[str, list], version="1.0.0", supervised=None, shards=None
) -> None:
    """Writes the set `tiny`; an example is a tuple of values in the order of `features`."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=supervised
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(examples) for split, examples in splits.items()}

        def _generate_examples(self, examples):
            for key, example in enumerate(examples):
                yield key, dict(zip(features, example, strict=True))

    settings = tfds.download.DownloadConfig(num_shards=shards)
    Tiny(data_dir=str(folder), file_format="array_record").download_and_prepare(download_config=settings)
