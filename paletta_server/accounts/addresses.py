"""E-mail addresses in the one form that is stored and compared."""

from email_validator import EmailNotValidError, validate_email

from paletta_server.core.errors import Invalid


def normal(address: str) -> str:
    """The address in ASCII and lower case. Raises ValueError saying what is wrong; `.test` domains are fine."""
    try:
        found = validate_email(
            address.strip(), check_deliverability=False, allow_smtputf8=False, test_environment=True
        )
    except EmailNotValidError as error:
        words = str(error).rstrip(".")
        raise ValueError(words[:1].lower() + words[1:]) from error
    return (found.ascii_email or found.normalized).lower()


def checked(address: str) -> str:
    """The same, for what an operator typed. Raises `Invalid` (`bad_email`)."""
    try:
        return normal(address)
    except ValueError as error:
        raise Invalid(f"`{address}`: {error}", code="bad_email") from error
