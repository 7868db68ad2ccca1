"""Checks of the tree that no linter has: `python .ci/checks` runs all of them, `python .ci/checks wording tree` some.

`python .ci/checks reference --write` writes the reference pages anew.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter

CHECKS = {
    "wording": "plain words in code, help and documentation",
    "imports": "packages use each other through their public names",
    "docstrings": "every public name has a docstring",
    "reference": "docs/reference says what the docstrings say",
    "links": "links between pages lead to a file and a heading",
    "tree": "module names, lengths of files, one configuration of tools, no path of a machine, no host of a registry",
}


def main(arguments: list[str]) -> int:
    """Run the named checks, print what they find, and return the exit status."""
    names = [argument for argument in arguments if argument != "--write"] or list(CHECKS)
    if unknown := [name for name in names if name not in CHECKS]:
        print(f"no such check: {', '.join(unknown)}\nFix: name some of {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    failed = 0
    for name in names:
        module = importlib.import_module(name)
        if "--write" in arguments and hasattr(module, "write"):
            module.write()
        findings = module.check()
        print(f"{name}: {len(findings) or 'no'} findings ({CHECKS[name]})")
        for finding in findings:
            print(f"  {finding}")
        failed += bool(findings)
        if len(findings) > 20:
            folders = Counter("/".join(finding.path.split("/")[:2]) for finding in findings)
            print("  " + ", ".join(f"{folder}: {count}" for folder, count in folders.most_common()))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
