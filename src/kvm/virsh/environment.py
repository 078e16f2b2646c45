"""The environments that virsh is run in. They stand alone, so that one can be started before all else is loaded."""

EVERY_VIRSH = {
    "LANGUAGE": "C",
    "VIRSH_DEBUG": "4",
    "VIRSH_LOG_FILE": "",  # its log, and libvirt's, have the passwords that virsh is given
    "LIBVIRT_DEBUG": "",
    "LIBVIRT_LOG_FILTERS": "",
    "LIBVIRT_LOG_OUTPUTS": "",
}
"""The variables that every virsh is run with: untranslated messages, and no debugging between them."""

AT_THE_PROMPT = {
    "COLUMNS": "500",  # the echo of a sentinel is never folded
    "TERM": "dumb",  # and the echo of a newline within an argument is ^J, not a newline
    "TZ": "UTC",  # for times that are printed without their zone
    "INPUTRC": "/dev/null",  # the user's key bindings are for a keyboard
    "VIRSH_HISTSIZE": "0",  # commands, and the secrets in them, are remembered nowhere,
    "XDG_CACHE_HOME": "/dev/null",  # and the user's history is not overwritten
}
"""The variables of a virsh at its prompt."""

PRINT_RUNTIME_DIRECTORY = 'printf %s "${XDG_RUNTIME_DIR:-${XDG_CACHE_HOME:-${HOME:?}/.cache}}"'
"""A shell script that prints the directory in which libvirt looks for the sockets of a user's session daemon.

Without XDG_RUNTIME_DIR it depends on XDG_CACHE_HOME, which `AT_THE_PROMPT` sets."""
