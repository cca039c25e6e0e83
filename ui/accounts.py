"""Who may see the page: passwords, a one-time login, sessions and a limit on guessing."""

import hmac
import json
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SESSION_SECONDS = 8 * 3600  # a working day
GUESSES = 5  # failed logins a user name has ...
GUESS_SECONDS = 300.0  # ... in this time
ALL_GUESSES = 50  # and all user names together
SHORTEST_PASSWORD = 10


class AccountError(ValueError):
    """An account that cannot be made or read; the message says what to do."""


class Accounts:
    """The people of one site and their open sessions.

    Passwords are kept as Argon2id hashes; sessions and the one-time login live in memory only,
    so that stopping the page ends them.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic):
        """Read the accounts of a site.

        Args:
            path: JSON of hashes by user name, made at the first `add`; None keeps none.
            clock: Seconds that only rise.

        Raises:
            AccountError: The file is damaged.
        """
        self._path = path
        self._clock = clock
        self._hasher = PasswordHasher()
        self._hashes = _read(path)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))
        self._once: dict[str, str] = {}
        self._sessions: dict[str, tuple[str, float]] = {}
        self._failures: dict[str, deque[float]] = defaultdict(deque)

    def add(self, user: str, password: str) -> None:
        """Make an account, or give it a new password.

        Raises:
            AccountError: The name is empty or too long, or the password too short.
        """
        if not 1 <= len(user) <= 64 or not user.isprintable():
            raise AccountError("a user name has 1 to 64 printable characters")
        if len(password) < SHORTEST_PASSWORD:
            raise AccountError(f"a password has at least {SHORTEST_PASSWORD} characters")
        self._hashes[user] = self._hasher.hash(password)
        if self._path is not None:
            _write(self._path, self._hashes)

    def one_time(self, user: str) -> str:
        """Make a password that opens one session for a user name and is then spent."""
        self._once[user] = secrets.token_urlsafe(12)
        return self._once[user]

    def must_wait(self, user: str) -> bool:
        """Whether too many logins failed for this name, or for all names, to allow another."""
        return self._recent(user) >= GUESSES or self._recent("") >= ALL_GUESSES

    def log_in(self, user: str, password: str) -> str | None:
        """Open a session.

        Returns:
            Its secret, None where name and password do not belong together or `must_wait`.
        """
        if self.must_wait(user):
            return None
        if not self._is_right(user, password):
            for name in (user, ""):
                self._failures[name].append(self._clock())
            return None
        self._failures.pop(user, None)
        token = secrets.token_urlsafe(32)
        self._sessions[token] = (user, self._clock() + SESSION_SECONDS)
        return token

    def log_out(self, token: str | None) -> None:
        """End a session."""
        self._sessions.pop(token or "", None)

    def user(self, token: str | None) -> str | None:
        """Whose session this is; None where it is unknown or over."""
        user, ends = self._sessions.get(token or "", (None, 0.0))
        if user is not None and self._clock() >= ends:
            self.log_out(token)
            return None
        return user

    def _is_right(self, user: str, password: str) -> bool:
        """Check a password; takes as long for a name that does not exist."""
        once = self._once.get(user)
        if once is not None and hmac.compare_digest(once.encode(), password.encode()):
            del self._once[user]
            return True
        try:
            right = self._hasher.verify(self._hashes.get(user, self._nobody), password)
        except (VerificationError, InvalidHashError):
            return False
        return right and user in self._hashes

    def _recent(self, user: str) -> int:
        """Failed logins not long ago; forgets the older ones."""
        times = self._failures.get(user)
        while times and self._clock() - times[0] > GUESS_SECONDS:
            times.popleft()
        if not times:
            self._failures.pop(user, None)
        return len(times or ())


def _read(path: Path | None) -> dict[str, str]:
    """Hashes by user name."""
    if path is None or not path.exists():
        return {}
    try:
        return {str(user): str(hashed) for user, hashed in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError):
        raise AccountError(f"{path} is damaged; remove it and make the accounts again") from None


def _write(path: Path, hashes: dict[str, str]) -> None:
    """Write hashes that only the owner may read, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(hashes, indent=1))
    partial.replace(path)
