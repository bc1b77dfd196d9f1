"""Export a checkpoint as one folder for the Hub: weights, processor, labels, code, model card.

examples:
  froster export runs/my_videos/model my-actions --license apache-2.0      # the card is filled from the run
  froster export runs/ucf/model ucf-froster --facts my_card.yaml --results result/result.json
  froster export froster-b16 froster-b16-hub --facts model_cards/froster-b16.yaml --push-to-hub me/froster-b16
  froster export froster-b16 serving --towers onnx --int8

The card claims only what was measured on these very weights, and what the run that trained them left in its folder.
Weights converted from FROSTER's release keep their license, CC BY-NC-SA 4.0.
"""

import argparse

from ...printing import printable, without_progress_bars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster export`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder, a name on the Hub, or small")
    parser.add_argument("output", metavar="OUT", help="the folder to write; must not exist, or be empty")
    parser.add_argument("--max-shard-size", default="5GB", help="largest weight file (default: %(default)s)")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument("--labels", metavar="A,B,C", help="store these labels in the checkpoint")
    labels.add_argument(
        "--labels-file", metavar="FILE", help="store the labels of a file, as `froster predict` reads it"
    )
    card = parser.add_argument_group("model card")
    card.add_argument("--facts", metavar="FILE", help="YAML: name, summary, license, base_model, datasets, ...")
    card.add_argument("--license", help="license of the weights, such as apache-2.0, where the facts do not state it")
    card.add_argument(
        "--results", nargs="+", default=[], metavar="FILE", help="result.json files of `froster evaluate`"
    )
    card.add_argument("--recipe", metavar="FILE", help="YAML, the training recipe")
    serving = parser.add_argument_group("serving")
    serving.add_argument(
        "--towers",
        nargs="+",
        choices=("onnx", "torch_export"),
        default=[],
        help="also write the video and the text tower apart; labels then change without a new export",
    )
    serving.add_argument("--int8", action="store_true", help="also with int8 weights, and say what that changes")
    hub = parser.add_argument_group("upload")
    hub.add_argument(
        "--push-to-hub", metavar="USER/NAME", help="upload the folder; the token is huggingface_hub's own"
    )
    hub.add_argument("--private", action="store_true", help="make the repository private")
    hub.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing")


@without_progress_bars()
def run(arguments: argparse.Namespace) -> int:
    """Export, upload where asked to, and print what was written."""
    from ...checkpoint_loading import checkpoint_path
    from ...hub import export_checkpoint, push_folder
    from ..options import given_labels

    if arguments.push_to_hub is None and (arguments.private or arguments.create_pr):
        raise ValueError("--private, --create-pr: only with --push-to-hub.")
    report = export_checkpoint(
        checkpoint_path(arguments.checkpoint),
        arguments.output,
        facts=arguments.facts,
        license=arguments.license,
        results=arguments.results,
        recipe=arguments.recipe,
        labels=given_labels(arguments),
        repo_id=arguments.push_to_hub,
        max_shard_size=arguments.max_shard_size,
        towers=arguments.towers,
        quantize=arguments.int8,
    )
    print(report)
    if arguments.push_to_hub is not None:
        commit = push_folder(
            report.folder,
            arguments.push_to_hub,
            private=True if arguments.private else None,
            create_pr=arguments.create_pr,
        )
        print(f"uploaded  {printable(commit.pr_url or commit.commit_url)}")
    return 0
