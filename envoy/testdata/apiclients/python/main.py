# A program with a client that openapi-python-client has made of openapi.json. The tests run it, and
# docs/api.md shows lines of it.
import os
from typing import Any

import httpx

from sessiongate import AuthenticatedClient
from sessiongate.api.sessions import create_session, end_session, refresh_session, update_session, verify_session
from sessiongate.api.users import list_sessions_of_user
from sessiongate.models import (
    Claims,
    CreateRequest,
    CreateResponse,
    Data,
    EndResponse,
    ListResponse,
    RefreshingClient,
    RefreshRequest,
    RefreshResponse,
    SignInClient,
    UpdateRequest,
    UpdateResponse,
    VerifyRequest,
    VerifyResponse,
)


class Denied(Exception):
    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.problem = status, problem


# Python's list of statuses has no 440, so the client that was made cannot return such an answer.
def denied(response: httpx.Response) -> None:
    if response.status_code == 440:
        response.read()
        raise Denied(440, response.json())


client = AuthenticatedClient(
    base_url=os.environ["SESSIONS_URL"],
    token=os.environ["SESSIONS_API_KEY"],
    httpx_args={"event_hooks": {"response": [denied]}, "trust_env": False},
)

user = "ada"
claims, data = Claims(), Data()
claims["plan"] = "pro"
data["cart"] = ["tea"]
body = CreateRequest(user_id=user, claims=claims, data=data, client=SignInClient("203.0.113.7", "Mozilla/5.0"))
created = create_session.sync(client=client, body=body)
assert isinstance(created, CreateResponse), created
session, tokens = created.session, created.tokens
print("created", session.user_id, session.claims["plan"], session.data["cart"][0], bool(created.set_cookie))

verified = verify_session.sync(client=client, body=VerifyRequest(tokens.access_token, anti_csrf=tokens.anti_csrf))
assert isinstance(verified, VerifyResponse), verified  # only 200 allows
print("verified", verified.session.user_id, verified.session.claims["plan"])
try:
    raise SystemExit(verify_session.sync(client=client, body=VerifyRequest("x")))
except Denied as e:
    print("denied", e.status, e.problem["outcome"])

refresh = RefreshRequest(refresh_token=tokens.refresh_token, client=RefreshingClient("203.0.113.7", "Mozilla/5.0"))
refreshed = refresh_session.sync(client=client, body=refresh)
assert isinstance(refreshed, RefreshResponse), refreshed
print("refreshed", refreshed.session.user_id)

claims["plan"] = "free"
updated = update_session.sync(session.handle, client=client, body=UpdateRequest(claims=claims))
assert isinstance(updated, UpdateResponse), updated
print("updated", updated.session.claims["plan"])

listed = list_sessions_of_user.sync(user, client=client, limit=10)
assert isinstance(listed, ListResponse), listed
print("listed", len(listed.sessions), listed.sessions[0].claims["plan"], listed.more)

ended = end_session.sync(session.handle, client=client)
assert isinstance(ended, EndResponse), ended
print("ended", ended.ended)
