"""E-mail addresses in the one form that is stored and compared."""

from email_validator import EmailNotValidError, validate_email


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
