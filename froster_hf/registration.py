"""Makes transformers' Auto classes and `pipeline` know this package, without importing anything heavy.

Registering a class needs the class, hence torch: seconds, which `import froster_hf` and `froster --help` must not
cost. So each registration waits until the part of transformers that it belongs to has been imported.
"""

import importlib.abc
import importlib.machinery
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def register_config() -> None:
    """`AutoConfig`."""
    from transformers.models.auto.configuration_auto import AutoConfig

    from .modeling.configuration_froster import FrosterConfig

    FrosterConfig.register_for_auto_class()
    AutoConfig.register(FrosterConfig.model_type, FrosterConfig, exist_ok=True)


def register_models() -> None:
    """`AutoModel` and `AutoModelForVideoClassification`."""
    from transformers.models.auto.modeling_auto import AutoModel, AutoModelForVideoClassification

    from .modeling.configuration_froster import FrosterConfig
    from .modeling.modeling_froster import FrosterForVideoClassification, FrosterModel

    FrosterModel.register_for_auto_class("AutoModel")
    FrosterForVideoClassification.register_for_auto_class("AutoModelForVideoClassification")
    AutoModel.register(FrosterConfig, FrosterModel, exist_ok=True)
    AutoModelForVideoClassification.register(FrosterConfig, FrosterForVideoClassification, exist_ok=True)


def register_video_processor() -> None:
    """`AutoVideoProcessor`."""
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor

    from .modeling.configuration_froster import FrosterConfig
    from .processing.video_processing_froster import FrosterVideoProcessor

    FrosterVideoProcessor.register_for_auto_class()
    AutoVideoProcessor.register(FrosterConfig, FrosterVideoProcessor, exist_ok=True)


def register_processor() -> None:
    """`AutoProcessor`."""
    from transformers.models.auto.processing_auto import AutoProcessor

    from .modeling.configuration_froster import FrosterConfig
    from .processing.processing_froster import FrosterProcessor

    FrosterProcessor.register_for_auto_class()
    AutoProcessor.register(FrosterConfig, FrosterProcessor, exist_ok=True)


class _WrittenNotRead:
    """An attribute of configurations that is stored and saved, but reads as empty.

    A checkpoint names its pipeline for processes without this package. transformers would then demand
    `trust_remote_code=True` here as well, for code that is installed and registered.
    """

    def __init__(self, name: str):
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> dict:
        return {}

    def __set__(self, instance: Any, value: dict) -> None:
        vars(instance)[self.name] = value


def register_pipeline() -> None:
    """`pipeline("zero-shot-video-classification")`."""
    from transformers import AutoModelForVideoClassification
    from transformers.pipelines import PIPELINE_REGISTRY

    from .modeling.configuration_froster import FrosterConfig
    from .pipeline.pipeline_froster import ZeroShotVideoClassificationPipeline

    PIPELINE_REGISTRY.register_pipeline(
        "zero-shot-video-classification",
        pipeline_class=ZeroShotVideoClassificationPipeline,
        pt_model=AutoModelForVideoClassification,
        type="multimodal",
    )
    FrosterConfig.custom_pipelines = _WrittenNotRead("custom_pipelines")  # type: ignore[attr-defined]


# Module of transformers -> what to register once it is there.
REGISTRATIONS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": register_config,
    "transformers.models.auto.modeling_auto": register_models,
    "transformers.models.auto.video_processing_auto": register_video_processor,
    "transformers.models.auto.processing_auto": register_processor,
    "transformers.pipelines": register_pipeline,
}


class _RegisterAfterImport(importlib.abc.MetaPathFinder):
    """Runs the registrations as soon as no import inside transformers or this package is under way.

    Not right after the module in question: transformers' modules import each other in circles, and ours import some of
    them. Only when the outermost import has returned is each of them whole.
    """

    def __init__(self) -> None:
        self._pending = dict(REGISTRATIONS)
        self._imports = threading.local()
        self._counting = threading.Lock()
        self._num_importing = 0  # threads that have an import under way
        self._registering = threading.Lock()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in ("transformers", __package__):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_counted(module: ModuleType) -> None:
            self._count(1)
            try:
                execute(module)
            finally:
                self._count(-1)
            if self._imports.depth == 0:
                self.register_what_is_imported()

        spec.loader.exec_module = execute_counted  # type: ignore[method-assign]
        return spec

    def _count(self, step: int) -> None:
        depth = getattr(self._imports, "depth", 0)
        self._imports.depth = depth + step
        if 0 in (depth, depth + step):
            with self._counting:
                self._num_importing += step

    def register_what_is_imported(self) -> None:
        """Run the pending registrations whose module is there; a registration's own imports add to the list.

        Never waits: who comes here may hold the import lock of a module that the running registration needs. Whoever
        is registering looks once more after letting go, and so takes over what others found it busy with.

        Where two threads import modules that need each other, Python shows one of them a module that is not whole yet.
        A registration that fails of it is run again: by the other thread when its import is over, or else here.
        """
        while self._ready() and self._registering.acquire(blocking=False):
            others_import = self._num_importing > 0
            try:
                for name in self._ready():
                    REGISTRATIONS[name]()
                    del self._pending[name]
            except ImportError:
                if not others_import and not self._num_importing:
                    raise
            finally:
                self._registering.release()
            if self._ready() and self._num_importing:
                return
        if not self._pending and self in sys.meta_path:
            sys.meta_path.remove(self)

    def _ready(self) -> list[str]:
        return [name for name in REGISTRATIONS if name in self._pending and name in sys.modules]


def register() -> None:
    """Register now what is imported already, and the rest when it is."""
    finder = _RegisterAfterImport()
    sys.meta_path.insert(0, finder)
    finder.register_what_is_imported()
