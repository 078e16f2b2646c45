"""YAML for values: what is written reads back the same, and words such as ``yes`` and ``on`` are words."""

from __future__ import annotations

import re
from typing import Any

from kvm.cli.arguments import UsageError

try:
    import yaml
except ImportError:
    raise UsageError("YAML needs PyYAML: pip install 'python-kvm[cli]'") from None


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader of YAML could take for something else, and has no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


class _Loader(yaml.SafeLoader):
    """Reads only true and false as booleans, and dates as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), ["t", "f"])


_BREAKS = re.compile("[\x85\u2028\u2029]")
"""What PyYAML reads as line breaks, but writes without quotes in plain text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if _BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(value: object) -> str:
    """`value`, of plain types, as YAML."""
    return str(yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120))


def load(text: str, where: str) -> object:
    """Return the value of YAML. `UsageError`, which calls it `where`, if it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
