"""The Prefect server of the commands, and the deployments that `spinmeround serve` offers."""
