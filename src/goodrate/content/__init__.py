"""Films of items: clips as files, a small video diffusion model, and any diffusers pipeline in its place."""
