"""Video columns of `datasets` that hand over files, not decoders.

A `datasets.Video` column decodes with torchcodec as soon as a row is read: torchcodec need not be installed, raises
errors of its own, and knows none of this package's limits. Everything that takes tables or columns passes them through
here first, so that a row holds {"path", "bytes"} and this package's reader opens the file.
"""

import dataclasses
import sys
from typing import Any


def without_video_decoding(data: Any) -> Any:
    """The same table or column, whose videos are not decoded when a row is read; nothing is copied or opened.

    Args:
        data: a `Dataset`, an `IterableDataset`, a dict of either, a column of either, or the `KeyDataset` of
            transformers over either.

    Returns:
        An object of the same kind. What holds no decoding video column is returned as it is, and so is a table with a
        transform of the user's (`set_transform`), which may want decoders.
    """
    # Where `datasets` has not been imported, `data` is none of its objects.
    datasets = sys.modules.get("datasets")
    if datasets is None:
        return data
    if isinstance(data, datasets.DatasetDict | datasets.IterableDatasetDict):
        return type(data)({name: without_video_decoding(part) for name, part in data.items()})
    if isinstance(data, datasets.Dataset | datasets.IterableDataset):
        return _undecoded_table(data, datasets.Video)
    if _is_column(data):
        source = without_video_decoding(data.source)
        return data if source is data.source else type(data)(source, data.column_name)
    if _is_key_dataset(data):
        source = without_video_decoding(data.dataset)
        return data if source is data.dataset else type(data)(source, data.key)
    return data


def _undecoded_table(table: Any, video_class: type) -> Any:
    if getattr(table, "format", None) and table.format["type"] == "custom":
        return table
    # A stream need not know its columns; then nothing in it is decoded.
    for name, feature in (table.features or {}).items():
        undecoded = _undecoded_feature(feature, video_class)
        if undecoded != feature:
            table = table.cast_column(name, undecoded)
    return table


def _undecoded_feature(feature: Any, video_class: type) -> Any:
    if isinstance(feature, video_class):
        return dataclasses.replace(feature, decode=False)  # type: ignore[type-var]
    if isinstance(feature, dict):
        return {name: _undecoded_feature(part, video_class) for name, part in feature.items()}
    if isinstance(feature, list):
        return [_undecoded_feature(part, video_class) for part in feature]
    if hasattr(feature, "feature"):  # List, LargeList
        return dataclasses.replace(feature, feature=_undecoded_feature(feature.feature, video_class))
    return feature


def _is_column(data: Any) -> bool:
    """`Column` of a table or `IterableColumn` of a stream, which `datasets` does not export."""
    return type(data).__module__.partition(".")[0] == "datasets" and hasattr(data, "column_name")


def _is_key_dataset(data: Any) -> bool:
    """`transformers.pipelines.pt_utils.KeyDataset`, the usual way to hand a column to a pipeline."""
    return type(data).__name__ == "KeyDataset" and hasattr(data, "dataset") and hasattr(data, "key")
