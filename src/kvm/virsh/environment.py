"""The environments that virshes are run in. They stand alone, so that one can be started before all else is loaded."""

EVERY_VIRSH = {"LANGUAGE": "C", "VIRSH_DEBUG": "4"}
"""What every virsh is run with: words that can be read, and no debugging between them."""

AT_THE_PROMPT = {
    "COLUMNS": "500",  # the echo of a mark is never folded
    "TZ": "UTC",  # for times that are printed without their zone
    "INPUTRC": "/dev/null",  # this user's key bindings are for this user's keys
    "VIRSH_HISTSIZE": "0",  # commands, and what secrets are in them, are remembered nowhere,
    "XDG_CACHE_HOME": "/dev/null",  # and the history that this user has is not overwritten
}
"""What a virsh needs in its environment to be talked to in this way."""
