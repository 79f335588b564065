"""Writes expected.json: what PyYAML reads from each yaml of this directory. Keys as JSON has them, texts."""

import json
import pathlib

import yaml


class Untagged(yaml.SafeLoader):
    """Passes over the tags that a safe loader does not know."""


def untagged(loader, _suffix, node):
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


Untagged.add_multi_constructor("!", untagged)
Untagged.add_multi_constructor("tag:yaml.org,2002:python/", untagged)

here = pathlib.Path(__file__).parent
expected = {path.stem: yaml.load(path.read_text(), Untagged) for path in sorted(here.glob("*.yaml"))}
(here / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
print("PyYAML", yaml.__version__)
