"""The program as a package, `sal.program`: the same files, under names that no one else uses.

Its modules import each other by short names (`from model import SAL`), as they do when main.py is run. Elsewhere these would
collide: `test` is also a package of Python's, and everybody has a `utils`. So they are loaded in a second way. A finder looks
for `sal.program.NAME` in the program's folder, and an import of one of the program's modules there is read as if it said
`sal.program.NAME`. Plain `model`, `utils` and `test` stay what they are for the importer, before and after.
"""

import ast
import importlib.machinery
import pathlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import CodeType, ModuleType
from typing import Any

PACKAGE = "sal.program"
_HERE = pathlib.Path(__file__).resolve().parent
# Installed, the program lies inside of this package; in its own folder, beside it.
ROOT = _HERE / "program" if (_HERE / "program" / "main.py").exists() else _HERE.parent


def install() -> None:
    """Make `sal.program` importable; once is enough."""
    if not any(isinstance(finder, ProgramFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, ProgramFinder())


class ProgramFinder(MetaPathFinder):
    """Finder of `sal.program` and of everything below it; it leaves all other names to others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == PACKAGE:
            package = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            package.submodule_search_locations = [str(ROOT)]
            return package
        if not fullname.startswith(f"{PACKAGE}."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = ProgramLoader(spec.loader.name, spec.loader.path)
        return spec


class ProgramLoader(importlib.machinery.SourceFileLoader):
    """Loader of one of the program's files, with its imports of the program's modules renamed."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        tree = _Renamed().visit(ast.parse(data, path))
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True, optimize=_optimize)
        return code

    def path_stats(self, path: Any) -> Any:
        """No compiled file is read or written: the one beside the source has the short names."""
        raise OSError


class _Renamed(ast.NodeTransformer):
    """Imports of the program's own modules, by their names in `sal.program`."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level == 0 and node.module and _is_own(node.module):
            node.module = f"{PACKAGE}.{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            if _is_own(alias.name):
                if "." in alias.name and alias.asname is None:
                    raise ImportError(f"import {alias.name}: write 'from {alias.name} import ...'; see sal/_program.py")
                alias.asname = alias.asname or alias.name
                alias.name = f"{PACKAGE}.{alias.name}"
        return node


def _is_own(name: str) -> bool:
    """Whether the first part of a dotted name is a module or package of the program."""
    first = name.partition(".")[0]
    return (ROOT / f"{first}.py").is_file() or ((ROOT / first / "__init__.py").is_file() and first != "sal")
