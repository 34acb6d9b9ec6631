"""Bank details of contributors: checked when they are given, shown masked, and every change told by mail."""

import re

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from stdnum import bic as bics
from stdnum import iban as ibans
from stdnum.exceptions import InvalidFormat, ValidationError

from paletta_server.accounts.security import Principal
from paletta_server.audit.service import record
from paletta_server.core.errors import Invalid, NotFound
from paletta_server.core.ids import new_uid
from paletta_server.core.settings import Settings
from paletta_server.earnings import mails
from paletta_server.earnings.models import PayoutAccount
from paletta_server.earnings.schemas import PayoutAccountIn, PayoutAccountView

_ACCOUNT = re.compile(r"[A-Z0-9]{4,34}\Z")
"""34 characters are what SWIFT messages carry."""


def masked(number: str) -> str:
    """The end of a number, enough for its owner to know it: `DE…3000` of an IBAN, `…6789` of others."""
    return (
        f"{number[:2] if number[:2].isalpha() else ''}…{number[-4:]}"
        if len(number) > 8
        else f"…{number[-2:]}"
    )


def checked(given: PayoutAccountIn) -> dict[str, str | None]:
    """The columns of a `PayoutAccount`. Raises `Invalid`, with the field in `pointer`."""
    if (given.iban is None) == (given.account is None):
        raise _bad("iban", "give either an `iban` or an `account`", "one_account")
    if not any(character.isalpha() for character in given.holder):
        raise _bad("holder", "the account's holder is a name", "bad_holder")
    bic = _bic(given.bic) if given.bic else None
    if given.iban is not None:
        number = _iban(given.iban)
        if given.country is not None and given.country != number[:2]:
            raise _bad("country", f"the IBAN is one of {number[:2]}, not of {given.country}", "bad_country")
        country = number[:2]
    else:
        number = re.sub(r"[ -]", "", given.account or "").upper()
        if not _ACCOUNT.match(number):
            raise _bad("account", "an account number has 4 to 34 letters and digits", "bad_account")
        if bic is None:
            raise _bad("bic", "an account number needs its bank's BIC", "bic_missing")
        if given.country is None:
            raise _bad(
                "country", "an account number needs its bank's country, such as `US`", "country_missing"
            )
        country = given.country
    if bic is not None and bic[4:6] != country:
        raise _bad("bic", f"the BIC is one of {bic[4:6]}, and the account of {country}", "bad_bic")
    kind = "iban" if given.iban is not None else "account"
    return {"kind": kind, "holder": given.holder, "number": number, "bic": bic, "country": country}


def _bad(field: str, detail: str, code: str, hint: str | None = None) -> Invalid:
    return Invalid(detail, code=code, pointer=f"/{field}", hint=hint)


def _iban(text: str) -> str:
    try:
        if not text.isascii():
            raise InvalidFormat  # the library takes any script's digits
        return str(ibans.validate(text)).upper()
    except ValidationError as error:
        hint = (
            "look at it again: its length and its check digits are those of its country, or a figure is wrong"
        )
        raise _bad("iban", "that is not an IBAN", "bad_iban", hint) from error


def _bic(text: str) -> str:
    try:
        if not text.isascii():
            raise InvalidFormat
        return str(bics.validate(text))
    except ValidationError as error:
        hint = "it has 8 or 11 characters, such as `COBADEFFXXX`"
        raise _bad("bic", "that is not a BIC", "bad_bic", hint) from error


async def show(session: AsyncSession, user: Principal) -> PayoutAccountView:
    """Where the caller's payouts go. Raises `NotFound` (`no_payout_account`)."""
    row = await session.get(PayoutAccount, user.user_id)
    if row is None:
        raise _none(user)
    return _view(row)


async def store(
    session: AsyncSession, settings: Settings, user: Principal, given: PayoutAccountIn
) -> PayoutAccountView:
    """Pay the caller here from the next run on. Raises `Invalid`."""
    values = checked(given) | {"changed_at": func.now()}
    row = await session.scalar(
        insert(PayoutAccount)
        .values(user_id=user.user_id, **values)
        .on_conflict_do_update(index_elements=["user_id"], set_=values)
        .returning(PayoutAccount)
        .execution_options(populate_existing=True)
    )
    assert row is not None
    shown = masked(row.number)
    await record(session, user, "payout_account:set", user.uid, details={"kind": row.kind, "number": shown})
    await mails.send(
        session, user.email, mails.account_set(settings, shown), f"payout-account:{new_uid('mail')}"
    )
    return _view(row)


async def remove(session: AsyncSession, settings: Settings, user: Principal) -> None:
    """Pay the caller nowhere; what is payable waits. Raises `NotFound` (`no_payout_account`)."""
    if not await forget(session, user.user_id):
        raise _none(user)
    await record(session, user, "payout_account:removed", user.uid)
    await mails.send(
        session, user.email, mails.account_removed(settings), f"payout-account:{new_uid('mail')}"
    )


async def forget(session: AsyncSession, user_id: int) -> bool:
    """Drop somebody's bank details, as erasing their account must; those of payouts that were made stay with these."""
    gone = await session.scalar(
        delete(PayoutAccount).where(PayoutAccount.user_id == user_id).returning(PayoutAccount.user_id)
    )
    return gone is not None


async def on_file(session: AsyncSession, user_id: int) -> bool:
    """Whether somebody has said where to pay them."""
    query = select(PayoutAccount.user_id).where(PayoutAccount.user_id == user_id)
    return await session.scalar(query) is not None


def _none(user: Principal) -> NotFound:
    return NotFound(
        "payout account for",
        user.email,
        code="no_payout_account",
        hint="`paletta profile payout set` says where to pay you",
    )


def _view(row: PayoutAccount) -> PayoutAccountView:
    return PayoutAccountView(
        kind="iban" if row.kind == "iban" else "account",
        holder=row.holder,
        number=masked(row.number),
        bic=row.bic,
        country=row.country,
        changed_at=row.changed_at,
    )
