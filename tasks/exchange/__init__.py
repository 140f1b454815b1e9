"""Exchange of datasets and meshes with other software: WebDataset, Hugging Face, nerfstudio, mesh files."""
