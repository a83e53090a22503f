"""ExecuTorch with XNNPACK, from verified bytes: all stages are methods of one program."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.bundle.pte_inspect import inspect_pte
from edge_tta.errors import BackendError, BundleError
from edge_tta.runtime.backend import Floats, generator_inputs
from edge_tta.runtime.et_program import EtProgram


class ExecutorchBackend:
    """One variant of a bundle in ExecuTorch.

    Args:
        bundle: opened bundle.
        variant: name of one of its variants.
        threads: size of ExecuTorch's pool of threads, which is one for the whole process.

    Raises:
        MissingExtraError: executorch is not installed.
        BackendError: ExecuTorch refuses the file, its methods are not what the manifest says, or its pool is in use
            with another number of threads.
        BundleError: the file is damaged, or hands work to another delegate than the manifest says.
    """

    name = "executorch"

    def __init__(self, bundle: Bundle, variant: str, threads: int) -> None:
        described = bundle.variants[variant]
        self.precision: str = described.precision
        self.threads = threads
        files = {stage.file: stage for stage in described.stages.values()}
        if len(files) != 1:
            raise BundleError(
                f"{variant}: an ExecuTorch variant is one file, the manifest names {len(files)}"
            )
        (file,) = files.values()
        self._inputs: dict[str, list[str]] = {
            stage: [port.name for port in entry.inputs] for stage, entry in described.stages.items()
        }
        data = bundle.read(file)
        methods = inspect_pte(file.file, data)
        # Core ML is asked for on a system that has been checked, and by nobody else's program.
        if described.delegate != "coreml" and any("CoreMLBackend" in method.delegates for method in methods):
            raise BundleError(
                f"{file.file}: hands work to Core ML, the manifest says that its delegate is {described.delegate}"
            )
        inside = sum(method.delegated for method in methods)
        outside = sum(method.portable for method in methods)
        self.delegate_coverage = inside / max(1, inside + outside)
        """Share of the operators that XNNPACK runs."""
        self._program = EtProgram(file.file, data, threads)
        try:
            self._check_interface(described.stages)
        except BaseException:
            self._program.close()
            raise

    def _check_interface(self, stages: Any) -> None:
        if set(self._program.methods) != set(STAGES):
            raise BackendError(
                f"executorch: {self._program.name} has the methods {', '.join(self._program.methods)}; the manifest "
                f"says {', '.join(STAGES)}"
            )
        for stage in STAGES:
            for kind, found, described in zip(
                ("inputs", "outputs"),
                self._program.shapes(stage),
                (stages[stage].inputs, stages[stage].outputs),
                strict=True,
            ):
                expected = [port.shape for port in described]
                if len(found) != len(expected) or not all(map(_fits, found, expected)):
                    raise BackendError(
                        f"executorch: {stage} of {self._program.name} has {kind} of {found}; the manifest says "
                        f"{expected}"
                    )

    def _run(self, stage: str, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return self._program.run(stage, [inputs[name] for name in self._inputs[stage]])

    def text_encoder(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """See ``Backend``."""
        tokens, pooled = self._run("text_encoder", {"ids": np.asarray(ids, dtype=np.int64)})
        return tokens, pooled

    def generator(
        self,
        latent: Floats,
        time: float,
        duration: float,
        text: tuple[Floats, Floats],
        seconds: float,
        guidance: float,
    ) -> Floats:
        """See ``Backend``."""
        inputs = generator_inputs(latent, time, duration, text, seconds, guidance)
        return self._run("generator", inputs)[0]

    def decoder(self, latent: Floats) -> Floats:
        """See ``Backend``."""
        return self._run("decoder", {"latent": np.asarray(latent, dtype=np.float32)})[0]

    def close(self) -> None:
        """See ``Backend``."""
        self._program.close()


def _fits(found: tuple[int, ...], described: list[int | str]) -> bool:
    """Whether a method's largest shape is one of the described port, whose dynamic dimensions have names."""
    return len(found) == len(described) and all(
        isinstance(wanted, str) or size == wanted for size, wanted in zip(found, described, strict=True)
    )
