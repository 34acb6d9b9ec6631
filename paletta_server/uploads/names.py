"""What a film may be called. The client's `manifest check` has the same rule; a test compares the two."""

import unicodedata


def name_problem(name: str) -> tuple[str, str] | None:
    """What is wrong with a file's name, and how to mend it, or None.

    It is shown and searched for, never used as a path or a key: so everything may be in it that systems allow there
    (a colon, say), and that one line of text can carry.
    """
    categories = {unicodedata.category(character) for character in name}
    if categories & {"Cc", "Cf", "Cs", "Zl", "Zp"} or "\ufffe" in name or "\uffff" in name:
        return "the file's name has control characters in it", "rename the file"
    if "/" in name or "\\" in name:
        return "this is a path, not the name of a file", "send the name alone"
    if not name.strip(". "):
        return "the file's name has only dots and spaces in it", "rename the file"
    return None
