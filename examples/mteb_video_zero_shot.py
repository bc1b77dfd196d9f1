"""Zero-shot action recognition of MTEB's video benchmark, with a FROSTER checkpoint.

    python examples/mteb_video_zero_shot.py visual-ai/froster-b16 --license cc-by-nc-sa-4.0
    python examples/mteb_video_zero_shot.py my-export --name me/my-froster --trained-on HMDB51ZeroShot

The data sets come from the Hub (tens of gigabytes). Results are kept in MTEB's cache, as its leaderboard takes them; a
run goes on with the tasks that are missing. `--trained-on` names MTEB's tasks whose data the checkpoint was trained
on; without it, Kinetics-400 is named, on which the released FROSTER checkpoints were trained.
"""

import argparse

import mteb

from froster_hf.integrations.leaderboard import KINETICS_400_TASKS, FrosterEncoder

TASKS = ["HMDB51ZeroShot", "UCF101VideoZeroShotClassification", "Kinetics400ZeroShot", "Kinetics600VZeroShot"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--name", help="organization/name, for a checkpoint in a folder")
    parser.add_argument("--revision", help="of the checkpoint")
    parser.add_argument("--license", help="of the weights")
    parser.add_argument("--trained-on", nargs="*", default=sorted(KINETICS_400_TASKS), metavar="TASK")
    parser.add_argument("--tasks", nargs="+", default=TASKS, metavar="TASK", help="default: %(default)s")
    options = parser.parse_args()

    encoder = FrosterEncoder(
        options.checkpoint,
        name=options.name,
        revision=options.revision,
        license=options.license,
        training_datasets=options.trained_on,
    )
    results = mteb.evaluate(encoder, mteb.get_tasks(tasks=options.tasks))
    for result in results.task_results:
        print(f"{result.task_name}: {result.get_score():.3f}")


if __name__ == "__main__":
    main()
