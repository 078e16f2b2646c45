"""The environments of virsh processes. This module imports nothing, so that virsh can be started before the rest."""

EVERY_VIRSH = {
    "LANGUAGE": "C",
    "VIRSH_DEBUG": "4",
    "VIRSH_LOG_FILE": "",  # virsh's log, and libvirt's, would contain passwords
    "LIBVIRT_DEBUG": "",
    "LIBVIRT_LOG_FILTERS": "",
    "LIBVIRT_LOG_OUTPUTS": "",
}
"""The variables of every virsh: untranslated messages, without debug output between them."""

AT_THE_PROMPT = {
    "COLUMNS": "500",  # the echo of a sentinel is never folded
    "TERM": "dumb",  # and the echo of a newline within an argument is ^J, not a newline
    "TZ": "UTC",  # for times that are printed without their zone
    "INPUTRC": "/dev/null",  # the user's key bindings are for a keyboard
    "VIRSH_HISTSIZE": "0",  # commands, and the secrets in them, go to no history file
    "XDG_CACHE_HOME": "/dev/null",  # and the user's history is not overwritten
}
"""The variables of a virsh at its prompt."""

PRINT_RUNTIME_DIRECTORY = 'printf %s "${XDG_RUNTIME_DIR:-${XDG_CACHE_HOME:-${HOME:?}/.cache}}"'
"""A shell script that prints the directory in which libvirt looks for the sockets of a user's session daemon.

Without XDG_RUNTIME_DIR it depends on XDG_CACHE_HOME, which `AT_THE_PROMPT` sets."""
