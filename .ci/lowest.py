"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip."""

import re
from pathlib import Path

import tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
    for requirement in requirements:
        if bound := re.match(r"([\w-]+)>=([\w.]+)", requirement):
            print(f"{bound[1]}=={bound[2]}")
