"""Load of all kinds for `make metrics-check`, until it is ended: people who register, sign in, are checked and log out; wrong
passwords, which are refused for having been too many in the end; codes, which are refused for what they cost and for not being used;
garbage; and bursts that the hashing queue refuses.

    metrics-load.py ADDRESS
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from phone_identity.v1 import phone_identity_pb2 as pb
from phone_identity.v1 import phone_verification_pb2 as codes_pb
from phone_identity.v1 import session_pb2
from phone_identity.v1.phone_identity_pb2_grpc import PhoneIdentityStub
from phone_identity.v1.phone_verification_pb2_grpc import PhoneVerificationStub

PASSWORD = "a quiet lake at dawn 7"
# More at once than one thread and a short queue take.
BURST = 8


def number(person):
    return f"+99890{4_200_000 + person}"


def attempt(call, request, **metadata):
    """Makes a call that may be refused, and gives its answer or None."""
    try:
        return call(request, timeout=5, **metadata)
    except grpc.RpcError:
        return None


def credentials(person, password=PASSWORD):
    return pb.AuthenticateRequest(phone_number=number(person), password=password)


with grpc.insecure_channel(sys.argv[1]) as channel, ThreadPoolExecutor(BURST) as pool:
    grpc.channel_ready_future(channel).result(timeout=30)
    identity, codes = PhoneIdentityStub(channel), PhoneVerificationStub(channel)
    person = 0
    while True:
        person += 1
        registered = attempt(
            identity.Register, pb.RegisterRequest(phone_number=number(person), password=PASSWORD)
        )
        time.sleep(0.2)
        if registered is None:
            continue
        token = registered.session_token
        for consistency in (session_pb2.CONSISTENCY_MINIMIZE_LATENCY, session_pb2.CONSISTENCY_STRONG) * 5:
            attempt(
                identity.ValidateSession,
                pb.ValidateSessionRequest(session_token=token, consistency=consistency),
            )
        attempt(identity.ValidateSession, pb.ValidateSessionRequest(session_token="pid_garbage"))
        # From ever other addresses, since one alone has a prefix paused for itself only.
        address = session_pb2.ClientInfo(ip_address=f"192.0.2.{person % 256}")
        attempt(
            codes.SendCode,
            codes_pb.SendCodeRequest(
                purpose=codes_pb.CODE_PURPOSE_SIGN_IN, phone_number=number(person), client=address
            ),
        )
        attempt(
            codes.SendCode,
            codes_pb.SendCodeRequest(purpose=codes_pb.CODE_PURPOSE_SIGN_IN, phone_number="+77012345678"),
        )
        attempt(identity.Authenticate, credentials(person))
        # Always the same one, whose attempts are soon too many.
        attempt(identity.Authenticate, credentials(1, "not the password"))
        burst = [
            pool.submit(attempt, identity.Authenticate, credentials(1_000_000 + person * BURST + place))
            for place in range(BURST)
        ]
        for call in burst:
            call.result()
        attempt(identity.RevokeSession, pb.RevokeSessionRequest(session_token=token))
