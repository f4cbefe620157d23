"""PowerShell as a tree, by the grammar of powershell-requirements.txt. Nothing is run: there is no PowerShell here."""

import tree_sitter
import tree_sitter_powershell

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))


def parsed(text):
    return PARSER.parse(text.encode()).root_node


def below(node):
    yield node
    for child in node.children:
        yield from below(child)


def mistakes(text):
    """What the grammar does not know, a line each."""
    wrong = (node for node in below(parsed(text)) if node.is_error or node.is_missing)
    return [f"line {node.start_point[0] + 1}: {node.type} {node.text.decode()[:60]!r}" for node in wrong]


def of(node, kind):
    return [one for one in below(node) if one.type == kind]


def words(node, kind):
    return [one.text.decode() for one in of(node, kind)]


def functions(text):
    """The nodes of the functions, by name."""
    return {words(one, "function_name")[0]: one for one in of(parsed(text), "function_statement")}
