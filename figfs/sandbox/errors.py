"""Refusals, as Figshare words them: JSON ``{"message", "code", "data"?}`` with ``code`` a string."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """Ends a request with ``status`` and an error body. ``data`` is left out of the body when None."""

    def __init__(self, status: int, code: str, message: str, data: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.data = data

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"message": self.message, "code": self.code}
        if self.data is not None:
            body["data"] = self.data
        return body


def bad_request(message: str, code: str = "BadRequest") -> ApiError:
    return ApiError(400, code, message)


def unauthorized(message: str) -> ApiError:
    return ApiError(401, "OAuthInvalidToken", message)


def forbidden(message: str = "Insufficient permissions") -> ApiError:
    return ApiError(403, "Forbidden", message)


def not_found(kind: str, identifier: object) -> ApiError:
    """Also for what exists but may not be read: Figshare does not tell the two apart."""
    return ApiError(404, "EntityNotFound", f"Entity not found: {kind} {identifier}")


def invalid(field: str, why: str, code: str = "ValidationError") -> ApiError:
    return ApiError(422, code, f"Invalid value for {field}: {why}", {"field": field})
