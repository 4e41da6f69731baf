"""One optimiser step of Face-MakeUp, and everything that changes with it; the maths of a run on one screen.

Shapes: B batch, C latent channels, H and W latent size, N CLIP tokens, D identity width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from curation.errors import UsageError, VerificationError
from facemakeup.data.batch import Batch
from facemakeup.data.draws import draws_of
from facemakeup.model.base import Prompt
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.loss import Drops, drop, training_loss
from facemakeup.model.send import send
from facemakeup.train_config import LossSettings, TrainConfig
from facemakeup.training import device, sharding
from facemakeup.training.checkpoint import Snapshot
from facemakeup.training.ema import MovingAverage
from facemakeup.training.face_losses import FaceLosses, Said
from facemakeup.training.frozen import frozen_digest
from facemakeup.training.schedule import ema_decay, learning_rate
from facemakeup.training.soundness import change_if

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter."""


@dataclass(frozen=True)
class StepResult:
    """What one rank saw in one optimiser step, still on the device."""

    per_sample_B: Tensor
    """Losses of its samples, float32."""
    timesteps_B: Tensor
    gradient_norm: Tensor
    """Before clipping, of the whole global batch."""
    is_sound: Tensor
    """Whether that norm is finite, bool (): else nothing was changed, on any rank."""
    uids: tuple[str, ...]
    """The samples."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """Sum and number, (2,), of each term that was added to the loss, over the samples that it says something of."""


class Trainer:
    """Model, optimiser and average of one rank."""

    def __init__(self, config: TrainConfig, model: FaceMakeUp, encoders: Encoders, accelerator: Any) -> None:
        """Put the model where it trains; the wrapped model shares its parameters with `model`."""
        self._config, self.encoders, self._accelerator = config, encoders, accelerator
        self._frozen_digest = frozen_digest(model, encoders)
        device.set_up(config.run, accelerator.device)
        device.lay_out(config.run, model, encoders.base, accelerator.device)
        self.model = model.to(accelerator.device)  # laid out before: a large base may fit in its smaller precision only
        if config.run.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        if config.run.compile:
            model.compile_parts(by_block=config.run.compile == "blocks")
        if config.run.fsdp:
            sharding.shard(model)
        self.objective = encoders.base.objective(config.optim)
        self._face_losses: FaceLosses | None = None
        if config.losses != LossSettings():
            self._face_losses = FaceLosses(config, model, encoders.base, self.objective, accelerator.device)
        self.parameters = model.trainable_named_parameters()
        optim = config.optim
        self._optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=optim.learning_rate, betas=optim.betas, weight_decay=optim.weight_decay,
            fused=accelerator.device.type == "cuda",
        )  # fmt: skip
        self.ema = MovingAverage(self.parameters) if optim.ema_decay else None
        self._wrapped: Any = model if config.run.fsdp else accelerator.prepare(model)
        self.model.train()

    def step(self, number: int, next_batch: Callable[[], Batch], accumulation: int) -> StepResult:
        """Do optimiser step `number`, 0-based, on `accumulation` micro batches.

        The gradient is that of the mean loss over the global batch, however it is cut into ranks and micro batches.
        Where it is not finite, neither weights nor moments change.
        """
        self._optimizer.zero_grad(set_to_none=True)
        losses, timesteps, uids, terms = [], [], list[str](), Terms()
        for micro in range(accumulation):
            batch = next_batch().to(self._accelerator.device)
            with self._synchronised(micro == accumulation - 1):
                per_sample_B, timesteps_B = self._losses(batch, terms)
                share = self._accelerator.num_processes / self._config.data.global_batch
                self._accelerator.backward(per_sample_B.sum() * share)
            losses.append(per_sample_B.detach())
            timesteps.append(timesteps_B)
            uids += batch.uids
        most = self._config.optim.max_gradient_norm
        norm = sharding.whole(torch.nn.utils.clip_grad_norm_(self.parameters.values(), most or float("inf")))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._config.optim, number)
        is_sound = torch.isfinite(norm)
        change_if(is_sound, self._optimizer)
        if self.ema is not None:
            self.ema.update(self.parameters, ema_decay(self._config.optim, number))
        return StepResult(torch.cat(losses), torch.cat(timesteps), norm, is_sound, tuple(uids), terms.sums)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average of the weights in their place, where one is kept, and the weights back, bit for bit."""
        with self.ema.in_place_of(self.parameters) if self.ema is not None else nullcontext():
            self._reshard()
            yield
        self._reshard()

    def _reshard(self) -> None:
        if self._config.run.fsdp:
            sharding.reshard(self.model)

    def _losses(self, batch: Batch, terms: "Terms") -> tuple[Tensor, Tensor]:
        place = self._accelerator.device
        mean, logvar = self.moments(batch)
        shape = (mean.shape[1], mean.shape[2], mean.shape[3])
        draw = partial(self.objective.draw, height=shape[1], width=shape[2])
        draws = draws_of(self._config.seed, batch.positions, shape, draw)
        latents_BCHW = self.encoders.base.sample(mean, logvar, send(draws.posterior_BCHW, place))
        timesteps_B, noise_BCHW = send(draws.timesteps_B, place), send(draws.noise_BCHW, place)
        dropped = drop(draws.drop_B3, self._config.drop_table)
        captions = ["" if gone else text for gone, text in zip(dropped.text_B.tolist(), batch.captions, strict=True)]
        noisy = self.objective.noisy(latents_BCHW, noise_BCHW, timesteps_B)
        prediction = self._wrapped(noisy, timesteps_B, **self._conditions(batch, captions, dropped))
        added = self._face_losses
        places = added.places(batch, noisy) if added else None
        per_sample_B = training_loss(prediction, latents_BCHW, noise_BCHW, timesteps_B, self.objective, places)
        if added and added.names:
            said = Said(batch, captions, ~dropped.identity_B, draws.timesteps_B, noisy, prediction)
            per_sample_B = per_sample_B + added.weighed(terms.took(added.terms(said)))
        return per_sample_B, timesteps_B

    def losses(
        self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor, given: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the loss of denoising of each sample, float32 (B,), without gradient and with nothing added."""
        noisy = self.objective.noisy(latents_BCHW, noise_BCHW, timesteps_B)
        prediction = self.model(noisy, timesteps_B, **given)
        return training_loss(prediction, latents_BCHW, noise_BCHW, timesteps_B, self.objective)

    def _conditions(self, batch: Batch, captions: Sequence[str], dropped: Drops) -> dict[str, Tensor]:
        """Return the conditions of a batch without those that are dropped; captions are empty where they are."""
        place = self._accelerator.device
        identity_BD = batch.identity_BD * ~send(dropped.identity_B, place)[:, None]
        pose_BCHW = batch.pose * ~send(dropped.pose_B, place)[:, None, None, None]
        told = self.encoders.base.prompt(captions, batch.frames, self._config.optim.guidance)
        return conditions(self.encoders, told, identity_BD, batch.clip_pixels, dropped.clip_B, pose_BCHW)

    def moments(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of a batch's latents, from the cache where it has them, else from the VAE."""
        if not len(batch.moments_MCHW):
            return self.encoders.base.moments(batch.pixels)
        cached = batch.moments_MCHW.float().chunk(2, dim=1)
        if not len(batch.pixels_KHWC):
            return cached[0], cached[1]
        fresh = self.encoders.base.moments(batch.pixels)
        cached_first_B = torch.argsort((~batch.has_moments_B).int(), stable=True)
        rows_B = send(torch.argsort(cached_first_B), fresh[0].device)
        mean, logvar = (torch.cat(halves)[rows_B] for halves in zip(cached, fresh, strict=True))
        return mean, logvar

    def _synchronised(self, is_last: bool) -> Any:
        if self._config.run.fsdp:
            sharding.synchronise(self.model, is_last)
            return nullcontext()
        return nullcontext() if is_last else self._accelerator.no_sync(self._wrapped)

    def snapshot(
        self, step: int, faults: Mapping[str, int], num_seen: int, data_digest: str, num_skipped: int = 0
    ) -> Snapshot:
        """Return the whole state on the CPU; every rank must call it, and all but the first get no tensors.

        Raises:
            TypeError: a trainable is not float32.
        """
        self.model.require_fp32_trainables()
        state = self._optimizer.state
        moments = {f"{m}/{n}": state[p][m] for n, p in self.parameters.items() if p in state for m in MOMENTS}
        return Snapshot(
            step=step,
            trainable=self._gathered(self.parameters),
            ema=self._gathered(self.ema.values) if self.ema else {},
            optimizer=self._gathered(moments),
            faults=faults,
            num_seen=num_seen,
            data_digest=data_digest,
            num_skipped=num_skipped,
            frozen_digest=self._frozen_digest,
        )

    def _gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return whole copies on the CPU, on the first rank only; shards are brought together one tensor at a time."""
        copies = {}
        for name, value in tensors.items():
            complete = sharding.whole(value.detach())
            if self._accelerator.is_main_process:
                copies[name] = complete.to("cpu", copy=True).contiguous()
        return copies

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Take up a snapshot's state.

        Raises:
            UsageError: what stands frozen is another than it was trained beside.
            VerificationError: it is not the state of this model: a name is missing or unknown, or of another shape.
        """
        self._require_same(snapshot)
        for name, parameter in self.parameters.items():
            sharding.copy_into(parameter, snapshot.trainable[name])
            if self.ema is not None:
                sharding.copy_into(self.ema.values[name], snapshot.ema[name])
            moments = {moment: snapshot.optimizer.get(f"{moment}/{name}") for moment in MOMENTS}
            if all(value is not None for value in moments.values()):
                self._optimizer.state[parameter] = {
                    moment: self._counter(parameter, value) if moment == "step" else sharding.like(parameter, value)
                    for moment, value in moments.items()
                    if value is not None
                }

    def _require_same(self, snapshot: Snapshot) -> None:
        if snapshot.frozen_digest not in ("", self._frozen_digest):
            base = self._config.model.base
            raise UsageError(
                f"{base}: the weights of the base, its encoders or the image encoder are others than step "
                f"{snapshot.step} was trained beside; bring those back (model.base_revision names a commit of the hub)"
            )
        shapes = {name: tuple(value.shape) for name, value in self.parameters.items()}
        shown = {"weights": snapshot.trainable, **({"average": snapshot.ema} if self.ema is not None else {})}
        for what, state in shown.items():
            found = {name: tuple(value.shape) for name, value in state.items()}
            odd = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
            if odd:
                raise VerificationError(f"step {snapshot.step}: its {what} are not those of this model: {odd[:3]}")
        strangers = sorted({name.partition("/")[2] for name in snapshot.optimizer} - shapes.keys())
        if strangers:
            raise VerificationError(f"step {snapshot.step}: has moments of {strangers[:3]}, not trained here")

    def _counter(self, parameter: Tensor, steps: Tensor) -> Tensor:
        """Return a parameter's number of steps where the optimiser wants it: a fused one beside the parameter."""
        return steps.to(parameter.device, copy=True) if self._optimizer.defaults["fused"] else steps.clone()


class Terms:
    """Adds up what was added to the losses of a step."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.sums: dict[str, Tensor] = {}

    def took(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Take in the terms of a micro batch, (B,) each, and return them."""
        for name, values_B in terms.items():
            told = torch.stack([values_B.detach().sum(), (values_B.detach() > 0).sum()])
            self.sums[name] = self.sums[name] + told if name in self.sums else told
        return terms


def conditions(
    encoders: Encoders,
    prompt: Prompt,
    identity_BD: Tensor,
    clip_pixels_BCHW: Tensor,
    clip_dropped_B: Tensor,
    pose_BCHW: Tensor,
) -> dict[str, Tensor]:
    """Return the conditions of `FaceMakeUp.predict` by name; the pose map is as large as the picture."""
    return {
        **prompt,
        "identity_BD": identity_BD,
        "clip_hidden_BNC": encoders.clip_hidden(clip_pixels_BCHW, clip_dropped_B),
        "pose_BCHW": pose_BCHW,
    }
