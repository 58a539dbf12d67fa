"""From YAML and overrides to a `Run`: composition, resolution, components, and Hydra's errors as one message."""
