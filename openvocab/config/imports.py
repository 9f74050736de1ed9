"""Check the imports of a config before mmengine reads it; an error states what can be imported, and how.

mmengine replaces imports by names, and imports when a part is built, so that reading a config needs none of its parts.
Some modules it imports at once, but which ones depends on where Python is installed: a config that computes with them
would work on some machines only.
"""

import ast
import codecs
import difflib
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from openvocab.files.text_files import decode_text

HOW_TO_INHERIT = (
    "a config inherits by `with read_base(): from .name import *` or `from ..folder.name import *`, relative to its "
    "own file"
)
ONLY_NAMES = "imports of a config are not executed while it is read, it can only pass their names on (type=Name)"


class ImportMistake(ValueError):
    """An import that a config cannot have; the message names file and line."""


def check_imports(file: Path) -> set[str]:
    """Check the imports of a Python config and of those that it inherits from.

    Returns:
        The names that the config defines for those that inherit from it.

    Raises:
        ImportMistake: a config that is missing, inherits from itself, or is not imported relatively; a name that the
            other config does not define; a use of an imported name that needs its value.
        OSError, SyntaxError, ValueError: a file that cannot be read.
    """
    return _defined_names(file, (), {})


def _defined_names(file: Path, above: tuple[Path, ...], checked: dict[Path, set[str]]) -> set[str]:
    """Check one config; `above` are those that inherit from it, `checked` caches the names of configs by path."""
    if file.resolve() in checked:
        return checked[file.resolve()]
    content = file.read_bytes()
    if content.startswith(codecs.BOM_UTF8):
        raise ImportMistake(f"{file}: a config cannot begin with a byte order mark; save it as UTF-8 without one")
    tree = ast.parse(decode_text(content, file), str(file))
    inherited = [
        node for block in tree.body if isinstance(block, ast.With) and _is_read_base(block) for node in block.body
    ]
    defined = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    defined |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    only_names: set[str] = set()
    for node in ast.walk(tree):
        if node in inherited or not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        location = f"{file}:{node.lineno}: `{ast.unparse(node)}`"
        if isinstance(node, ast.Import) and len(node.names) > 1:
            raise ImportMistake(f"{location}: import one module per line")
        if isinstance(node, ast.ImportFrom) and (node.level or node.names[0].name == "*"):
            raise ImportMistake(f"{location}: {HOW_TO_INHERIT}")
        names = {alias.asname or alias.name.split(".")[0] for alias in node.names}
        defined |= names
        if not isinstance(node, ast.ImportFrom) or node.module != "mmengine.config":
            only_names |= names
    for statement in tree.body:
        _check_base_list(statement, file)
    for statement in inherited:
        defined |= _inherited_names(statement, file, (*above, file), checked)
    _check_uses(tree, only_names, file)
    checked[file.resolve()] = defined
    return defined


def _is_read_base(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "read_base"


def _check_base_list(node: ast.stmt, file: Path) -> None:
    """Reject a `_base_` of missing configs, or of ones with imports: mmengine does not mix the two."""
    if not isinstance(node, ast.Assign) or [ast.unparse(target) for target in node.targets] != ["_base_"]:
        return
    if not isinstance(node.value, (ast.Constant, ast.List, ast.Tuple)):
        return
    listed = node.value.elts if isinstance(node.value, (ast.List, ast.Tuple)) else [node.value]
    for entry in listed:
        base = file.parent / str(getattr(entry, "value", ""))
        if base.suffix == ".py" and (not base.is_file() or Config._is_lazy_import(str(base))):
            problem = "has imports itself" if base.is_file() else "does not exist"
            raise ImportMistake(f"{file}:{node.lineno}: `{ast.unparse(node)}`: {base} {problem}; {HOW_TO_INHERIT}")


def _inherited_names(node: ast.stmt, file: Path, above: tuple[Path, ...], checked: dict[Path, set[str]]) -> set[str]:
    """Check an import within `read_base`, and return the names that it defines."""
    location = f"{file}:{node.lineno}: `{ast.unparse(node)}`"
    if not isinstance(node, ast.ImportFrom) or not node.level or not node.module:
        raise ImportMistake(f"{location}: {HOW_TO_INHERIT}")
    base = file.parent.joinpath(*[".."] * (node.level - 1), *node.module.split(".")).with_suffix(".py")
    if not base.is_file():
        raise ImportMistake(f"{location}: no config {base}; {HOW_TO_INHERIT}")
    if base.resolve() in [config.resolve() for config in above]:
        raise ImportMistake(f"{location}: it inherits from itself")
    names = _defined_names(base, above, checked)
    for alias in node.names:
        if alias.name != "*" and alias.name not in names:
            close = difflib.get_close_matches(alias.name, names, n=1)
            nearest = f"; did you mean {close[0]!r}?" if close else ""
            raise ImportMistake(f"{location}: {base} defines no {alias.name!r}{nearest}")
    return names if node.names[0].name == "*" else {alias.asname or alias.name for alias in node.names}


def _check_uses(tree: ast.Module, only_names: set[str], file: Path) -> None:
    """Reject computations with imported names, which have no values while a config is read."""
    for node in ast.walk(tree):
        for value in _operands(node):
            root = value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in only_names:
                raise ImportMistake(
                    f"{file}:{value.lineno}: `{ast.unparse(value)}` has no value here: {ONLY_NAMES}; "
                    "write the value out, or give it by --cfg-options"
                )


def _operands(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the parts of a node whose values it computes with, not those that it passes on."""
    if isinstance(node, ast.Call):
        yield node.func
    elif isinstance(node, (ast.FormattedValue, ast.Subscript, ast.Starred)):
        yield node.value
    elif isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
    elif isinstance(node, ast.Compare):
        yield from (node.left, *node.comparators)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, (ast.For, ast.comprehension)):
        yield node.iter
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield node.test
