// npm install @grpc/grpc-js @grpc/proto-loader protobufjs
// node snippet.mjs +998901234567 [ADDRESS]
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const [phoneNumber, address = "127.0.0.1:50051"] = process.argv.slice(2);
const definition = protoLoader.loadSync("phone_identity/v1/phone_identity.proto", { includeDirs: ["proto"] });
const { PhoneIdentity } = grpc.loadPackageDefinition(definition).phone_identity.v1;
const identity = new PhoneIdentity(address, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    identity[method](request, { deadline: Date.now() + 5000 }, (error, response) =>
      error ? reject(error) : resolve(response)));

// The parts of google/rpc/status.proto and google/rpc/error_details.proto that this program reads.
const { root } = protobuf.parse(`syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { repeated Any details = 3; }
  message ErrorInfo { string reason = 1; }`);

// Returns the reason of the ErrorInfo, which every error of phone-identity has.
function reason(error) {
  const [status] = error.metadata.get("grpc-status-details-bin");
  const details = status ? root.lookupType("Status").decode(status).details : [];
  const info = details.find((detail) => detail.typeUrl.endsWith("/google.rpc.ErrorInfo"));
  return info ? root.lookupType("ErrorInfo").decode(info.value).reason : "";
}

const password = "a quiet lake at dawn 7";
const { user, sessionToken } = await call("register", { phoneNumber, password });
console.log("registered", user.phoneNumber);
const valid = await call("validateSession", { sessionToken });
console.log("the session is valid, and of the same user:", valid.user.userId === user.userId);
const show = (when) => (error) => console.log(when, grpc.status[error.code], reason(error));
await call("authenticate", { phoneNumber, password: "not the password" }).catch(show("with a wrong password:"));
await call("revokeSession", { sessionToken });
await call("validateSession", { sessionToken }).catch(show("after the sign-out:"));
