"""The groups of virsh's commands: what to run and how to read it."""
