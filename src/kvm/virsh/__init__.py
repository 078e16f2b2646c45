"""Talking to virsh: commands, plans of them, and the processes that run them."""
