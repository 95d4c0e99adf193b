# pip install grpcio-tools
# PYTHONPATH=gen python3 guard.py LISTEN_HOST:PORT PHONE_IDENTITY_HOST:PORT
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from phone_identity.v1 import phone_identity_pb2 as pb
from phone_identity.v1.phone_identity_pb2_grpc import PhoneIdentityStub

listen, address = sys.argv[1:]
identity = PhoneIdentityStub(grpc.insecure_channel(address))


class Orders(BaseHTTPRequestHandler):
    def do_GET(self):
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            valid = identity.ValidateSession(pb.ValidateSessionRequest(session_token=token), timeout=2)
        except grpc.RpcError as error:
            # Only UNAUTHENTICATED says something about the session. Every other failure is temporary: 503.
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return self.reply(401, "please sign in\n")
            return self.reply(503, "please try again\n")
        return self.reply(200, f"orders of {valid.user.phone_number}\n")

    def reply(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


host, port = listen.split(":")
ThreadingHTTPServer((host, int(port)), Orders).serve_forever()
