"""Columns of `datasets` that hand over files, not decoders or pictures: of videos, of their frames, of anything else.

A `datasets.Video` column decodes with torchcodec as soon as a row is read: torchcodec need not be installed, raises
errors of its own, and knows none of this package's limits. A `datasets.Image` is decoded by Pillow in whatever process
reads the row, where one damaged picture ends the run; sounds, documents and scans have libraries of their own.
Everything that takes tables or columns passes them through here first, so that a row holds {"path", "bytes"} and this
package's reader opens the file, or refuses it.

Arrow believes what a file says of where its values lie: one that lies leads out of it, which ends the process.
"""

import copy
import dataclasses
import sys
from typing import Any

from ..printing import printable


def without_video_decoding(data: Any) -> Any:
    """The same table or column, whose files are not decoded when a row is read, whatever they are.

    Nothing is copied or opened. A `mode` of pictures is left out: frames are RGB.

    Args:
        data: a `Dataset`, an `IterableDataset`, a dict of either, a column of either, or the `KeyDataset` of
            transformers over a `Dataset`; it counts its rows, which a stream cannot.

    Returns:
        An object of the same kind. What holds no such column is returned as it is, and so is a table with a transform
        of the user's (`set_transform`), which may want decoders.

    Raises:
        ValueError: values of a table lie outside of it, or are not what their type says.
    """
    # Where `datasets` has not been imported, `data` is none of its objects.
    datasets = sys.modules.get("datasets")
    if datasets is None:
        return data
    if isinstance(data, datasets.DatasetDict | datasets.IterableDatasetDict):
        return type(data)({name: without_video_decoding(part) for name, part in data.items()})
    if isinstance(data, datasets.Dataset | datasets.IterableDataset):
        return _undecoded_table(data, datasets)
    if _is_column(data):
        source = without_video_decoding(_only_column(data.source, data.column_name, datasets))
        return data if source is data.source else type(data)(source, data.column_name)
    if _is_key_dataset(data):
        source = without_video_decoding(_only_column(data.dataset, data.key, datasets))
        return data if source is data.dataset else type(data)(source, data.key)
    return data


def _undecoded_table(table: Any, datasets: Any) -> Any:
    if isinstance(table, datasets.Dataset):
        check_values(table)
    if has_transform(table):
        return table
    if _is_custom(table):
        table = table.with_format(None)
    # A stream need not know its columns; then nothing in it is decoded.
    for name, feature in (table.features or {}).items():
        undecoded = _undecoded_feature(feature, datasets)
        if undecoded == feature:
            continue
        if isinstance(table, datasets.Dataset) and not hasattr(undecoded, "decode"):
            # Stored alike, a nested column would still be written again by `cast_column`, with all its bytes.
            table = copy.deepcopy(table)
            table.info.features[name] = undecoded
        else:
            table = table.cast_column(name, undecoded)
    return table


def check_values(table: Any) -> None:
    """Refuse a `Dataset` whose values lie outside of it.

    Raises:
        ValueError: names its columns.
    """
    try:
        table.data.validate(full=True)
    except ValueError as error:
        raise ValueError(
            f"the table of the columns {printable(str(table.column_names))[:300]} is damaged "
            f"({printable(str(error))[:300]}); load it again, or leave the damaged column out with `select_columns`"
        ) from error


def _only_column(table: Any, name: str, datasets: Any) -> Any:
    """The column alone: what lies beside it is neither read with each row nor, where it is damaged, an error."""
    is_table = isinstance(table, datasets.Dataset | datasets.IterableDataset) and not has_transform(table)
    return table.select_columns([name]) if is_table and len(table.column_names or ()) > 1 else table


def has_transform(table: Any) -> bool:
    """Whether a table has a transform of the user's (`set_transform`); a stream has none.

    The files of a table (`state.json`) may say that its format is "custom", too, but hold no function.
    """
    return _is_custom(table) and callable(table.format["format_kwargs"].get("transform"))


def _is_custom(table: Any) -> bool:
    return bool(getattr(table, "format", None)) and table.format["type"] == "custom"


def _undecoded_feature(feature: Any, datasets: Any) -> Any:
    """The same type without decoding of what is stored as a file, as a video is.

    `Json` has the switch as well, and is text.
    """
    if hasattr(feature, "decode") and feature.pa_type == datasets.Video.pa_type:
        return dataclasses.replace(feature, decode=False)
    if isinstance(feature, dict):
        return {name: _undecoded_feature(part, datasets) for name, part in feature.items()}
    if isinstance(feature, list):
        return [_undecoded_feature(part, datasets) for part in feature]
    if hasattr(feature, "feature"):  # List, LargeList
        return dataclasses.replace(feature, feature=_undecoded_feature(feature.feature, datasets))
    return feature


def _is_column(data: Any) -> bool:
    """`Column` of a table or `IterableColumn` of a stream, which `datasets` does not export."""
    return type(data).__module__.partition(".")[0] == "datasets" and hasattr(data, "column_name")


def _is_key_dataset(data: Any) -> bool:
    """`transformers.pipelines.pt_utils.KeyDataset`, the usual way to hand a column to a pipeline."""
    return type(data).__name__ == "KeyDataset" and hasattr(data, "dataset") and hasattr(data, "key")
