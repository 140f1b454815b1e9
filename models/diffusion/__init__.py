"""The multi-view diffusion model: EDM preconditioning, UNet, ray encodings, training loss and pipeline."""
