"""What a training imports of others' libraries: a process that has it loaded is forked in no time."""

from importlib import import_module

for _name in (
    "accelerate.utils",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.controlnets.controlnet",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.schedulers.scheduling_ddim",
    "diffusers.schedulers.scheduling_ddpm",
    "onnxruntime",
    "pandas",
    "peft.tuners.lora",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.utils.tensorboard",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
):
    import_module(_name)
