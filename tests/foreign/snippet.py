# pip install grpcio-tools grpcio-status
# mkdir -p gen && python3 -m grpc_tools.protoc -I proto --python_out=gen --grpc_python_out=gen \
#     proto/phone_identity/v1/*.proto
# PYTHONPATH=gen python3 snippet.py +998901234567 [ADDRESS]
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from phone_identity.v1 import phone_identity_pb2 as pb
from phone_identity.v1.phone_identity_pb2_grpc import PhoneIdentityStub


def reason(error):
    """Returns the reason of the ErrorInfo, which every error of phone-identity has."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    return info.reason if status and any(detail.Unpack(info) for detail in status.details) else ""


phone_number, address = (sys.argv[1:] + ["127.0.0.1:50051"])[:2]
with grpc.insecure_channel(address) as channel:
    identity = PhoneIdentityStub(channel)
    password = "a quiet lake at dawn 7"
    registered = identity.Register(pb.RegisterRequest(phone_number=phone_number, password=password), timeout=5)
    print("registered", registered.user.phone_number)

    token = registered.session_token
    valid = identity.ValidateSession(pb.ValidateSessionRequest(session_token=token), timeout=5)
    print("the session is valid, and of the same user:", valid.user.user_id == registered.user.user_id)
    try:
        identity.Authenticate(pb.AuthenticateRequest(phone_number=phone_number, password="not the password"), timeout=5)
    except grpc.RpcError as error:
        print("with a wrong password:", error.code().name, reason(error))
    identity.RevokeSession(pb.RevokeSessionRequest(session_token=token), timeout=5)
    try:
        identity.ValidateSession(pb.ValidateSessionRequest(session_token=token), timeout=5)
    except grpc.RpcError as error:
        print("after the sign-out:", error.code().name, reason(error))
