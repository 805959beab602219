"""One optimiser step after the other: patches, loss, running average, state on disk."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.weight_map import boundary_weight_map
from ..errors import ModelError, StoreError
from ..network.device import Compute, readable_errors
from ..network.unet import UNet
from .loss import training_loss
from .plan import STATE_NAME, TrainingPlan
from .sampling import PatchSampler, TrainingPatch
from .start_model import interpolation_weight

_WARM_UP = 10
"""Steps over which the learning rate rises at the start, while the optimiser's averages are empty."""
_COOL_FROM = 0.3
"""Share of the planned work after which the learning rate falls, to a twentieth at the end."""
_LARGEST_GRADIENT = 5.0
_AVERAGED_EVERY = 4
"""Steps from one update of the running average to the next: each walks through the memory of two networks."""
_AVERAGED_ALWAYS = 40
"""Steps at the start after each of which it is updated, as a short training is to be seen in it too."""


class Trainer:
    """The network in training.

    Parameters
    ----------
    plan : TrainingPlan
        What to learn from, and how.
    sampler : PatchSampler, optional
        Where patches come from; by default all samples of the plan.
    """

    def __init__(self, plan: TrainingPlan, sampler: PatchSampler | None = None) -> None:
        self.plan, self.settings = plan, plan.settings
        self.sizes, self.batch = plan.sizes, plan.settings.batch
        self.compute = plan.compute
        self.step = self.run_steps = 0
        self.factor = 1.0
        self.rng = np.random.default_rng(plan.settings.seed)
        with readable_errors(self.compute.device):
            self.network = copy.deepcopy(plan.model.network).to(self.compute.device)
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network)
        self.start = copy.deepcopy(self.network) if plan.nearness else None
        self.kept = self._share_kept()
        self.optimiser = self._make_optimiser()
        # Few patches would spoil the batch statistics of a model that was trained before.
        self.frozen = bool(plan.model.card.training_history)
        self._rng_state = self.rng.bit_generator.state
        if plan.resume is not None:
            self.load_state(plan.resume)
        self._set_mode()
        # Dropout draws from torch's own numbers, whatever drew from them since the plan was made.
        torch.manual_seed(plan.settings.seed + self.step)
        self.scaler = torch.amp.GradScaler(self.compute.device.type, enabled=self.compute.dtype == torch.float16)
        self._executor = ThreadPoolExecutor(1, "patches")
        self._next: Future[list[dict[str, Any]]] | None = None
        self._sampler = sampler or self._make_sampler()

    @property
    def learning_rate(self) -> float:
        """The rate of the last step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def train_step(self, progress: float) -> float:
        """Make one step and return its loss.

        Parameters
        ----------
        progress : float
            Share of the planned work that is done, which lets the learning rate fall towards the end.

        Returns
        -------
        float
            The loss; when it is not finite the weights have not been changed.

        Raises
        ------
        OutOfMemoryError, DeviceError
            When the device fails.
        """
        batch = self._next_batch()
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self.factor * schedule(self.step, progress)
        with readable_errors(self.compute.device):
            loss = self._loss(batch)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(self.scaler.scale(loss))
            self.scaler.unscale_(self.optimiser)
            norm = self._clip()
            # With float16 an infinite gradient only means that the scaler has to take a smaller scale.
            if not torch.isfinite(loss) or not (torch.isfinite(norm) or self.scaler.is_enabled()):
                self.scaler.update()
                return math.nan
            self.scaler.step(self.optimiser)
            self.scaler.update()
            self.step, self.run_steps = self.step + 1, self.run_steps + 1
            self._update_average()
            return float(loss.detach())

    def _clip(self) -> Tensor:
        """Return the length of the gradient, after cutting it to the largest one allowed."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        # Torch's own clip_grad_norm_ multiplies by one as well: a walk through all gradients at each step.
        if norm > _LARGEST_GRADIENT:
            torch._foreach_mul_(gradients, float(_LARGEST_GRADIENT / norm))
        return norm

    def _loss(self, batch: list[dict[str, Any]]) -> Tensor:
        """Return the loss of a batch."""
        device = self.compute.device
        tensors = {k: torch.from_numpy(np.stack([item[k] for item in batch])).to(device) for k in batch[0]}
        x = tensors["image"].contiguous(memory_format=torch.channels_last)
        with self.compute.autocast():
            out = self.network(x)
        return training_loss(self.network.split(out), tensors, self.settings)

    def _next_batch(self) -> list[dict[str, Any]]:
        """Return a batch that was drawn while the last step ran, and begin the next."""
        current = self._next or self._executor.submit(self._draw)
        batch = current.result()
        # The thread rests now: a training that goes on from here draws the pending batch again.
        self._rng_state = self.rng.bit_generator.state
        self._next = self._executor.submit(self._draw)
        return batch

    def _draw(self) -> list[dict[str, Any]]:
        """Return the arrays of one batch."""
        return [self._targets(self._sampler.draw()) for _ in range(self.batch)]

    def _targets(self, patch: TrainingPatch) -> dict[str, Any]:
        """Return what the loss needs of one patch: image, target, weight map of equation 2, distance."""
        known = self.plan.weights[patch.target] * patch.mask
        weight = known
        if self.settings.border_weight and patch.instances.any():
            border = boundary_weight_map(
                patch.instances, w0=self.settings.border_weight, sigma=self.settings.border_sigma
            )
            weight = known + border * patch.mask
        return {
            "image": patch.image,
            "target": patch.target,
            "weight": weight.astype(np.float32),
            "known": known.astype(np.float32),
            "distance": patch.distance,
        }

    def _update_average(self) -> None:
        """Let the running average follow; it follows faster while there are few steps to average over."""
        steps = 1 if self.step <= _AVERAGED_ALWAYS or self.settings.ema_decay == 0 else _AVERAGED_EVERY
        if self.step % steps:
            return
        keep = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step)) ** steps
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.network.parameters()), 1 - keep)
            for kept, new in zip(self.ema.buffers(), self.network.buffers(), strict=True):
                kept.copy_(new)

    def _share_kept(self) -> float:
        """Return the share of the start model's weights in the result."""
        wanted = self.start is not None and self.plan.settings.start_interpolation
        return interpolation_weight(self.plan.nearness, self.plan.cells) if wanted else 0.0

    def averaged(self) -> UNet:
        """Return the result so far: the averaged network, with what is kept of the start model mixed in.

        Where nothing is kept, this is the average itself, which goes on changing; else it is a copy.
        """
        if self.start is None or not self.kept:
            return self.ema
        with readable_errors(self.compute.device), torch.no_grad():
            result = copy.deepcopy(self.ema)
            torch._foreach_lerp_(list(result.parameters()), list(self.start.parameters()), self.kept)
        return result

    def averaged_copy(self) -> UNet:
        """Return a copy of the result so far on the processor."""
        result = self.averaged()
        with readable_errors(self.compute.device):
            return (copy.deepcopy(result) if result is self.ema else result).to("cpu").eval()

    def roll_back(self) -> None:
        """Return to the averaged weights, forget the optimiser's state and halve the learning rate."""
        self.network.load_state_dict(self.ema.state_dict())
        self.factor /= 2
        self.optimiser = self._make_optimiser()

    def renew(self, plan: TrainingPlan) -> None:
        """Learn from other samples from now on; weights, optimiser and random state stay as they are."""
        self.plan = plan
        self.kept = self._share_kept()
        self._next = None
        self._sampler = self._make_sampler()

    def shrink(self) -> bool:
        """Halve the batch or else the patch; return False when neither can get smaller."""
        self._next = None
        geometry = self.network.geometry
        if self.batch > 1:
            self.batch //= 2
            return True
        smaller = self.sizes[1] // 2 // geometry.stride * geometry.stride
        if smaller < max(64, geometry.stride):
            return False
        if self.network.padding == "same":
            self.sizes = (smaller, smaller)
        else:
            bottom, output = geometry.bottom_for(smaller)
            self.sizes = (geometry.input_size(bottom), output)
        self._sampler = self._make_sampler()
        return True

    def move(self, compute: Compute) -> None:
        """Go on on another device, with a new optimiser and the patch size of the plan."""
        self.compute = compute
        self._next = None
        self.sizes, self.batch = self.plan.sizes, self.plan.settings.batch
        self._sampler = self._make_sampler()
        self.network.to(compute.device)
        self.ema.to(compute.device)
        if self.start is not None:
            self.start.to(compute.device)
        self.optimiser = self._make_optimiser()
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.dtype == torch.float16)

    def close(self) -> None:
        """Wait for the patch that is being drawn, and end its thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def save_state(self, folder: Path) -> None:
        """Write weights, average, optimiser and random state, to go on from later.

        Raises
        ------
        StoreError
            When the folder cannot be written.
        """
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        if self.start is not None:
            tensors |= {f"start.{k}": v for k, v in self.start.state_dict().items()}
        for index, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in entry.items() if isinstance(v, Tensor)}
        notes = {
            "step": self.step,
            "run_steps": self.run_steps,
            "factor": self.factor,
            "rng": self._rng_state,
            "frozen": self.frozen,
            "nearness": self.plan.nearness,
            "held_out": [dataclasses.asdict(place) for place in self.plan.split.held_out],
        }
        temporary = folder / f".{STATE_NAME}.part"
        try:
            # Copies in the plain memory layout: tensors may share nothing, as safetensors demands.
            plain = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
            save_file(plain, temporary, {"notes": json.dumps(notes)})
            temporary.replace(folder / STATE_NAME)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"The training state cannot be saved in {folder}: {error}.") from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_state(self, folder: Path) -> None:
        """Take up the state that :meth:`save_state` wrote.

        Raises
        ------
        ModelError
            When there is none, or it belongs to another network.
        """
        from safetensors import safe_open

        path = folder / STATE_NAME
        try:
            tensors = load_file(path)
            with safe_open(path, "pt") as file:
                notes = json.loads(file.metadata()["notes"])
            networks = {"network.": self.network, "ema.": self.ema, "start.": self.start}
            for prefix, network in networks.items():
                if network is None:
                    continue
                network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"The training in {folder} cannot be continued: {error}") from error
        state: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.network.parameters())
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                like = parameters[int(index)]
                # The fused optimiser walks through memory: its state has to lie there as the weights do.
                same = value.shape == like.shape
                state.setdefault(int(index), {})[name] = torch.empty_like(like).copy_(value) if same else value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.run_steps, self.factor = notes["step"], 0, notes["factor"]
        self.rng.bit_generator.state = self._rng_state = notes["rng"]
        self.frozen = notes["frozen"]

    def _make_optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser that the settings name (section 3: SGD with momentum 0.99)."""
        parameters, chosen = list(self.network.parameters()), self.settings
        if chosen.optimiser == "sgd":
            return torch.optim.SGD(
                parameters, chosen.learning_rate, chosen.momentum, weight_decay=chosen.weight_decay, foreach=True
            )
        fused = self.compute.device.type in ("cpu", "cuda")
        return torch.optim.AdamW(
            parameters, chosen.learning_rate, weight_decay=chosen.weight_decay, fused=fused or None
        )

    def _make_sampler(self) -> PatchSampler:
        """Return a sampler of patches of the present size."""
        return PatchSampler(self.plan.split.train, self.settings, self.sizes, self.rng)

    def _set_mode(self) -> None:
        """Train; but keep the batch statistics if they are frozen."""
        self.network.train()
        if self.frozen:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()


def schedule(step: int, progress: float) -> float:
    """Return the factor of the learning rate: warm-up, constant, then a half cosine down to a twentieth."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    if progress <= _COOL_FROM:
        return warm
    along = (progress - _COOL_FROM) / (1 - _COOL_FROM)
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))
