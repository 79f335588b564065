#!/usr/bin/env python3
"""Write mindformers/<model>.json: the tables of names in mindformers' own converters, read from its source.

    pip download --no-deps mindformers==2.1.0 && unzip -q mindformers-*.whl -d WHEEL
    python make_mindformers_names.py WHEEL

The wheel is not imported: the lists are evaluated with stand-ins that keep what each conversion is given.
"""
import ast
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ("qwen3", "qwen3_moe", "glm4", "deepseek3")


class Operations(dict):
    def __missing__(self, name):
        if name == "Dtype" or not name.endswith("Op"):
            raise KeyError(name)
        return lambda **given: {"operation": name, **given}


def main():
    os.makedirs(os.path.join(HERE, "mindformers"), exist_ok=True)
    for model in MODELS:
        with open(os.path.join(sys.argv[1], "mindformers", "models", model, "utils.py")) as file:
            tree = ast.parse(file.read())
        tables = {}
        for klass in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for node in klass.body:
                name = getattr(getattr(node, "targets", [None])[0], "id", "")
                if name in ("weight_mapping", "weight_converters"):
                    tables[name] = eval(compile(ast.Expression(node.value), model, "eval"), Operations())
        with open(os.path.join(HERE, "mindformers", f"{model}.json"), "w") as out:
            json.dump(tables, out, indent=1)
            out.write("\n")
        print(model, {name: len(table) for name, table in tables.items()})


if __name__ == "__main__":
    main()
