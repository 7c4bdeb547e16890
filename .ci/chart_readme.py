"""The chart's README: what stands in it by hand, and the table of values out of the comments in values.yaml."""

import json
import re

MARK = "<!-- The table is made of the comments in values.yaml: .ci/chart.py --update -->"


def readme(chart):
    """The README as it should be."""
    path = chart / "README.md"
    written = path.read_text().partition(MARK)[0] if path.exists() else "# alloy\n\n"
    rows = [f"| `{name}` | {meaning} | {default} |" for name, default, meaning in described(chart / "values.yaml")]
    return "\n".join([written + MARK, "", "| value | what | default |", "| --- | --- | --- |", *rows]) + "\n"


def described(path):
    """(name, default, what) of every value with a comment that begins with `# --`, in the file's order."""
    import yaml
    values = yaml.safe_load(path.read_text())
    rows, above, comment = [], [], None
    for line in path.read_text().splitlines():
        text = line.strip()
        if text.startswith("# --"):
            comment = text[4:].strip()
        elif text.startswith("#"):
            comment = f"{comment} {text[1:].strip()}" if comment else None
        elif match := re.match(r"( *)([A-Za-z]+):", line):
            above[len(match[1]) // 2:] = [match[2]]
            if comment:
                value = values
                for step in above:
                    value = value[step]
                default = "not set" if value is None or value == "" else f"`{json.dumps(value)}`"
                rows.append((".".join(above), default.replace("|", "\\|"), comment.replace("|", "\\|")))
            comment = None
    return rows


def differences(values, schema, above=""):
    """Values without a place in the schema, places without a value, and objects that take any key."""
    schema = resolved(schema, schema)
    yield from walk(values, schema, schema, above)


# Names of Alloy's chart that are taken and have no default of their own.
WITHOUT_DEFAULT = re.compile(
    r"configReloader\.(image|customArgs|resources|securityContext)"
    r"|controller\.autoscaling\.(enabled|minReplicas|maxReplicas|target\w+|scaleDown|scaleUp)|alloy\.resources\.\w+")


def walk(values, schema, root, above):
    known = schema.get("properties")
    if known is None:
        return
    if schema.get("additionalProperties") is not False and not above.startswith("global"):
        yield f"the schema takes any key in {above or 'the values'}"
    for name in sorted(set(values) - set(known)):
        yield f"{above}{name} is no value of the schema"
    for name in sorted(set(known) - set(values)):
        if not WITHOUT_DEFAULT.fullmatch(above + name):
            yield f"{above}{name} is in the schema, and no value"
    for name in sorted(set(known) & set(values)):
        if isinstance(values[name], dict):
            yield from walk(values[name], resolved(known[name], root), root, f"{above}{name}.")


def resolved(schema, root):
    return root["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
