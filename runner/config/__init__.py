"""From YAML and overrides to a `Run`: composition, resolution, components and error messages."""
