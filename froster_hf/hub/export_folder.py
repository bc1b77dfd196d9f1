"""`export_checkpoint`: one folder that loads anywhere, with or without this package, and says what it is.

checkpoint -> the zero-shot pipeline -> its own save_pretrained (weights, processor, labels, code)
           -> measured results, checked against the weights -> README.md, .eval_results/
           -> what sentence-transformers reads, which embeds texts and videos with the same folder
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import eval_result_entries_to_yaml

from ..checkpoint_loading import checkpoint_path, hub_asked_once, load_installed, loading_reason, refuse_foreign_parts
from ..conversion.convert import read_report, write_report
from ..fingerprints import architecture_of, model_fingerprint
from ..foreign_code import drop_foreign_code, foreign_code_of
from ..printing import printable, printable_lines
from ..settings import read_yaml_file, yaml_text
from ..weights_license import CARD_FILE, FROSTER_LICENSE, REPORT_FILE, beside_weights, stated_license
from ..whole_files import full_disk_named, make_folder, new_folder, write_errors
from .card_facts import CardFacts, load_card_facts
from .measured_results import MeasuredResult, benchmark_entries, read_measured_results
from .model_card import build_model_card, without_paths
from .run_facts import fill_facts, read_run, run_results, shown_checkpoint
from .serving import TowerFormat, TowerReport, export_towers

PathLike = str | os.PathLike[str]
# What `SentenceTransformer.save_pretrained` writes for such a folder, without the versions that wrote it: both towers'
# embeddings as they are, without a pooling of its own, compared by their cosine.
SENTENCE_TRANSFORMERS_FILES: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            kind: {"method": f"get_{kind}_features", "method_output_name": "pooler_output"}
            for kind in ("text", "video")
        },
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {
        "model_type": "SentenceTransformer",
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    },
}
LICENSE_NOTE = (
    "These weights were converted, or trained further, from a checkpoint that the authors of FROSTER released under "
    "CC BY-NC-SA 4.0, and keep that license: attribution, no commercial use, and the same terms for what is derived "
    "from them."
)

INHERITED_NOTE = "These weights, or those that they were trained from, were found under this license."


@dataclass(frozen=True)
class ExportedFolder:
    """What was written.

    Args:
        folder: where.
        files: all files in it, with their sizes in bytes.
        license: license of the weights, as the card states it.
        results: the measured numbers on the card.
        towers: the split towers, with their measured differences.
        dropped: references of the checkpoint's files to code that is not this package's; none of them is written.
        base: what the weights were trained from, where their run tells it.
    """

    folder: Path
    files: dict[str, int]
    license: str | None
    results: tuple[MeasuredResult, ...] = ()
    towers: tuple[TowerReport, ...] = ()
    dropped: tuple[str, ...] = ()
    base: str | None = None

    def __str__(self) -> str:
        lines = [f"written   {self.folder}"]
        lines += [f"  {size:>13,} bytes  {name}" for name, size in self.files.items()]
        lines.append(f"license   {self.license or 'not stated; give it with --license, or in the card facts'}")
        if self.license is None and self.base is not None:
            lines.append(f"          the weights were trained from {self.base}: its license holds for them, too")
        lines.append(f"measured  {len(self.results)} results on the card")
        lines += [line for tower in self.towers for line in str(tower).split("\n")]
        lines += [f"dropped   foreign code: {reference}" for reference in self.dropped]
        return printable_lines(lines)


def export_checkpoint(
    checkpoint: PathLike,
    output: PathLike,
    *,
    facts: CardFacts | PathLike | None = None,
    license: str | None = None,
    results: Iterable[PathLike] = (),
    recipe: PathLike | None = None,
    labels: Any = None,
    repo_id: str | None = None,
    max_shard_size: int | str = "5GB",
    towers: Sequence[TowerFormat] = (),
    quantize: bool = False,
) -> ExportedFolder:
    """Write a checkpoint as one complete folder: what a repository on the Hub should hold.

    Args:
        checkpoint: a FROSTER or CLIP checkpoint with its processor, a folder or a name on the Hub.
        output: the folder to write; must not exist, or be empty. It appears when it is complete.
        facts: what the card says that can be read neither off the checkpoint nor off the folder of its training; a
            YAML file of them, or `None` for none but the folder's name.
        license: license of the weights, where the facts do not state it.
        results: `result.json` files of `froster evaluate`, measured on these weights.
        recipe: the YAML file of the training recipe; its paths are left out. The model of a training's folder needs
            none: its card tells what the run has left there (`froster_hf.training.run_record`).
        labels: a label list to store in the checkpoint, in any form that `read_label_list` takes.
        repo_id: the repository that the card's examples load.
        max_shard_size: largest size of one weight file.
        towers: also write the towers apart, in these formats; see [`export_towers`].
        quantize: write them in int8 as well.

    Raises:
        ValueError: `output` is taken, weights that are not finite, results of other weights, a license that the
            weights do not have, facts that huggingface_hub refuses.
        OSError: a file that cannot be read.
    """
    target = Path(output)
    with new_folder(target) as folder:
        conversion = read_conversion(checkpoint)
        classify = load_for_export(checkpoint)
        refuse_broken_weights(classify.model)
        own: dict[str, Any] = {
            "fingerprints": fingerprints(classify.model),
            "architecture": architecture_of(classify.model),
        }
        run = read_run(checkpoint, **own)
        card_facts = _stated_facts(facts, license, repo_id or target.name, checkpoint, conversion)
        measured = [result for path in results for result in read_measured_results(path, **own)]
        if run is not None:
            card_facts = fill_facts(card_facts, run)
            measured += run_results(run)
        store_labels(classify, labels)
        card = build_model_card(
            card_facts,
            config=classify.model.config,
            num_parameters=classify.model.num_parameters(),
            prompt_templates=classify.processor.prompt_templates,
            results=measured,
            recipe=_read_recipe(recipe) if recipe is not None else run.record.recipe if run is not None else None,
            conversion=conversion,
            repo_id=repo_id,
        )
        with write_errors(target):
            classify.save_pretrained(folder, max_shard_size=max_shard_size)
        with full_disk_named(target):
            write_conversion(folder, conversion)
            dropped = [*foreign_code_of(checkpoint_path(checkpoint), folder), *drop_foreign_code(folder)]
            card.save(folder / CARD_FILE)
            write_benchmarks(folder, measured, card_facts)
            write_sentence_transformers(folder)
        # In single precision, which holds every half-precision weight exactly; the checkpoint is written already.
        with full_disk_named(target):
            exported = export_towers(classify.model.float(), folder / "towers", formats=towers, quantize=quantize)
    return ExportedFolder(
        folder=target,
        files=file_sizes(target),
        license=card_facts.license,
        results=tuple(measured),
        towers=tuple(exported),
        dropped=tuple(dropped),
        base=None if run is None else shown_checkpoint(run.base),
    )


def _stated_facts(
    facts: CardFacts | PathLike | None,
    license: str | None,
    name: str,
    checkpoint: PathLike,
    conversion: Mapping[str, Any] | None,
) -> CardFacts:
    """What the caller states, or the name of the repository alone, with the license that the weights have."""
    if facts is None:
        facts = CardFacts(name.rpartition("/")[2])
    return with_license(
        facts if isinstance(facts, CardFacts) else load_card_facts(facts),
        license,
        inherited=inherited_licenses(checkpoint),
        may_be_froster=conversion is not None and conversion["layout"] == "froster",
    )


def _read_recipe(path: PathLike) -> Mapping[str, Any]:
    """The fields of a training recipe; on the card stand those that are there, of whichever kind it is."""
    fields = read_yaml_file(path)
    if not isinstance(fields, dict) or not isinstance(fields.get("data") or {}, dict):
        raise ValueError(
            f"{printable(os.fspath(path))} is not a training recipe: it needs `field: value` lines, as does `data`."
        )
    return fields


def store_labels(classify: Any, labels: Any) -> None:
    """Store a label list in the model of a pipeline; `None` leaves it with its own, if it has any.

    Raises:
        ValueError: no such list, or the model has names of labels without their embeddings.
    """
    if labels is not None:
        given = classify.processor.read_labels(labels)
        classify.model.set_labels(given.names, text_embeds=classify.label_embeds(given))
    if classify.model.config.id2label:
        # Names without embeddings are an error.
        classify.model.stored_label_embeds()


def file_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def load_for_export(checkpoint: PathLike) -> Any:
    """The zero-shot pipeline of a checkpoint, in its own dtype, by installed code only.

    Raises:
        ValueError: the folder cannot be loaded; says why.
    """
    try:
        with hub_asked_once(checkpoint):
            refuse_foreign_parts(checkpoint)
            classify = load_installed(checkpoint, device="cpu", dtype="auto")
    # A folder of somebody else's can make transformers fail in any way: the fault is the folder's.
    except Exception as error:
        # What is not found is an `OSError` of transformers; all else is of files, which may lie in the Hub's cache.
        if not os.path.exists(checkpoint) and isinstance(error, OSError):
            raise
        raise ValueError(
            f"The model in {printable(os.fspath(checkpoint))} cannot be loaded: {loading_reason(error)}"
        ) from error
    # Where the processor has no half-precision arithmetic, the pipeline holds such weights in single precision.
    classify.model.to(classify.stored_dtype)
    return classify


def read_conversion(checkpoint: PathLike) -> Mapping[str, Any] | None:
    """The report that `froster convert` left beside the weights, if it did.

    Raises:
        ValueError: the file is there, but is not such a report.
    """
    path = beside_weights(checkpoint, REPORT_FILE)
    return None if path is None else read_report(path)


def write_conversion(folder: Path, conversion: Mapping[str, Any] | None) -> None:
    """The report of a conversion, so that the weights' origin and license are known wherever the folder goes."""
    if conversion is not None:
        write_report(folder, without_paths(conversion))


def write_sentence_transformers(folder: Path) -> None:
    """What `SentenceTransformer(folder)` reads (sentence-transformers 6) to embed texts and videos."""
    for name, content in SENTENCE_TRANSFORMERS_FILES.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def inherited_licenses(checkpoint: PathLike) -> list[str]:
    """The licenses stated of weights, and, as their run noted it down, of those that they were trained from.

    What the run began from is not looked at: its name is whatever the record says.
    """
    run = read_run(checkpoint)
    found = [stated_license(checkpoint), None if run is None else run.record.base_license]
    return [license for license in found if license is not None]


def with_license(
    facts: CardFacts, license: str | None, *, inherited: Sequence[str], may_be_froster: bool
) -> CardFacts:
    """The facts with the weights' license: as the caller or the facts state it, or else the nearest inherited one.

    Weights of FROSTER's authors keep theirs.

    Args:
        facts: facts of the card.
        license: as the caller states it.
        inherited: see `inherited_licenses`; with FROSTER's among them, the weights are its authors'.
        may_be_froster: whether they have FROSTER's names; so have Open-VCLIP's. Another license may then be stated.

    Raises:
        ValueError: two different licenses, or one that converted FROSTER weights do not have.
    """
    if license is not None and facts.license not in (None, license):
        raise ValueError(f"The card facts state the license {facts.license!r}, the option {license!r}. Give one.")
    stated = license or facts.license
    is_froster = FROSTER_LICENSE in inherited
    if is_froster and stated not in (None, FROSTER_LICENSE):
        raise ValueError(
            f"The license is given as {stated!r}, but these weights, or those that they were trained from, were "
            f"converted from FROSTER's, which are under {FROSTER_LICENSE!r} and stay so. Leave the license out."
        )
    if is_froster or (may_be_froster and stated in (None, FROSTER_LICENSE)):
        return replace(facts, license=FROSTER_LICENSE, license_note=facts.license_note or LICENSE_NOTE)
    if stated is None and inherited:
        return replace(facts, license=inherited[0], license_note=facts.license_note or INHERITED_NOTE)
    return replace(facts, license=stated)


def refuse_broken_weights(model: torch.nn.Module) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: names the tensors.
    """
    broken = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"The checkpoint holds values that are not finite, in {', '.join(broken[:5])}.")


def fingerprints(model: torch.nn.Module) -> set[str]:
    """Hashes of the weights as they are stored, and in float32, in which `froster evaluate` loads them."""
    found = {model_fingerprint(model)}
    if any(tensor.dtype != torch.float32 for tensor in model.state_dict().values()):
        found.add(model_fingerprint(model, dtype=torch.float32))
    return found


def write_benchmarks(folder: Path, results: list[MeasuredResult], facts: CardFacts) -> None:
    """`.eval_results/`, one file per benchmark data set, which the Hub shows on the data set's leaderboard."""
    entries = benchmark_entries(results, facts)
    for dataset in sorted({entry.dataset_id for entry in entries}):
        path = folder / ".eval_results" / f"{dataset.replace('/', '--')}.yaml"
        make_folder(path.parent)
        own = eval_result_entries_to_yaml([entry for entry in entries if entry.dataset_id == dataset])
        path.write_text(yaml_text(own), encoding="utf-8")
