"""Timelines and answers, checked by the loaders of Label Studio and FiftyOne themselves."""

import contextlib
import functools
import json
import shutil
import threading
import xml.etree.ElementTree as ElementTree
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from froster_hf import load_pipeline
from froster_hf.integrations import EmbedVideos
from froster_hf.integrations.annotation import (
    fiftyone_classification,
    fiftyone_detections,
    label_studio_config,
    label_studio_task,
)
from froster_hf.pipeline.timeline_froster import Timeline, TimelineSegment
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import REPOSITORY
from tests.hub.loopback_hub import LoopbackHub

LABELS = ["riding a bike", 'a "wheelie" & <more>', "talking"]
ZOO = REPOSITORY / "examples" / "fiftyone_zoo"


def timeline(*scores: float) -> Timeline:
    """Two segments that meet at 2 s, and one that ends with the video after a gap."""
    times = [(0.0, 2.0), (2.0, 3.5), (6.25, 10.0)]
    segments = [TimelineSegment(*span, label, score) for span, label, score in zip(times, LABELS, scores)]
    return Timeline(LABELS, 10.0, [(0.0, 10.0)], torch.zeros(1, 3), segments)


def test_a_label_that_xml_does_not_have_is_the_same_escape_in_configuration_and_task():
    segment = TimelineSegment(0.0, 2.0, "\x1b[31m\uffff\x9b z\u200cx", 0.9)
    label_list = (segment.label,)
    config = ElementTree.fromstring(label_studio_config(label_list, frames_per_second=25))
    task = label_studio_task(
        Timeline(label_list, 10.0, [(0.0, 10.0)], torch.zeros(1, 1), [segment]), "a.mp4", frames_per_second=25
    )
    (region,) = task["predictions"][0]["result"]
    assert [label.get("value") for label in config.iter("Label")] == region["value"]["timelinelabels"]
    assert region["value"]["timelinelabels"] == ["\\x1b[31m\\uffff\\x9b z\u200cx"]


@pytest.fixture(scope="module")
def interface():
    label_interface = pytest.importorskip(
        "label_studio_sdk.label_interface", reason="needs the extra label-studio (make test-integrations)"
    )
    return label_interface.LabelInterface(label_studio_config(LABELS, frames_per_second=25))


def test_label_studio_takes_the_configuration(interface):
    interface.validate()
    control = interface.get_control("actions")
    assert (control.tag, control.labels) == ("TimelineLabels", LABELS)
    assert interface.get_object("video").attr["frameRate"] == "25"


def test_label_studio_takes_a_timeline_as_a_prediction(interface):
    objects = pytest.importorskip("label_studio_sdk.label_interface.objects")
    task = label_studio_task(timeline(0.9, 0.5, 0.7), "/data/match.mp4", frames_per_second=25)
    task = json.loads(json.dumps(task))
    assert objects.TaskValue(**task).predictions[0].result[0]["value"]["timelinelabels"] == LABELS[:1]
    [prediction] = task.pop("predictions")
    # The library's own check of a task with predictions calls the next one without them.
    assert interface.validate_task(task)
    assert interface.validate_prediction(prediction, return_errors=True) == []
    ranges = [region["value"]["ranges"] for region in prediction["result"]]
    # From 1, the last included: 2 s at 25 frames per second are frames 1 to 50.
    assert ranges == [[{"start": 1, "end": 50}], [{"start": 51, "end": 88}], [{"start": 157, "end": 250}]]
    assert prediction["score"] == pytest.approx(0.7)


def test_label_studio_refuses_what_another_project_would_not_know(interface):
    other = timeline(0.9, 0.5, 0.7)
    other.segments[0] = TimelineSegment(0.0, 2.0, "swimming", 0.9)
    [prediction] = label_studio_task(other, "a.mp4", frames_per_second=25)["predictions"]
    assert not interface.validate_prediction(prediction), "the library's check looks at labels"


def test_logits_are_no_scores_of_label_studio(interface):
    [prediction] = label_studio_task(timeline(17.0, 0.5, 21.0), "a.mp4", frames_per_second=25)["predictions"]
    assert "score" not in prediction
    assert ["score" in region for region in prediction["result"]] == [False, True, False]
    assert interface.validate_prediction(prediction, return_errors=True) == []


def test_a_timeline_without_segments_is_an_empty_prediction(interface):
    [prediction] = label_studio_task(timeline(), "a.mp4", frames_per_second=25)["predictions"]
    assert prediction["result"] == []
    assert interface.validate_prediction(prediction, return_errors=True) == []


@pytest.mark.parametrize("rate", [0, -25, float("nan"), float("inf")])
def test_a_rate_that_is_not_positive_is_refused(rate):
    with pytest.raises(ValueError, match="frames_per_second"):
        label_studio_config(LABELS, frames_per_second=rate)
    with pytest.raises(ValueError, match="frames_per_second"):
        label_studio_task(timeline(0.5), "a.mp4", frames_per_second=rate)


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # Its settings are read when it is first imported; it looks for no news and counts no uses.
        patch.setenv("FIFTYONE_MODEL_ZOO_DIR", str(tmp_path_factory.mktemp("zoo")))
        patch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path_factory.mktemp("database")))
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        yield pytest.importorskip("fiftyone", reason="needs the extra fiftyone (make test-integrations)")


def test_fiftyone_has_the_segments_at_the_frames_of_their_seconds(fiftyone):
    metadata = fiftyone.VideoMetadata(frame_rate=25, total_frame_count=250, duration=10.0)
    found = fiftyone_detections(timeline(0.9, 0.5, 0.7), metadata)
    assert isinstance(found, fiftyone.TemporalDetections)
    assert [detection.label for detection in found.detections] == LABELS
    assert [detection.confidence for detection in found.detections] == [0.9, 0.5, 0.7]
    assert found.detections[2].support == [157, 250]
    for detection, segment in zip(found.detections, timeline(0.9, 0.5, 0.7).segments):
        start, end = detection.to_timestamps(metadata=metadata)
        assert (start, end) == pytest.approx((segment.start_seconds, segment.end_seconds), abs=1 / 25)
    sample = fiftyone.Sample(filepath="match.mp4", actions=found)
    assert fiftyone.Sample.from_dict(sample.to_dict()).actions.detections[0].label == LABELS[0]


def test_a_segment_never_ends_behind_the_last_frame(fiftyone):
    metadata = fiftyone.VideoMetadata(frame_rate=25, total_frame_count=248, duration=9.92)
    assert fiftyone_detections(timeline(0.9, 0.5, 0.7), metadata).detections[2].support[1] == 248


def test_detections_need_the_metadata_of_the_video(fiftyone):
    with pytest.raises(ValueError, match="compute_metadata"):
        fiftyone_detections(timeline(0.9), None)


def test_the_best_answer_is_a_classification(fiftyone):
    found = fiftyone_classification([{"label": "talking", "score": 0.75}, {"label": "golf", "score": 0.25}])
    assert (found.label, found.confidence) == ("talking", 0.75)
    none = fiftyone_classification([{"label": "none of these", "score": None}])
    assert fiftyone.Sample(filepath="a.mp4", action=none).action.confidence is None


@contextlib.contextmanager
def served(folder: Path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def zoo_model(fiftyone, exported, tmp_path_factory):
    """The model as FiftyOne's zoo loads it: source from an address, weights from the Hub, both of this machine."""
    zoo = pytest.importorskip("fiftyone.zoo")
    archives = tmp_path_factory.mktemp("archives")
    shutil.make_archive(str(archives / "froster"), "zip", ZOO.parent, ZOO.name)
    hub = LoopbackHub("visual-ai/froster-b16")
    hub.files |= {path.name: path.read_bytes() for path in exported.iterdir() if path.is_file()}
    with served(archives) as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        zoo.register_zoo_model_source(f"{address}/froster.zip")
        assert "froster-b16" in zoo.list_zoo_models()
        model = zoo.load_zoo_model("froster-b16", classes=LABELS, device="cpu")
    hub.close()
    folder = Path(zoo.find_zoo_model("froster-b16")).with_suffix("")
    assert (folder / "model.safetensors").is_file()
    assert not list(folder.rglob("*.py")), "no code of the checkpoint is downloaded"
    return model


def reader_of(path: Path, frames=None):
    """What FiftyOne hands to a model of videos."""
    video = pytest.importorskip("eta.core.video")
    if shutil.which("ffmpeg") is None:
        if frames is not None:
            pytest.skip("FiftyOne reads clips with ffmpeg, which is not installed")
        return contextlib.nullcontext(SimpleNamespace(inpath=str(path), total_frame_count=9, __len__=lambda: 9))
    return video.FFmpegVideoReader(str(path), frames=frames)


def test_the_zoo_model_answers_for_a_reader_of_a_whole_video(zoo_model, exported, fiftyone):
    with reader_of(REAL_VIDEOS["bikes"]) as reader:
        found = zoo_model.predict(reader)
        embedding = zoo_model.embed(reader)
    assert isinstance(found, fiftyone.Classification)
    assert found.label in LABELS
    expected = EmbedVideos(exported)({"video": [str(REAL_VIDEOS["bikes"])]})["embedding"][0]
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-6)
    assert (zoo_model.media_type, zoo_model.has_embeddings) == ("video", True)


def test_the_zoo_model_sees_of_a_clip_its_frames_alone(zoo_model):
    with reader_of(REAL_VIDEOS["bikes"]) as whole, reader_of(REAL_VIDEOS["bikes"], "1-40") as clip:
        assert np.abs(zoo_model.embed(whole) - zoo_model.embed(clip)).max() > 1e-3


def test_the_zoo_model_names_a_video_that_cannot_be_read(zoo_model, videos):
    reader = SimpleNamespace(inpath=str(videos / "damaged.mp4"), total_frame_count=0)
    reader = type("Reader", (), {**vars(reader), "__len__": lambda self: 0})()
    with pytest.raises(ValueError, match=r"damaged\.mp4"):
        zoo_model.predict(reader)


def read_back(importer) -> list[tuple]:
    with importer:
        return list(importer)


def test_fiftyones_exporters_write_what_its_importers_read_back(fiftyone, tmp_path):
    """Its formats of temporal detections, in frames and in seconds, and its tree of classes; none needs a database."""
    formats = pytest.importorskip("fiftyone.utils.data")
    video = REAL_VIDEOS["carphone_pristine"]
    metadata = fiftyone.VideoMetadata(frame_rate=25, total_frame_count=250, duration=10.0)
    made = timeline(0.9, 0.5, 0.7)
    for folder, in_seconds in (("frames", False), ("seconds", True)):
        exporter = formats.FiftyOneTemporalDetectionDatasetExporter(str(tmp_path / folder), use_timestamps=in_seconds)
        with exporter:
            exporter.export_sample(str(video), fiftyone_detections(made, metadata), None, metadata=metadata)
    [(path, _, found, _)] = read_back(formats.FiftyOneTemporalDetectionDatasetImporter(str(tmp_path / "frames")))
    assert Path(path).read_bytes() == video.read_bytes()
    for detection, expected in zip(found.detections, fiftyone_detections(made, metadata).detections, strict=True):
        assert isinstance(detection, fiftyone.TemporalDetection)
        fields = ("label", "support", "confidence")
        assert [detection[field] for field in fields] == [expected[field] for field in fields]
    [segments] = json.loads((tmp_path / "seconds" / "labels.json").read_text())["labels"].values()
    for segment, expected in zip(segments, made.segments, strict=True):
        assert segment["timestamps"] == pytest.approx([expected.start_seconds, expected.end_seconds], abs=1 / 25)

    action = fiftyone_classification([{"label": LABELS[1], "score": 0.75}, {"label": "golf", "score": 0.25}])
    with formats.VideoClassificationDirectoryTreeExporter(str(tmp_path / "classes")) as exporter:
        exporter.export_sample(str(video), action, None)
    [(path, _, found, _)] = read_back(formats.VideoClassificationDirectoryTreeImporter(str(tmp_path / "classes")))
    assert (Path(path).name, found.label) == (video.name, LABELS[1])


@pytest.fixture(scope="module")
def dataset(fiftyone):
    """Two videos in a data set of FiftyOne's own database, with their metadata."""
    service = pytest.importorskip("fiftyone.core.service")
    try:
        service.DatabaseService.find_mongod()
    except service.ServiceExecutableNotFound:
        pytest.skip("FiftyOne's database server is not installed (docs/integrations/fiftyone.md)")
    if shutil.which("ffprobe") is None:
        pytest.skip("FiftyOne reads metadata with ffprobe, which is not installed")
    dataset = fiftyone.Dataset()
    videos = (REAL_VIDEOS["bikes"], REAL_VIDEOS["carphone_pristine"])
    dataset.add_samples([fiftyone.Sample(filepath=str(path)) for path in videos], progress=False)
    dataset.compute_metadata(progress=False)
    yield dataset
    dataset.delete()


def test_a_data_set_keeps_answers_and_timelines_and_exports_them(fiftyone, dataset, exported, tmp_path):
    classify = load_pipeline(exported, device="cpu")
    for sample in dataset:
        sample["action"] = fiftyone_classification(classify(sample.filepath, candidate_labels=LABELS))
        sample["timeline"] = fiftyone_detections(classify.timeline(sample.filepath, LABELS), sample.metadata)
        sample.save()
    dataset.reload()
    # Values are those of the database.
    labels, supports = dataset.values(["timeline.detections.label", "timeline.detections.support"])
    assert {*dataset.distinct("action.label"), *dataset.distinct("timeline.detections.label")} <= set(LABELS)
    for found, frames in zip(supports, dataset.values("metadata.total_frame_count"), strict=True):
        assert found
        assert all(1 <= first <= last <= frames for first, last in found)

    # Its own view of segments as clips, and its own format on disk.
    assert [clip.support for clip in dataset.to_clips("timeline")] == [each for video in supports for each in video]
    kind = fiftyone.types.FiftyOneTemporalDetectionDataset
    dataset.export(str(tmp_path / "out"), dataset_type=kind, label_field="timeline", progress=False)
    read = fiftyone.Dataset.from_dir(str(tmp_path / "out"), kind, label_field="timeline", progress=False)
    assert read.values(["timeline.detections.label", "timeline.detections.support"]) == (labels, supports)
    read.delete()


def test_the_zoo_model_answers_for_a_whole_data_set_and_for_its_clips(fiftyone, dataset, zoo_model, exported):
    dataset.apply_model(zoo_model, label_field="answer", progress=False)
    dataset.compute_embeddings(zoo_model, embeddings_field="froster", progress=False)
    assert set(dataset.values("answer.label")) <= set(LABELS)
    expected = EmbedVideos(exported)({"video": dataset.values("filepath")})["embedding"]
    np.testing.assert_allclose(np.stack(dataset.values("froster")), expected, rtol=0, atol=1e-6)

    for sample in dataset:
        sample["half"] = fiftyone.TemporalDetection(label="x", support=[1, sample.metadata.total_frame_count // 2])
        sample.save()
    clips = dataset.to_clips("half")
    embeddings = clips.compute_embeddings(zoo_model, progress=False)
    assert np.isfinite(embeddings).all()
    assert np.abs(np.stack(list(embeddings)) - expected).max(axis=1).min() > 1e-4


def test_labels_that_would_be_shown_as_others_are_escaped_or_refused():
    config = label_studio_config(["x\u202ey", "a\u2028b", "family \U0001f468\u200d\U0001f469"], frames_per_second=25)
    values = [label.get("value") for label in ElementTree.fromstring(config).iter("Label")]
    assert values == [r"x\u202ey", r"a\u2028b", "family \U0001f468\u200d\U0001f469"]
    with pytest.raises(ValueError, match=r"Two labels are .* in Label Studio"):
        label_studio_config(["a\x01", r"a\x01"], frames_per_second=25)
